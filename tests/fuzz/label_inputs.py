"""Labels with Hessians: extxyz, HDF5, NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .kind import Kind, Named, current


def frames(named: Named, path: Path) -> Any:
    """All that labels say."""
    found = named("labels.readers.read_labels")(path)
    return [[f.atoms, f.energy, f.forces, f.stress, f.hessian, getattr(f, "products", None)] for f in found]


def toy_frames() -> list[Any]:
    """Three rattled cells of rock salt with every kind of label."""
    from ase.build import bulk

    from tests.hint.toy import rattled, toy_frame, toy_label

    cube = bulk("NaCl", "rocksalt", a=5.2, cubic=True)
    frames = [toy_frame(atoms) for atoms in rattled(cube, 3, 0.05)]
    return [dataclasses.replace(f, hessian=toy_label(f.atoms)) for f in frames]


def _extxyz(folder: Path) -> None:
    from ase.io import write

    images = []
    for frame in toy_frames():
        atoms = frame.atoms.copy()
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = frame.energy, frame.forces
        atoms.info["REF_stress"] = frame.stress
        images.append(atoms)
    write(folder / "labels.extxyz", images)


def _store(folder: Path) -> None:
    current("labels.store.write_labels")(folder / "labels.h5", toy_frames())


def _hessian(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from tests.hint.toy import toy_hessian

        stored = current("labels.hessian_file.StoredHessian")
        atoms = toy_frames()[0].atoms
        found = stored(atoms, toy_hessian(atoms), np.arange(len(atoms)), "toy")
        current("labels.hessian_file.write_hessian")(folder / name, found)

    return make


KINDS = (
    Kind("extxyz labels", _extxyz, ("labels.extxyz",), lambda n, d: frames(n, d / "labels.extxyz")),
    Kind("HDF5 label store", _store, ("labels.h5",), lambda n, d: frames(n, d / "labels.h5")),
    *(
        Kind(
            f"Hessian {suffix}",
            _hessian(f"hessian{suffix}"),
            (f"hessian{suffix}",),
            lambda n, d, suffix=suffix: n("labels.hessian_file.read_hessian")(d / f"hessian{suffix}"),
            sealed=suffix == ".npz",
        )
        for suffix in (".npz", ".h5")
    ),
)

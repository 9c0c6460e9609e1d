"""Labels of any number of structures in one HDF5 file, read one at a time.

Arrays over all atoms, with offsets, so that structures of any size share a file::

    numbers (A,), positions, forces (A, 3)                atoms of all frames, one after the other
    cells (F, 3, 3), pbc (F, 3), energies (F,), stresses (F, 6), weights (F,), set_of (F,), first_atom (F+1,)
    hessians (Σ(3N)²,), first_hessian (F+1,)              full Hessians, where there are any
    vectors, products (ΣK, 3) …, first_product (F+1,)     Hessian-vector products, where there are any

eV, Å, eV/Å, eV/Å³ (ASE's Voigt order, positive in tension), eV/Å². A missing label is NaN, or is empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, reading
from himlip_ase.labels.frames import (
    HessianLabel,
    LabelCounts,
    LabelledFrame,
)
from himlip_ase.labels.products import HessianProducts
from himlip_ase.labels.views import OnDemand

SCHEMA = 1
KIND = "himlip-ase labels"
MOST_IN_ATTRIBUTE = 3000
"""Names of sets that are an attribute of the file, which HDF5 bounds to 64 kB; more are a dataset."""
NAMES = "set_names"
CODES = "codes"
"""Dataset of the programs that calculated the sets; a set of two programs is two."""
ORIGIN = "origin"
"""Dataset of what the labels were made from, a text of `himlip_ase.labels.origin`."""


def write_labels(
    path: str | os.PathLike,
    frames: Iterable[LabelledFrame],
    overwrite: bool = False,
    origin: str = "",
) -> int:
    """Write labels, frame by frame, atomically.

    Parameters
    ----------
    path : path-like
        ``.h5`` or ``.hdf5``.
    frames : iterable of LabelledFrame
        Consumed one at a time: a generator of millions takes no memory.
    overwrite : bool
    origin : str
        What they were made from, kept as it is.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    InputError
        Another suffix, a file that exists and `overwrite` is False, no frame, or a Hessian of another shape.
    """
    if Path(path).suffix.lower() not in (".h5", ".hdf5"):
        raise InputError(f"labels are kept as .h5 or .hdf5; got {Path(path).name!r}")
    sets: dict[tuple[str, str], int] = {}  # of each name and program
    with atomic_write(path, "w+b", overwrite=overwrite) as stream, h5py.File(stream, "w") as file:
        writer = _Writer(file)
        for frame in frames:
            writer.add(frame, sets.setdefault((frame.set, frame.code), len(sets)))
        number = len(writer.data["energies"])
        if not number:
            raise InputError("no frames to write")
        file.attrs.update(schema=SCHEMA, kind=KIND)
        names, codes = [name for name, _ in sets], [code for _, code in sets]
        if len(sets) <= MOST_IN_ATTRIBUTE:
            file.attrs["sets"] = names
        if len(sets) > MOST_IN_ATTRIBUTE:
            file.create_dataset(NAMES, data=names, dtype=h5py.string_dtype())
        if any(codes):
            file.create_dataset(CODES, data=codes, dtype=h5py.string_dtype())
        if origin:
            file.create_dataset(ORIGIN, data=origin, dtype=h5py.string_dtype())
    return number


class _Writer:
    """Appends to growing datasets."""

    SHAPES: dict[str, tuple[tuple[int, ...], str]] = {  # noqa: RUF012
        "numbers": ((), "u1"), "positions": ((3,), "f8"), "forces": ((3,), "f8"),
        "cells": ((3, 3), "f8"), "pbc": ((3,), "?"), "energies": ((), "f8"), "stresses": ((6,), "f8"),
        "weights": ((), "f8"), "set_of": ((), "i4"), "first_atom": ((), "i8"),
        "hessians": ((), "f8"), "first_hessian": ((), "i8"),
        "vectors": ((3,), "f8"), "products": ((3,), "f8"), "first_product": ((), "i8"),
    }  # fmt: skip

    def __init__(self, file: h5py.File) -> None:
        self.data = {
            name: file.create_dataset(
                name,
                (0, *shape),
                kind,
                maxshape=(None, *shape),
                chunks=True,
                compression="gzip",
                fletcher32=True,
            )
            for name, (shape, kind) in self.SHAPES.items()
        }
        for name in ("first_atom", "first_hessian", "first_product"):
            self._append(name, np.zeros(1))

    def add(self, frame: LabelledFrame, set_index: int) -> None:
        products, atoms, n = frame.products, frame.atoms, len(frame.atoms)
        nothing = np.full((n, 3), np.nan)
        self._append("numbers", atoms.numbers)
        self._append("positions", atoms.positions)
        self._append("forces", nothing if frame.forces is None else frame.forces)
        self._append("cells", atoms.cell.array[None])
        self._append("pbc", np.asarray(atoms.pbc)[None])
        self._append("energies", np.array([np.nan if frame.energy is None else frame.energy]))
        self._append("stresses", np.full((1, 6), np.nan) if frame.stress is None else frame.stress[None])
        self._append("weights", np.array([frame.weight]))
        self._append("set_of", np.array([set_index]))
        self._append("first_atom", np.array([len(self.data["numbers"])]))
        if frame.hessian is not None:
            if frame.hessian.matrix.shape != (n, 3, n, 3):
                raise InputError(
                    f"{frame.source}: Hessian of shape {frame.hessian.matrix.shape} for {n} atoms; "
                    f"need ({n}, 3, {n}, 3)"
                )
            self._append("hessians", np.ravel(frame.hessian.matrix))
        self._append("first_hessian", np.array([len(self.data["hessians"])]))
        if products is not None:
            if len(products.atoms) != n:
                raise InputError(
                    f"{frame.source}: products of a Hessian of {len(products.atoms)} atoms for {n} atoms"
                )
            self._append("vectors", products.vectors.reshape(-1, 3))
            self._append("products", products.products.reshape(-1, 3))
        self._append("first_product", np.array([len(self.data["products"])]))

    def _append(self, name: str, values: np.ndarray) -> None:
        target = self.data[name]
        old = len(target)
        target.resize(old + len(values), axis=0)
        target[old:] = values


class LabelStore(OnDemand[LabelledFrame]):
    """The frames of a file that `write_labels` wrote, each read when it is asked for.

    Holds the numbers of each frame (sizes, set, cell, energy, stress; about 200 bytes) in memory, and nothing
    that grows with the atoms.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    InputError
        No such file, or one that is something else.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file")
        with reading(self.path):
            self._open()

    def _open(self) -> None:
        self._file = h5py.File(self.path, "r")
        if self._file.attrs.get("kind") != KIND:
            raise InputError(f"{self.path} holds no labels of himlip-ase; himlip label collect writes them")
        names = self._file[NAMES].asstr()[:] if NAMES in self._file else self._file.attrs["sets"]
        self.sets = [str(name) for name in names]
        self._codes = self._file[CODES].asstr()[:].tolist() if CODES in self._file else [""] * len(self.sets)
        self._atoms = self._file["first_atom"][:]
        self._hessians = self._file["first_hessian"][:]
        self._products = self._file["first_product"][:]
        self._set_of = self._file["set_of"][:]
        self._frames = {k: self._file[k][:] for k in ("cells", "pbc", "energies", "stresses", "weights")}
        self._data = {k: self._file[k] for k in ("numbers", "positions", "forces", "hessians")}

    @property
    def origin(self) -> str:
        """What it was made from, as `write_labels` was told; empty where it was not."""
        return str(self._file[ORIGIN].asstr()[()]) if ORIGIN in self._file else ""

    def __len__(self) -> int:
        return len(self._atoms) - 1

    def _structure(self, index: int) -> Atoms:
        data, own = self._data, slice(self._atoms[index], self._atoms[index + 1])
        return Atoms(
            data["numbers"][own], positions=data["positions"][own],
            cell=self._frames["cells"][index], pbc=self._frames["pbc"][index],
        )  # fmt: skip

    def _item(self, index: int) -> LabelledFrame:
        with reading(self.path):
            return self._frame(index)

    def _frame(self, index: int) -> LabelledFrame:
        data, atoms = self._data, self._structure(index)
        forces = data["forces"][self._atoms[index] : self._atoms[index + 1]]
        energy, stress = float(self._frames["energies"][index]), self._frames["stresses"][index].copy()
        source = f"{self.path.name}#{index}"
        hessian = None
        if self._hessians[index + 1] > self._hessians[index]:
            values = data["hessians"][self._hessians[index] : self._hessians[index + 1]]
            hessian = HessianLabel(atoms.copy(), values.reshape(len(atoms), 3, len(atoms), 3), source)
        return LabelledFrame(
            atoms,
            None if np.isnan(energy) else energy,
            None if np.isnan(forces).all() else forces,  # a single NaN is a damaged label: the checks name it
            None if np.isnan(stress).all() else stress,
            hessian,
            self.sets[self._set_of[index]],
            float(self._frames["weights"][index]),
            source,
            self.products(index),
            str(self._codes[self._set_of[index]]),
        )

    def products(self, index: int) -> HessianProducts | None:
        """The Hessian-vector products of a frame, if it has any."""
        start, stop = int(self._products[index]), int(self._products[index + 1])
        if start == stop:
            return None
        atoms = self._structure(index)
        shape = (-1, len(atoms), 3)
        return HessianProducts(
            atoms,
            self._file["vectors"][start:stop].reshape(shape),
            self._file["products"][start:stop].reshape(shape),
            f"{self.path.name}#{index}",
        )

    def set_names(self) -> list[str]:
        """Name of the set of each frame, without reading the frames."""
        return [self.sets[k] for k in self._set_of]

    def codes(self) -> list[str]:
        """Program that calculated each frame, without reading the frames."""
        return [str(self._codes[k]) for k in self._set_of]

    def with_products(self) -> list[int]:
        """Indices of the frames that have Hessian-vector products."""
        return np.flatnonzero(np.diff(self._products)).tolist()

    def counts(self) -> LabelCounts:
        """How many labels of each kind there are, a block of frames at a time."""
        energies = np.isfinite(self._frames["energies"])
        stresses = np.isfinite(self._frames["stresses"]).any(axis=1)
        first = np.concatenate([self._file["forces"][start : start + 1, 0] for start in self._atoms[:-1]])
        hessians = int((np.diff(self._hessians) > 0).sum())
        vectors = int((np.diff(self._products) // np.diff(self._atoms)).sum())
        return LabelCounts(
            len(self), int(energies.sum()), int(np.isfinite(first).sum()), int(stresses.sum()), hessians,
            vectors,
        )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self._file.close()

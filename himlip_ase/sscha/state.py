"""Checkpoints: what was finished is on disk whole, and a resumed run ends like an unbroken one."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.sscha.ensemble import Ensemble
from himlip_ase.sscha.settings import SschaSettings

SCHEMA = 1
MAY_CHANGE = ("max_populations", "n_hessian_configurations")
"""Settings that a resumed run may change: they touch no population that is finished."""


def pack(prefix: str, dynamical: DynamicalMatrices) -> dict[str, np.ndarray]:
    """Arrays of dynamical matrices under names that begin with `prefix`, exact to the last bit."""
    primitive = dynamical.primitive
    return {
        f"{prefix}_numbers": primitive.numbers,
        f"{prefix}_positions": primitive.positions,
        f"{prefix}_cell": primitive.cell.array,
        f"{prefix}_masses": primitive.get_masses(),
        f"{prefix}_dims": np.array(dynamical.dims),
        f"{prefix}_qpoints": dynamical.qpoints,
        f"{prefix}_matrices": dynamical.matrices,
    }


def unpack(prefix: str, arrays: dict[str, np.ndarray]) -> DynamicalMatrices:
    """The inverse of :func:`pack`."""
    primitive = Atoms(
        numbers=arrays[f"{prefix}_numbers"],
        positions=arrays[f"{prefix}_positions"],
        cell=arrays[f"{prefix}_cell"],
        masses=arrays[f"{prefix}_masses"],
        pbc=True,
    )
    dims = tuple(int(d) for d in arrays[f"{prefix}_dims"])
    return DynamicalMatrices(primitive, dims, arrays[f"{prefix}_qpoints"], arrays[f"{prefix}_matrices"])  # type: ignore[arg-type]


def save_arrays(path: Path, arrays: dict[str, np.ndarray], overwrite: bool = False) -> None:
    """Write arrays as one .npz, atomically."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    with atomic_write(path, "wb", overwrite=overwrite) as stream:
        stream.write(buffer.getvalue())


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz without pickles."""
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


class State:
    """The ``state`` folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state"

    def begin(self, initial: DynamicalMatrices, settings: SschaSettings, resume: bool) -> None:
        """Open a new or an old run.

        Raises
        ------
        InputError
            The folder holds a run and `resume` is False, or the run was begun with other settings or another
            start.
        """
        path = self.folder / "run.json"
        digest = hashlib.sha256()
        for name, array in sorted(pack("initial", initial).items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        run = {"schema": SCHEMA, "settings": settings.as_dict(), "initial_sha256": digest.hexdigest()}
        if not path.exists():
            if (self.folder.parent / "result.json").exists():
                raise InputError(
                    f"{self.folder.parent} holds a result without its state; choose another folder"
                )
            write_json(path, run)
            return
        if not resume:
            raise InputError(
                f"{self.folder.parent} holds an SSCHA run already; pass resume=True (--resume) to continue "
                "it or choose another folder"
            )
        old = json.loads(path.read_text(encoding="utf-8"))
        if old.get("schema") != SCHEMA:
            raise InputError(f"{path} has schema {old.get('schema')!r}; this version reads {SCHEMA}")
        changed = [
            f"{name} was {old['settings'].get(name)!r}, now {value!r}"
            for name, value in settings.as_dict().items()
            if name not in MAY_CHANGE and old["settings"].get(name) != value
        ]
        if old["initial_sha256"] != run["initial_sha256"]:
            changed.append("the starting dynamical matrices differ")
        if changed:
            raise InputError(
                f"cannot resume {self.folder.parent}: {'; '.join(changed)}. Use the settings the run was "
                f"begun with (only {', '.join(MAY_CHANGE)} may change) or choose another folder"
            )
        write_json(path, run, overwrite=True)

    def save_ensemble(self, name: str, ensemble: Ensemble) -> None:
        """Keep an evaluated ensemble, so that its forces are never paid for twice."""
        arrays = {
            field.name: np.asarray(getattr(ensemble, field.name))
            for field in dataclasses.fields(ensemble)
            if getattr(ensemble, field.name) is not None
        }
        save_arrays(self.folder / f"{name}_ensemble.npz", arrays)

    def load_ensemble(self, name: str) -> Ensemble | None:
        """An ensemble kept earlier, None if there is none."""
        path = self.folder / f"{name}_ensemble.npz"
        if not path.exists():
            return None
        arrays = load_arrays(path)
        scalars = ("static_energy", "shortest_distance", "largest_displacement")
        values: dict[str, Any] = {
            key: float(value) if key in scalars else value for key, value in arrays.items()
        }
        return Ensemble(**{"stresses": None, **values})

    def save(self, name: str, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
        """Keep a finished stage: its arrays, then its record, which marks it as finished."""
        save_arrays(self.folder / f"{name}.npz", arrays, overwrite=True)
        write_json(self.folder / f"{name}.json", record)

    def load(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """A finished stage, None if it was not finished."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        return load_arrays(path.with_suffix(".npz")), json.loads(path.read_text(encoding="utf-8"))

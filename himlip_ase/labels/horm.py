"""Labels of the HORM data set (Cui et al., 2025): energies, forces and Hessians of molecules in LMDB files.

A record is a pickled ``torch_geometric.data.Data`` under the key of its number, with

    pos (N, 3)         Å
    one_hot (N, 5)     columns H, C, N, O, F (or z or charges (N,), atomic numbers)
    ae ()              atomisation energy, eV (or energy, total)
    forces (N, 3)      eV/Å
    hessian (9N²,)     eV/Å², atom, direction, atom, direction

and under ``length`` the number of records, where that was written. Nothing that is pickled is executed
(`himlip_ase.labels.inert_pickle`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.inert_pickle import read_pickle
from himlip_ase.labels.views import OnDemand

ELEMENTS = np.array([1, 6, 7, 8, 9])
"""Atomic numbers behind the columns of ``one_hot``."""


class HormStore(OnDemand[LabelledFrame]):
    """The records of an LMDB file, each read when it is asked for.

    Parameters
    ----------
    path : path-like
        An LMDB file, or the folder that LMDB makes.

    Raises
    ------
    InputError
        No such file, one that is no LMDB, no records, or lmdb is not installed.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        try:
            import lmdb
        except ModuleNotFoundError as error:
            raise InputError(f"{self.path}: LMDB files need lmdb; type: pip install lmdb") from error
        if not self.path.exists():
            raise InputError(f"{self.path}: no such file")
        try:
            self._database = lmdb.open(
                str(self.path), subdir=self.path.is_dir(), readonly=True, lock=False, readahead=False
            )
        except lmdb.Error as error:
            raise InputError(f"{self.path} is not an LMDB file ({error})") from error
        length = self._get(b"length")
        known = self._database.stat()["entries"] if length is None else read_pickle(length)
        self._length = int(known)
        if self._length < 1:
            raise InputError(f"{self.path} holds no records")

    def _get(self, key: bytes) -> bytes | None:
        with self._database.begin() as transaction:
            found = transaction.get(key)
        return None if found is None else bytes(found)

    def __len__(self) -> int:
        return self._length

    def _item(self, index: int) -> LabelledFrame:
        data = self._get(str(index).encode("ascii"))
        source = f"{self.path.name}#{index}"
        if data is None:
            raise InputError(f"{source}: no such record; HORM numbers them 0, 1, 2, …")
        try:
            record = read_pickle(data)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        return horm_frame(record, self.path.stem, source)

    def __iter__(self) -> Iterator[LabelledFrame]:
        return (self[index] for index in range(len(self)))

    def set_names(self) -> list[str]:
        """Name of the set of each record: that of the file."""
        return [self.path.stem] * len(self)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def horm_frame(record: Any, set_name: str, source: str) -> LabelledFrame:
    """Labels of one record.

    Parameters
    ----------
    record : dict
        See the top of this module; arrays or tensors.
    set_name, source : str

    Returns
    -------
    LabelledFrame

    Raises
    ------
    InputError
        No positions or elements, or a label of a wrong shape.
    """
    if not isinstance(record, dict) or "pos" not in record:
        found = sorted(record) if isinstance(record, dict) else type(record).__name__
        raise InputError(f"{source}: no record of HORM: it has {found}, and needs pos and one_hot")
    positions = np.asarray(record["pos"], dtype=float)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise InputError(f"{source}: pos of shape {positions.shape}; need (N, 3)")
    n = len(positions)
    atoms = Atoms(_numbers(record, n, source), positions=positions)
    energy = next((np.ravel(record[key]) for key in ("ae", "energy") if record.get(key) is not None), None)
    if energy is not None and energy.size != 1:
        raise InputError(f"{source}: energy of shape {energy.shape}; need one number")
    forces = _shaped(record, "forces", (n, 3), source)
    matrix = _shaped(record, "hessian", (n, 3, n, 3), source)
    return LabelledFrame(
        atoms,
        None if energy is None else float(energy[0]),
        forces,
        hessian=None if matrix is None else HessianLabel(atoms.copy(), matrix, source),
        set=set_name,
        source=source,
    )


def _numbers(record: dict[str, Any], n: int, source: str) -> np.ndarray:
    if record.get("one_hot") is not None:
        columns = np.asarray(record["one_hot"], dtype=float)
        if columns.shape[0] != n or columns.shape[1] > len(ELEMENTS) or (columns.sum(axis=1) != 1).any():
            raise InputError(
                f"{source}: one_hot of shape {columns.shape} does not name {n} elements of H, C, N, O, F"
            )
        return ELEMENTS[columns.argmax(axis=1)]
    for key in ("z", "charges"):
        if record.get(key) is not None:
            found = np.ravel(record[key]).astype(int)
            if found.size == n and (found > 0).all():
                return found
    raise InputError(f"{source}: no elements; looked for one_hot, z and charges")


def _shaped(record: dict[str, Any], key: str, shape: tuple[int, ...], source: str) -> np.ndarray | None:
    if record.get(key) is None:
        return None
    values = np.asarray(record[key], dtype=float)
    if values.size != np.prod(shape):
        raise InputError(f"{source}: {key} of shape {values.shape}; need {shape}, or that flat")
    return values.reshape(shape)

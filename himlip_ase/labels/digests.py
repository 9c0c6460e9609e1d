"""The content of labels as short digests: equal labels have equal ones, and others do not."""

from __future__ import annotations

import hashlib

import numpy as np
from ase import Atoms

from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts

SIZE = 16
"""Bytes of a digest."""


def structure_digest(atoms: Atoms) -> bytes:
    """The same for structures that are equal to the bit, atoms in the same order.

    Parameters
    ----------
    atoms : Atoms
        Species, positions, cell and periodicity count; calculators, masses and constraints do not.
    """
    return _digest(atoms.numbers, atoms.positions, atoms.cell.array, np.asarray(atoms.pbc))


def configuration_digest(atoms: Atoms) -> str:
    """Hexadecimal digits, the same for structures that are equal to 1e-8 Å, as extended XYZ writes them.

    Parameters
    ----------
    atoms : Atoms
        As of `structure_digest`.
    """
    positions, cell = (np.rint(1e8 * part).astype(np.int64) for part in (atoms.positions, atoms.cell.array))
    return _digest(atoms.numbers, positions, cell, np.asarray(atoms.pbc)).hex()


def frame_digest(frame: LabelledFrame) -> bytes:
    """Of structure, energy, forces, stress and weight of a frame; its Hessian has a digest of its own."""
    values = (frame.energy, frame.forces, frame.stress, frame.weight)
    return _digest(structure_digest(frame.atoms), *values)


def hessian_digest(label: HessianLabel | HessianProducts) -> bytes:
    """Of structure, weight, and matrix or vectors and products."""
    values = (label.matrix,) if isinstance(label, HessianLabel) else (label.vectors, label.products)
    return _digest(structure_digest(label.atoms), label.weight, *values)


def _digest(*values: bytes | float | np.ndarray | None) -> bytes:
    """Of values with their types and shapes, so that no two lists of values run into each other."""
    digest = hashlib.sha256()
    for value in values:
        if value is None or isinstance(value, bytes):
            data, kind = value or b"", "none" if value is None else "bytes"
        else:
            array = np.ascontiguousarray(value)
            data, kind = array.tobytes(), f"{array.dtype.kind}{array.shape}"
        digest.update(f"{kind}:{len(data)}:".encode())
        digest.update(data)
    return digest.digest()[:SIZE]

"""Bridge to phonopy: its objects, and the files that its own commands read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, match_sites, physical_units

if TYPE_CHECKING:
    from phonopy import Phonopy


def from_phonopy(ph: Phonopy) -> ForceConstants:
    """Force constants of a `phonopy.Phonopy` object.

    Parameters
    ----------
    ph : Phonopy
        With force constants (full or compact), a diagonal supercell of its primitive cell, in the units of
        its ``calculator``.

    Raises
    ------
    InputError
        No force constants, or a supercell that is not diagonal in the primitive cell.
    """
    if ph.force_constants is None:
        raise InputError(
            "this Phonopy object holds no force constants; call ph.produce_force_constants() first"
        )
    units = physical_units(ph)
    length = units.distance_to_A
    primitive = from_phonopy_atoms(ph.primitive, length)
    # phonopy wraps the primitive cell's atoms; the rows of the force constants are those of the supercell's
    primitive.positions = np.asarray(ph.supercell.positions)[ph.primitive.p2s_map] * length
    matrix = np.asarray(ph.supercell.cell) * length @ np.linalg.inv(np.asarray(primitive.cell))
    dims = np.rint(np.diag(matrix)).astype(int)
    if dims.min() < 1 or np.abs(matrix - np.diag(dims)).max() > 1e-4:
        raise InputError(
            "the supercell is not diagonal in the primitive cell; its matrix is "
            f"{np.round(matrix, 3).tolist()}. Set phonopy up with primitive_matrix='P' on the primitive cell"
        )
    constants = np.asarray(ph.force_constants) * (units.force_to_eVperA / length)
    if constants.shape[0] == constants.shape[1] and constants.shape[0] != len(primitive):
        constants = constants[ph.primitive.p2s_map]
    # phonopy's supercell is matched by position, so that objects set up in another way keep their pairs
    target = ForceConstants(primitive, tuple(dims), np.zeros_like(constants))
    order = match_sites(target.supercell, np.asarray(ph.supercell.scaled_positions))
    return ForceConstants(primitive, tuple(dims), constants[:, order])


def write_phonopy_params(fc: ForceConstants, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write a ``phonopy_params.yaml`` that phonopy's own commands post-process.

    ``phonopy-load phonopy_params.yaml --band auto -p``, for one; ``phonopy.load(path)`` in Python.

    Parameters
    ----------
    fc : ForceConstants
    path : path-like
    overwrite : bool
        Whether an existing file may be replaced (`InputError` otherwise).

    Returns
    -------
    Path
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; pass overwrite=True (--overwrite) or choose another name")
    ph = fc.to_phonopy()
    with tempfile.TemporaryDirectory() as folder:
        written = Path(
            ph.save(filename=Path(folder) / "phonopy_params.yaml", settings={"force_constants": True})
        )
        text = written.read_text(encoding="utf-8")
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(text)
    return path

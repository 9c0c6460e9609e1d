"""Bridge to phonopy: its objects, and the files that its own commands read."""

from __future__ import annotations

import os
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.force_constants import DynamicalMatrices, ForceConstants
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, match_sites, physical_units

if TYPE_CHECKING:
    from phonopy import Phonopy


def from_phonopy(ph: Phonopy) -> ForceConstants:
    """Force constants of a `phonopy.Phonopy` object.

    A supercell that is not diagonal in the primitive cell is extended to the smallest diagonal one that it
    divides, by phonopy's interpolation: frequencies are phonopy's at any q.

    Parameters
    ----------
    ph : Phonopy
        With force constants (full or compact), in the units of its ``calculator``; Born charges are taken
        along.

    Returns
    -------
    ForceConstants
        Of phonopy's primitive cell, eV/Å².

    Raises
    ------
    InputError
        No force constants, or no mass.
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
    born = _born_of(ph)
    unit = units.force_to_eVperA / length
    matrix = np.asarray(ph.supercell.cell) @ np.linalg.inv(np.asarray(ph.primitive.cell))
    dims = np.rint(np.diag(matrix)).astype(int)
    if dims.min() < 1 or np.abs(matrix - np.diag(dims)).max() > 1e-4:
        return _extended(ph, primitive, matrix, unit, born)
    constants = np.asarray(ph.force_constants) * unit
    if constants.shape[0] == constants.shape[1] and constants.shape[0] != len(primitive):
        constants = constants[ph.primitive.p2s_map]
    # phonopy's supercell is matched by position, so that objects set up in another way keep their pairs
    target = ForceConstants(primitive, tuple(dims), np.zeros_like(constants))
    order = match_sites(target.supercell, np.asarray(ph.supercell.scaled_positions))
    return ForceConstants(primitive, tuple(dims), constants[:, order], born)


def _born_of(ph: Phonopy) -> BornCharges | None:
    parameters = ph.nac_params
    return None if parameters is None else BornCharges(parameters["born"], parameters["dielectric"])


def _extended(
    ph: Phonopy, primitive: Atoms, matrix: np.ndarray, unit: float, born: BornCharges | None
) -> ForceConstants:
    """Force constants of the smallest diagonal supercell whose lattice lies within that of phonopy's."""
    inverse = np.linalg.inv(np.rint(matrix))
    denominators = [
        [Fraction(float(x)).limit_denominator(10_000).denominator for x in row] for row in inverse
    ]
    d1, d2, d3 = (int(np.lcm.reduce(row)) for row in denominators)
    dims = (d1, d2, d3)
    qpoints = commensurate_qpoints(dims)
    given = ph.nac_params
    try:
        if born is not None and given is not None:
            # Wang's method and hand-made cutoffs belong to the object, not to what is made of it here
            plain: Any = {key: given[key] for key in ("born", "dielectric", "factor")}
            ph.nac_params = plain | {"method": "gonze"}
        found = ph.run_qpoints(qpoints, with_dynamical_matrices=True)
    finally:
        ph.nac_params = given
    reduced = np.array(found.dynamical_matrices)
    roots = np.sqrt(np.repeat(primitive.get_masses(), 3))
    scaled = np.asarray(ph.primitive.scaled_positions)
    phase = np.repeat(np.exp(2j * np.pi * qpoints @ scaled.T), 3, axis=1)
    matrices = reduced * roots[:, None] * roots * phase[:, :, None] * np.conj(phase)[:, None, :] * unit
    # the cell as phonopy has it, to which the phases belong
    primitive.set_scaled_positions(scaled)
    return DynamicalMatrices(primitive, dims, qpoints, matrices, born).force_constants()


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

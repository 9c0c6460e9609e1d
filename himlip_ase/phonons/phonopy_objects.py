"""Bridge to phonopy: objects and the files that its own commands read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.phonons.force_constants import ForceConstants

if TYPE_CHECKING:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms


def to_phonopy_atoms(atoms: Atoms) -> PhonopyAtoms:
    """phonopy's crystal structure of an ASE one: Å, amu, positions not wrapped."""
    from phonopy.structure.atoms import PhonopyAtoms

    return PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=np.asarray(atoms.cell),
        scaled_positions=atoms.get_scaled_positions(wrap=False),
        masses=atoms.get_masses(),
    )


def from_phonopy_atoms(atoms: Any, length: float = 1.0) -> Atoms:
    """ASE structure of a `PhonopyAtoms`, whose unit of length is `length` Å; amu."""
    return Atoms(
        atoms.symbols,
        cell=np.asarray(atoms.cell) * length,
        scaled_positions=atoms.scaled_positions,
        pbc=True,
        masses=atoms.masses,
    )


def physical_units(ph: Phonopy) -> Any:
    """Units of a `Phonopy` object: ``distance_to_A``, ``force_to_eVperA``, ``energy_to_eV``."""
    from phonopy.physical_units import get_calculator_physical_units

    return get_calculator_physical_units(ph.calculator)


def setup_phonopy(
    primitive: Atoms, dims: Sequence[int], symmetry: bool = True, symprec: float = 1e-5
) -> Phonopy:
    """A `phonopy.Phonopy` object of a primitive cell and a diagonal supercell, without force constants."""
    from phonopy import Phonopy

    return Phonopy(
        to_phonopy_atoms(primitive),
        list(dims),
        primitive_matrix="P",
        symprec=symprec,
        is_symmetry=symmetry,
    )


def to_phonopy(fc: ForceConstants, symmetry: bool = True, symprec: float = 1e-5) -> Phonopy:
    """A `phonopy.Phonopy` object with the force constants set.

    Parameters
    ----------
    fc : ForceConstants
        Its primitive cell becomes both phonopy's unit and primitive cell (``primitive_matrix="P"``).
    symmetry : bool
        Whether phonopy searches the space group (needed for meshes reduced by symmetry and for
        symmetrisation).
    symprec : float
        Tolerance of that search, Å.

    Returns
    -------
    Phonopy
        In phonopy's default units (eV, Å, amu, THz).
    """
    ph = setup_phonopy(fc.primitive, fc.dims, symmetry, symprec)
    ph.force_constants = np.array(fc.compact)
    return ph


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
    order = _match(target.supercell, np.asarray(ph.supercell.scaled_positions))
    return ForceConstants(primitive, tuple(dims), constants[:, order])


def _match(supercell: Atoms, scaled: np.ndarray) -> np.ndarray:
    """Indices into `scaled` of the sites of `supercell`, modulo its lattice."""
    wanted = supercell.get_scaled_positions(wrap=False)
    cell = np.asarray(supercell.cell)
    order = np.empty(len(wanted), dtype=int)
    for i, site in enumerate(wanted):
        delta = scaled - site
        distance = np.linalg.norm((delta - np.rint(delta)) @ cell, axis=1)
        order[i] = int(np.argmin(distance))
        if distance[order[i]] > 1e-3:
            raise InputError(
                f"atom {i} of the supercell has no counterpart in phonopy's (nearest {distance.min():.3f} Å)"
            )
    if len(set(order.tolist())) != len(order):
        raise InputError("two atoms of the supercell match one atom of phonopy's")
    return order


def write_phonopy_params(fc: ForceConstants, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write a ``phonopy_params.yaml`` that phonopy's own commands post-process.

    ``phonopy-load phonopy_params.yaml --band auto -p``, for one; ``phonopy.load(path)`` in Python.

    Parameters
    ----------
    fc : ForceConstants
    path : path-like
    overwrite : bool
        Whether an existing file may be replaced (`InputError` otherwise).
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; pass overwrite=True (--overwrite) or choose another name")
    ph = to_phonopy(fc)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(
            ph.save(filename=Path(folder) / "phonopy_params.yaml", settings={"force_constants": True})
        )
        text = written.read_text(encoding="utf-8")
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(text)
    return path

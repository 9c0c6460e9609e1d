"""phonopy's objects from arrays, and arrays from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.units import COULOMB_EV_ANGSTROM

if TYPE_CHECKING:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

logger = logging.getLogger(__name__)


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
    """ASE structure of a `PhonopyAtoms`, whose unit of length is `length` Å; amu.

    Parameters
    ----------
    atoms : PhonopyAtoms
    length : float
        Å in the unit of length of `atoms`.

    Returns
    -------
    Atoms
        Å, amu.
    """
    if any(number is None for number in atoms.numbers):
        raise InputError(f"sites shared by several elements are not supported: {sorted(set(atoms.symbols))}")
    # numbers, because phonopy's symbols may carry a label: H2 for deuterium, Cr1 and Cr2 for two spins
    return Atoms(
        numbers=atoms.numbers,
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
    """A `phonopy.Phonopy` object of a primitive cell and a diagonal supercell, without force constants.

    Parameters
    ----------
    primitive : Atoms
    dims : three integers
    symmetry : bool
        Whether phonopy searches the space group.
    symprec : float
        Tolerance of that search, Å.

    Returns
    -------
    phonopy.Phonopy
    """
    from phonopy import Phonopy

    return Phonopy(
        to_phonopy_atoms(primitive),
        list(dims),
        primitive_matrix="P",
        symprec=symprec,
        is_symmetry=symmetry,
    )


def to_phonopy(
    primitive: Atoms,
    dims: Sequence[int],
    compact: np.ndarray,
    symmetry: bool = True,
    symprec: float = 1e-5,
    born: BornCharges | None = None,
) -> Phonopy:
    """A `phonopy.Phonopy` object with force constants.

    Parameters
    ----------
    primitive : Atoms
        Becomes both phonopy's unit and primitive cell (``primitive_matrix="P"``).
    dims : three integers
        Diagonal supercell.
    compact : ndarray (n_prim, n_super, 3, 3)
        eV/Å², phonopy's compact layout.
    symmetry : bool
        Whether phonopy searches the space group. It does so by symbols alone: not with isotopes of one
        element, by whose symmetry its meshes would be folded wrongly.
    symprec : float
        Tolerance of that search, Å.
    born : BornCharges, optional
        For the dipole-dipole part, which phonopy interpolates as Gonze and Lee (PRB 55, 10355 (1997)) do.

    Returns
    -------
    Phonopy
        In phonopy's default units (eV, Å, amu, THz).
    """
    if symmetry and (mixed := mixed_isotopes(primitive)):
        logger.warning(
            "atoms of %s have different masses, which phonopy's symmetry ignores: searched for none here; "
            "for files, use is_mesh_symmetry=False (MESH_SYMMETRY = .FALSE.)",
            ", ".join(mixed),
        )
        symmetry = False
    ph = setup_phonopy(primitive, dims, symmetry, symprec)
    if born is not None:
        ph.nac_params = nac_parameters(born)
    ph.force_constants = np.array(compact)
    return ph


def mixed_isotopes(atoms: Atoms) -> list[str]:
    """Elements of which atoms have different masses."""
    masses: dict[str, set[float]] = {}
    for symbol, mass in zip(atoms.symbols, np.round(atoms.get_masses(), 4), strict=True):
        masses.setdefault(symbol, set()).add(float(mass))
    return sorted(symbol for symbol, found in masses.items() if len(found) > 1)


def nac_parameters(born: BornCharges) -> Any:
    """phonopy's parameters of the non-analytical term, in eV and Å, for the method of Gonze and Lee."""
    return {
        "born": np.array(born.charges),
        "dielectric": np.array(born.dielectric),
        "factor": COULOMB_EV_ANGSTROM,
        "method": "gonze",
    }


def match_sites(supercell: Atoms, scaled: np.ndarray) -> np.ndarray:
    """Indices into `scaled` of the sites of `supercell`, modulo its lattice.

    Parameters
    ----------
    supercell : Atoms
    scaled : ndarray (N, 3)
        Fractional coordinates in the lattice of `supercell`.

    Returns
    -------
    ndarray (N,)

    Raises
    ------
    InputError
        A site without a counterpart within 1e-3 Å, or two with one.
    """
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

"""Dynamical matrices in files that CellConstructor reads and writes, in its own constants (CODATA 2018).

Nothing here needs CellConstructor.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn, write_dyn
from himlip_ase.units import AMU_RY, BOHR_ANGSTROM, RY_PER_BOHR2_EV_PER_ANGSTROM2

BOHR_PER_ANGSTROM = 1.889725989
"""Of CellConstructor 1.6 and of python-sscha's text files."""

MATRIX_RY_EV = 13.605693012183622
"""CellConstructor's Rydberg, for dynamical matrices."""

MASS_UNIT_AMU = 2 / 1822.8885468045
"""CellConstructor's Rydberg mass unit in amu."""


def write_cellconstructor(
    dynamical: DynamicalMatrices, prefix: str | os.PathLike, overwrite: bool = False
) -> list[Path]:
    """Write dyn files ``<prefix>1``, … that ``CellConstructor.Phonons.Phonons(prefix, n)`` reads.

    As :func:`himlip_ase.phonons.qe.write_dyn`, but in CellConstructor's own constants (they differ by some
    1e-9), so that positions and matrices come back to the last digits.

    Parameters
    ----------
    dynamical : DynamicalMatrices
    prefix : path-like
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        Atoms of one element with different masses, which CellConstructor cannot hold.
    """
    masses: dict[str, float] = {}
    for atom in dynamical.primitive:
        if abs(masses.setdefault(atom.symbol, atom.mass) - atom.mass) > 1e-8:
            raise InputError(
                f"atoms of {atom.symbol} have different masses ({masses[atom.symbol]} and {atom.mass} amu); "
                "python-sscha holds one mass for each element"
            )
    return write_dyn(_scaled(dynamical, 1), prefix, overwrite)


def read_cellconstructor(prefix: str | os.PathLike) -> DynamicalMatrices:
    """Read dyn files that CellConstructor wrote, with its constants."""
    return _scaled(read_dyn(prefix), -1)


def _scaled(dynamical: DynamicalMatrices, power: int) -> DynamicalMatrices:
    """Matrices that appear in CellConstructor's units in a file written in ours (power 1), or back (-1)."""
    length = (BOHR_PER_ANGSTROM * BOHR_ANGSTROM) ** power
    spring = (RY_PER_BOHR2_EV_PER_ANGSTROM2 / (MATRIX_RY_EV * BOHR_PER_ANGSTROM**2)) ** power
    mass = (1 / (AMU_RY * MASS_UNIT_AMU)) ** power
    old = dynamical.primitive
    primitive = Atoms(
        old.numbers,
        positions=old.positions * length,
        cell=old.cell.array * length,
        masses=old.get_masses() * mass,
        pbc=True,
    )
    return replace(dynamical, primitive=primitive, matrices=dynamical.matrices * spring)

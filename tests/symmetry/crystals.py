"""Crystals of several lattices, as a CIF of the conventional or of the primitive cell gives them."""

from __future__ import annotations

import spglib
from ase import Atoms
from ase.geometry import cellpar_to_cell
from ase.spacegroup import crystal

CRYSTALS = {
    "PdH": (
        crystal(["Pd", "H"], [(0, 0, 0), (0.5, 0.5, 0.5)], spacegroup=225, cellpar=[4.09] * 3 + [90] * 3),
        48,
    ),
    "CaH6": (
        crystal(["Ca", "H"], [(0, 0, 0), (0.25, 0.5, 0)], spacegroup=229, cellpar=[3.5] * 3 + [90] * 3),
        48,
    ),
    "LaH10": (
        crystal(
            ["La", "H", "H"],
            [(0, 0, 0), (0.25, 0.25, 0.25), (0.12, 0.12, 0.12)],
            spacegroup=225,
            cellpar=[5.1] * 3 + [90] * 3,
        ),
        48,
    ),
    "H3S": (
        crystal(["S", "H"], [(0, 0, 0), (0, 0.5, 0.5)], spacegroup=229, cellpar=[3.065] * 3 + [90] * 3),
        48,
    ),
    "rhombohedral": (
        crystal(["S", "H"], [(0, 0, 0.25), (0, 0, 0)], spacegroup=166, cellpar=[3.2, 3.2, 9.0, 90, 90, 120]),
        12,
    ),
    "hexagonal": (
        crystal(
            ["Ca", "H"],
            [(1 / 3, 2 / 3, 0.25), (1 / 3, 2 / 3, 0.6)],
            spacegroup=194,
            cellpar=[3.5, 3.5, 5.5, 90, 90, 120],
        ),
        24,
    ),
    "monoclinic": (
        crystal(
            ["S", "H"],
            [(0.1, 0.05, 0.2), (0.3, 0.6, 0.4)],
            spacegroup=15,
            cellpar=[4.5, 4.0, 5.5, 90, 105, 90],
        ),
        4,
    ),
}
"""{name: (conventional cell, symmetry operations)}."""


def as_primitive_cif(conventional: Atoms) -> Atoms:
    """The primitive cell with its first vector along x, as any CIF reader places it."""
    lattice, positions, numbers = spglib.standardize_cell(
        (conventional.cell.array, conventional.get_scaled_positions(), conventional.numbers),
        to_primitive=True,
    )
    primitive = Atoms(numbers, scaled_positions=positions, cell=lattice, pbc=True)
    primitive.set_cell(cellpar_to_cell(primitive.cell.cellpar()), scale_atoms=True)
    return primitive

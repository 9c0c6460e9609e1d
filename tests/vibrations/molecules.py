"""Molecules of known point group, made of the elements of the small model."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule

GROUPS = {
    # order of the point group (of the subgroup used, for linear ones), products, symmetry number
    "H2O": (4, 3, 2),
    "NH3": (6, 3, 3),
    "CH4": (24, 2, 12),
    "C6H6": (24, 2, 12),
    "C2H6": (12, 3, 6),
    "CO2": (16, 2, 2),
    "CO": (8, 2, 1),
    "H2O2": (2, 6, 2),
    "CHFClBr": (1, 15, 1),
}


def exact(name: str) -> Atoms:
    """A molecule, symmetric to rounding, turned and moved away from the origin."""
    if name == "CHFClBr":
        atoms = Atoms(
            "CHFClBr",
            positions=[[0, 0, 0], [0.6, 0.6, 0.7], [-0.8, -0.8, 0.8], [-1, 1, -1.1], [1.2, -1.1, -1]],
        )
    else:
        atoms = molecule(name)
    if name == "NH3":
        _about_axis(atoms, 3, [1, 2, 3])
    if name == "C6H6":
        _about_axis(atoms, 6, range(6))
        _about_axis(atoms, 6, range(6, 12))
    if name == "C2H6":
        _about_axis(atoms, 3, [2, 3, 4])
        atoms.positions[[5, 6, 7]] = -atoms.positions[[2, 3, 4]]
        atoms.positions[1] = -atoms.positions[0]
    atoms.rotate(33, (1, 2, 3))
    atoms.translate((1.0, 5.0, -3.0))
    return atoms


def _about_axis(atoms: Atoms, order: int, ring: list[int] | range) -> None:
    """Put a ring on exact places about the z axis, which round coordinates miss."""
    x, y, z = atoms.positions[ring[0]]
    radius, start = np.hypot(x, y), np.arctan2(y, x)
    for atom in ring:
        turn = np.arctan2(atoms.positions[atom, 1], atoms.positions[atom, 0]) - start
        angle = start + np.round(turn * order / (2 * np.pi)) * 2 * np.pi / order
        atoms.positions[atom] = [radius * np.cos(angle), radius * np.sin(angle), z]


def of_sulfur_and_hydrogen(atoms: Atoms) -> Atoms:
    """The same shape with H for H and O, S for the rest, as far as that keeps unlike atoms unlike."""
    copy = atoms.copy()
    copy.numbers = np.where(np.isin(atoms.numbers, (1, 8)), 1, 16)
    return copy


def buckminsterfullerene() -> Atoms:
    """C60 with bonds of one length, exactly icosahedral."""
    golden = (1 + 5**0.5) / 2
    corners = []
    for a, b, c in ((0, 1, 3 * golden), (1, 2 + golden, 2 * golden), (2, 1 + 2 * golden, golden)):
        for shift in range(3):
            base = np.roll([a, b, c], shift)
            for signs in np.ndindex(2, 2, 2):
                corners.append(base * (1 - 2 * np.array(signs)))
    return Atoms("C60", positions=0.72 * np.unique(np.round(corners, 12), axis=0))

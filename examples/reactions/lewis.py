"""Small closed-shell molecules of C, H, N and O: Lewis structures of up to three heavy atoms, and G2's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import covalent_radii
from scipy.optimize import minimize

from himlip_ase.reactions import bond_graph

VALENCE = {"C": 4, "N": 3, "O": 2}
APART = 1.75
"""Least distance of atoms that are not bonded, as a multiple of the sum of their covalent radii."""


def g2_molecules(least: int, most: int) -> dict[str, Atoms]:
    """Closed-shell molecules of ASE's G2 set with hydrogen, in one piece, of so many heavy atoms."""
    found = {}
    for name in g2.names:
        atoms = molecule(name)
        symbols = set(atoms.get_chemical_symbols())
        heavy = int((atoms.numbers > 1).sum())
        if symbols <= set("CHNO") and "H" in symbols and least <= heavy <= most and len(atoms) > 2:
            if not atoms.get_initial_magnetic_moments().any() and len(bond_graph(atoms).fragments) == 1:
                found[name] = Atoms(atoms.numbers, atoms.positions)
    return found


def lewis_molecules(most: int = 3) -> dict[str, Atoms]:
    """Chains and three-rings of C, N and O with bonds of order 1 to 3, and hydrogens on what is left.

    Named after their heavy atoms and bonds: "C=C-O", "ring C-N-O". Chains of nitrogen and oxygen alone are
    left out beyond two atoms. Structures are rough (bond lengths and distances only): relax them.
    """
    found = {}
    for size in range(1, most + 1):
        for symbols in itertools.product("CNO", repeat=size):
            if size == 3 and "C" not in symbols:
                continue
            for name, orders in _skeletons(symbols):
                left = [VALENCE[s] for s in symbols]
                for (i, j), order in orders.items():
                    left[i] -= order
                    left[j] -= order
                if min(left) >= 0 and sum(left) > 0:
                    found[name] = _embedded(symbols, list(orders), left)
    return found


def _skeletons(symbols: tuple[str, ...]) -> Iterator[tuple[str, dict[tuple[int, int], int]]]:
    """Heavy atoms in a chain or a ring, each written once."""
    marks, size = {1: "-", 2: "=", 3: "#"}, len(symbols)
    for orders in itertools.product((1, 2, 3), repeat=size - 1):
        if (symbols, orders) <= (symbols[::-1], orders[::-1]):
            name = "".join(s + marks.get(o, "") for s, o in zip(symbols, (*orders, 0), strict=True))
            yield name, {(k, k + 1): order for k, order in enumerate(orders)}
    if size == 3:
        turns = [(symbols[k:] + symbols[:k])[::step] for k in range(3) for step in (1, -1)]
        if symbols == min(turns):
            yield "ring " + "-".join(symbols), {(0, 1): 1, (1, 2): 1, (0, 2): 1}


def _embedded(symbols: tuple[str, ...], bonds: list[tuple[int, int]], left: list[int]) -> Atoms:
    names, bonds = list(symbols), list(bonds)
    for heavy, number in enumerate(left):
        for _ in range(number):
            bonds.append((heavy, len(names)))
            names.append("H")
    atoms = Atoms(names, np.random.default_rng(0).normal(scale=1.5, size=(len(names), 3)))
    first, second = np.triu_indices(len(atoms), 1)
    radii = covalent_radii[atoms.numbers]
    wanted = radii[first] + radii[second]
    bonded = np.array([pair in bonds for pair in zip(first.tolist(), second.tolist(), strict=True)])

    def strain(flat: np.ndarray) -> float:
        points = flat.reshape(-1, 3)
        lengths = np.linalg.norm(points[first] - points[second], axis=1)
        close = np.minimum(lengths - APART * wanted, 0)
        return float(((lengths - wanted)[bonded] ** 2).sum() + 0.3 * (close[~bonded] ** 2).sum())

    atoms.positions = minimize(strain, atoms.positions.ravel()).x.reshape(-1, 3)
    return atoms

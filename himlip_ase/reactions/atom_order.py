"""Which atom of a product is which atom of its reactant."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from himlip_ase.errors import InputError
from himlip_ase.reactions.alignment import aligned, superposed
from himlip_ase.reactions.bonds import bond_graph

STARTS = 60
"""Orientations from which molecules are matched."""

NEARER = 1.0
"""Å²; gain in the sum of squared distances above which another order is worth a word."""


def check_order(reactant: Atoms, product: Atoms) -> str:
    """A warning where another order of the product's atoms changes fewer bonds or is nearer, else "".

    Equal atoms that swap places by mistake are the commonest cause of a meaningless barrier.

    Parameters
    ----------
    reactant, product : Atoms
        Elements in the same order.

    Returns
    -------
    str
    """
    order = matched_order(reactant, product)
    better = product[order]
    fewer = _bond_changes(reactant, product) - _bond_changes(reactant, better)
    nearer = _distance(reactant, product) - _distance(reactant, better)
    if fewer <= 0 and nearer < NEARER:
        return ""
    symbols = reactant.get_chemical_symbols()
    moved = [f"{symbols[k]}{k}" for k, there in enumerate(order) if k != there]
    gain = f"{fewer} fewer bonds would change" if fewer > 0 else "the way would be shorter"
    return (
        f"atoms {', '.join(moved)} change places on the way from reactant to product, and {gain} otherwise; "
        f"if that is not meant, give the product's atoms in the order {' '.join(map(str, order))} (himlip ts "
        "--reorder does it)"
    )


def matched_order(reactant: Atoms, product: Atoms) -> list[int]:
    """Order of the product's atoms that puts each beside its likeliest partner in the reactant.

    Assignments of atoms of one element to each other by least squares of distance (the Hungarian method) and
    superpositions take turns, from many orientations; of all that are found the one with the fewest bond
    changes counts, among these the nearest.

    Parameters
    ----------
    reactant, product : Atoms
        Of the same elements, in any order.

    Returns
    -------
    list of int
        ``product[order]`` has the reactant's order.

    Raises
    ------
    InputError
        Other atoms on the two sides.
    """
    if sorted(reactant.numbers) != sorted(product.numbers):
        raise InputError(
            f"reactant {reactant.get_chemical_formula()} and product {product.get_chemical_formula()} are "
            "made of different atoms"
        )
    free = not (reactant.pbc.any() or reactant.constraints or product.constraints)
    found: dict[tuple[int, ...], float] = {}
    if np.array_equal(reactant.numbers, product.numbers):
        given = list(range(len(product)))
        found[tuple(given)] = _distance(reactant, product)
    for turn in _orientations() if free else [np.eye(3)]:
        moved = product.copy()
        if free:
            centred = product.positions - product.positions.mean(axis=0)
            moved.positions = centred @ turn.T + reactant.positions.mean(axis=0)
        order: list[int] = []
        for _ in range(20):
            better = _assigned(reactant, moved)
            if better == order:
                break
            order = better
            if not free:
                break
            target = reactant.positions
            moved.positions[order] = superposed(moved.positions[order], target)
        if tuple(order) not in found:
            found[tuple(order)] = _distance(reactant, product[order])
    nearest = sorted(found, key=lambda order: found[order])[:12]
    changes = {order: _bond_changes(reactant, product[list(order)]) for order in nearest}
    best: tuple[int, ...] = min(nearest, key=lambda order: (changes[order], found[order]))
    return list(best)


def reordered(reactant: Atoms, product: Atoms) -> Atoms:
    """The product with its atoms in the reactant's order; see `matched_order`.

    Parameters
    ----------
    reactant, product : Atoms

    Returns
    -------
    Atoms
    """
    return product[matched_order(reactant, product)]


def _orientations() -> np.ndarray:
    """Rotations (`STARTS`, 3, 3), the identity first."""
    drawn = Rotation.random(STARTS - 1, random_state=np.random.RandomState(0)).as_matrix()
    return np.concatenate([np.eye(3)[None], drawn])


def _assigned(reactant: Atoms, product: Atoms) -> list[int]:
    """For each atom of the reactant the atom of the product that is assigned to it."""
    order = np.empty(len(reactant), dtype=int)
    for number in np.unique(reactant.numbers):
        here, there = np.flatnonzero(reactant.numbers == number), np.flatnonzero(product.numbers == number)
        vectors = (product.positions[None, there] - reactant.positions[here, None]).reshape(-1, 3)
        if reactant.pbc.any():
            vectors = find_mic(vectors, reactant.cell, reactant.pbc)[0]
        cost = (vectors**2).sum(axis=1).reshape(len(here), len(there))
        rows, columns = linear_sum_assignment(cost)
        order[here[rows]] = there[columns]
    return order.tolist()


def _distance(reactant: Atoms, product: Atoms) -> float:
    return float(((aligned(product, reactant).positions - reactant.positions) ** 2).sum())


def _bond_changes(reactant: Atoms, product: Atoms) -> int:
    return len(bond_graph(reactant).bonds ^ bond_graph(product).bonds)

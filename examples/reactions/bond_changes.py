"""Bond changes of a molecule, and names of reactions that do not depend on the order of atoms."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable

import numpy as np
from ase import Atoms

from himlip_ase.reactions import bond_graph

Bonds = tuple[tuple[int, int], ...]
Change = tuple[str, Bonds, Bonds]
"""Kind, bonds that form, bonds that break."""

SIMPLE = ("shift", "elimination", "ring")


def bond_changes(atoms: Atoms) -> list[Change]:
    """Bond changes of a molecule; of those that differ by equal atoms only, the one with the shortest ways.

    shift: an atom leaves a neighbour for another atom up to three bonds away. elimination: two atoms leave
    one atom, or two neighbours, and bind to each other. ring: a bond of a ring breaks. exchange: two
    hydrogens shift at once.
    """
    bonds = sorted(bond_graph(atoms).bonds)
    apart = _bond_distances(len(atoms), bonds)
    hydrogen = atoms.numbers == 1
    found: list[Change] = [("ring", (), (bond,)) for bond in bonds if _in_ring(len(atoms), bonds, bond)]
    shifts = []
    for bond in bonds:
        for mover, origin in (bond, bond[::-1]):
            for goal in range(len(atoms)):
                if not hydrogen[goal] and goal != origin and 2 <= apart[mover, goal] <= 4:
                    shifts.append((_pair(mover, goal), bond, mover))
    found += [("shift", (formed,), (broken,)) for formed, broken, _ in shifts]
    for one, two in itertools.combinations(bonds, 2):
        for a, b in itertools.product(one, two):
            rest = (sum(one) - a, sum(two) - b)
            near = rest[0] == rest[1] or _pair(*rest) in bonds
            if a != b and near and not set(rest) & {a, b} and _pair(a, b) not in bonds:
                found.append(("elimination", (_pair(a, b),), (one, two)))
    for (f1, b1, m1), (f2, b2, m2) in itertools.combinations(shifts, 2):
        if hydrogen[m1] and hydrogen[m2] and m1 != m2 and f1 != f2 and apart[m1, m2] <= 4:
            found.append(("exchange", (f1, f2), (b1, b2)))
    best: dict[str, tuple[float, Change]] = {}
    before = frozenset(bonds)
    for change in found:
        after = (before | set(change[1])) - set(change[2])
        key = reaction_key(atoms.numbers, before, after)
        way = sum(atoms.get_distance(*pair) for pair in change[1])
        if key not in best or way < best[key][0] - 1e-6:
            best[key] = (way, change)
    return [change for _, change in best.values()]


def reaction_key(numbers: np.ndarray, before: Iterable, after: Iterable) -> str:
    """A name of a reaction that is the same for equal atoms exchanged, and for the way back.

    Colours of atoms, refined by those of their neighbours in either bond graph (Weisfeiler and Leman); enough
    for molecules of this size.
    """
    names = [_refined(numbers, *graphs) for graphs in ((set(before), set(after)), (set(after), set(before)))]
    return min(names)


def _refined(numbers: np.ndarray, before: set, after: set) -> str:
    edges = [(i, j, f"{(i, j) in before:d}{(i, j) in after:d}") for i, j in sorted(before | after)]
    colours = [str(z) for z in numbers]
    for _ in range(len(numbers)):
        around: list[list[str]] = [[] for _ in numbers]
        for i, j, kind in edges:
            around[i].append(kind + colours[j])
            around[j].append(kind + colours[i])
        colours = [_digest(own + "".join(sorted(near))) for own, near in zip(colours, around, strict=True)]
    return _digest("".join(sorted(colours)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pair(i: int, j: int) -> tuple[int, int]:
    return (min(i, j), max(i, j))


def _bond_distances(number: int, bonds: Iterable[tuple[int, int]]) -> np.ndarray:
    distance = np.full((number, number), 99)
    np.fill_diagonal(distance, 0)
    for i, j in bonds:
        distance[i, j] = distance[j, i] = 1
    for k in range(number):
        distance = np.minimum(distance, distance[:, [k]] + distance[[k], :])
    return distance


def _in_ring(number: int, bonds: list[tuple[int, int]], bond: tuple[int, int]) -> bool:
    return bool(_bond_distances(number, [other for other in bonds if other != bond])[bond] < 99)

"""Shortest distances in displaced supercells for each pair of elements, periodic images included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from vesin import ase_neighbor_list

Pair = tuple[str, str]
"""Two chemical symbols in alphabetical order."""


@dataclass(frozen=True)
class PairTable:
    """The pairs of an ideal supercell that displacements of a given size can bring closest.

    Attributes
    ----------
    first, second : ndarray of int, shape (pairs,)
    vectors : ndarray, shape (pairs, 3)
        From first to second in the ideal crystal, Å.
    kinds : ndarray of int, shape (pairs,)
        Index into `names`.
    names : tuple of (str, str)
    ideal : ndarray, shape (len(names),)
        Shortest distance in the ideal crystal, Å.
    """

    first: np.ndarray
    second: np.ndarray
    vectors: np.ndarray
    kinds: np.ndarray
    names: tuple[Pair, ...]
    ideal: np.ndarray

    def shortest(self, displacements: np.ndarray) -> np.ndarray:
        """Shortest distance (Å) of each kind of pair in each configuration, shape (n, len(names))."""
        result = np.empty((len(displacements), len(self.names)))
        starts = np.searchsorted(self.kinds, np.arange(len(self.names)))
        for row, moved in zip(result, displacements, strict=True):
            vectors = self.vectors + moved[self.second] - moved[self.first]
            row[:] = np.minimum.reduceat(np.einsum("pk,pk->p", vectors, vectors), starts)
        return np.sqrt(result)


def pair_table(ideal: Atoms, displacements: np.ndarray) -> PairTable:
    """Candidate pairs: all that displacements no larger than these can make the closest of their kind.

    Parameters
    ----------
    ideal : Atoms
        Periodic supercell without displacements.
    displacements : ndarray, shape (n, N, 3)
        Å.

    Returns
    -------
    PairTable
    """
    symbols = np.array(ideal.get_chemical_symbols())
    names = tuple((str(a), str(b)) for k, a in enumerate(np.unique(symbols)) for b in np.unique(symbols)[k:])
    moves = np.linalg.norm(displacements, axis=2).max(axis=0)
    largest = {str(symbol): float(moves[symbols == symbol].max()) for symbol in np.unique(symbols)}
    nearest = _nearest(ideal, names)
    reach = {name: nearest[name] + 2 * (largest[name[0]] + largest[name[1]]) for name in names}
    first, second, vectors, lengths = ase_neighbor_list("ijDd", ideal, max(reach.values()) + 1e-6)
    first, second = first.astype(int), second.astype(int)
    once = first <= second
    first, second, vectors, lengths = first[once], second[once], vectors[once], lengths[once]
    kinds = _kinds(symbols, first, second, names)
    keep = lengths <= np.array([reach[name] for name in names])[kinds] + 1e-6
    order = np.flatnonzero(keep)[np.argsort(kinds[keep], kind="stable")]
    return PairTable(
        first[order],
        second[order],
        vectors[order],
        kinds[order],
        names,
        np.array([nearest[name] for name in names]),
    )


def _kinds(symbols: np.ndarray, first: np.ndarray, second: np.ndarray, names: tuple[Pair, ...]) -> np.ndarray:
    lookup = {name: index for index, name in enumerate(names)}
    elements, numbers = np.unique(symbols, return_inverse=True)
    table = np.array([[lookup[(min(a, b), max(a, b))] for b in elements] for a in elements])
    return table[numbers[first], numbers[second]]


def _nearest(ideal: Atoms, names: tuple[Pair, ...]) -> dict[Pair, float]:
    """Shortest distance of each kind of pair in the ideal crystal."""
    symbols = np.array(ideal.get_chemical_symbols())
    reach = 1.5 * (abs(ideal.cell.volume) / len(ideal)) ** (1 / 3)
    while True:
        first, second, lengths = ase_neighbor_list("ijd", ideal, reach)
        kinds = _kinds(symbols, first, second, names)
        if set(kinds.tolist()) == set(range(len(names))):
            return {name: float(lengths[kinds == index].min()) for index, name in enumerate(names)}
        reach *= 1.5


def shortest_by_pair(ideal: Atoms, displacements: np.ndarray) -> Mapping[Pair, float]:
    """Shortest distance (Å) of each pair of elements over all configurations.

    Parameters
    ----------
    ideal : Atoms
        Periodic supercell without displacements.
    displacements : ndarray, shape (n, N, 3)
        Å.

    Returns
    -------
    dict of (str, str) to ndarray, shape (n,)
    """
    table = pair_table(ideal, displacements)
    return dict(zip(table.names, table.shortest(displacements).min(axis=0).tolist(), strict=True))


def shortest_distance(ideal: Atoms, displacements: np.ndarray) -> float:
    """Smallest distance (Å) between two atoms, periodic images included, over all configurations.

    Parameters
    ----------
    ideal : Atoms
        Periodic supercell without displacements.
    displacements : ndarray, shape (n, N, 3)
        Å.

    Returns
    -------
    float
        Å.
    """
    return min(shortest_by_pair(ideal, displacements).values())

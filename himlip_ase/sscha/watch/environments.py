"""Surroundings of atoms as sorted neighbour distances: how far a configuration is from others, cheaply.

The environment of an atom is the list of its shortest distances to atoms of each element, sorted, cut off at
a radius.  The distance of two environments is the root mean square of the differences of these lists, in Å:
0 for equal surroundings, unchanged by rotations, translations, permutations and the choice of cell, and no
larger than twice the displacements that lead from one to the other.  It knows no angles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from vesin import ase_neighbor_list

N_NEIGHBOURS = 12
"""Neighbours of each element that are compared."""

RADIUS = 4.0
"""Distances beyond (Å) count as this one, so that the list is continuous where an atom enters it."""


def environments(images: Sequence[Atoms], elements: Sequence[str]) -> list[np.ndarray]:
    """Environment of every atom, scaled so that Euclidean distances between rows are in Å rms.

    Parameters
    ----------
    images : sequence of Atoms
        Molecules or crystals.
    elements : sequence of str
        Neighbours that are looked at, in this order.

    Returns
    -------
    list of ndarray, shape (N_i, len(elements) · 12)
        Sorted distances (Å) divided by the square root of their number.
    """
    return [_environments(image, elements) for image in images]


def _environments(image: Atoms, elements: Sequence[str]) -> np.ndarray:
    first, second, lengths = ase_neighbor_list("ijd", image, RADIUS)
    first, second = first.astype(int), second.astype(int)
    lookup = {symbol: index for index, symbol in enumerate(elements)}
    kinds = np.array([lookup.get(symbol, -1) for symbol in image.get_chemical_symbols()])
    table = np.full((len(image) * len(elements), N_NEIGHBOURS), RADIUS)
    known = kinds[second] >= 0
    group, lengths = first[known] * len(elements) + kinds[second[known]], lengths[known]
    order = np.argsort(group * (2 * RADIUS) + lengths)  # by group, then by length
    group, lengths = group[order], lengths[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    near = rank < N_NEIGHBOURS
    table[group[near], rank[near]] = lengths[near]
    return table.reshape(len(image), -1) / np.sqrt(table.size / len(image))

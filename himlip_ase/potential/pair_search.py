"""Compiled search for pairs, and their arrangement as a table: what `himlip_ase.potential.neighbours` uses.

Atoms are wrapped into the cell, copied as far beyond its periodic faces as pairs reach, and sorted into bins
at least as wide as that, so that all partners of an atom lie in its own bin and the 26 around it.
"""

from __future__ import annotations

import math

import numpy as np

from himlip_ase.potential.compilation import compiled

MARGIN = 1e-9
"""Å beyond the reach: what is a pair is decided by the vectors of the table, not by those of the search."""


@compiled
def find_half(positions, cell, inverse, periodic, reach):
    """Pairs within reach, each once with first ≤ second, ordered by (first, second, shift).

    Parameters
    ----------
    positions : ndarray (N, 3)
        Å.
    cell, inverse : ndarray (3, 3)
        Three independent vectors as rows, whether periodic or not, and the inverse.
    periodic : ndarray (3,), bool
    reach : float
        Å.

    Returns
    -------
    first, second : ndarray (P,)
    shifts : ndarray (P, 3)
    """
    n_atoms = len(positions)
    scaled, home = np.empty((n_atoms, 3)), np.zeros((n_atoms, 3), dtype=np.int64)
    for i in range(n_atoms):
        for k in range(3):
            value = 0.0
            for a in range(3):
                value += positions[i, a] * inverse[a, k]
            if periodic[k]:
                home[i, k] = math.floor(value)
                value -= home[i, k]
            scaled[i, k] = value
    low, width, bins = np.empty(3), np.empty(3), np.ones(3, np.int64)
    lowest, highest = np.zeros(3, np.int64), np.zeros(3, np.int64)
    most = int((8.0 * n_atoms) ** (1 / 3)) + 2
    for k in range(3):
        range_k = (reach + MARGIN) * math.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        if periodic[k]:
            low[k], high = -range_k, 1 + range_k
        else:
            low[k], high = scaled[:, k].min(), scaled[:, k].max()
        bins[k] = min(max(1, int((high - low[k]) / range_k)), most)
        width[k] = max((high - low[k]) / bins[k], range_k)
    # copies within reach of the cell, sorted by bin
    n_bins = bins[0] * bins[1] * bins[2]
    starts = np.zeros(n_bins + 1, dtype=np.int64)
    owner = np.empty(0, dtype=np.int64)
    image, place = np.empty((0, 3), dtype=np.int64), np.empty((0, 3))
    for turn in range(2):
        for j in range(n_atoms):
            for k in range(3):
                if periodic[k]:
                    lowest[k], highest[k] = (
                        math.ceil(low[k] - scaled[j, k]),
                        math.floor(1 - low[k] - scaled[j, k]),
                    )
            for s0 in range(lowest[0], highest[0] + 1):
                for s1 in range(lowest[1], highest[1] + 1):
                    for s2 in range(lowest[2], highest[2] + 1):
                        flat = 0
                        for k in range(3):
                            s = s0 if k == 0 else (s1 if k == 1 else s2)
                            at = int((scaled[j, k] + s - low[k]) / width[k])
                            flat = flat * bins[k] + min(max(at, 0), bins[k] - 1)
                        if turn == 0:
                            starts[flat + 1] += 1
                            continue
                        g = starts[flat]
                        starts[flat] += 1
                        owner[g] = j
                        image[g, 0], image[g, 1], image[g, 2] = s0, s1, s2
                        for a in range(3):
                            value = 0.0
                            for k in range(3):
                                s = s0 if k == 0 else (s1 if k == 1 else s2)
                                value += (scaled[j, k] + s) * cell[k, a]
                            place[g, a] = value
        if turn == 0:
            for flat in range(n_bins):
                starts[flat + 1] += starts[flat]
            total = starts[n_bins]
            owner, image, place = (
                np.empty(total, np.int64),
                np.empty((total, 3), np.int64),
                np.empty((total, 3)),
            )
    # the second turn moved every start to its end
    for flat in range(n_bins, 0, -1):
        starts[flat] = starts[flat - 1]
    starts[0] = 0
    limit = (reach + MARGIN) ** 2
    found = np.empty((64 * n_atoms + 64, 5), dtype=np.int64)
    n = 0
    here = np.empty(3, dtype=np.int64)
    for i in range(n_atoms):
        begin = n
        x, y, z = 0.0, 0.0, 0.0
        for k in range(3):
            here[k] = min(max(int((scaled[i, k] - low[k]) / width[k]), 0), bins[k] - 1)
            x += scaled[i, k] * cell[k, 0]
            y += scaled[i, k] * cell[k, 1]
            z += scaled[i, k] * cell[k, 2]
        for b0 in range(max(here[0] - 1, 0), min(here[0] + 2, bins[0])):
            for b1 in range(max(here[1] - 1, 0), min(here[1] + 2, bins[1])):
                row = (b0 * bins[1] + b1) * bins[2]
                for g in range(starts[row + max(here[2] - 1, 0)], starts[row + min(here[2] + 2, bins[2])]):
                    j = owner[g]
                    if j < i:
                        continue
                    dx, dy, dz = place[g, 0] - x, place[g, 1] - y, place[g, 2] - z
                    if dx * dx + dy * dy + dz * dz > limit:
                        continue
                    s0 = image[g, 0] - home[j, 0] + home[i, 0]
                    s1 = image[g, 1] - home[j, 1] + home[i, 1]
                    s2 = image[g, 2] - home[j, 2] + home[i, 2]
                    if i == j and not (s0 > 0 or (s0 == 0 and (s1 > 0 or (s1 == 0 and s2 > 0)))):
                        continue
                    if n == len(found):
                        larger = np.empty((2 * n, 5), dtype=np.int64)
                        larger[:n] = found
                        found = larger
                    # sorted in among those of the same atom
                    p = n
                    while p > begin and (
                        found[p - 1, 1] > j
                        or (
                            found[p - 1, 1] == j
                            and (
                                found[p - 1, 2] > s0
                                or (
                                    found[p - 1, 2] == s0
                                    and (
                                        found[p - 1, 3] > s1
                                        or (found[p - 1, 3] == s1 and found[p - 1, 4] > s2)
                                    )
                                )
                            )
                        )
                    ):
                        for q in range(1, 5):
                            found[p, q] = found[p - 1, q]
                        p -= 1
                    found[p, 0], found[p, 1] = i, j
                    found[p, 2], found[p, 3], found[p, 4] = s0, s1, s2
                    n += 1
        for p in range(begin, n):
            found[p, 0] = i
    return found[:n, 0].copy(), found[:n, 1].copy(), found[:n, 2:].copy()


@compiled
def tabulate(first, second, translations, positions, cutoff, padding):
    """The table of `himlip_ase.potential.neighbours.NeighbourTable` of the pairs within the cutoff.

    Parameters
    ----------
    first, second : ndarray (P,)
        Atoms.
    translations : ndarray (P, 3)
        Lattice translations of the second ones in Å.
    positions : ndarray (N, 3)
    cutoff, padding : float
        Å.

    Returns
    -------
    neighbours, offsets, mask, reverse : ndarray
    closest : int
        The pair of the smallest distance, −1 where there is none.
    smallest : float
        Its distance squared, in Å².
    """
    n_atoms, n_pairs = len(positions), len(first)
    near = np.empty(n_pairs, dtype=np.bool_)
    counts = np.zeros(n_atoms, dtype=np.int64)
    closest, smallest = -1, np.inf
    for p in range(n_pairs):
        i, j = first[p], second[p]
        square = 0.0
        for a in range(3):
            d = positions[j, a] - positions[i, a] + translations[p, a]
            square += d * d
        if square < smallest:
            closest, smallest = p, square
        near[p] = square < cutoff * cutoff
        if near[p]:
            counts[i] += 1
            counts[j] += 1
    width = 1
    for i in range(n_atoms):
        width = max(width, counts[i])
    neighbours = np.empty((n_atoms, width), dtype=np.int64)
    offsets = np.zeros((n_atoms, 3, width))
    mask = np.zeros((n_atoms, width), dtype=np.bool_)
    reverse = np.empty((n_atoms, width), dtype=np.int64)
    slots = np.empty((n_pairs, 2), dtype=np.int64)
    for i in range(n_atoms):
        for m in range(counts[i], width):
            neighbours[i, m] = i
            offsets[i, 2, m] = padding
            reverse[i, m] = i * width + m
    counts[:] = 0
    for end in range(2):  # pairs that an atom begins, then pairs that it ends
        for p in range(n_pairs):
            if near[p]:
                i, j = (first[p], second[p]) if end == 0 else (second[p], first[p])
                m = counts[i]
                counts[i] += 1
                slots[p, end] = i * width + m
                neighbours[i, m] = j
                mask[i, m] = True
                for a in range(3):
                    offsets[i, a, m] = translations[p, a] if end == 0 else -translations[p, a]
    places = reverse.reshape(-1)
    for p in range(n_pairs):
        if near[p]:
            places[slots[p, 0]], places[slots[p, 1]] = slots[p, 1], slots[p, 0]
    return neighbours, offsets, mask, reverse, closest, smallest

"""Compiled search for pairs, and their arrangement as a table: what `himlip_ase.potential.neighbours` uses.

Atoms are wrapped into the cell, copied as far beyond its periodic faces as pairs reach, and sorted into bins
at least as wide as that, so that all partners of an atom lie in its own bin and the 26 around it.
"""

from __future__ import annotations

import math

import numpy as np

from himlip_ase.potential.compilation import compiled, compiled_exactly

MARGIN = 1e-9
"""Å beyond the reach: what is a pair is decided by the vectors of the table, not by those of the search."""

FAR = 1e100
"""Å, or Å² of the cell; beyond is looked at again."""


@compiled
def surely_sound(positions, places, cell, periodic):
    """Whether nothing at all is wrong with a structure; if not, `check_atoms` of the graphs says what.

    Parameters
    ----------
    positions : ndarray (N, 3)
        Å.
    places : ndarray (N,)
        Of the elements among those of the model, negative for unknown ones.
    cell : ndarray (3, 3)
    periodic : ndarray (3,), bool

    Returns
    -------
    bool
        True only for periodic cells far from singular, and for structures without periodicity.
    """
    # compared with a number: x − x, by which numba asks whether x is finite, may be taken for zero here
    for i in range(len(positions)):
        x, y, z = positions[i]
        if places[i] < 0 or not (abs(x) < FAR and abs(y) < FAR and abs(z) < FAR):
            return False
    lengths, directions = 1.0, 0
    for k in range(3):
        square = cell[k, 0] * cell[k, 0] + cell[k, 1] * cell[k, 1] + cell[k, 2] * cell[k, 2]
        if not square < FAR or (periodic[k] and square < MARGIN):
            return False
        lengths *= math.sqrt(square)
        directions += periodic[k]
    # of three unit vectors σ₁σ₂ ≤ (σ₁² + σ₂² + σ₃²)/2 = 3/2, so that σ₃ is no less than ⅔ |det|
    _, volume = _inverse(cell)
    return directions == 0 or (directions == 3 and abs(volume) > 0.01 * lengths)


@compiled
def _inverse(cell):
    """Inverse and determinant of a 3 × 3 matrix."""
    inverse = np.empty((3, 3))
    for k in range(3):
        a, b = cell[(k + 1) % 3], cell[(k + 2) % 3]
        inverse[0, k] = a[1] * b[2] - a[2] * b[1]
        inverse[1, k] = a[2] * b[0] - a[0] * b[2]
        inverse[2, k] = a[0] * b[1] - a[1] * b[0]
    volume = cell[0, 0] * inverse[0, 0] + cell[0, 1] * inverse[1, 0] + cell[0, 2] * inverse[2, 0]
    return inverse / volume, volume


@compiled
def find_half(positions, cell, periodic, reach):
    """Pairs within reach, each once with first ≤ second, ordered by (first, second, shift).

    Parameters
    ----------
    positions : ndarray (N, 3)
        Å.
    cell : ndarray (3, 3)
        Three independent vectors as rows, whether periodic or not.
    periodic : ndarray (3,), bool
    reach : float
        Å.

    Returns
    -------
    first, second : ndarray (P,)
    shifts : ndarray (P, 3)
    """
    n_atoms, (inverse, _) = len(positions), _inverse(cell)
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
    # images that any atom may have: the first along each direction, and how many
    origin, images = np.zeros(3, np.int64), np.ones(3, np.int64)
    most = int((8.0 * n_atoms) ** (1 / 3)) + 2
    for k in range(3):
        range_k = (reach + MARGIN) * math.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        if periodic[k]:
            low[k], high = -range_k, 1 + range_k
            origin[k] = math.ceil(low[k] - 1)
            images[k] = math.floor(high) - origin[k] + 1
        else:
            low[k], high = scaled[:, k].min(), scaled[:, k].max()
        bins[k] = min(max(1, int((high - low[k]) / range_k)), most)
        width[k] = max((high - low[k]) / bins[k], range_k)
    bits = 0
    while (1 << bits) < images[0] * images[1] * images[2]:
        bits += 1
    keys, places, starts = _copies(scaled, cell, periodic, low, width, bins, origin, images, bits)
    limit, later = (reach + MARGIN) ** 2, starts[:-1].copy()
    found, ends = np.empty(64 * n_atoms + 64, dtype=np.int64), np.empty(n_atoms, dtype=np.int64)
    near = np.empty(len(keys) + 1, dtype=np.int64)
    own = (-origin[0] * images[1] - origin[1]) * images[2] - origin[2]
    n = 0
    here = np.empty(3, dtype=np.int64)
    for i in range(n_atoms):
        x, y, z = 0.0, 0.0, 0.0
        for k in range(3):
            here[k] = min(max(int((scaled[i, k] - low[k]) / width[k]), 0), bins[k] - 1)
            x += scaled[i, k] * cell[k, 0]
            y += scaled[i, k] * cell[k, 1]
            z += scaled[i, k] * cell[k, 2]
        # of a pair once: later atoms, and own images along a positive shift
        least, count = (i << bits) + own, 0
        for b0 in range(max(here[0] - 1, 0), min(here[0] + 2, bins[0])):
            for b1 in range(max(here[1] - 1, 0), min(here[1] + 2, bins[1])):
                row = (b0 * bins[1] + b1) * bins[2]
                for flat in range(row + max(here[2] - 1, 0), row + min(here[2] + 2, bins[2])):
                    # keys rise within a bin, and with i
                    while later[flat] < starts[flat + 1] and keys[later[flat]] <= least:
                        later[flat] += 1
                    for g in range(later[flat], starts[flat + 1]):
                        dx, dy, dz = places[0, g] - x, places[1, g] - y, places[2, g] - z
                        near[count] = keys[g]  # stays if counted: faster than a branch hard to predict
                        count += dx * dx + dy * dy + dz * dz <= limit
        if n + count > len(found):
            larger = np.empty(2 * len(found) + count, dtype=np.int64)
            larger[:n] = found[:n]
            found = larger
        for q in range(count):
            p = n + q
            while p > n and found[p - 1] > near[q]:
                found[p] = found[p - 1]
                p -= 1
            found[p] = near[q]
        n += count
        ends[i] = n
    first, second = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    shifts = np.empty((n, 3), dtype=np.int64)
    image_of = _images(origin, images)
    p = 0
    for i in range(n_atoms):
        while p < ends[i]:
            j, rank = found[p] >> bits, found[p] & ((1 << bits) - 1)
            first[p], second[p] = i, j
            for k in range(3):
                shifts[p, k] = image_of[rank, k] - home[j, k] + home[i, k]
            p += 1
    return first, second, shifts


@compiled
def _images(origin, images):
    """All images in the order of their ranks, (n_images, 3)."""
    found = np.empty((images[0] * images[1] * images[2], 3), dtype=np.int64)
    for rank in range(len(found)):
        rest = rank
        for k in range(2, -1, -1):
            found[rank, k] = rest % images[k] + origin[k]
            rest //= images[k]
    return found


@compiled
def _copies(scaled, cell, periodic, low, width, bins, origin, images, bits):
    """Keys and places (3, G) of all copies of atoms within reach of the cell, sorted by bin; starts of bins.

    A key is the atom, shifted by so many bits, and the rank of the image.  Images differ from the shifts of a
    pair of atoms by a constant, so that the order of keys is that of shifts; within a bin keys rise.
    """
    n_atoms, total = len(scaled), 0
    lowest, highest = np.zeros((n_atoms, 3), np.int64), np.zeros((n_atoms, 3), np.int64)
    for j in range(n_atoms):
        copies = 1
        for k in range(3):
            if periodic[k]:
                lowest[j, k] = math.ceil(low[k] - scaled[j, k])
                highest[j, k] = math.floor(1 - low[k] - scaled[j, k])
            copies *= highest[j, k] - lowest[j, k] + 1
        total += copies
    starts = np.zeros(bins[0] * bins[1] * bins[2] + 1, dtype=np.int64)
    loose, where, spots = np.empty(total, np.int64), np.empty(total, np.int64), np.empty((3, total))
    g = 0
    for j in range(n_atoms):
        for s0 in range(lowest[j, 0], highest[j, 0] + 1):
            x0 = scaled[j, 0] + s0
            b0 = min(max(int((x0 - low[0]) / width[0]), 0), bins[0] - 1)
            for s1 in range(lowest[j, 1], highest[j, 1] + 1):
                x1 = scaled[j, 1] + s1
                b1 = b0 * bins[1] + min(max(int((x1 - low[1]) / width[1]), 0), bins[1] - 1)
                for s2 in range(lowest[j, 2], highest[j, 2] + 1):
                    x2 = scaled[j, 2] + s2
                    flat = b1 * bins[2] + min(max(int((x2 - low[2]) / width[2]), 0), bins[2] - 1)
                    rank = ((s0 - origin[0]) * images[1] + s1 - origin[1]) * images[2] + s2 - origin[2]
                    loose[g], where[g] = (j << bits) + rank, flat
                    starts[flat + 1] += 1
                    for a in range(3):
                        spots[a, g] = x0 * cell[0, a] + x1 * cell[1, a] + x2 * cell[2, a]
                    g += 1
    for flat in range(1, len(starts)):
        starts[flat] += starts[flat - 1]
    keys, places, filled = np.empty(total, np.int64), np.empty((3, total)), starts[:-1].copy()
    for g in range(total):
        place = filled[where[g]]
        filled[where[g]] += 1
        keys[place] = loose[g]
        for a in range(3):
            places[a, place] = spots[a, g]
    return keys, places, starts


@compiled_exactly
def translated(shifts, cell):
    """Translations in Å, of shifts (P, 3) in cells; sums in the order of `neighbours._translated`.

    Parameters
    ----------
    shifts : ndarray (P, 3)
    cell : ndarray (3, 3)

    Returns
    -------
    ndarray (P, 3)
    """
    found = np.empty(shifts.shape)
    for p in range(len(shifts)):
        for a in range(3):
            plane = shifts[p, 0] * cell[0, a] + shifts[p, 1] * cell[1, a]
            found[p, a] = plane + shifts[p, 2] * cell[2, a]
    return found


@compiled
def table_of(positions, places, cell, periodic, cutoff, padding):
    """`surely_sound`, `find_half` and `tabulate` of one crystal: what a call of each from Python costs.

    Parameters
    ----------
    positions, places, cell, periodic, cutoff, padding
        As for these.

    Returns
    -------
    sound : bool
    first, second : ndarray (P,)
        The pairs; none where the structure is not surely sound.
    table : tuple
        As `tabulate`.
    """
    sound = surely_sound(positions, places, cell, periodic)
    first, second, shifts = find_half(positions if sound else positions[:0], cell, periodic, cutoff)
    translations = translated(shifts, cell)
    return sound, first, second, tabulate(first, second, translations, positions, cutoff, padding)


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
    begun, ended = np.zeros(n_atoms, dtype=np.int64), np.zeros(n_atoms, dtype=np.int64)
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
            begun[i] += 1
            ended[j] += 1
    counts = begun + ended
    width = 1
    for i in range(n_atoms):
        width = max(width, counts[i])
    neighbours = np.empty((n_atoms, width), dtype=np.int64)
    offsets = np.empty((n_atoms, 3, width))
    mask = np.empty((n_atoms, width), dtype=np.bool_)
    reverse = np.empty((n_atoms, width), dtype=np.int64)
    flat = reverse.reshape(-1)
    for i in range(n_atoms):
        for m in range(width):
            mask[i, m] = m < counts[i]
        for m in range(counts[i], width):
            neighbours[i, m] = i
            offsets[i, 0, m], offsets[i, 1, m], offsets[i, 2, m] = 0.0, 0.0, padding
            reverse[i, m] = i * width + m
    # pairs that an atom begins stand before those that it ends
    begun[:], ended[:] = 0, counts - ended
    for p in range(n_pairs):
        if near[p]:
            i, j = first[p], second[p]
            m, begun[i] = begun[i], begun[i] + 1
            n, ended[j] = ended[j], ended[j] + 1
            neighbours[i, m], neighbours[j, n] = j, i
            flat[i * width + m], flat[j * width + n] = j * width + n, i * width + m
            for a in range(3):
                offsets[i, a, m], offsets[j, a, n] = translations[p, a], -translations[p, a]
    return neighbours, offsets, mask, reverse, closest, smallest

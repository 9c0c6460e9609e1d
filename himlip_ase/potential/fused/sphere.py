"""Compiled invariants of each atom's densities, and their adjoint.

The quadrature points come in opposite pairs, so that the even and the odd part of a factor give its value at
two points at once; l = 3, which half of the products leave out, is a part of its own.  That is a
quarter of the arithmetic of evaluating both versions of every factor at every point.

Harmonics stand here in the order even (l = 0, 2), l = 1, l = 3 (`ORDER`), so that each part is one matrix
product.  The number of channels is a constant of the compiled code: only then does the compiler see that the
numbers of the four factors, in one table, do not overlap.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from himlip_ase.potential.compilation import compiled
from himlip_ase.potential.fused.tiles import product

ORDER = np.array([0, 4, 5, 6, 7, 8, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15])
"""Harmonics: six of l = 0 and 2, three of l = 1, seven of l = 3."""
ROW = np.argsort(ORDER)
"""Where a harmonic stands in `ORDER`."""
DEGREE = np.repeat(np.arange(4), 2 * np.arange(4) + 1)
"""Its l."""


@compiled
def at_points(own, by_point, parts):
    """Even part, part of l = 1 and part of l = 3 of all factors at all points.

    Parameters
    ----------
    own : ndarray (16, 4 C)
        In the order of `ORDER`.
    by_point : ndarray (G, 16)
        Harmonics at the points, in the same order.
    parts : ndarray (3, G, 4 C)
    """
    product(by_point[:, 0:6], own[0:6], parts[0])
    product(by_point[:, 6:9], own[6:9], parts[1])
    product(by_point[:, 9:16], own[9:16], parts[2])


@cache
def sphere_passes(n: int) -> tuple[Any, Any]:
    """Compile, or find on disk, the passes `invariants` and `invariants_adjoint` of so many channels.

    Parameters
    ----------
    n : int

    Returns
    -------
    tuple of two callables
    """
    width = 4 * n

    @compiled
    def invariants(start, stop, species, gates, density, by_point, weights, inputs):
        """Gates the densities (16, N, 4 C) in place; their invariants of body order two to five.

        See `himlip_ase.potential.network.DensityLayer`; `gates` is (elements, 4, 4 C), `by_point` (G, 16) and
        `weights` (G,) hold one point of each opposite pair.
        """
        real = density.dtype.type
        own = np.empty((16, width), dtype=density.dtype)
        parts = np.empty((3, len(weights), width), dtype=density.dtype)
        sums = np.empty((4, n), dtype=density.dtype)
        pairs = np.empty((2, n), dtype=density.dtype)
        for i in range(start, stop):
            a = species[i]
            pairs[:] = 0
            last = 0
            for s in range(16):
                degree = DEGREE[s]
                if degree > last:
                    pairs[:] = 0
                    last = degree
                row = ROW[s]
                for c in range(width):
                    value = density[s, i, c] * gates[a, degree, c]
                    own[row, c] = value
                    density[s, i, c] = value
                for c in range(n):
                    pairs[0, c] += own[row, c] * own[row, n + c]
                    pairs[1, c] += own[row, 2 * n + c] * own[row, 3 * n + c]
                if s == (degree + 1) * (degree + 1) - 1:
                    norm = real(1) / real(2 * degree + 1)
                    for c in range(n):
                        inputs[i, width + 4 * c + degree] = pairs[0, c] * norm
                        inputs[i, width + 4 * n + 4 * c + degree] = pairs[1, c] * norm
            for c in range(width):
                inputs[i, c] = own[0, c]
            at_points(own, by_point, parts)
            sums[:] = 0
            for g in range(len(weights)):
                w = weights[g]
                for half in range(2):
                    sign = real(1) if half == 0 else real(-1)
                    for c in range(n):
                        one = parts[0, g, c] + sign * (parts[1, g, c] + parts[2, g, c])
                        low2 = parts[0, g, n + c] + sign * parts[1, g, n + c]
                        low3 = parts[0, g, 2 * n + c] + sign * parts[1, g, 2 * n + c]
                        low4 = parts[0, g, 3 * n + c] + sign * parts[1, g, 3 * n + c]
                        pair = one * (low2 + sign * parts[2, g, n + c]) * w
                        both = low2 * low3
                        sums[0, c] += pair * (low3 + sign * parts[2, g, 2 * n + c])
                        sums[1, c] += pair * (low4 + sign * parts[2, g, 3 * n + c])
                        sums[2, c] += w * both * low4 * low4
                        sums[3, c] += w * both * both
            for q in range(4):
                for c in range(n):
                    inputs[i, width + 8 * n + q * n + c] = sums[q, c]

    @compiled
    def invariants_adjoint(start, stop, species, gates, density, by_point, weights, cotangent, gradient):
        """Adds the gradients of the invariants to `gradient` (16, N, 4 C), for ungated densities."""
        real = density.dtype.type
        own = np.empty((16, width), dtype=density.dtype)
        out = np.empty((16, width), dtype=density.dtype)
        parts = np.empty((3, len(weights), width), dtype=density.dtype)
        g = np.empty((4, n), dtype=density.dtype)
        to_point = by_point.T
        for i in range(start, stop):
            a = species[i]
            for s in range(16):
                row = ROW[s]
                for c in range(width):
                    own[row, c] = density[s, i, c]
            for q in range(4):
                for c in range(n):
                    g[q, c] = cotangent[i, width + 8 * n + q * n + c]
            at_points(own, by_point, parts)
            for p in range(len(weights)):
                w = weights[p]
                for c in range(n):
                    g0, g1, g2, g3 = w * g[0, c], w * g[1, c], w * g[2, c], w * g[3, c]
                    twice = g3 + g3
                    e1, e2, e3 = parts[0, p, c], parts[0, p, n + c], parts[0, p, 2 * n + c]
                    o1, o2, o3 = parts[1, p, c], parts[1, p, n + c], parts[1, p, 2 * n + c]
                    q1, q2, q3 = parts[2, p, c], parts[2, p, n + c], parts[2, p, 2 * n + c]
                    e4, o4, q4 = parts[0, p, 3 * n + c], parts[1, p, 3 * n + c], parts[2, p, 3 * n + c]
                    # at the point (a) and at its opposite (b)
                    low2, low3, low4 = e2 + o2, e3 + o3, e4 + o4
                    one, two, three, four = e1 + o1 + q1, low2 + q2, low3 + q3, low4 + q4
                    rest, pair, both, square = g0 * three + g1 * four, one * two, low2 * low3, low4 * low4
                    low = g2 * square + twice * both
                    a1, a2, a3, a4 = two * rest, one * rest, g0 * pair, g1 * pair
                    m2, m3, m4 = low3 * low, low2 * low, (g2 + g2) * both * low4
                    low2, low3, low4 = e2 - o2, e3 - o3, e4 - o4
                    one, two, three, four = e1 - o1 - q1, low2 - q2, low3 - q3, low4 - q4
                    rest, pair, both, square = g0 * three + g1 * four, one * two, low2 * low3, low4 * low4
                    low = g2 * square + twice * both
                    b1, b2, b3, b4 = two * rest, one * rest, g0 * pair, g1 * pair
                    n2, n3, n4 = low3 * low, low2 * low, (g2 + g2) * both * low4
                    parts[0, p, c] = a1 + b1
                    parts[0, p, n + c] = a2 + b2 + m2 + n2
                    parts[0, p, 2 * n + c] = a3 + b3 + m3 + n3
                    parts[0, p, 3 * n + c] = a4 + b4 + m4 + n4
                    parts[1, p, c] = a1 - b1
                    parts[1, p, n + c] = a2 - b2 + m2 - n2
                    parts[1, p, 2 * n + c] = a3 - b3 + m3 - n3
                    parts[1, p, 3 * n + c] = a4 - b4 + m4 - n4
                    parts[2, p, c] = a1 - b1
                    parts[2, p, n + c] = a2 - b2
                    parts[2, p, 2 * n + c] = a3 - b3
                    parts[2, p, 3 * n + c] = a4 - b4
            product(to_point[0:6], parts[0], out[0:6])
            product(to_point[6:9], parts[1], out[6:9])
            product(to_point[9:16], parts[2], out[9:16])
            for c in range(width):
                out[0, c] += cotangent[i, c]
            for s in range(16):
                degree = DEGREE[s]
                norm = real(1) / real(2 * degree + 1)
                row = ROW[s]
                for c in range(n):
                    h0 = cotangent[i, width + 4 * c + degree] * norm
                    h1 = cotangent[i, width + 4 * n + 4 * c + degree] * norm
                    out[row, c] += h0 * own[row, n + c]
                    out[row, n + c] += h0 * own[row, c]
                    out[row, 2 * n + c] += h1 * own[row, 3 * n + c]
                    out[row, 3 * n + c] += h1 * own[row, 2 * n + c]
                for c in range(width):
                    gradient[s, i, c] = (gradient[s, i, c] + out[row, c]) * gates[a, degree, c]

    return invariants, invariants_adjoint


@compiled
def standardise(start, stop, species, centre, inverse_spread, scalars, inputs, bent):
    """Appends the scalars of the layer before to the invariants and standardises all in place.

    `bent` becomes t with ln(1 + t) = arsinh |x|, without cancellation at small x.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, centre, inverse_spread, scalars, inputs, bent : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    one = inputs.dtype.type(1)
    n_scalars = scalars.shape[1]
    n_invariants = inputs.shape[1] - n_scalars
    for i in range(start, stop):
        a = species[i]
        for q in range(n_scalars):
            inputs[i, n_invariants + q] = scalars[i, q]
        for q in range(inputs.shape[1]):
            value = (inputs[i, q] - centre[a, q]) * inverse_spread[a, q]
            inputs[i, q] = value
            square = value * value
            bent[i, q] = abs(value) + square / (one + math.sqrt(one + square))

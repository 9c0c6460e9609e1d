"""Compiled passes of Hessian-vector products: how invariants and their adjoint change with the densities.

Each is the derivative of the pass of the same name in `himlip_ase.potential.fused.sphere`; a dot on a
quantity (``_dot``) is its change, and arrays of such quantities hold all vectors of a sweep, first (V, …).
The four integrals are linear in the change of a density: `slopes` tables their derivatives once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from himlip_ase.potential.compilation import compiled
from himlip_ase.potential.fused.sphere import DEGREE, ROW, at_points
from himlip_ase.potential.fused.tiles import product

SLOPES = 11
"""Factors in the four integrals: 1, 2, 3; 1, 2, 4; and without the highest degree 2, 3, 4; 2, 3."""


@compiled
def point_slopes(w, one, two, three, four, low2, low3, low4):
    """Derivatives of the four integrands by their factors at one point, times its weight.

    Parameters
    ----------
    w, one, two, three, four, low2, low3, low4 : float
        Weight; the factors there, with and without the highest degree.

    Returns
    -------
    tuple of float
        As many as `SLOPES`.
    """
    pair, both, square = w * one * two, w * low2 * low3, w * low4 * low4
    return (
        w * two * three, w * one * three, pair, w * two * four, w * one * four, pair,
        low3 * square, low2 * square, both * (low4 + low4), (both + both) * low3, (both + both) * low2,
    )  # fmt: skip


@compiled
def point_changes(g0, g1, g2, g3, one, two, three, four, low2, low3, low4, d1, d2, d3, d4, k2, k3, k4):
    """Changes of the gradients by the factors at one point, for fixed gradients of the integrals.

    Parameters
    ----------
    g0, g1, g2, g3 : float
        Gradients of the integrals times the point's weight.
    one, two, three, four, low2, low3, low4, d1, d2, d3, d4, k2, k3, k4 : float
        The factors with and without the highest degree, and their changes.

    Returns
    -------
    tuple of float
        By the four factors, and by three of them without the highest degree.
    """
    rest, rest_dot = g0 * three + g1 * four, g0 * d3 + g1 * d4
    pair_dot = d1 * two + one * d2
    both, both_dot = low2 * low3, k2 * low3 + low2 * k3
    low = g2 * low4 * low4 + (g3 + g3) * both
    low_dot = (g2 + g2) * low4 * k4 + (g3 + g3) * both_dot
    return (
        d2 * rest + two * rest_dot, d1 * rest + one * rest_dot, g0 * pair_dot, g1 * pair_dot,
        k3 * low + low3 * low_dot, k2 * low + low2 * low_dot, (g2 + g2) * (both_dot * low4 + both * k4),
    )  # fmt: skip


@cache
def sphere_tangents(n: int) -> tuple[Any, Any, Any]:
    """Compile, or find on disk, `slopes`, `invariants` and `invariants_adjoint` of so many channels.

    Parameters
    ----------
    n : int

    Returns
    -------
    tuple of three callables
    """
    width = 4 * n

    @compiled
    def slopes(start, stop, density, by_point, weights, table):
        """Derivatives of the integrals by the factors, (N, 16, 11 C), harmonics in the order of `ORDER`."""
        own = np.empty((16, width), dtype=density.dtype)
        parts = np.empty((3, len(weights), width), dtype=density.dtype)
        total = np.empty((len(weights), SLOPES * n), dtype=density.dtype)
        difference = np.empty((len(weights), SLOPES * n), dtype=density.dtype)
        to_point = by_point.T
        for i in range(start, stop):
            for s in range(16):
                row = ROW[s]
                for c in range(width):
                    own[row, c] = density[s, i, c]
            at_points(own, by_point, parts)
            for p in range(len(weights)):
                w = weights[p]
                for c in range(n):
                    c2, c3, c4 = n + c, 2 * n + c, 3 * n + c
                    e1, e2, e3, e4 = parts[0, p, c], parts[0, p, c2], parts[0, p, c3], parts[0, p, c4]
                    o1, o2, o3, o4 = parts[1, p, c], parts[1, p, c2], parts[1, p, c3], parts[1, p, c4]
                    q1, q2, q3, q4 = parts[2, p, c], parts[2, p, c2], parts[2, p, c3], parts[2, p, c4]
                    # at the point and at its opposite
                    here = point_slopes(
                        w, e1 + o1 + q1, e2 + o2 + q2, e3 + o3 + q3, e4 + o4 + q4, e2 + o2, e3 + o3, e4 + o4
                    )
                    there = point_slopes(
                        w, e1 - o1 - q1, e2 - o2 - q2, e3 - o3 - q3, e4 - o4 - q4, e2 - o2, e3 - o3, e4 - o4
                    )
                    for k in range(SLOPES):
                        total[p, k * n + c] = here[k] + there[k]
                        difference[p, k * n + c] = here[k] - there[k]
            product(to_point[0:6], total, table[i, 0:6])
            product(to_point[6:16], difference, table[i, 6:16])

    @compiled
    def invariants(start, stop, species, gates, density, table, density_dot, inputs_dot):
        """Gates the changes of the densities (V, 16, N, 4 C) in place; those of the invariants (V, N, …)."""
        real = density.dtype.type
        pairs = np.empty((2, n), dtype=density.dtype)
        sums = np.empty((4, n), dtype=density.dtype)
        own = np.empty((16, width), dtype=density.dtype)
        now = np.empty(width, dtype=density.dtype)
        for i in range(start, stop):
            a, slope = species[i], table[i]
            for s in range(16):
                for c in range(width):
                    own[s, c] = density[s, i, c]
            for v in range(len(density_dot)):
                sums[:] = 0
                pairs[:] = 0
                last = 0
                for s in range(16):
                    degree = DEGREE[s]
                    if degree > last:
                        pairs[:] = 0
                        last = degree
                    row = ROW[s]
                    for c in range(width):
                        value = density_dot[v, s, i, c] * gates[a, degree, c]
                        density_dot[v, s, i, c] = value
                        now[c] = value
                    for c in range(n):
                        d1, d2, d3, d4 = now[c], now[n + c], now[2 * n + c], now[3 * n + c]
                        pairs[0, c] += d1 * own[s, n + c] + own[s, c] * d2
                        pairs[1, c] += d3 * own[s, 3 * n + c] + own[s, 2 * n + c] * d4
                        sums[0, c] += slope[row, c] * d1 + slope[row, n + c] * d2 + slope[row, 2 * n + c] * d3
                        sums[1, c] += (
                            slope[row, 3 * n + c] * d1
                            + slope[row, 4 * n + c] * d2
                            + slope[row, 5 * n + c] * d4
                        )
                    if row < 9:
                        for c in range(n):
                            d2, d3, d4 = now[n + c], now[2 * n + c], now[3 * n + c]
                            sums[2, c] += (
                                slope[row, 6 * n + c] * d2
                                + slope[row, 7 * n + c] * d3
                                + slope[row, 8 * n + c] * d4
                            )
                            sums[3, c] += slope[row, 9 * n + c] * d2 + slope[row, 10 * n + c] * d3
                    if s == 0:
                        for c in range(width):
                            inputs_dot[v, i, c] = now[c]
                    if s == (degree + 1) * (degree + 1) - 1:
                        norm = real(1) / real(2 * degree + 1)
                        for c in range(n):
                            inputs_dot[v, i, width + 4 * c + degree] = pairs[0, c] * norm
                            inputs_dot[v, i, width + 4 * n + 4 * c + degree] = pairs[1, c] * norm
                for q in range(4):
                    for c in range(n):
                        inputs_dot[v, i, width + 8 * n + q * n + c] = sums[q, c]

    @compiled
    def invariants_adjoint(
        start, stop, species, gates, density, by_point, weights, table, density_dot, cotangent,
        cotangent_dot, gradient,
    ):  # fmt: skip
        """Adds changes of the invariants' gradients to `gradient` (V, 16, N, 4 C), for ungated densities."""
        real = density.dtype.type
        own = np.empty((16, width), dtype=density.dtype)
        own_dot = np.empty((16, width), dtype=density.dtype)
        out = np.empty((16, width), dtype=density.dtype)
        at = np.empty((3, len(weights), width), dtype=density.dtype)
        parts = np.empty((3, len(weights), width), dtype=density.dtype)
        g = np.empty((4, n), dtype=density.dtype)
        d = np.empty((4, n), dtype=density.dtype)
        to_point = by_point.T
        for i in range(start, stop):
            a, slope = species[i], table[i]
            for s in range(16):
                row = ROW[s]
                for c in range(width):
                    own[row, c] = density[s, i, c]
            for q in range(4):
                for c in range(n):
                    g[q, c] = cotangent[i, width + 8 * n + q * n + c]
            at_points(own, by_point, at)
            for v in range(len(density_dot)):
                for s in range(16):
                    row = ROW[s]
                    for c in range(width):
                        own_dot[row, c] = density_dot[v, s, i, c]
                for q in range(4):
                    for c in range(n):
                        d[q, c] = cotangent_dot[v, i, width + 8 * n + q * n + c]
                at_points(own_dot, by_point, parts)
                for p in range(len(weights)):
                    w = weights[p]
                    for c in range(n):
                        g0, g1, g2, g3 = w * g[0, c], w * g[1, c], w * g[2, c], w * g[3, c]
                        c2, c3, c4 = n + c, 2 * n + c, 3 * n + c
                        e1, e2, e3, e4 = at[0, p, c], at[0, p, c2], at[0, p, c3], at[0, p, c4]
                        o1, o2, o3, o4 = at[1, p, c], at[1, p, c2], at[1, p, c3], at[1, p, c4]
                        q1, q2, q3, q4 = at[2, p, c], at[2, p, c2], at[2, p, c3], at[2, p, c4]
                        h1, h2, h3, h4 = parts[0, p, c], parts[0, p, c2], parts[0, p, c3], parts[0, p, c4]
                        u1, u2, u3, u4 = parts[1, p, c], parts[1, p, c2], parts[1, p, c3], parts[1, p, c4]
                        w1, w2, w3, w4 = parts[2, p, c], parts[2, p, c2], parts[2, p, c3], parts[2, p, c4]
                        # at the point and at its opposite
                        a1, a2, a3, a4, m2, m3, m4 = point_changes(
                            g0, g1, g2, g3, e1 + o1 + q1, e2 + o2 + q2, e3 + o3 + q3, e4 + o4 + q4,
                            e2 + o2, e3 + o3, e4 + o4, h1 + u1 + w1, h2 + u2 + w2, h3 + u3 + w3,
                            h4 + u4 + w4, h2 + u2, h3 + u3, h4 + u4,
                        )  # fmt: skip
                        b1, b2, b3, b4, n2, n3, n4 = point_changes(
                            g0, g1, g2, g3, e1 - o1 - q1, e2 - o2 - q2, e3 - o3 - q3, e4 - o4 - q4,
                            e2 - o2, e3 - o3, e4 - o4, h1 - u1 - w1, h2 - u2 - w2, h3 - u3 - w3,
                            h4 - u4 - w4, h2 - u2, h3 - u3, h4 - u4,
                        )  # fmt: skip
                        parts[0, p, c] = a1 + b1
                        parts[0, p, c2] = a2 + b2 + m2 + n2
                        parts[0, p, c3] = a3 + b3 + m3 + n3
                        parts[0, p, c4] = a4 + b4 + m4 + n4
                        parts[1, p, c] = a1 - b1
                        parts[1, p, c2] = a2 - b2 + m2 - n2
                        parts[1, p, c3] = a3 - b3 + m3 - n3
                        parts[1, p, c4] = a4 - b4 + m4 - n4
                        parts[2, p, c] = a1 - b1
                        parts[2, p, c2] = a2 - b2
                        parts[2, p, c3] = a3 - b3
                        parts[2, p, c4] = a4 - b4
                product(to_point[0:6], parts[0], out[0:6])
                product(to_point[6:9], parts[1], out[6:9])
                product(to_point[9:16], parts[2], out[9:16])
                for row in range(16):
                    for c in range(n):
                        out[row, c] += d[0, c] * slope[row, c] + d[1, c] * slope[row, 3 * n + c]
                        out[row, n + c] += d[0, c] * slope[row, n + c] + d[1, c] * slope[row, 4 * n + c]
                        out[row, 2 * n + c] += d[0, c] * slope[row, 2 * n + c]
                        out[row, 3 * n + c] += d[1, c] * slope[row, 5 * n + c]
                    if row < 9:
                        for c in range(n):
                            d2, d3 = d[2, c], d[3, c]
                            out[row, n + c] += d2 * slope[row, 6 * n + c] + d3 * slope[row, 9 * n + c]
                            out[row, 2 * n + c] += d2 * slope[row, 7 * n + c] + d3 * slope[row, 10 * n + c]
                            out[row, 3 * n + c] += d2 * slope[row, 8 * n + c]
                for c in range(width):
                    out[0, c] += cotangent_dot[v, i, c]
                for s in range(16):
                    degree = DEGREE[s]
                    norm = real(1) / real(2 * degree + 1)
                    row = ROW[s]
                    for c in range(n):
                        h0 = cotangent[i, width + 4 * c + degree] * norm
                        h1 = cotangent[i, width + 4 * n + 4 * c + degree] * norm
                        t0 = cotangent_dot[v, i, width + 4 * c + degree] * norm
                        t1 = cotangent_dot[v, i, width + 4 * n + 4 * c + degree] * norm
                        out[row, c] += h0 * own_dot[row, n + c] + t0 * own[row, n + c]
                        out[row, n + c] += h0 * own_dot[row, c] + t0 * own[row, c]
                        out[row, 2 * n + c] += h1 * own_dot[row, 3 * n + c] + t1 * own[row, 3 * n + c]
                        out[row, 3 * n + c] += h1 * own_dot[row, 2 * n + c] + t1 * own[row, 2 * n + c]
                    for c in range(width):
                        gradient[v, s, i, c] = (gradient[v, s, i, c] + out[row, c]) * gates[a, degree, c]

    return slopes, invariants, invariants_adjoint

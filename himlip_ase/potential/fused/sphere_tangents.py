"""Compiled passes of a Hessian-vector product: how invariants and their adjoint change with the densities.

Each is the derivative of the pass of the same name in `himlip_ase.potential.fused.sphere`; a dot on a
quantity (``_dot``) is its change.
"""

from __future__ import annotations

import numpy as np

from himlip_ase.potential.compilation import compiled


@compiled
def at_point(own, on_sphere, g, even, odd, cubic):
    """Even part, part of l = 1 and part of l = 3 of all factors at one point.

    Parameters
    ----------
    own, on_sphere, g, even, odd, cubic : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    width = own.shape[1]
    for c in range(width):
        even[c] = on_sphere[0, g] * own[0, c]
    for s in range(4, 9):
        y = on_sphere[s, g]
        for c in range(width):
            even[c] += y * own[s, c]
    for c in range(width):
        odd[c] = on_sphere[1, g] * own[1, c] + on_sphere[2, g] * own[2, c] + on_sphere[3, g] * own[3, c]
        cubic[c] = on_sphere[9, g] * own[9, c]
    for s in range(10, 16):
        y = on_sphere[s, g]
        for c in range(width):
            cubic[c] += y * own[s, c]


@compiled
def invariants(start, stop, density, density_dot, on_sphere, weights, inputs_dot):
    """Change of the invariants as the (gated) densities change.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    density, density_dot, on_sphere, weights, inputs_dot : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    width = density.shape[2]
    n = width // 4
    own, own_dot = np.empty((16, width), dtype=density.dtype), np.empty((16, width), dtype=density.dtype)
    at = np.empty((6, width), dtype=density.dtype)
    sums = np.empty((4, n), dtype=density.dtype)
    for i in range(start, stop):
        for s in range(16):
            for c in range(width):
                own[s, c] = density[s, i, c]
                own_dot[s, c] = density_dot[s, i, c]
        for c in range(width):
            inputs_dot[i, c] = own_dot[0, c]
        for p in range(2):
            first, place = 2 * p * n, width + p * 4 * n
            for degree in range(4):
                norm = 1.0 / (2 * degree + 1)
                for c in range(n):
                    total = density.dtype.type(0)
                    for s in range(degree * degree, (degree + 1) * (degree + 1)):
                        total += (
                            own_dot[s, first + c] * own[s, first + n + c]
                            + own[s, first + c] * own_dot[s, first + n + c]
                        )
                    inputs_dot[i, place + 4 * c + degree] = total * norm
        sums[:] = 0
        for g in range(len(weights)):
            at_point(own, on_sphere, g, at[0], at[1], at[2])
            at_point(own_dot, on_sphere, g, at[3], at[4], at[5])
            w = weights[g]
            for half in range(2):
                sign = 1.0 - 2.0 * half
                for c in range(n):
                    c2, c3, c4 = n + c, 2 * n + c, 3 * n + c
                    low2, low3, low4 = (
                        at[0, c2] + sign * at[1, c2],
                        at[0, c3] + sign * at[1, c3],
                        at[0, c4] + sign * at[1, c4],
                    )
                    m2, m3, m4 = (
                        at[3, c2] + sign * at[4, c2],
                        at[3, c3] + sign * at[4, c3],
                        at[3, c4] + sign * at[4, c4],
                    )
                    one, one_dot = (
                        at[0, c] + sign * (at[1, c] + at[2, c]),
                        at[3, c] + sign * (at[4, c] + at[5, c]),
                    )
                    two, two_dot = low2 + sign * at[2, c2], m2 + sign * at[5, c2]
                    three, three_dot = low3 + sign * at[2, c3], m3 + sign * at[5, c3]
                    four, four_dot = low4 + sign * at[2, c4], m4 + sign * at[5, c4]
                    pair, pair_dot = one * two, one_dot * two + one * two_dot
                    both, both_dot = low2 * low3, m2 * low3 + low2 * m3
                    sums[0, c] += w * (pair_dot * three + pair * three_dot)
                    sums[1, c] += w * (pair_dot * four + pair * four_dot)
                    sums[2, c] += w * low4 * (both_dot * low4 + 2 * both * m4)
                    sums[3, c] += w * 2 * both * both_dot
        for q in range(4):
            for c in range(n):
                inputs_dot[i, width + 8 * n + q * n + c] = sums[q, c]


@compiled
def invariants_adjoint(
    start, stop, species, gates, density, density_dot, on_sphere, weights, cotangent, cotangent_dot, gradient
):
    """Adds the change of the invariants' gradients to `gradient` (16, N, 4 C), for ungated densities.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, gates, density, density_dot, on_sphere, weights, cotangent, cotangent_dot, gradient : float,
    ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    width = density.shape[2]
    n = width // 4
    own, own_dot = np.empty((16, width), dtype=density.dtype), np.empty((16, width), dtype=density.dtype)
    out = np.empty((16, width), dtype=density.dtype)
    at = np.empty((6, width), dtype=density.dtype)
    to = np.empty((3, width), dtype=density.dtype)
    for i in range(start, stop):
        for s in range(16):
            for c in range(width):
                own[s, c] = density[s, i, c]
                own_dot[s, c] = density_dot[s, i, c]
                out[s, c] = 0
        for c in range(width):
            out[0, c] = cotangent_dot[i, c]
        for p in range(2):
            first, place = 2 * p * n, width + p * 4 * n
            for degree in range(4):
                norm = 1.0 / (2 * degree + 1)
                for s in range(degree * degree, (degree + 1) * (degree + 1)):
                    for c in range(n):
                        g = cotangent[i, place + 4 * c + degree] * norm
                        g_dot = cotangent_dot[i, place + 4 * c + degree] * norm
                        out[s, first + c] += g_dot * own[s, first + n + c] + g * own_dot[s, first + n + c]
                        out[s, first + n + c] += g_dot * own[s, first + c] + g * own_dot[s, first + c]
        base = width + 8 * n
        for g in range(len(weights)):
            at_point(own, on_sphere, g, at[0], at[1], at[2])
            at_point(own_dot, on_sphere, g, at[3], at[4], at[5])
            w = weights[g]
            to[:] = 0
            for half in range(2):
                sign = 1.0 - 2.0 * half
                for c in range(n):
                    c2, c3, c4 = n + c, 2 * n + c, 3 * n + c
                    low2, low3, low4 = (
                        at[0, c2] + sign * at[1, c2],
                        at[0, c3] + sign * at[1, c3],
                        at[0, c4] + sign * at[1, c4],
                    )
                    m2, m3, m4 = (
                        at[3, c2] + sign * at[4, c2],
                        at[3, c3] + sign * at[4, c3],
                        at[3, c4] + sign * at[4, c4],
                    )
                    one, one_dot = (
                        at[0, c] + sign * (at[1, c] + at[2, c]),
                        at[3, c] + sign * (at[4, c] + at[5, c]),
                    )
                    two, two_dot = low2 + sign * at[2, c2], m2 + sign * at[5, c2]
                    three, three_dot = low3 + sign * at[2, c3], m3 + sign * at[5, c3]
                    four, four_dot = low4 + sign * at[2, c4], m4 + sign * at[5, c4]
                    g0, g1 = w * cotangent[i, base + c], w * cotangent[i, base + c2]
                    g2, g3 = w * cotangent[i, base + c3], w * cotangent[i, base + c4]
                    d0, d1 = w * cotangent_dot[i, base + c], w * cotangent_dot[i, base + c2]
                    d2, d3 = w * cotangent_dot[i, base + c3], w * cotangent_dot[i, base + c4]
                    pair, pair_dot = one * two, one_dot * two + one * two_dot
                    rest = g0 * three + g1 * four
                    rest_dot = d0 * three + g0 * three_dot + d1 * four + g1 * four_dot
                    high1, high2 = two_dot * rest + two * rest_dot, one_dot * rest + one * rest_dot
                    high3, high4 = d0 * pair + g0 * pair_dot, d1 * pair + g1 * pair_dot
                    both, both_dot = low2 * low3, m2 * low3 + low2 * m3
                    rest_low = g2 * low4 * low4 + 2 * g3 * both
                    rest_low_dot = d2 * low4 * low4 + 2 * (g2 * low4 * m4 + d3 * both + g3 * both_dot)
                    add2, add3 = m3 * rest_low + low3 * rest_low_dot, m2 * rest_low + low2 * rest_low_dot
                    add4 = 2 * (d2 * both * low4 + g2 * (both_dot * low4 + both * m4))
                    to[0, c] += high1
                    to[0, c2] += high2 + add2
                    to[0, c3] += high3 + add3
                    to[0, c4] += high4 + add4
                    to[1, c] += sign * high1
                    to[1, c2] += sign * (high2 + add2)
                    to[1, c3] += sign * (high3 + add3)
                    to[1, c4] += sign * (high4 + add4)
                    to[2, c] += sign * high1
                    to[2, c2] += sign * high2
                    to[2, c3] += sign * high3
                    to[2, c4] += sign * high4
            for s in range(16):
                y = on_sphere[s, g]
                part = 0
                if 1 <= s <= 3:
                    part = 1
                elif s >= 9:
                    part = 2
                for c in range(width):
                    out[s, c] += y * to[part, c]
        a = species[i]
        for degree in range(4):
            for s in range(degree * degree, (degree + 1) * (degree + 1)):
                for c in range(width):
                    gradient[s, i, c] = (gradient[s, i, c] + out[s, c]) * gates[a, degree, c]

"""Compiled invariants of each atom's densities, and their adjoint.

The quadrature points come in opposite pairs, so that the even and the odd part of a factor give its value at
two points at once; l = 3, which half of the products leave out, is a part of its own.  That is a
quarter of the arithmetic of evaluating both versions of every factor at every point.
"""

from __future__ import annotations

import math

import numpy as np

from himlip_ase.potential.fused.pairs import compiled


@compiled
def at_point(own, on_sphere, g, even, odd, cubic):
    """Even part, part of l = 1 and part of l = 3 of all factors at one point.

    Parameters
    ----------
    own, on_sphere, g, even, odd, cubic : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
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
def invariants(start, stop, species, gates, density, on_sphere, weights, inputs):
    """Gates the densities (16, N, 4 C) in place; their invariants of body order two to five into `inputs`.

    See `himlip_ase.potential.network.DensityLayer`; `gates` is (elements, 4, 4 C), `on_sphere` (16, G) and
    `weights` (G,) hold one point of each opposite pair.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, gates, density, on_sphere, weights, inputs : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    width = density.shape[2]
    n = width // 4
    own = np.empty((16, width), dtype=density.dtype)
    even, odd, cubic = np.empty_like(own[0]), np.empty_like(own[0]), np.empty_like(own[0])
    sums = np.empty((4, n), dtype=density.dtype)
    for i in range(start, stop):
        a = species[i]
        for degree in range(4):
            for s in range(degree * degree, (degree + 1) * (degree + 1)):
                for c in range(width):
                    own[s, c] = density[s, i, c] * gates[a, degree, c]
                    density[s, i, c] = own[s, c]
        for c in range(width):
            inputs[i, c] = own[0, c]
        for p in range(2):
            first, place = 2 * p * n, width + p * 4 * n
            for degree in range(4):
                norm = 1.0 / (2 * degree + 1)
                for c in range(n):
                    total = density.dtype.type(0)
                    for s in range(degree * degree, (degree + 1) * (degree + 1)):
                        total += own[s, first + c] * own[s, first + n + c]
                    inputs[i, place + 4 * c + degree] = total * norm
        sums[:] = 0
        for g in range(len(weights)):
            at_point(own, on_sphere, g, even, odd, cubic)
            w = weights[g]
            for half in range(2):
                if half == 1:
                    for c in range(width):
                        odd[c] = -odd[c]
                        cubic[c] = -cubic[c]
                for c in range(n):
                    low2 = even[n + c] + odd[n + c]
                    low3 = even[2 * n + c] + odd[2 * n + c]
                    low4 = even[3 * n + c] + odd[3 * n + c]
                    pair = (even[c] + odd[c] + cubic[c]) * (low2 + cubic[n + c]) * w
                    sums[0, c] += pair * (low3 + cubic[2 * n + c])
                    sums[1, c] += pair * (low4 + cubic[3 * n + c])
                    both = low2 * low3
                    sums[2, c] += w * both * low4 * low4
                    sums[3, c] += w * both * both
        for q in range(4):
            for c in range(n):
                inputs[i, width + 8 * n + q * n + c] = sums[q, c]


@compiled
def invariants_adjoint(start, stop, species, gates, density, on_sphere, weights, cotangent, gradient):
    """Adds the gradients of the invariants to `gradient` (16, N, 4 C), for ungated densities.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, gates, density, on_sphere, weights, cotangent, gradient : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    width = density.shape[2]
    n = width // 4
    own = np.empty((16, width), dtype=density.dtype)
    out = np.empty((16, width), dtype=density.dtype)
    even, odd, cubic = np.empty_like(own[0]), np.empty_like(own[0]), np.empty_like(own[0])
    to_even, to_odd, to_cubic = np.empty_like(own[0]), np.empty_like(own[0]), np.empty_like(own[0])
    for i in range(start, stop):
        for s in range(16):
            for c in range(width):
                own[s, c] = density[s, i, c]
                out[s, c] = 0
        for c in range(width):
            out[0, c] = cotangent[i, c]
        for p in range(2):
            first, place = 2 * p * n, width + p * 4 * n
            for degree in range(4):
                norm = 1.0 / (2 * degree + 1)
                for s in range(degree * degree, (degree + 1) * (degree + 1)):
                    for c in range(n):
                        g = cotangent[i, place + 4 * c + degree] * norm
                        out[s, first + c] += g * own[s, first + n + c]
                        out[s, first + n + c] += g * own[s, first + c]
        base = width + 8 * n
        for g in range(len(weights)):
            at_point(own, on_sphere, g, even, odd, cubic)
            w = weights[g]
            for c in range(width):
                to_even[c] = 0
                to_odd[c] = 0
                to_cubic[c] = 0
            for half in range(2):
                sign = 1.0 - 2.0 * half
                for c in range(n):
                    low2 = even[n + c] + sign * odd[n + c]
                    low3 = even[2 * n + c] + sign * odd[2 * n + c]
                    low4 = even[3 * n + c] + sign * odd[3 * n + c]
                    one = even[c] + sign * (odd[c] + cubic[c])
                    two = low2 + sign * cubic[n + c]
                    three = low3 + sign * cubic[2 * n + c]
                    four = low4 + sign * cubic[3 * n + c]
                    g0, g1 = w * cotangent[i, base + c], w * cotangent[i, base + n + c]
                    g2, g3 = w * cotangent[i, base + 2 * n + c], w * cotangent[i, base + 3 * n + c]
                    rest = g0 * three + g1 * four
                    pair = one * two
                    high1, high2, high3, high4 = two * rest, one * rest, g0 * pair, g1 * pair
                    both = low2 * low3
                    rest_low = g2 * low4 * low4 + 2 * g3 * both
                    add2, add3 = low3 * rest_low, low2 * rest_low
                    add4 = 2 * g2 * both * low4
                    to_even[c] += high1
                    to_even[n + c] += high2 + add2
                    to_even[2 * n + c] += high3 + add3
                    to_even[3 * n + c] += high4 + add4
                    to_cubic[c] += sign * high1
                    to_cubic[n + c] += sign * high2
                    to_cubic[2 * n + c] += sign * high3
                    to_cubic[3 * n + c] += sign * high4
                    to_odd[c] += sign * high1
                    to_odd[n + c] += sign * (high2 + add2)
                    to_odd[2 * n + c] += sign * (high3 + add3)
                    to_odd[3 * n + c] += sign * (high4 + add4)
            for s in range(16):
                y = on_sphere[s, g]
                if s == 0 or 4 <= s <= 8:
                    for c in range(width):
                        out[s, c] += y * to_even[c]
                elif s <= 3:
                    for c in range(width):
                        out[s, c] += y * to_odd[c]
                else:
                    for c in range(width):
                        out[s, c] += y * to_cubic[c]
        a = species[i]
        for degree in range(4):
            for s in range(degree * degree, (degree + 1) * (degree + 1)):
                for c in range(width):
                    gradient[s, i, c] = (gradient[s, i, c] + out[s, c]) * gates[a, degree, c]


@compiled
def standardise(start, stop, species, centre, inverse_spread, scalars, inputs, bent):
    """Appends the scalars of the layer before to the invariants, standardises all in place; arsinh of them.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, centre, inverse_spread, scalars, inputs, bent : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    n_scalars = scalars.shape[1]
    n_invariants = inputs.shape[1] - n_scalars
    for i in range(start, stop):
        a = species[i]
        for q in range(n_scalars):
            inputs[i, n_invariants + q] = scalars[i, q]
        for q in range(inputs.shape[1]):
            value = (inputs[i, q] - centre[a, q]) * inverse_spread[a, q]
            inputs[i, q] = value
            # ln(x + √(1 + x²)) without cancellation at small x
            size = abs(value)
            square = size * size
            bent[i, q] = math.copysign(math.log1p(size + square / (1 + math.sqrt(1 + square))), value)


@compiled
def standardise_adjoint(start, stop, species, inverse_spread, standard, cotangent):
    """Gradients by the inputs from those by arsinh of the standardised inputs, in place.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, inverse_spread, standard, cotangent : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    for i in range(start, stop):
        a = species[i]
        for q in range(standard.shape[1]):
            cotangent[i, q] *= inverse_spread[a, q] / np.sqrt(1 + standard[i, q] * standard[i, q])

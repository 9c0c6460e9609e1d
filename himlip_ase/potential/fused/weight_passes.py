"""Compiled passes of derivatives by the weights: of the energy's change as atoms move along a vector.

That change is Ė = Σ (∂E/∂x) ẋ, so that its derivative by any intermediate value is what
`himlip_ase.potential.fused.pair_tangents` calls the change of the gradient, and its derivative by the change
of a value the gradient itself.  Names are those of that file and of `himlip_ase.potential.fused.geometry`;
`radial_gradient` (N, M, K) is ∂E/∂R of the radial functions of each pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from himlip_ase.potential.compilation import compiled
from himlip_ase.potential.fused.densities import BLOCK
from himlip_ase.potential.fused.sphere import DEGREE
from himlip_ase.potential.fused.tiles import add_product, product


@dataclass(frozen=True)
class WeightPasses:
    """The passes that are compiled for the numbers of radial functions and of features of a network."""

    of_species: Any
    of_bonds: Any


@cache
def weight_passes(n_radial: int, n_features: int) -> WeightPasses:
    """Compile, or find on disk, the passes of one shape of network.

    Parameters
    ----------
    n_radial, n_features : int
        Radial functions, and features of a bond.

    Returns
    -------
    WeightPasses
    """
    width = n_radial * n_features

    @compiled
    def of_species(
        start, stop, species, neighbours, counts, radial, slope, harmonic, stretch, harmonic_dot, edges,
        raw_gradient, raw_gradient_dot, radial_gradient, radial_gradient_dot, edges_gradient,
    ):  # fmt: skip
        """Adds the first layer's share to `radial_gradient` and its change; derivatives by `edges`."""
        n_species, most = len(edges), radial.shape[1]
        sums = np.empty((16, n_radial), dtype=radial.dtype)
        sums_dot = np.empty((16, n_radial), dtype=radial.dtype)
        own_radial = np.empty((2 * most, n_radial), dtype=radial.dtype)
        own_harmonic = np.empty((2 * most, 16), dtype=radial.dtype)
        stacked = np.empty((most, 32), dtype=radial.dtype)
        cotangents = np.empty((32, n_radial), dtype=radial.dtype)
        pulled, pulled_dot = (
            np.empty((most, n_radial), dtype=radial.dtype),
            np.empty((most, n_radial), dtype=radial.dtype),
        )
        for i in range(start, stop):
            for b in range(n_species):
                n = 0
                for m in range(counts[i]):
                    if species[neighbours[i, m]] == b:
                        for k in range(n_radial):
                            own_radial[2 * n, k] = slope[i, m, k] * stretch[i, m]
                            own_radial[2 * n + 1, k] = radial[i, m, k]
                        for s in range(16):
                            own_harmonic[2 * n, s] = harmonic[i, m, s]
                            own_harmonic[2 * n + 1, s] = harmonic_dot[i, m, s]
                            stacked[n, s] = harmonic[i, m, s]
                            stacked[n, 16 + s] = harmonic_dot[i, m, s]
                        n += 1
                for f in range(n_features):
                    edges_gradient[i, b, f] = 0
                if n == 0:
                    continue
                product(own_harmonic[: 2 * n].T, own_radial[: 2 * n], sums_dot)
                product(stacked[:n, :16].T, own_radial[1 : 2 * n : 2], sums)
                for s in range(16):
                    for k in range(n_radial):
                        total, total_dot = radial.dtype.type(0), radial.dtype.type(0)
                        for f in range(n_features):
                            g = raw_gradient[s, i, k * n_features + f]
                            g_dot = raw_gradient_dot[s, i, k * n_features + f]
                            total += edges[b, f] * g
                            total_dot += edges[b, f] * g_dot
                            edges_gradient[i, b, f] += g_dot * sums[s, k] + g * sums_dot[s, k]
                        cotangents[s, k] = total_dot
                        cotangents[16 + s, k] = total
                product(stacked[:n], cotangents, pulled_dot[:n])
                product(stacked[:n, :16], cotangents[16:], pulled[:n])
                n = 0
                for m in range(counts[i]):
                    if species[neighbours[i, m]] == b:
                        for k in range(n_radial):
                            radial_gradient[i, m, k] += pulled[n, k]
                            radial_gradient_dot[i, m, k] += pulled_dot[n, k]
                        n += 1

    @compiled
    def of_bonds(
        start, stop, counts, radial, slope, harmonic, stretch, harmonic_dot, edges, edges_dot, raw_gradient,
        raw_gradient_dot, radial_gradient, radial_gradient_dot, edge_gradient_dot,
    ):  # fmt: skip
        """Adds a later layer's share to `radial_gradient` and its change; change of `edge_gradient`."""
        stacked = np.empty((BLOCK, 32), dtype=radial.dtype)
        cotangents = np.empty((32, width), dtype=radial.dtype)
        pulled = np.empty((BLOCK, width), dtype=radial.dtype)
        pulled_dot = np.empty((BLOCK, width), dtype=radial.dtype)
        for i in range(start, stop):
            for s in range(16):
                for q in range(width):
                    cotangents[s, q] = raw_gradient_dot[s, i, q]
                    cotangents[16 + s, q] = raw_gradient[s, i, q]
            for first in range(0, counts[i], BLOCK):
                n = min(BLOCK, counts[i] - first)
                for m in range(n):
                    for s in range(16):
                        stacked[m, s] = harmonic[i, first + m, s]
                        stacked[m, 16 + s] = harmonic_dot[i, first + m, s]
                product(stacked[:n], cotangents, pulled_dot[:n])
                product(stacked[:n, :16], cotangents[16:], pulled[:n])
                for m in range(first, first + n):
                    for f in range(n_features):
                        heard = radial.dtype.type(0)
                        for k in range(n_radial):
                            value = pulled[m - first, k * n_features + f]
                            value_dot = pulled_dot[m - first, k * n_features + f]
                            heard += value_dot * radial[i, m, k] + value * slope[i, m, k] * stretch[i, m]
                            radial_gradient[i, m, k] += value * edges[i, m, f]
                            radial_gradient_dot[i, m, k] += (
                                value_dot * edges[i, m, f] + value * edges_dot[i, m, f]
                            )
                        edge_gradient_dot[i, m, f] = heard

    return WeightPasses(of_species, of_bonds)


@compiled
def of_mixing(
    start, stop, species, gates, raw, raw_dot, mixed, mixed_dot, to_density, to_density_dot, by_mix, by_gate
):
    """Derivatives by the matrices that mix densities, and by the gates of what is mixed.

    Multiplies `to_density_dot` with the gates, so that it becomes the change of the gradient by `mixed`.
    Gates are applied to a few atoms at a time, and no gated copy of the densities is kept.

    Parameters
    ----------
    start, stop : int
        Range of harmonics.
    species : ndarray (N,)
    gates : ndarray (elements, 4, 4 C)
    raw, raw_dot : ndarray (16, N, Q)
    mixed, mixed_dot : ndarray (16, N, 4 C)
        Densities before they are gated.
    to_density, to_density_dot : ndarray (16, N, 4 C)
        The gradient by the gated densities, and its change.
    by_mix : ndarray (16, Q, 4 C)
    by_gate : ndarray (16, elements, 4 C)
    """
    n_atoms, width = mixed.shape[1], mixed.shape[2]
    gated = np.empty((BLOCK, width), dtype=raw.dtype)
    by_mix[start:stop] = 0
    by_gate[start:stop] = 0
    for s in range(start, stop):
        degree = DEGREE[s]
        for first in range(0, n_atoms, BLOCK):
            last = min(first + BLOCK, n_atoms)
            for i in range(first, last):
                a = species[i]
                for c in range(width):
                    g, g_dot, gate = to_density[s, i, c], to_density_dot[s, i, c], gates[a, degree, c]
                    by_gate[s, a, c] += g_dot * mixed[s, i, c] + g * mixed_dot[s, i, c]
                    gated[i - first, c] = g * gate
                    to_density_dot[s, i, c] = g_dot * gate
            add_product(raw[s, first:last].T, to_density_dot[s, first:last], by_mix[s])
            add_product(raw_dot[s, first:last].T, gated[: last - first], by_mix[s])


@compiled
def of_saying(start, stop, density, density_dot, said_gradient, said_gradient_dot, found):
    """Derivatives by the matrices (16, F, 4 C) that make what is said of densities.

    Parameters
    ----------
    start, stop : int
        Range of harmonics.
    density, density_dot : ndarray (16, N, 4 C)
    said_gradient, said_gradient_dot : ndarray (N, F, 16)
    found : ndarray (16, F, 4 C)
    """
    for s in range(start, stop):
        product(said_gradient_dot[:, :, s].T, density[s], found[s])
        add_product(said_gradient[:, :, s].T, density_dot[s], found[s])


@compiled
def of_waves(
    start, stop, counts, cutoff, waves, scaled, sine, cosine, stretch, radial_gradient, radial_gradient_dot,
    found,
):  # fmt: skip
    """Derivatives by the wave numbers, of R = sin(κx) w, w = u⁴/x, and of its slope, for each atom.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    counts, cutoff, waves, scaled, sine, cosine, stretch, radial_gradient, radial_gradient_dot : ndarray
        As in the heads of this file and of `himlip_ase.potential.fused.geometry`.
    found : ndarray (N, K)
    """
    real = scaled.dtype.type
    shrink = real(1.0 / cutoff)
    for i in range(start, stop):
        for k in range(len(waves)):
            found[i, k] = 0
        for m in range(counts[i]):
            x = scaled[i, m]
            u, t = max(real(1) - x * x, real(0)), real(1) / x
            w = u * u * u * u * t
            dw = -u * u * u * (real(8) + u * t * t)
            moved = stretch[i, m] * shrink
            for k in range(len(waves)):
                slope = cosine[i, m, k] * (w + x * dw) - waves[k] * x * sine[i, m, k] * w
                found[i, k] += (
                    radial_gradient_dot[i, m, k] * x * cosine[i, m, k] * w
                    + radial_gradient[i, m, k] * slope * moved
                )

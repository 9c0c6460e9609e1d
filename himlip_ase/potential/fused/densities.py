"""Compiled passes over the densities of atoms, what neighbours say, and their adjoints.

The numbers of radial functions and of features are constants of the compiled code, which is made for each
pair of them (`density_passes`) and kept on disk.  Names of arguments are those in the head of
`himlip_ase.potential.fused.geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from himlip_ase.potential.compilation import compiled
from himlip_ase.potential.fused.geometry import pair_gradient
from himlip_ase.potential.fused.tiles import add_product, product

BLOCK = 64
"""Pairs whose products stay in the first-level cache while they are worked on."""


@dataclass(frozen=True)
class DensityPasses:
    """The passes that are compiled for the numbers of radial functions and of features of a network."""

    of_species: Any
    of_species_adjoint: Any
    of_bonds: Any
    of_bonds_adjoint: Any


@cache
def density_passes(n_radial: int, n_features: int) -> DensityPasses:
    """Compile, or find on disk, the passes of one shape of network.

    Parameters
    ----------
    n_radial, n_features : int
        Radial functions, and features of a bond.

    Returns
    -------
    DensityPasses
    """
    width = n_radial * n_features

    @compiled
    def of_species(start, stop, species, neighbours, counts, radial, harmonic, edges, raw):
        """First layer: Σ_m R_km E_f(species of m) Y_sm as raw[s, i, k·F + f], species by species."""
        n_species, most = len(edges), radial.shape[1]
        sums = np.empty((16, n_radial), dtype=radial.dtype)
        own_radial = np.empty((most, n_radial), dtype=radial.dtype)
        own_harmonic = np.empty((most, 16), dtype=radial.dtype)
        for i in range(start, stop):
            for s in range(16):
                for q in range(width):
                    raw[s, i, q] = 0
            for b in range(n_species):
                n = 0
                for m in range(counts[i]):
                    if species[neighbours[i, m]] == b:
                        for k in range(n_radial):
                            own_radial[n, k] = radial[i, m, k]
                        for s in range(16):
                            own_harmonic[n, s] = harmonic[i, m, s]
                        n += 1
                if n > 0:
                    product(own_harmonic[:n].T, own_radial[:n], sums)
                    for s in range(16):
                        for k in range(n_radial):
                            for f in range(n_features):
                                raw[s, i, k * n_features + f] += edges[b, f] * sums[s, k]

    @compiled
    def of_species_adjoint(
        start, stop, species, neighbours, counts, radial, slope, harmonic, edges, raw_gradient,
        vectors, inverse, along, outward, gradient,
    ):  # fmt: skip
        """Adds what the first layer's density gives to `along` and `outward`; ∂E/∂r of all pairs."""
        n_species, most = len(edges), radial.shape[1]
        by_harmonic = np.empty((16, n_radial), dtype=radial.dtype)
        by_radial = np.empty((n_radial, 16), dtype=radial.dtype)
        own_radial = np.empty((most, n_radial), dtype=radial.dtype)
        own_harmonic = np.empty((most, 16), dtype=radial.dtype)
        pulled = np.empty((most, n_radial), dtype=radial.dtype)
        turned = np.empty((most, 16), dtype=radial.dtype)
        for i in range(start, stop):
            for b in range(n_species):
                n = 0
                for m in range(counts[i]):
                    if species[neighbours[i, m]] == b:
                        for k in range(n_radial):
                            own_radial[n, k] = radial[i, m, k]
                        for s in range(16):
                            own_harmonic[n, s] = harmonic[i, m, s]
                        n += 1
                if n == 0:
                    continue
                for s in range(16):
                    for k in range(n_radial):
                        total = radial.dtype.type(0)
                        for f in range(n_features):
                            total += edges[b, f] * raw_gradient[s, i, k * n_features + f]
                        by_harmonic[s, k] = total
                        by_radial[k, s] = total
                product(own_harmonic[:n], by_harmonic, pulled[:n])
                product(own_radial[:n], by_radial, turned[:n])
                n = 0
                for m in range(counts[i]):
                    if species[neighbours[i, m]] == b:
                        straight = radial.dtype.type(0)
                        for k in range(n_radial):
                            straight += pulled[n, k] * slope[i, m, k]
                        outward[i, m] += straight
                        for s in range(16):
                            along[i, m, s] += turned[n, s]
                        n += 1
            for m in range(counts[i]):
                pair_gradient(vectors[i, m], inverse[i, m], along[i, m], outward[i, m], gradient[i, m])

    @compiled
    def of_bonds(start, stop, neighbours, counts, radial, harmonic, said, edges, raw):
        """Later layers: what neighbours say, E_fm = Σ_s said_jfs Y_sm, and Σ_m R_km E_fm Y_sm."""
        products = np.empty((BLOCK, width), dtype=radial.dtype)
        for i in range(start, stop):
            own = raw[:, i]
            own[:] = 0
            for first in range(0, counts[i], BLOCK):
                n = min(BLOCK, counts[i] - first)
                for m in range(first, first + n):
                    j = neighbours[i, m]
                    for f in range(n_features):
                        heard = radial.dtype.type(0)
                        for s in range(16):
                            heard += harmonic[i, m, s] * said[j, f, s]
                        edges[i, m, f] = heard
                    for k in range(n_radial):
                        for f in range(n_features):
                            products[m - first, k * n_features + f] = radial[i, m, k] * edges[i, m, f]
                add_product(harmonic[i, first : first + n].T, products[:n], own)

    @compiled
    def of_bonds_adjoint(
        start, stop, neighbours, counts, radial, slope, harmonic, said, edges, raw_gradient,
        edge_gradient, edge_slope, along, outward,
    ):  # fmt: skip
        """Adds what a later layer's density gives to `along` and `outward`; gradients of what was heard.

        `edge_gradient` is Σ_sk g_skf Y_s R_k, and `edge_slope` the same with R′ in place of R.
        """
        products = np.empty((BLOCK, width), dtype=radial.dtype)
        pulled = np.empty((BLOCK, width), dtype=radial.dtype)
        by_product = np.empty((width, 16), dtype=radial.dtype)
        for i in range(start, stop):
            own = raw_gradient[:, i]
            for s in range(16):
                for q in range(width):
                    by_product[q, s] = own[s, q]
            for first in range(0, counts[i], BLOCK):
                n = min(BLOCK, counts[i] - first)
                for m in range(first, first + n):
                    for k in range(n_radial):
                        for f in range(n_features):
                            products[m - first, k * n_features + f] = radial[i, m, k] * edges[i, m, f]
                product(harmonic[i, first : first + n], own, pulled[:n])
                add_product(products[:n], by_product, along[i, first : first + n])
                for m in range(first, first + n):
                    j = neighbours[i, m]
                    straight = radial.dtype.type(0)
                    for f in range(n_features):
                        heard, sloped = radial.dtype.type(0), radial.dtype.type(0)
                        for k in range(n_radial):
                            value = pulled[m - first, k * n_features + f]
                            heard += value * radial[i, m, k]
                            sloped += value * slope[i, m, k]
                        edge_gradient[i, m, f] = heard
                        edge_slope[i, m, f] = sloped
                        straight += sloped * edges[i, m, f]
                        for s in range(16):
                            along[i, m, s] += heard * said[j, f, s]
                    outward[i, m] += straight

    return DensityPasses(of_species, of_species_adjoint, of_bonds, of_bonds_adjoint)


@compiled
def said_adjoint(start, stop, counts, reverse, harmonic, edge_gradient, said_gradient):
    """Gradients of what each atom says, gathered from the other ends of its bonds.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    counts, reverse, harmonic, edge_gradient, said_gradient : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    n_features, own_width = edge_gradient.shape[2], reverse.shape[1]
    gathered = np.empty((harmonic.shape[1], n_features), dtype=harmonic.dtype)
    for j in range(start, stop):
        for m in range(counts[j]):
            i, n = reverse[j, m] // own_width, reverse[j, m] % own_width
            for f in range(n_features):
                gathered[m, f] = edge_gradient[i, n, f]
        product(gathered[: counts[j]].T, harmonic[j, : counts[j]], said_gradient[j])
        # seen from the neighbour the bond points the other way: Y_lm(−r) = (−1)^l Y_lm(r)
        for f in range(n_features):
            for s in range(16):
                if (1 <= s <= 3) or s >= 9:
                    said_gradient[j, f, s] = -said_gradient[j, f, s]


@compiled
def mixed(start, stop, raw, mix, density):
    """Σ_q raw[s, i, q] mix[s, q, c] of every harmonic s.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    raw : ndarray (16, N, Q)
    mix : ndarray (16, Q, C)
    density : ndarray (16, N, C)
    """
    for s in range(16):
        product(raw[s, start:stop], mix[s], density[s, start:stop])

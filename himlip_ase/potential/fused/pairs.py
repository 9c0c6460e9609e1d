"""Compiled passes over the pairs of atoms: geometry, densities, what neighbours say, and their adjoints.

Every pass runs over a range of atoms, touches nothing that another range writes, and releases the
interpreter's lock, so that ranges can be given to threads.  Tables have the neighbours second and the
components last, (N, M, …): a pair's numbers lie side by side.  M is a multiple of four, padded by pairs
whose radial functions are zero: four pairs at a time share every number that is loaded and stored.

The numbers of radial functions and of features are constants of the compiled code, which is made for each
pair of them (`density_passes`) and kept on disk.

Names of the arguments, everywhere in this package: `start`, `stop` bound the atoms; `species` (N,),
`neighbours` (N, M) and `reverse` (N, M) are those of `himlip_ase.potential.graph.Graph`, `counts` (N,) the
numbers of neighbours; `vectors` (N, M, 3) are unit vectors, `inverse` (N, M) one over the distances in 1/Å,
`harmonic` (N, M, 16) the harmonics; `radial`, `slope`, `curvature` (N, M, K) the radial functions with two
derivatives; `edges` (N, M, F) what is heard along a bond, or (elements, F) in the first layer; `said` (N,
F, 16) what an atom says; `raw` (16, N, K F) and `density` (16, N, 4 C) densities before and after mixing;
`gradient` a derivative of the energy by what is named, `_dot` a change along v (N, 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import njit

FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Liberties that leave NaN and infinity as they are: sums in any order, fused multiply and add."""

compiled = njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")


@compiled
def harmonics(x, y, z, out):
    """Real solid harmonics to l = 3; see `himlip_ase.potential.angular.solid_harmonics`.

    Parameters
    ----------
    x, y, z, out : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    x2, y2, z2 = x * x, y * y, z * z
    total, difference = x2 + y2, x2 - y2
    four = 4 * z2 - total
    out[0] = 1.0
    out[1] = math.sqrt(3.0) * y
    out[2] = math.sqrt(3.0) * z
    out[3] = math.sqrt(3.0) * x
    out[4] = math.sqrt(15.0) * x * y
    out[5] = math.sqrt(15.0) * y * z
    out[6] = math.sqrt(5.0) / 2 * (2 * z2 - total)
    out[7] = math.sqrt(15.0) * x * z
    out[8] = math.sqrt(15.0) / 2 * difference
    out[9] = math.sqrt(35.0 / 8) * y * (3 * x2 - y2)
    out[10] = math.sqrt(105.0) * x * y * z
    out[11] = math.sqrt(21.0 / 8) * y * four
    out[12] = math.sqrt(7.0) / 2 * z * (2 * z2 - 3 * total)
    out[13] = math.sqrt(21.0 / 8) * x * four
    out[14] = math.sqrt(105.0) / 2 * z * difference
    out[15] = math.sqrt(35.0 / 8) * x * (x2 - 3 * y2)


@compiled
def harmonics_gradient(x, y, z, g):
    """Σ_s g_s ∂Y_s/∂(x, y, z) of the solid harmonics.

    Parameters
    ----------
    x, y, z, g : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.

    Returns
    -------
    float, float, float
    """
    x2, y2, z2 = x * x, y * y, z * z
    a, b, c = math.sqrt(3.0), math.sqrt(15.0), math.sqrt(5.0)
    d, e, f, h = math.sqrt(35.0 / 8), math.sqrt(105.0), math.sqrt(21.0 / 8), math.sqrt(7.0) / 2
    gx = a * g[3] + b * (y * g[4] + z * g[7] + x * g[8]) - c * x * g[6]
    gy = a * g[1] + b * (x * g[4] + z * g[5] - y * g[8]) - c * y * g[6]
    gz = a * g[2] + b * (y * g[5] + x * g[7]) + 2 * c * z * g[6]
    gx += d * (6 * x * y * g[9] + 3 * (x2 - y2) * g[15]) + e * (y * z * g[10] + x * z * g[14])
    gy += d * (3 * (x2 - y2) * g[9] - 6 * x * y * g[15]) + e * (x * z * g[10] - y * z * g[14])
    gz += e * (x * y * g[10] + 0.5 * (x2 - y2) * g[14])
    gx += f * (-2 * x * y * g[11] + (4 * z2 - 3 * x2 - y2) * g[13]) - h * 6 * x * z * g[12]
    gy += f * ((4 * z2 - x2 - 3 * y2) * g[11] - 2 * x * y * g[13]) - h * 6 * y * z * g[12]
    gz += f * 8 * z * (y * g[11] + x * g[13]) + h * (6 * z2 - 3 * (x2 + y2)) * g[12]
    return gx, gy, gz


@compiled
def geometry(
    start, stop, positions, strain, frame, species, neighbours, offsets, counts, cutoff,
    ranges, screening, coulomb, weights, decays,
    vectors, inverse, harmonic, scaled, pair_slope, energies,
):  # fmt: skip
    """Unit vectors, harmonics, scaled distances, and the repulsion with its slope, of all pairs.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    positions, strain, frame, species, neighbours, offsets, counts, cutoff, ranges, screening,
    coulomb, weights, decays, vectors, inverse, harmonic, scaled, pair_slope, energies : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    for i in range(start, stop):
        a = species[i]
        energy = 0.0
        e = strain[frame[i]]
        for m in range(counts[i], scaled.shape[1]):
            scaled[i, m] = 1.0
            harmonic[i, m] = 0
        for m in range(counts[i]):
            j = neighbours[i, m]
            dx = offsets[i, 0, m] + positions[j, 0] - positions[i, 0]
            dy = offsets[i, 1, m] + positions[j, 1] - positions[i, 1]
            dz = offsets[i, 2, m] + positions[j, 2] - positions[i, 2]
            x = dx + e[0, 0] * dx + e[0, 1] * dy + e[0, 2] * dz
            y = dy + e[1, 0] * dx + e[1, 1] * dy + e[1, 2] * dz
            z = dz + e[2, 0] * dx + e[2, 1] * dy + e[2, 2] * dz
            distance = math.sqrt(x * x + y * y + z * z)
            unit = 1 / distance
            vectors[i, m, 0], vectors[i, m, 1], vectors[i, m, 2] = x * unit, y * unit, z * unit
            inverse[i, m] = unit
            harmonics(x * unit, y * unit, z * unit, harmonic[i, m])
            scaled[i, m] = distance / cutoff
            b = species[j]
            pair_slope[i, m] = 0.0
            inside = 1 - (distance / ranges[a, b]) ** 2
            if inside > 0:
                screen, screen_slope = 0.0, 0.0
                for q in range(len(weights)):
                    term = weights[q] * math.exp(-decays[q] * distance / screening[a, b])
                    screen += term
                    screen_slope -= decays[q] / screening[a, b] * term
                charge = 0.5 * coulomb[a, b] * unit
                envelope = inside**4
                envelope_slope = -8 * inside**3 * distance / ranges[a, b] ** 2
                energy += charge * screen * envelope
                pair_slope[i, m] = charge * (
                    (screen_slope - screen * unit) * envelope + screen * envelope_slope
                )
        energies[i] += energy


@compiled
def radial_functions(start, stop, cutoff, waves, scaled, sine, cosine, slope):
    """Turns sin κx and cos κx into the radial functions sin(κx) u⁴/x and their slopes, in place.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    cutoff, waves, scaled, sine, cosine, slope : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    for i in range(start, stop):
        for m in range(scaled.shape[1]):
            x = scaled[i, m]
            u = max(1 - x * x, 0.0)
            t = 1 / x
            u3 = u * u * u
            w = u3 * u * t
            dw = -u3 * (8 + u * t * t)
            for k in range(len(waves)):
                slope[i, m, k] = (waves[k] * cosine[i, m, k] * w + sine[i, m, k] * dw) / cutoff
                sine[i, m, k] *= w


@compiled
def _add_gradient(unit, inverse, along, outward, gradient):
    """∂E/∂r from ∂E/∂Y at the unit vector and ∂E/∂|r|."""
    x, y, z = unit[0], unit[1], unit[2]
    gx, gy, gz = harmonics_gradient(x, y, z, along)
    radial = outward - (gx * x + gy * y + gz * z) * inverse
    gradient[0] += gx * inverse + radial * x
    gradient[1] += gy * inverse + radial * y
    gradient[2] += gz * inverse + radial * z


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
        n_species = len(edges)
        sums = np.zeros((n_species, n_radial, 16), dtype=radial.dtype)
        present = np.zeros(n_species, dtype=np.bool_)
        for i in range(start, stop):
            sums[:] = 0
            present[:] = False
            for m in range(counts[i]):
                b = species[neighbours[i, m]]
                present[b] = True
                for k in range(n_radial):
                    r = radial[i, m, k]
                    for s in range(16):
                        sums[b, k, s] += r * harmonic[i, m, s]
            for s in range(16):
                for q in range(width):
                    raw[s, i, q] = 0
            for b in range(n_species):
                if present[b]:
                    for s in range(16):
                        for k in range(n_radial):
                            for f in range(n_features):
                                raw[s, i, k * n_features + f] += edges[b, f] * sums[b, k, s]

    @compiled
    def of_species_adjoint(
        start, stop, species, neighbours, counts, radial, slope, harmonic, edges, raw_gradient,
        vectors, inverse, pair_slope, gradient,
    ):  # fmt: skip
        """Adds to the gradients of the pair vectors, ∂E/∂r_im, what the first layer's density gives."""
        n_species = len(edges)
        by_radial = np.zeros((n_species, n_radial, 16), dtype=radial.dtype)
        by_harmonic = np.zeros((n_species, 16, n_radial), dtype=radial.dtype)
        pulled = np.zeros(n_radial, dtype=radial.dtype)
        along = np.zeros(16, dtype=radial.dtype)
        for i in range(start, stop):
            for b in range(n_species):
                for k in range(n_radial):
                    for s in range(16):
                        total = radial.dtype.type(0)
                        for f in range(n_features):
                            total += edges[b, f] * raw_gradient[s, i, k * n_features + f]
                        by_radial[b, k, s] = total
                        by_harmonic[b, s, k] = total
            for m in range(counts[i]):
                b = species[neighbours[i, m]]
                pulled[:] = 0
                for s in range(16):
                    y = harmonic[i, m, s]
                    for k in range(n_radial):
                        pulled[k] += y * by_harmonic[b, s, k]
                along[:] = 0
                outward = pair_slope[i, m]
                for k in range(n_radial):
                    r = radial[i, m, k]
                    for s in range(16):
                        along[s] += r * by_radial[b, k, s]
                    outward += pulled[k] * slope[i, m, k]
                _add_gradient(vectors[i, m], inverse[i, m], along, outward, gradient[i, m])

    @compiled
    def of_bonds(start, stop, neighbours, counts, radial, harmonic, said, edges, raw):
        """Later layers: what neighbours say, E_fm = Σ_s said_jfs Y_sm, and Σ_m R_km E_fm Y_sm."""
        sums = np.zeros((width, 16), dtype=radial.dtype)
        products = np.zeros((4, width), dtype=radial.dtype)
        heard = np.zeros(n_features, dtype=radial.dtype)
        for i in range(start, stop):
            sums[:] = 0
            for first in range(0, counts[i], 4):
                for n in range(4):
                    m = first + n
                    for f in range(n_features):
                        heard[f] = 0
                    if m < counts[i]:
                        j = neighbours[i, m]
                        for f in range(n_features):
                            for s in range(16):
                                heard[f] += harmonic[i, m, s] * said[j, f, s]
                    for f in range(n_features):
                        edges[i, m, f] = heard[f]
                    for k in range(n_radial):
                        for f in range(n_features):
                            products[n, k * n_features + f] = radial[i, m, k] * heard[f]
                for q in range(width):
                    p0, p1, p2, p3 = products[0, q], products[1, q], products[2, q], products[3, q]
                    for s in range(16):
                        sums[q, s] += (
                            p0 * harmonic[i, first, s]
                            + p1 * harmonic[i, first + 1, s]
                            + p2 * harmonic[i, first + 2, s]
                            + p3 * harmonic[i, first + 3, s]
                        )
            for s in range(16):
                for q in range(width):
                    raw[s, i, q] = sums[q, s]

    @compiled
    def of_bonds_adjoint(
        start, stop, neighbours, counts, radial, slope, harmonic, said, edges, raw_gradient,
        vectors, inverse, edge_gradient, gradient,
    ):  # fmt: skip
        """Gradients of the pair vectors and of what was heard, from those of a later layer's density."""
        by_product = np.zeros((width, 16), dtype=radial.dtype)
        by_harmonic = np.zeros((16, width), dtype=radial.dtype)
        products = np.zeros((4, width), dtype=radial.dtype)
        pulled = np.zeros((4, width), dtype=radial.dtype)
        along = np.zeros((4, 16), dtype=radial.dtype)
        heard = np.zeros(n_features, dtype=radial.dtype)
        for i in range(start, stop):
            for s in range(16):
                for q in range(width):
                    by_harmonic[s, q] = raw_gradient[s, i, q]
                    by_product[q, s] = raw_gradient[s, i, q]
            for first in range(0, counts[i], 4):
                for n in range(4):
                    for k in range(n_radial):
                        for f in range(n_features):
                            products[n, k * n_features + f] = radial[i, first + n, k] * edges[i, first + n, f]
                pulled[:] = 0
                for s in range(0, 16, 4):
                    for n in range(4):
                        y0, y1 = harmonic[i, first + n, s], harmonic[i, first + n, s + 1]
                        y2, y3 = harmonic[i, first + n, s + 2], harmonic[i, first + n, s + 3]
                        for q in range(width):
                            pulled[n, q] += (
                                y0 * by_harmonic[s, q]
                                + y1 * by_harmonic[s + 1, q]
                                + y2 * by_harmonic[s + 2, q]
                                + y3 * by_harmonic[s + 3, q]
                            )
                along[:] = 0
                for q in range(0, width - 3, 4):
                    for n in range(4):
                        p0, p1, p2, p3 = (
                            products[n, q],
                            products[n, q + 1],
                            products[n, q + 2],
                            products[n, q + 3],
                        )
                        for s in range(16):
                            along[n, s] += (
                                p0 * by_product[q, s]
                                + p1 * by_product[q + 1, s]
                                + p2 * by_product[q + 2, s]
                                + p3 * by_product[q + 3, s]
                            )
                for q in range(width - width % 4, width):
                    for n in range(4):
                        for s in range(16):
                            along[n, s] += products[n, q] * by_product[q, s]
                for n in range(min(4, counts[i] - first)):
                    m = first + n
                    j = neighbours[i, m]
                    outward = radial.dtype.type(0)
                    for f in range(n_features):
                        heard[f] = 0
                    for k in range(n_radial):
                        total = radial.dtype.type(0)
                        for f in range(n_features):
                            value = pulled[n, k * n_features + f]
                            total += value * edges[i, m, f]
                            heard[f] += value * radial[i, m, k]
                        outward += total * slope[i, m, k]
                    for f in range(n_features):
                        edge_gradient[i, m, f] = heard[f]
                    for f in range(n_features):
                        for s in range(16):
                            along[n, s] += heard[f] * said[j, f, s]
                    _add_gradient(vectors[i, m], inverse[i, m], along[n], outward, gradient[i, m])

    return DensityPasses(of_species, of_species_adjoint, of_bonds, of_bonds_adjoint)


@compiled
def said_adjoint(start, stop, counts, reverse, harmonic, edge_gradient, said_gradient):
    """Gradients of what each atom says, gathered from the other ends of its bonds.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    counts, reverse, harmonic, edge_gradient, said_gradient : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    n_features = edge_gradient.shape[2]
    own_width = reverse.shape[1]
    for j in range(start, stop):
        said_gradient[j] = 0
        for m in range(counts[j]):
            i, n = reverse[j, m] // own_width, reverse[j, m] % own_width
            for f in range(n_features):
                value = edge_gradient[i, n, f]
                for s in range(16):
                    said_gradient[j, f, s] += value * harmonic[j, m, s]
        # seen from the neighbour the bond points the other way: Y_lm(−r) = (−1)^l Y_lm(r)
        for f in range(n_features):
            for s in range(16):
                if (1 <= s <= 3) or s >= 9:
                    said_gradient[j, f, s] = -said_gradient[j, f, s]


@compiled
def forces_of_pairs(start, stop, counts, reverse, vectors, inverse, gradient, forces, virial):
    """Forces −∂E/∂x of each atom, and Σ r ⊗ ∂E/∂r of each atom's pairs.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    counts, reverse, vectors, inverse, gradient, forces, virial : float, ndarray
        As in the head of `himlip_ase.potential.fused.pairs`.
    """
    own_width = reverse.shape[1]
    for i in range(start, stop):
        for a in range(3):
            forces[i, a] = 0
            for b in range(3):
                virial[i, a, b] = 0
        for m in range(counts[i]):
            j, n = reverse[i, m] // own_width, reverse[i, m] % own_width
            for a in range(3):
                forces[i, a] += gradient[i, m, a] - gradient[j, n, a]
                for b in range(3):
                    virial[i, a, b] += vectors[i, m, a] / inverse[i, m] * gradient[i, m, b]

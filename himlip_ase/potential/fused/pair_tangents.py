"""Compiled passes of Hessian-vector products: how densities and adjoints change as atoms move along v.

Densities are products of radial functions, harmonics and what is heard, so that the change of an adjoint is
the same adjoint of changed cotangents (`himlip_ase.potential.fused.densities`), and what comes of moving one
pair with everything else held fixed: for that a pair's second derivatives are tabled once
(`second_derivatives`), whatever the number of vectors.  A dot on a quantity (``_dot``) is its change along v.

Names besides those in the head of `himlip_ase.potential.fused.geometry`: `moved` (N, M, 3) and `stretch`
(N, M) are the changes of r and |r|, `harmonic_dot` (N, M, 16) that of the harmonics; `along_slope` (N, M, 16)
is ∂²E/∂Y∂|r| and `bend` (N, M) ∂²E/∂|r|² of a pair, both with fixed `edges`; `matrix` (N, M, 6) is ∂²E/∂r∂r,
xx, yy, zz, yz, xz, xy; `heard_gradient` and `pulled_gradient` (N, M, F, 3) are the gradients by r of what is
heard and of the energy's derivative by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from himlip_ase.potential.compilation import compiled
from himlip_ase.potential.fused.densities import BLOCK
from himlip_ase.potential.fused.geometry import harmonics_gradient, pair_gradient
from himlip_ase.potential.fused.tiles import add_product, product


@compiled
def harmonics_change(x, y, z, u, v, w, out):
    """∇Y_s(x, y, z) · (u, v, w) of the sixteen solid harmonics.

    Parameters
    ----------
    x, y, z, u, v, w, out : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    a, b, c = math.sqrt(3.0), math.sqrt(15.0), math.sqrt(5.0)
    d, e, f, h = math.sqrt(35.0 / 8), math.sqrt(105.0), math.sqrt(21.0 / 8), math.sqrt(7.0) / 2
    x2, y2, z2 = x * x, y * y, z * z
    out[0] = 0.0
    out[1] = a * v
    out[2] = a * w
    out[3] = a * u
    out[4] = b * (y * u + x * v)
    out[5] = b * (z * v + y * w)
    out[6] = c * (2 * z * w - x * u - y * v)
    out[7] = b * (z * u + x * w)
    out[8] = b * (x * u - y * v)
    out[9] = d * (6 * x * y * u + 3 * (x2 - y2) * v)
    out[10] = e * (y * z * u + x * z * v + x * y * w)
    out[11] = f * (-2 * x * y * u + (4 * z2 - x2 - 3 * y2) * v + 8 * y * z * w)
    out[12] = h * (-6 * x * z * u - 6 * y * z * v + (6 * z2 - 3 * (x2 + y2)) * w)
    out[13] = f * ((4 * z2 - 3 * x2 - y2) * u - 2 * x * y * v + 8 * x * z * w)
    out[14] = e * (x * z * u - y * z * v + 0.5 * (x2 - y2) * w)
    out[15] = d * (3 * (x2 - y2) * u - 6 * x * y * v)


@compiled
def motions(
    start, stop, frame, neighbours, counts, vectors, inverse, v, strain, moved, stretch, harmonic_dot
):  # fmt: skip
    """Changes of the vectors, of the lengths and of the harmonics of all pairs.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    frame, neighbours, counts, vectors, inverse, v, moved, stretch, harmonic_dot : ndarray
        As in the heads of this file and of `himlip_ase.potential.fused.geometry`.
    strain : ndarray (B, 3, 3)
        Strain that comes with v: r changes by v_j − v_i + strain r.
    """
    real = inverse.dtype.type
    for i in range(start, stop):
        e = strain[frame[i]]
        for m in range(counts[i]):
            j = neighbours[i, m]
            x, y, z = vectors[i, m, 0], vectors[i, m, 1], vectors[i, m, 2]
            unit = inverse[i, m]
            length = real(1) / unit
            dx = v[j, 0] - v[i, 0] + (e[0, 0] * x + e[0, 1] * y + e[0, 2] * z) * length
            dy = v[j, 1] - v[i, 1] + (e[1, 0] * x + e[1, 1] * y + e[1, 2] * z) * length
            dz = v[j, 2] - v[i, 2] + (e[2, 0] * x + e[2, 1] * y + e[2, 2] * z) * length
            moved[i, m, 0], moved[i, m, 1], moved[i, m, 2] = dx, dy, dz
            along = x * dx + y * dy + z * dz
            stretch[i, m] = along
            harmonics_change(
                x, y, z, (dx - along * x) * unit, (dy - along * y) * unit, (dz - along * z) * unit,
                harmonic_dot[i, m],
            )  # fmt: skip


@compiled
def curvatures(
    start, stop, species, neighbours, counts, cutoff, waves, scaled, sine, cosine, curvature,
    ranges, screening, coulomb, weights, decays, pair_curvature,
):  # fmt: skip
    """Second derivatives by the distance of the radial functions and of the repulsion of a pair.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, neighbours, counts, cutoff, waves, scaled, sine, cosine, curvature, ranges, screening,
    coulomb, weights, decays, pair_curvature : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    for i in range(start, stop):
        a = species[i]
        for m in range(counts[i]):
            x = scaled[i, m]
            u = max(1 - x * x, 0.0)
            t = 1 / x
            u2 = u * u
            w = u2 * u2 * t
            dw = -u2 * u * (8 + u * t * t)
            ddw = u2 * t * (48 * x * x + u * (8 + 2 * u * t * t))
            for k in range(len(waves)):
                q = waves[k]
                curvature[i, m, k] = (sine[i, m, k] * (ddw - q * q * w) + 2 * q * cosine[i, m, k] * dw) / (
                    cutoff * cutoff
                )
            b = species[neighbours[i, m]]
            r = x * cutoff
            pair_curvature[i, m] = 0.0
            rho = 1 / ranges[a, b] ** 2
            inside = 1 - r * r * rho
            if inside > 0:
                s0, s1, s2 = 0.0, 0.0, 0.0
                for q in range(len(weights)):
                    rate = decays[q] / screening[a, b]
                    term = weights[q] * math.exp(-rate * r)
                    s0 += term
                    s1 -= rate * term
                    s2 += rate * rate * term
                f0, f1, f2 = 1 / r, -1 / (r * r), 2 / (r * r * r)
                v0 = inside**4
                v1 = -8 * inside**3 * r * rho
                v2 = -8 * inside**3 * rho + 48 * inside * inside * r * r * rho * rho
                pair_curvature[i, m] = (
                    0.5
                    * coulomb[a, b]
                    * (
                        f2 * s0 * v0
                        + f0 * s2 * v0
                        + f0 * s0 * v2
                        + 2 * (f1 * s1 * v0 + f1 * s0 * v1 + f0 * s1 * v1)
                    )
                )


@compiled
def second_derivatives(start, stop, counts, vectors, inverse, along, along_slope, outward, bend, matrix):
    """∂²E/∂r∂r of each pair, with what is heard and the gradients of densities held fixed.

    Of Φ(r) = Σ_s a_s(|r|) Y_s(n) + V(|r|) with the homogeneous polynomials Y, P = 1 − n nᵀ, gradient G and
    second derivatives H of Σ a Y at n, and G′ that of Σ a′ Y, the second derivatives are
    P H P/r² + (Φ′ − G·n/r) P/r + Φ″ n nᵀ + n wᵀ + w nᵀ, where w = P (G′ − G/r)/r.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    counts, vectors, inverse, along, along_slope, outward, bend, matrix : ndarray
        As in the heads of this file and of `himlip_ase.potential.fused.geometry`.
    """
    real = inverse.dtype.type
    b, c = real(math.sqrt(15.0)), real(math.sqrt(5.0))
    d, e = real(math.sqrt(35.0 / 8)), real(math.sqrt(105.0))
    f, h = real(math.sqrt(21.0 / 8)), real(math.sqrt(7.0) / 2)
    for i in range(start, stop):
        for m in range(counts[i]):
            x, y, z = vectors[i, m, 0], vectors[i, m, 1], vectors[i, m, 2]
            unit, g = inverse[i, m], along[i, m]
            gx, gy, gz = harmonics_gradient(x, y, z, g)
            sx, sy, sz = harmonics_gradient(x, y, z, along_slope[i, m])
            straight = real(6) * d * (y * g[9] + x * g[15]) + b * g[8] + e * z * g[14]
            common = -c * g[6] - real(6) * h * z * g[12]
            xx = straight + common - f * (real(2) * y * g[11] + real(6) * x * g[13])
            yy = -straight + common - f * (real(6) * y * g[11] + real(2) * x * g[13])
            zz = real(2) * c * g[6] + real(8) * f * (y * g[11] + x * g[13]) + real(12) * h * z * g[12]
            xy = b * g[4] + real(6) * d * (x * g[9] - y * g[15]) + e * z * g[10]
            xy -= real(2) * f * (x * g[11] + y * g[13])
            xz = b * g[7] + e * (y * g[10] + x * g[14]) + real(8) * f * z * g[13] - real(6) * h * x * g[12]
            yz = b * g[5] + e * (x * g[10] - y * g[14]) + real(8) * f * z * g[11] - real(6) * h * y * g[12]
            square = unit * unit
            hx, hy, hz = xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z
            across = (outward[i, m] - (gx * x + gy * y + gz * z) * unit) * unit
            # n uᵀ + u nᵀ holds what stands beside P and n nᵀ, its own part along n included
            ux = (sx - gx * unit) * unit - hx * square
            uy = (sy - gy * unit) * unit - hy * square
            uz = (sz - gz * unit) * unit - hz * square
            onto = (sx - gx * unit) * x + (sy - gy * unit) * y + (sz - gz * unit) * z
            both = bend[i, m] - across + (hx * x + hy * y + hz * z) * square - real(2) * onto * unit
            matrix[i, m, 0] = xx * square + real(2) * ux * x + both * x * x + across
            matrix[i, m, 1] = yy * square + real(2) * uy * y + both * y * y + across
            matrix[i, m, 2] = zz * square + real(2) * uz * z + both * z * z + across
            matrix[i, m, 3] = yz * square + uy * z + uz * y + both * y * z
            matrix[i, m, 4] = xz * square + ux * z + uz * x + both * x * z
            matrix[i, m, 5] = xy * square + ux * y + uy * x + both * x * y


@compiled
def turned(start, stop, counts, moved, matrix, gradient):
    """Adds ∂²E/∂r∂r times the change of r to the gradients of all pairs.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    counts, moved, matrix, gradient : ndarray
        As in the heads of this file and of `himlip_ase.potential.fused.geometry`.
    """
    for i in range(start, stop):
        for m in range(counts[i]):
            x, y, z = moved[i, m, 0], moved[i, m, 1], moved[i, m, 2]
            gradient[i, m, 0] += matrix[i, m, 0] * x + matrix[i, m, 5] * y + matrix[i, m, 4] * z
            gradient[i, m, 1] += matrix[i, m, 5] * x + matrix[i, m, 1] * y + matrix[i, m, 3] * z
            gradient[i, m, 2] += matrix[i, m, 4] * x + matrix[i, m, 3] * y + matrix[i, m, 2] * z


@dataclass(frozen=True)
class DensityTangents:
    """The passes that are compiled for the numbers of radial functions and of features of a network."""

    of_species: Any
    of_species_curvature: Any
    of_bonds: Any
    of_bonds_curvature: Any
    heard: Any


@cache
def density_tangents(n_radial: int, n_features: int) -> DensityTangents:
    """Compile, or find on disk, the passes of one shape of network.

    Parameters
    ----------
    n_radial, n_features : int
        Radial functions, and features of a bond.

    Returns
    -------
    DensityTangents
    """
    width = n_radial * n_features

    @compiled
    def of_species(
        start, stop, species, neighbours, counts, radial, slope, harmonic, stretch, harmonic_dot, edges, raw
    ):
        """Change of the first layer's density."""
        n_species, most = len(edges), radial.shape[1]
        sums = np.empty((16, n_radial), dtype=radial.dtype)
        own_radial = np.empty((2 * most, n_radial), dtype=radial.dtype)
        own_harmonic = np.empty((2 * most, 16), dtype=radial.dtype)
        for i in range(start, stop):
            for s in range(16):
                for q in range(width):
                    raw[s, i, q] = 0
            for b in range(n_species):
                n = 0
                for m in range(counts[i]):
                    if species[neighbours[i, m]] == b:
                        for k in range(n_radial):
                            own_radial[n, k] = slope[i, m, k] * stretch[i, m]
                            own_radial[n + 1, k] = radial[i, m, k]
                        for s in range(16):
                            own_harmonic[n, s] = harmonic[i, m, s]
                            own_harmonic[n + 1, s] = harmonic_dot[i, m, s]
                        n += 2
                if n > 0:
                    product(own_harmonic[:n].T, own_radial[:n], sums)
                    for s in range(16):
                        for k in range(n_radial):
                            for f in range(n_features):
                                raw[s, i, k * n_features + f] += edges[b, f] * sums[s, k]

    @compiled
    def of_species_curvature(
        start, stop, species, neighbours, counts, slope, curvature, harmonic, edges, raw_gradient,
        along_slope, bend,
    ):  # fmt: skip
        """Adds the first layer's share to `along_slope` and `bend`."""
        n_species, most = len(edges), slope.shape[1]
        by_radial = np.empty((n_radial, 16), dtype=slope.dtype)
        own_radial = np.empty((2 * most, n_radial), dtype=slope.dtype)
        found = np.empty((2 * most, 16), dtype=slope.dtype)
        for i in range(start, stop):
            for b in range(n_species):
                n = 0
                for m in range(counts[i]):
                    if species[neighbours[i, m]] == b:
                        for k in range(n_radial):
                            own_radial[n, k] = slope[i, m, k]
                            own_radial[n + 1, k] = curvature[i, m, k]
                        n += 2
                if n == 0:
                    continue
                for s in range(16):
                    for k in range(n_radial):
                        total = slope.dtype.type(0)
                        for f in range(n_features):
                            total += edges[b, f] * raw_gradient[s, i, k * n_features + f]
                        by_radial[k, s] = total
                product(own_radial[:n], by_radial, found[:n])
                n = 0
                for m in range(counts[i]):
                    if species[neighbours[i, m]] == b:
                        bent = slope.dtype.type(0)
                        for s in range(16):
                            along_slope[i, m, s] += found[n, s]
                            bent += found[n + 1, s] * harmonic[i, m, s]
                        bend[i, m] += bent
                        n += 2

    @compiled
    def of_bonds(
        start, stop, neighbours, counts, radial, slope, harmonic, stretch, harmonic_dot, said, said_dot,
        edges, edges_dot, raw,
    ):  # fmt: skip
        """Changes of what is heard and of a later layer's density."""
        stacked = np.empty((2 * BLOCK, 16), dtype=radial.dtype)
        products = np.empty((2 * BLOCK, width), dtype=radial.dtype)
        for i in range(start, stop):
            own = raw[:, i]
            own[:] = 0
            for first in range(0, counts[i], BLOCK):
                n = min(BLOCK, counts[i] - first)
                for m in range(first, first + n):
                    j, row = neighbours[i, m], 2 * (m - first)
                    for f in range(n_features):
                        heard = radial.dtype.type(0)
                        for s in range(16):
                            heard += harmonic[i, m, s] * said_dot[j, f, s]
                            heard += harmonic_dot[i, m, s] * said[j, f, s]
                        edges_dot[i, m, f] = heard
                    for s in range(16):
                        stacked[row, s] = harmonic[i, m, s]
                        stacked[row + 1, s] = harmonic_dot[i, m, s]
                    for k in range(n_radial):
                        r, r_dot = radial[i, m, k], slope[i, m, k] * stretch[i, m]
                        for f in range(n_features):
                            q = k * n_features + f
                            products[row, q] = r_dot * edges[i, m, f] + r * edges_dot[i, m, f]
                            products[row + 1, q] = r * edges[i, m, f]
                add_product(stacked[: 2 * n].T, products[: 2 * n], own)

    @compiled
    def of_bonds_curvature(
        start, stop, neighbours, counts, vectors, inverse, radial, slope, curvature, harmonic, said, edges,
        raw_gradient, edge_slope, along_slope, bend, heard_gradient, pulled_gradient,
    ):  # fmt: skip
        """Adds a later layer's share to `along_slope` and `bend`; finds `heard_` and `pulled_gradient`."""
        products = np.empty((2 * BLOCK, width), dtype=radial.dtype)
        found = np.empty((2 * BLOCK, 16), dtype=radial.dtype)
        pulled = np.empty((BLOCK, n_features * 16), dtype=radial.dtype)
        by_product = np.empty((width, 16), dtype=radial.dtype)
        by_radial = np.empty((n_radial, n_features * 16), dtype=radial.dtype)
        nothing = radial.dtype.type(0)
        for i in range(start, stop):
            for s in range(16):
                for k in range(n_radial):
                    for f in range(n_features):
                        value = raw_gradient[s, i, k * n_features + f]
                        by_product[k * n_features + f, s] = value
                        by_radial[k, f * 16 + s] = value
            for first in range(0, counts[i], BLOCK):
                n = min(BLOCK, counts[i] - first)
                for m in range(first, first + n):
                    row = 2 * (m - first)
                    for k in range(n_radial):
                        for f in range(n_features):
                            q = k * n_features + f
                            products[row, q] = slope[i, m, k] * edges[i, m, f]
                            products[row + 1, q] = curvature[i, m, k] * edges[i, m, f]
                product(products[: 2 * n], by_product, found[: 2 * n])
                product(radial[i, first : first + n], by_radial, pulled[:n])
                for m in range(first, first + n):
                    j, row = neighbours[i, m], 2 * (m - first)
                    bent = radial.dtype.type(0)
                    for s in range(16):
                        along_slope[i, m, s] += found[row, s]
                        bent += found[row + 1, s] * harmonic[i, m, s]
                    bend[i, m] += bent
                    for f in range(n_features):
                        pair_gradient(
                            vectors[i, m], inverse[i, m], said[j, f], nothing, heard_gradient[i, m, f]
                        )
                        pair_gradient(
                            vectors[i, m], inverse[i, m], pulled[m - first, 16 * f : 16 * f + 16],
                            edge_slope[i, m, f], pulled_gradient[i, m, f],
                        )  # fmt: skip

    @compiled
    def heard(
        start, stop, neighbours, counts, moved, said_dot, edge_gradient, edges_dot, heard_gradient,
        pulled_gradient, edge_gradient_dot, along_dot, gradient,
    ):  # fmt: skip
        """Adds to the changes of `along` and of ∂E/∂r what comes of hearing something else, and elsewhere.

        `edge_gradient_dot` holds the part of a changed density and becomes the whole.
        """
        for i in range(start, stop):
            for m in range(counts[i]):
                j = neighbours[i, m]
                x, y, z = moved[i, m, 0], moved[i, m, 1], moved[i, m, 2]
                for f in range(n_features):
                    here, there = pulled_gradient[i, m, f], heard_gradient[i, m, f]
                    shift = here[0] * x + here[1] * y + here[2] * z
                    edge_gradient_dot[i, m, f] += shift
                    for a in range(3):
                        gradient[i, m, a] += shift * there[a] + edges_dot[i, m, f] * here[a]
                    for s in range(16):
                        along_dot[i, m, s] += edge_gradient[i, m, f] * said_dot[j, f, s]

    return DensityTangents(of_species, of_species_curvature, of_bonds, of_bonds_curvature, heard)


@compiled
def said_adjoint(
    start, stop, counts, reverse, harmonic, harmonic_dot, edge_gradient, edge_gradient_dot, said_gradient
):
    """Changes of the gradients of what each atom says.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    counts, reverse, harmonic, harmonic_dot, edge_gradient, edge_gradient_dot, said_gradient : ndarray
        As in the heads of this file and of `himlip_ase.potential.fused.geometry`.
    """
    n_features, own_width = edge_gradient.shape[2], reverse.shape[1]
    gathered = np.empty((2 * harmonic.shape[1], n_features), dtype=harmonic.dtype)
    stacked = np.empty((2 * harmonic.shape[1], 16), dtype=harmonic.dtype)
    for j in range(start, stop):
        for m in range(counts[j]):
            i, n = reverse[j, m] // own_width, reverse[j, m] % own_width
            for f in range(n_features):
                gathered[2 * m, f] = edge_gradient_dot[i, n, f]
                gathered[2 * m + 1, f] = edge_gradient[i, n, f]
            for s in range(16):
                stacked[2 * m, s] = harmonic[j, m, s]
                stacked[2 * m + 1, s] = harmonic_dot[j, m, s]
        rows = 2 * counts[j]
        product(gathered[:rows].T, stacked[:rows], said_gradient[j])
        for f in range(n_features):
            for s in range(16):
                if (1 <= s <= 3) or s >= 9:
                    said_gradient[j, f, s] = -said_gradient[j, f, s]

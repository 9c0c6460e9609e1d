"""Compiled passes of a Hessian-vector product: how densities and adjoints change as atoms move along v.

Each is the derivative of the pass of the same name in `himlip_ase.potential.fused.densities`; a dot on a
quantity (``_dot``) is its change along v.  What a pair needs besides its stored geometry, the changes of its
distance, direction and harmonics, is worked out where it is used.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from himlip_ase.potential.compilation import compiled
from himlip_ase.potential.fused.densities import DensityPasses
from himlip_ase.potential.fused.geometry import harmonics_gradient


@compiled
def motion(i, j, unit, inverse, v):
    """Changes of the direction and of the length of r_j − r_i.

    Parameters
    ----------
    i, j, unit, inverse, v : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.

    Returns
    -------
    tuple of float
        Three components of the turn of the unit vector, and the stretch.
    """
    dx, dy, dz = v[j, 0] - v[i, 0], v[j, 1] - v[i, 1], v[j, 2] - v[i, 2]
    along = unit[0] * dx + unit[1] * dy + unit[2] * dz
    return (
        (dx - along * unit[0]) * inverse,
        (dy - along * unit[1]) * inverse,
        (dz - along * unit[2]) * inverse,
        along,
    )


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
def harmonics_curvature(x, y, z, u, v, w, g):
    """Σ_s g_s ∇∇Y_s(x, y, z) (u, v, w).

    Parameters
    ----------
    x, y, z, u, v, w, g : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.

    Returns
    -------
    float, float, float
    """
    b, c = math.sqrt(15.0), math.sqrt(5.0)
    d, e, f, h = math.sqrt(35.0 / 8), math.sqrt(105.0), math.sqrt(21.0 / 8), math.sqrt(7.0) / 2
    straight = 6 * d * (y * g[9] + x * g[15]) + b * g[8] + e * z * g[14]
    common = -c * g[6] - 6 * h * z * g[12]
    xx = straight + common - f * (2 * y * g[11] + 6 * x * g[13])
    yy = -straight + common - f * (6 * y * g[11] + 2 * x * g[13])
    zz = 2 * c * g[6] + 8 * f * (y * g[11] + x * g[13]) + 12 * h * z * g[12]
    xy = b * g[4] + 6 * d * (x * g[9] - y * g[15]) + e * z * g[10] - 2 * f * (x * g[11] + y * g[13])
    xz = b * g[7] + e * (y * g[10] + x * g[14]) + 8 * f * z * g[13] - 6 * h * x * g[12]
    yz = b * g[5] + e * (x * g[10] - y * g[14]) + 8 * f * z * g[11] - 6 * h * y * g[12]
    return xx * u + xy * v + xz * w, xy * u + yy * v + yz * w, xz * u + yz * v + zz * w


@compiled
def _add_gradient_change(unit, inverse, turn, stretch, along, along_dot, outward, outward_dot, gradient):
    """Change of ∂E/∂r = (G − (G·n) n)/|r| + outward n, where G = Σ along ∇Y(n)."""
    x, y, z = unit[0], unit[1], unit[2]
    u, v, w = turn
    gx, gy, gz = harmonics_gradient(x, y, z, along)
    hx, hy, hz = harmonics_gradient(x, y, z, along_dot)
    cx, cy, cz = harmonics_curvature(x, y, z, u, v, w, along)
    hx, hy, hz = hx + cx, hy + cy, hz + cz
    onto = gx * x + gy * y + gz * z
    onto_dot = hx * x + hy * y + hz * z + gx * u + gy * v + gz * w
    shrink = stretch * inverse
    straight = outward_dot - (onto_dot - onto * shrink) * inverse
    turned = outward - onto * inverse
    gradient[0] += (hx - gx * shrink) * inverse + straight * x + turned * u
    gradient[1] += (hy - gy * shrink) * inverse + straight * y + turned * v
    gradient[2] += (hz - gz * shrink) * inverse + straight * z + turned * w


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


@cache
def density_tangents(n_radial: int, n_features: int) -> DensityPasses:
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
    def of_species(
        start, stop, species, neighbours, counts, vectors, inverse, v, radial, slope, harmonic, edges, raw
    ):
        """Change of the first layer's density."""
        n_species = len(edges)
        sums = np.zeros((n_species, n_radial, 16), dtype=radial.dtype)
        change = np.zeros(16, dtype=radial.dtype)
        for i in range(start, stop):
            sums[:] = 0
            for m in range(counts[i]):
                j = neighbours[i, m]
                b = species[j]
                t0, t1, t2, stretch = motion(i, j, vectors[i, m], inverse[i, m], v)
                harmonics_change(vectors[i, m, 0], vectors[i, m, 1], vectors[i, m, 2], t0, t1, t2, change)
                for k in range(n_radial):
                    r, r_dot = radial[i, m, k], slope[i, m, k] * stretch
                    for s in range(16):
                        sums[b, k, s] += r_dot * harmonic[i, m, s] + r * change[s]
            for s in range(16):
                for k in range(n_radial):
                    for f in range(n_features):
                        total = radial.dtype.type(0)
                        for b in range(n_species):
                            total += edges[b, f] * sums[b, k, s]
                        raw[s, i, k * n_features + f] = total

    @compiled
    def of_species_adjoint(
        start, stop, species, neighbours, counts, vectors, inverse, v, radial, slope, curvature, harmonic,
        edges, raw_gradient, raw_gradient_dot, pair_slope, pair_curvature, gradient,
    ):  # fmt: skip
        """Adds to the change of ∂E/∂r_im what the first layer's density gives."""
        n_species = len(edges)
        by_radial = np.zeros((n_species, n_radial, 16), dtype=radial.dtype)
        by_radial_dot = np.zeros((n_species, n_radial, 16), dtype=radial.dtype)
        change = np.zeros(16, dtype=radial.dtype)
        along = np.zeros(16, dtype=radial.dtype)
        along_dot = np.zeros(16, dtype=radial.dtype)
        for i in range(start, stop):
            for b in range(n_species):
                for k in range(n_radial):
                    for s in range(16):
                        total, total_dot = radial.dtype.type(0), radial.dtype.type(0)
                        for f in range(n_features):
                            total += edges[b, f] * raw_gradient[s, i, k * n_features + f]
                            total_dot += edges[b, f] * raw_gradient_dot[s, i, k * n_features + f]
                        by_radial[b, k, s] = total
                        by_radial_dot[b, k, s] = total_dot
            for m in range(counts[i]):
                j = neighbours[i, m]
                b = species[j]
                t0, t1, t2, stretch = motion(i, j, vectors[i, m], inverse[i, m], v)
                harmonics_change(vectors[i, m, 0], vectors[i, m, 1], vectors[i, m, 2], t0, t1, t2, change)
                outward = pair_slope[i, m]
                outward_dot = pair_curvature[i, m] * stretch
                along[:] = 0
                along_dot[:] = 0
                for k in range(n_radial):
                    r, r_dot = radial[i, m, k], slope[i, m, k] * stretch
                    pulled, pulled_dot = radial.dtype.type(0), radial.dtype.type(0)
                    for s in range(16):
                        g, g_dot = by_radial[b, k, s], by_radial_dot[b, k, s]
                        pulled += g * harmonic[i, m, s]
                        pulled_dot += g_dot * harmonic[i, m, s] + g * change[s]
                        along[s] += g * r
                        along_dot[s] += g_dot * r + g * r_dot
                    outward += pulled * slope[i, m, k]
                    outward_dot += pulled_dot * slope[i, m, k] + pulled * curvature[i, m, k] * stretch
                _add_gradient_change(
                    vectors[i, m], inverse[i, m], (t0, t1, t2), stretch, along, along_dot, outward,
                    outward_dot, gradient[i, m],
                )  # fmt: skip

    @compiled
    def of_bonds(
        start, stop, neighbours, counts, vectors, inverse, v, radial, slope, harmonic, said, said_dot, edges,
        edges_dot, raw,
    ):  # fmt: skip
        """Changes of what neighbours say and of a later layer's density."""
        sums = np.zeros((width, 16), dtype=radial.dtype)
        change = np.zeros((2, 16), dtype=radial.dtype)
        products = np.zeros((2, width), dtype=radial.dtype)
        products_dot = np.zeros((2, width), dtype=radial.dtype)
        for i in range(start, stop):
            sums[:] = 0
            for first in range(0, counts[i], 2):
                for n in range(2):
                    m = first + n
                    if m < counts[i]:
                        j = neighbours[i, m]
                        t0, t1, t2, stretch = motion(i, j, vectors[i, m], inverse[i, m], v)
                        harmonics_change(
                            vectors[i, m, 0], vectors[i, m, 1], vectors[i, m, 2], t0, t1, t2, change[n]
                        )
                        for f in range(n_features):
                            heard = radial.dtype.type(0)
                            for s in range(16):
                                heard += change[n, s] * said[j, f, s] + harmonic[i, m, s] * said_dot[j, f, s]
                            edges_dot[i, m, f] = heard
                        for k in range(n_radial):
                            r, r_dot = radial[i, m, k], slope[i, m, k] * stretch
                            for f in range(n_features):
                                products[n, k * n_features + f] = r * edges[i, m, f]
                                products_dot[n, k * n_features + f] = (
                                    r_dot * edges[i, m, f] + r * edges_dot[i, m, f]
                                )
                    else:
                        change[n] = 0
                        products[n] = 0
                        products_dot[n] = 0
                for q in range(width):
                    p0, p1, d0, d1 = products[0, q], products[1, q], products_dot[0, q], products_dot[1, q]
                    for s in range(16):
                        sums[q, s] += (
                            d0 * harmonic[i, first, s]
                            + d1 * harmonic[i, first + 1, s]
                            + p0 * change[0, s]
                            + p1 * change[1, s]
                        )
            for s in range(16):
                for q in range(width):
                    raw[s, i, q] = sums[q, s]

    @compiled
    def of_bonds_adjoint(
        start, stop, neighbours, counts, vectors, inverse, v, radial, slope, curvature, harmonic, said,
        said_dot, edges, edges_dot, raw_gradient, raw_gradient_dot, edge_gradient, edge_gradient_dot,
        gradient,
    ):  # fmt: skip
        """Changes of ∂E/∂r_im and of the gradients of what was heard."""
        by_harmonic = np.zeros((16, width), dtype=radial.dtype)
        by_harmonic_dot = np.zeros((16, width), dtype=radial.dtype)
        by_product = np.zeros((width, 16), dtype=radial.dtype)
        by_product_dot = np.zeros((width, 16), dtype=radial.dtype)
        products = np.zeros(width, dtype=radial.dtype)
        products_dot = np.zeros(width, dtype=radial.dtype)
        pulled = np.zeros(width, dtype=radial.dtype)
        pulled_dot = np.zeros(width, dtype=radial.dtype)
        change = np.zeros(16, dtype=radial.dtype)
        along = np.zeros(16, dtype=radial.dtype)
        along_dot = np.zeros(16, dtype=radial.dtype)
        heard = np.zeros(n_features, dtype=radial.dtype)
        for i in range(start, stop):
            for s in range(16):
                for q in range(width):
                    by_harmonic[s, q] = raw_gradient[s, i, q]
                    by_harmonic_dot[s, q] = raw_gradient_dot[s, i, q]
                    by_product[q, s] = raw_gradient[s, i, q]
                    by_product_dot[q, s] = raw_gradient_dot[s, i, q]
            for m in range(counts[i]):
                j = neighbours[i, m]
                t0, t1, t2, stretch = motion(i, j, vectors[i, m], inverse[i, m], v)
                harmonics_change(vectors[i, m, 0], vectors[i, m, 1], vectors[i, m, 2], t0, t1, t2, change)
                for k in range(n_radial):
                    r, r_dot = radial[i, m, k], slope[i, m, k] * stretch
                    for f in range(n_features):
                        e, e_dot = edges[i, m, f], edges_dot[i, m, f]
                        products[k * n_features + f] = r * e
                        products_dot[k * n_features + f] = r_dot * e + r * e_dot
                pulled[:] = 0
                pulled_dot[:] = 0
                for s in range(0, 16, 2):
                    y0, y1 = harmonic[i, m, s], harmonic[i, m, s + 1]
                    c0, c1 = change[s], change[s + 1]
                    for q in range(width):
                        g0, g1 = by_harmonic[s, q], by_harmonic[s + 1, q]
                        pulled[q] += y0 * g0 + y1 * g1
                        pulled_dot[q] += (
                            c0 * g0 + c1 * g1 + y0 * by_harmonic_dot[s, q] + y1 * by_harmonic_dot[s + 1, q]
                        )
                along[:] = 0
                along_dot[:] = 0
                for q in range(width):
                    p, p_dot = products[q], products_dot[q]
                    for s in range(16):
                        along[s] += p * by_product[q, s]
                        along_dot[s] += p_dot * by_product[q, s] + p * by_product_dot[q, s]
                outward, outward_dot = radial.dtype.type(0), radial.dtype.type(0)
                heard[:] = 0
                for k in range(n_radial):
                    total, total_dot = radial.dtype.type(0), radial.dtype.type(0)
                    r, r_dot = radial[i, m, k], slope[i, m, k] * stretch
                    for f in range(n_features):
                        value, value_dot = pulled[k * n_features + f], pulled_dot[k * n_features + f]
                        total += value * edges[i, m, f]
                        total_dot += value_dot * edges[i, m, f] + value * edges_dot[i, m, f]
                        heard[f] += value_dot * r + value * r_dot
                    outward += total * slope[i, m, k]
                    outward_dot += total_dot * slope[i, m, k] + total * curvature[i, m, k] * stretch
                for f in range(n_features):
                    edge_gradient_dot[i, m, f] = heard[f]
                    h, h_dot = edge_gradient[i, m, f], heard[f]
                    for s in range(16):
                        along[s] += h * said[j, f, s]
                        along_dot[s] += h_dot * said[j, f, s] + h * said_dot[j, f, s]
                _add_gradient_change(
                    vectors[i, m], inverse[i, m], (t0, t1, t2), stretch, along, along_dot, outward,
                    outward_dot, gradient[i, m],
                )  # fmt: skip

    return DensityPasses(of_species, of_species_adjoint, of_bonds, of_bonds_adjoint)


@compiled
def said_adjoint(
    start,
    stop,
    neighbours,
    counts,
    reverse,
    vectors,
    inverse,
    v,
    harmonic,
    edge_gradient,
    edge_gradient_dot,
    said,
):
    """Change of the gradients of what each atom says.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    neighbours, counts, reverse, vectors, inverse, v, harmonic, edge_gradient, edge_gradient_dot,
    said : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    n_features = edge_gradient.shape[2]
    own_width = reverse.shape[1]
    change = np.zeros(16, dtype=harmonic.dtype)
    for j in range(start, stop):
        said[j] = 0
        for m in range(counts[j]):
            t0, t1, t2, _ = motion(j, neighbours[j, m], vectors[j, m], inverse[j, m], v)
            harmonics_change(vectors[j, m, 0], vectors[j, m, 1], vectors[j, m, 2], t0, t1, t2, change)
            i, n = reverse[j, m] // own_width, reverse[j, m] % own_width
            for f in range(n_features):
                h, h_dot = edge_gradient[i, n, f], edge_gradient_dot[i, n, f]
                for s in range(16):
                    said[j, f, s] += h_dot * harmonic[j, m, s] + h * change[s]
        for f in range(n_features):
            for s in range(16):
                if (1 <= s <= 3) or s >= 9:
                    said[j, f, s] = -said[j, f, s]

"""Compiled passes over the geometry of pairs: harmonics, radial functions, repulsion, forces.

Every pass runs over a range of atoms, touches nothing that another range writes, and releases the
interpreter's lock, so that ranges can be given to threads.  Tables have the neighbours second and the
components last, (N, M, …): a pair's numbers lie side by side.

Names of the arguments, everywhere in this package: `start`, `stop` bound the atoms; `species` (N,),
`neighbours` (N, M) and `reverse` (N, M) are those of `himlip_ase.potential.graph.Graph`, `counts` (N,) the
numbers of neighbours; `vectors` (N, M, 3) are unit vectors, `inverse` (N, M) one over the distances in 1/Å,
`harmonic` (N, M, 16) the harmonics; `radial`, `slope`, `curvature` (N, M, K) the radial functions with two
derivatives; `edges` (N, M, F) what is heard along a bond, or (elements, F) in the first layer; `said` (N,
F, 16) what an atom says; `raw` (16, N, K F) and `density` (16, N, 4 C) densities before and after mixing;
`along` (N, M, 16) and `outward` (N, M) are ∂E/∂Y and ∂E/∂|r| of a pair; `gradient` a derivative of the energy
by what is named, `_dot` a change along v (N, 3).

Numbers in the code are of the type of the arrays (``real``): a double among them would make all of a
single-precision pass double.
"""

from __future__ import annotations

import math

from himlip_ase.potential.compilation import compiled

ROOT_3, ROOT_5, ROOT_15, ROOT_105 = 3**0.5, 5**0.5, 15**0.5, 105**0.5
ROOT_35_8, ROOT_21_8, HALF_ROOT_7 = (35 / 8) ** 0.5, (21 / 8) ** 0.5, 7**0.5 / 2


@compiled
def harmonics(x, y, z, out):
    """Real solid harmonics to l = 3; see `himlip_ase.potential.angular.solid_harmonics`.

    Parameters
    ----------
    x, y, z, out : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    real = out.dtype.type
    x2, y2, z2 = x * x, y * y, z * z
    total, difference = x2 + y2, x2 - y2
    four = real(4) * z2 - total
    out[0] = real(1)
    out[1] = real(ROOT_3) * y
    out[2] = real(ROOT_3) * z
    out[3] = real(ROOT_3) * x
    out[4] = real(ROOT_15) * x * y
    out[5] = real(ROOT_15) * y * z
    out[6] = real(ROOT_5 / 2) * (z2 + z2 - total)
    out[7] = real(ROOT_15) * x * z
    out[8] = real(ROOT_15 / 2) * difference
    out[9] = real(ROOT_35_8) * y * (real(3) * x2 - y2)
    out[10] = real(ROOT_105) * x * y * z
    out[11] = real(ROOT_21_8) * y * four
    out[12] = real(HALF_ROOT_7) * z * (z2 + z2 - real(3) * total)
    out[13] = real(ROOT_21_8) * x * four
    out[14] = real(ROOT_105 / 2) * z * difference
    out[15] = real(ROOT_35_8) * x * (x2 - real(3) * y2)


@compiled
def harmonics_gradient(x, y, z, g):
    """Σ_s g_s ∂Y_s/∂(x, y, z) of the solid harmonics.

    Parameters
    ----------
    x, y, z, g : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.

    Returns
    -------
    float, float, float
    """
    real = g.dtype.type
    two, three, four, six = real(2), real(3), real(4), real(6)
    x2, y2, z2, xy = x * x, y * y, z * z, x * y
    a, b, c, e = real(ROOT_3), real(ROOT_15), real(ROOT_5), real(ROOT_105)
    d, f, h = real(ROOT_35_8), real(ROOT_21_8), real(HALF_ROOT_7)
    gx = a * g[3] + b * (y * g[4] + z * g[7] + x * g[8]) - c * x * g[6]
    gy = a * g[1] + b * (x * g[4] + z * g[5] - y * g[8]) - c * y * g[6]
    gz = a * g[2] + b * (y * g[5] + x * g[7]) + two * c * z * g[6]
    gx += d * (six * xy * g[9] + three * (x2 - y2) * g[15]) + e * z * (y * g[10] + x * g[14])
    gy += d * (three * (x2 - y2) * g[9] - six * xy * g[15]) + e * z * (x * g[10] - y * g[14])
    gz += e * (xy * g[10] + real(0.5) * (x2 - y2) * g[14])
    gx += f * ((four * z2 - three * x2 - y2) * g[13] - two * xy * g[11]) - h * six * x * z * g[12]
    gy += f * ((four * z2 - x2 - three * y2) * g[11] - two * xy * g[13]) - h * six * y * z * g[12]
    gz += real(8) * f * z * (y * g[11] + x * g[13]) + h * (six * z2 - three * (x2 + y2)) * g[12]
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
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    real = inverse.dtype.type
    shrink = real(1.0 / cutoff)
    for i in range(start, stop):
        a = species[i]
        energy = 0.0
        e = strain[frame[i]]
        for m in range(counts[i], scaled.shape[1]):
            scaled[i, m] = real(1)
            harmonic[i, m] = real(0)
        for m in range(counts[i]):
            j = neighbours[i, m]
            dx = offsets[i, 0, m] + positions[j, 0] - positions[i, 0]
            dy = offsets[i, 1, m] + positions[j, 1] - positions[i, 1]
            dz = offsets[i, 2, m] + positions[j, 2] - positions[i, 2]
            x = dx + e[0, 0] * dx + e[0, 1] * dy + e[0, 2] * dz
            y = dy + e[1, 0] * dx + e[1, 1] * dy + e[1, 2] * dz
            z = dz + e[2, 0] * dx + e[2, 1] * dy + e[2, 2] * dz
            distance = math.sqrt(x * x + y * y + z * z)
            unit = real(1) / distance
            x, y, z = x * unit, y * unit, z * unit
            vectors[i, m, 0], vectors[i, m, 1], vectors[i, m, 2] = x, y, z
            inverse[i, m] = unit
            harmonics(x, y, z, harmonic[i, m])
            scaled[i, m] = distance * shrink
            b = species[j]
            pair_slope[i, m] = real(0)
            if distance < ranges[a, b]:
                inside = 1 - (distance / ranges[a, b]) ** 2
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
def pair_gradient(unit, inverse, along, outward, gradient):
    """∂E/∂r = (G − (G·n) n)/|r| + ∂E/∂|r| n of a pair, where G = Σ ∂E/∂Y ∇Y(n).

    Parameters
    ----------
    unit, inverse, along, outward, gradient : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    x, y, z = unit[0], unit[1], unit[2]
    gx, gy, gz = harmonics_gradient(x, y, z, along)
    straight = outward - (gx * x + gy * y + gz * z) * inverse
    gradient[0] = gx * inverse + straight * x
    gradient[1] = gy * inverse + straight * y
    gradient[2] = gz * inverse + straight * z


@compiled
def forces_of_pairs(start, stop, counts, reverse, vectors, inverse, gradient, forces, virial):
    """Forces −∂E/∂x of each atom, and Σ r ⊗ ∂E/∂r of each atom's pairs.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    counts, reverse, vectors, inverse, gradient, forces, virial : float, ndarray
        As in the head of `himlip_ase.potential.fused.geometry`.
    """
    own_width, width = reverse.shape[1], gradient.shape[1]
    flat = gradient.reshape(-1, 3)
    for i in range(start, stop):
        for a in range(3):
            forces[i, a] = 0
            for b in range(3):
                virial[i, a, b] = 0
        for m in range(counts[i]):
            back = reverse[i, m]
            back = back + back // own_width * (width - own_width)
            distance = inverse.dtype.type(1) / inverse[i, m]
            for a in range(3):
                forces[i, a] += gradient[i, m, a] - flat[back, a]
                r = vectors[i, m, a] * distance
                for b in range(3):
                    virial[i, a, b] += r * gradient[i, m, b]

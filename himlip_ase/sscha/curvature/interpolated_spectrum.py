"""Spectral functions at any q, with two-phonon states on a mesh finer than the supercell's grid.

    Π_aa'(q, z) = 1/N_k Σ_k Σ_μν φ_aμν(q; k) Λ_μν(z) φ*_a'μν(q; k)

with auxiliary phonons and third-order constants interpolated by minimum images
(:mod:`himlip_ase.sscha.curvature.third_order_waves`).  On the supercell's own grid, mesh = dims, it is the
bubble of :mod:`himlip_ase.sscha.curvature.spectral_function`.  Λ depends on a pair of modes through the sum
and the difference of their energies: pairs are collected on an energy axis much finer than δ, which is
multiplied once with 2E/(E² - z²).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from himlip_ase.errors import InputError
from himlip_ase.lattice import check_dims
from himlip_ase.phonons.force_constants import ForceConstants, mass_reduced
from himlip_ase.phonons.interpolation import is_gamma
from himlip_ase.sscha.curvature.spectral_function import SpectralFunction, spectrum
from himlip_ase.sscha.curvature.third_order import third_order
from himlip_ase.sscha.curvature.third_order_waves import ThirdOrderWaves
from himlip_ase.sscha.curvature.two_phonon import occupation
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import EV_CM, SQRT_EV_PER_ANGSTROM2_AMU_EV

logger = logging.getLogger(__name__)

POINTS_PER_SMEARING = 20
"""Of the energy axis of pairs: a pair between two points is shared between them, wrong by (1/20)²/4."""

CHUNK_BYTES = 128e6
"""Memory for the third-order constants of a part of the mesh."""

OMEGAS = 600
"""Wavenumbers, where none are given."""


@dataclass(frozen=True, eq=False)
class _MeshModes:
    """Auxiliary modes at some points: ħω (eV; infinite for what takes no part) and e/√m."""

    energies: np.ndarray
    displacements: np.ndarray


def interpolated_spectral_function(
    distribution: HarmonicDistribution,
    ensemble: Ensemble,
    group: SpaceGroup,
    qpoints: np.ndarray | Sequence[Sequence[float]],
    wavenumbers: np.ndarray | None = None,
    smearing_cm: float = 10.0,
    mesh: Sequence[int] = (8, 8, 8),
    directions: np.ndarray | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SpectralFunction:
    """Spectral function at any q-points.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary; symmetric under `group`.
    ensemble : Ensemble
        Drawn from it, or reweighted to it.
    group : SpaceGroup
        Of the auxiliary.
    qpoints : sequence of three floats
        Fractional, on the supercell's grid or off it.
    wavenumbers : ndarray, shape (w,), optional
        cm⁻¹, ascending; by default 600 of them from 0 to 1.3 times the highest auxiliary frequency.
    smearing_cm : float
        δ, which must bridge the spacing of two-phonon energies on the mesh.
    mesh : three integers
        Γ-centred, of k.
    directions : ndarray, shape (k, 3), optional
        From which Γ is approached where the auxiliary has Born charges.
    on_progress : callable, optional
        Called with q-points done and in all.

    Returns
    -------
    SpectralFunction
        `auxiliary_cm` is that of the interpolated auxiliary, imaginary negative.

    Raises
    ------
    InputError
        A smearing that is not positive, or a mesh that is none.
    """
    if not smearing_cm > 0:
        raise InputError(f"smearing_cm is {smearing_cm}; give a positive number of cm⁻¹")
    mesh = check_dims(mesh)
    points = np.atleast_2d(np.asarray(qpoints, dtype=float))
    dynamical = distribution.dynamical
    constants = dynamical.force_constants()
    tensor = third_order(distribution, ensemble, group, ensemble.weights(distribution))
    waves = ThirdOrderWaves(tensor, dynamical.primitive, dynamical.dims)
    if wavenumbers is None:
        wavenumbers = np.linspace(0, 1.3 * float(dynamical.frequencies().max()), OMEGAS)
    energies = (np.asarray(wavenumbers, dtype=float) + 1j * smearing_cm) / EV_CM
    kpoints = np.indices(mesh).reshape(3, -1).T / np.array(mesh)
    first = _mesh_modes(constants, kpoints)
    towards = np.zeros_like(points) if directions is None else np.asarray(directions, dtype=float)
    reduced = mass_reduced(constants.matrices(points, towards), dynamical.primitive.get_masses())
    totals, parts, auxiliaries = [], [], []
    for done, (q, matrix) in enumerate(zip(points, reduced, strict=True), start=1):
        bubble = _bubble(waves, q, kpoints, constants, first, distribution.temperature_k, energies)
        values, vectors = np.linalg.eigh(matrix)
        moving = np.ones(len(values), dtype=bool)
        if is_gamma((q - np.rint(q))[None])[0]:
            moving[np.argsort(np.abs(values))[:3]] = False
        squares = values * (SQRT_EV_PER_ANGSTROM2_AMU_EV * EV_CM) ** 2
        total, part = spectrum(squares, vectors, moving, bubble, energies)
        totals.append(total)
        parts.append(part)
        auxiliaries.append(np.where(moving, np.sign(squares) * np.sqrt(np.abs(squares)), 0.0))
        if on_progress is not None:
            on_progress(done, len(points))
    return SpectralFunction(
        points,
        np.asarray(wavenumbers, dtype=float),
        smearing_cm,
        np.array(totals),
        np.array(parts),
        np.array(auxiliaries),
        mesh,
    )


def _mesh_modes(constants: ForceConstants, points: np.ndarray) -> _MeshModes:
    """Auxiliary modes; translations, and what interpolation made imaginary, take no part."""
    masses = constants.primitive.get_masses()
    values, vectors = np.linalg.eigh(mass_reduced(constants.matrices(points), masses))
    out = values <= 0
    for at in np.flatnonzero(is_gamma(points - np.rint(points))):
        lowest = np.argsort(np.abs(values[at]))[:3]
        out[at] = values[at] < 0
        out[at, lowest] = True
    translations = 3 * int(is_gamma(points - np.rint(points)).sum())
    if out.sum() > translations:
        logger.warning(
            "%d of %d interpolated auxiliary modes are imaginary and left out of the two-phonon states; a "
            "larger supercell would hold them", int(out.sum()) - translations, out.size,
        )  # fmt: skip
    energies = np.where(out, np.inf, np.sqrt(np.where(out, 1.0, values)) * SQRT_EV_PER_ANGSTROM2_AMU_EV)
    return _MeshModes(energies, vectors / np.sqrt(np.repeat(masses, 3))[:, None])


def _bubble(
    waves: ThirdOrderWaves,
    q: np.ndarray,
    kpoints: np.ndarray,
    constants: ForceConstants,
    first: _MeshModes,
    temperature_k: float,
    energies: np.ndarray,
) -> np.ndarray:
    """Π(q, z), mass-reduced, (w, 3n, 3n) in eV/Å²/amu."""
    second = _mesh_modes(constants, q - kpoints)
    size = first.energies.shape[1]
    pitch = energies.imag.max() / POINTS_PER_SMEARING
    highest = 2 * max(float(m.energies[np.isfinite(m.energies)].max()) for m in (first, second))
    axis = pitch * np.arange(int(np.ceil(highest / pitch)) + 2)
    collected = np.zeros((len(axis), size * size), dtype=complex)
    leg = waves.leg(q)
    roots = np.repeat(constants.primitive.get_masses(), 3) ** -0.5
    step = max(1, int(CHUNK_BYTES / (64 * size**3)))
    for start in range(0, len(kpoints), step):
        some = slice(start, start + step)
        coupling = waves.between(leg, q, kpoints[some]) * roots[:, None, None]
        coupling = np.einsum(
            "kabc,kbm,kcn->kmna",
            coupling, first.displacements[some], second.displacements[some], optimize=True,
        ).reshape(-1, size)  # fmt: skip
        left, right = np.broadcast_arrays(first.energies[some, :, None], second.energies[some, None, :])
        left, right = left.ravel(), right.ravel()
        kept = np.isfinite(left) & np.isfinite(right)
        left, right, coupling = left[kept], right[kept], coupling[kept]
        outer = (coupling[:, :, None] * coupling[:, None, :].conj()).reshape(len(coupling), -1)
        scale = -(SQRT_EV_PER_ANGSTROM2_AMU_EV**4) / (4 * left * right) / len(kpoints)
        here, there = occupation(left, temperature_k), occupation(right, temperature_k)
        collected += _shared(axis, left + right, scale * (1 + here + there)) @ outer
        if temperature_k > 0:
            collected += _shared(axis, np.abs(left - right), scale * np.abs(here - there)) @ outer
    bubble = np.empty((len(energies), size * size), dtype=complex)
    step = max(1, int(CHUNK_BYTES / (16 * len(axis))))
    for start in range(0, len(energies), step):
        z = energies[start : start + step, None]
        bubble[start : start + step] = axis / (axis**2 - z**2) @ collected
    return bubble.reshape(len(energies), size, size)


def _shared(axis: np.ndarray, positions: np.ndarray, weights: np.ndarray) -> csr_matrix:
    """Sparse (axis, positions): each weight on the two points around its position."""
    place = positions / axis[1]
    lower = np.minimum(place.astype(int), len(axis) - 2)
    part = place - lower
    rows = np.concatenate([lower, lower + 1])
    columns = np.tile(np.arange(len(positions)), 2)
    values = np.concatenate([weights * (1 - part), weights * part])
    return csr_matrix((values, (rows, columns)), shape=(len(axis), len(positions)))

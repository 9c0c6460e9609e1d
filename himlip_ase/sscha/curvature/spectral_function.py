"""Phonon spectral function with the dynamic bubble of the SSCHA.

    G(q, z) = [z² - D(q) - Π(q, z)]⁻¹,   Π(q, z) = M^-1/2 Φ³ Λ(z) Φ³ M^-1/2,   z = ω + iδ
    σ(q, ω) = -(2/π) Im [z Tr G(q, z)]

(Bianco et al., PRB 97, 214101 (2018); Monacelli et al., J. Phys.: Condens. Matter 33, 363001 (2021), sec. 6),
with the third-order constants of :mod:`himlip_ase.sscha.curvature.fourth_order` on symmetry-adapted pairs.
At ω → 0 the bubble is that of the third-order free-energy Hessian, but for pairs of exactly degenerate
modes at T > 0, which answer a static force and no other.  ∫σ dω over ω > 0 is the number of modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.sscha.curvature.fourth_order import (
    third_order_blocks,
)
from himlip_ase.sscha.curvature.little_group import GridSymmetry, grid_modes, multiplets
from himlip_ase.sscha.curvature.normal_coordinates import (
    Arms,
    NormalCoordinates,
    ensemble_coordinates,
    folded,
)
from himlip_ase.sscha.curvature.pair_space import PairSpace
from himlip_ase.sscha.curvature.response import Response, respond
from himlip_ase.sscha.curvature.two_phonon import dynamic_propagator, static_propagator
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import EV_CM, SQRT_EV_PER_ANGSTROM2_AMU_EV

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHUNK_BYTES = 64e6
"""Memory for Λ(z) of all pairs at a part of the energies."""


@dataclass(frozen=True)
class SpectralFunction:
    """σ(q, ω) of the displacements, translations left out.

    Attributes
    ----------
    qpoints : ndarray, shape (k, 3)
        Fractional, on the grid of the auxiliary.
    wavenumbers : ndarray, shape (w,)
        ω, cm⁻¹.
    smearing_cm : float
        δ, half width at half maximum that every peak has at least, cm⁻¹.
    total : ndarray, shape (k, w)
        With all mixing of modes, per cm⁻¹.
    modes : ndarray, shape (k, 3n, w)
        Of each auxiliary mode, mixing of modes left out, per cm⁻¹; zero for translations.
    auxiliary_cm : ndarray, shape (k, 3n)
        Auxiliary frequencies, in the order of `modes`; zero for translations.
    mesh : (int, int, int) or None
        Of the two-phonon states; None for the grid of the auxiliary.
    """

    qpoints: np.ndarray
    wavenumbers: np.ndarray
    smearing_cm: float
    total: np.ndarray
    modes: np.ndarray
    auxiliary_cm: np.ndarray
    mesh: tuple[int, int, int] | None = None


def spectral_function(
    distribution: HarmonicDistribution,
    ensemble: Ensemble,
    group: SpaceGroup,
    qpoints: Sequence[Sequence[float]] = ((0.0, 0.0, 0.0),),
    wavenumbers: np.ndarray | None = None,
    smearing_cm: float = 10.0,
    weights: np.ndarray | None = None,
) -> SpectralFunction:
    """Spectral function at q-points of the auxiliary's grid.

    Two-phonon energies come from the same grid, without interpolation: δ must bridge their spacing.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary; symmetric under `group`.
    ensemble : Ensemble
        Drawn from it, or reweighted to it.
    group : SpaceGroup
        Of the auxiliary.
    qpoints : sequence of three floats
        Fractional; commensurate with the supercell.
    wavenumbers : ndarray, shape (w,), optional
        cm⁻¹, ascending; by default 600 of them from 0 to 1.3 times the highest auxiliary frequency.
    smearing_cm : float
        δ.
    weights : ndarray, shape (n,), optional
        Of the configurations; by default the importance weights of `ensemble` for `distribution`.

    Returns
    -------
    SpectralFunction

    Raises
    ------
    InputError
        A q-point off the grid, or a smearing that is not positive.
    """
    if not smearing_cm > 0:
        raise InputError(f"smearing_cm is {smearing_cm}; give a positive number of cm⁻¹")
    symmetry = GridSymmetry(group, distribution.dynamical.primitive.cell.array, grid_modes(distribution))
    modes = symmetry.modes
    if wavenumbers is None:
        highest = modes.energies[np.isfinite(modes.energies)].max() * EV_CM
        wavenumbers = np.linspace(0, 1.3 * highest, 600)
    energies = (np.asarray(wavenumbers, dtype=float) + 1j * smearing_cm) / EV_CM
    normal = folded(ensemble_coordinates(distribution, modes, ensemble, group, weights))
    totals, parts, auxiliaries = [], [], []
    for qpoint in qpoints:
        q = int(distribution.grid_order[distribution.dynamical.index(qpoint)])
        moving = np.isfinite(modes.energies[q])
        squares = np.where(moving, modes.energies[q] * EV_CM, 0.0) ** 2
        bubble = dynamic_bubble(symmetry, q, normal, energies)
        total, part = spectrum(squares, modes.vectors[q], moving, bubble, energies)
        totals.append(total)
        parts.append(part)
        auxiliaries.append(np.where(np.isfinite(modes.energies[q]), modes.energies[q], 0) * EV_CM)
    return SpectralFunction(
        np.array(qpoints, dtype=float),
        np.asarray(wavenumbers, dtype=float),
        smearing_cm,
        np.array(totals),
        np.array(parts),
        np.array(auxiliaries),
    )


def dynamic_bubble(
    symmetry: GridSymmetry, q: int, normal: NormalCoordinates, energies: np.ndarray
) -> np.ndarray:
    """Π(q, z) at complex energies (eV), mass-reduced, (w, 3n, 3n) in eV/Å²/amu.

    Parameters
    ----------
    symmetry : GridSymmetry
    q : int
        Place in the grid.
    normal : NormalCoordinates
    energies : ndarray, shape (w,)
        Complex, eV.

    Returns
    -------
    ndarray, shape (w, 3n, 3n)
        eV/Å²/amu.
    """
    operations = symmetry.operations(q)
    space = PairSpace(symmetry, q, operations)
    bases = [space.basis(multiplet) for multiplet in multiplets(symmetry, q, operations)]
    arms = Arms(normal, symmetry, symmetry.arms(q))
    thirds = third_order_blocks(arms, space, bases, [slice(0, len(normal.weights))])
    total = np.zeros((len(energies), *symmetry.modes.vectors.shape[1:]), dtype=complex)
    for basis, third in zip(bases, thirds, strict=True):
        response = respond(basis, third, None, normal.weights)
        total += response.matrix(_coefficients(response, space, energies))
    return total


def _coefficients(response: Response, space: PairSpace, energies: np.ndarray) -> np.ndarray:
    """Of Π(z) on the copies of one multiplet, (w, columns, copies)."""
    basis, modes, third = response.basis, space.symmetry.modes, response.third
    sources = third[:, response.sources]
    result = np.zeros((len(energies), third.shape[1], sources.shape[1]), dtype=complex)
    for star, tensor, part in zip(space.stars, basis.tensors, basis.slices, strict=True):
        left, right = tensor @ third[part], tensor @ sources[part]
        shares = star.copies / basis.multiplet.dimension
        strengths = np.einsum("pxydb,pxyda,p->pxyba", left.conj(), right, shares, optimize=True).real
        first = modes.energies[star.members][:, :, None]
        second = modes.energies[space.partner[star.members]][:, None, :]
        static = static_propagator(first, second, modes.temperature_k)
        flat = strengths.reshape(static.size, -1)
        step = max(1, int(CHUNK_BYTES / (16 * static.size)))
        for start in range(0, len(energies), step):
            z = energies[start : start + step, None, None, None]
            dynamic = dynamic_propagator(first[None], second[None], modes.temperature_k, z)
            ratio = np.divide(dynamic, static, out=np.zeros_like(dynamic), where=static != 0)
            values = ratio.reshape(len(z), -1) @ flat
            result[start : start + step] -= values.reshape(len(z), *result.shape[1:])
    return result


def spectrum(
    squares_cm: np.ndarray, vectors: np.ndarray, moving: np.ndarray, bubble: np.ndarray, energies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """σ(ω) at one q with and without mixing of modes.

    Parameters
    ----------
    squares_cm : ndarray, shape (3n,)
        Squares of the auxiliary frequencies, cm⁻².
    vectors : ndarray, shape (3n, 3n)
        Mass-reduced polarisations, one a column.
    moving : ndarray of bool, shape (3n,)
        False for translations, which are left out.
    bubble : ndarray, shape (w, 3n, 3n)
        Π(q, z), mass-reduced, eV/Å²/amu.
    energies : ndarray, shape (w,)
        z, eV.

    Returns
    -------
    total : ndarray, shape (w,)
        Per cm⁻¹.
    modes : ndarray, shape (3n, w)
        Per cm⁻¹.
    """
    inside = vectors[:, moving]
    scale = (SQRT_EV_PER_ANGSTROM2_AMU_EV * EV_CM) ** 2
    z = energies * EV_CM
    inner = inside.conj().T @ bubble @ inside * scale
    inverse = (z**2)[:, None, None] * np.eye(inside.shape[1]) - np.diag(squares_cm[moving]) - inner
    traces = np.trace(np.linalg.inv(inverse), axis1=1, axis2=2)
    total = -2 / np.pi * (z * traces).imag
    parts = np.zeros((len(moving), len(z)))
    diagonal = np.diagonal(inverse, axis1=1, axis2=2)
    parts[moving] = -2 / np.pi * (z[:, None] / diagonal).imag.T
    return total, parts


def plot_spectral_function(ax: Axes, spectrum: SpectralFunction) -> Axes:
    """Curves for a few q-points, one above another; a map of colours along more than four.

    Parameters
    ----------
    ax : Axes
    spectrum : SpectralFunction

    Returns
    -------
    Axes
    """
    if len(spectrum.qpoints) > 4:
        mesh = ax.pcolormesh(
            np.arange(len(spectrum.qpoints)), spectrum.wavenumbers, spectrum.total.T, shading="nearest"
        )
        ax.figure.colorbar(mesh, ax=ax, label="spectral function (1/cm⁻¹)")
        ax.set_xticks(range(len(spectrum.qpoints)), [_label(q) for q in spectrum.qpoints], rotation=45)
        ax.set_ylabel("wavenumber (cm⁻¹)")
        return ax
    offset = 0.0
    for q, total, modes, auxiliary in zip(
        spectrum.qpoints, spectrum.total, spectrum.modes, spectrum.auxiliary_cm, strict=True
    ):
        line = ax.plot(spectrum.wavenumbers, offset + total, label=f"q = {_label(q)}")[0]
        ax.plot(spectrum.wavenumbers, offset + modes.sum(axis=0), ":", color=line.get_color())
        moving = auxiliary[auxiliary > 0]
        ax.plot(moving, np.full(len(moving), offset), "|", color=line.get_color(), markersize=10)
        offset += 1.1 * float(total.max())
    ax.set_xlabel("wavenumber (cm⁻¹); bars: auxiliary; dotted: without mixing of modes")
    ax.set_ylabel("spectral function (1/cm⁻¹)")
    ax.legend()
    return ax


def _label(q: np.ndarray) -> str:
    return "(" + ", ".join(f"{x:.2g}" for x in q) + ")"

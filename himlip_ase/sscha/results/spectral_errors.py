"""Sampling errors of peaks of spectral functions, by the jackknife over blocks of the ensemble.

Left out in turn, each block gives third-order constants of its own, and from them peaks.  With B blocks the
standard error is that of a delete-one jackknife, σ² = (B - 1)/B Σ_b (x_b - x̄)², and (B - 1)(x̄ - x) the bias
of the whole ensemble: noise in Φ³ enters the bubble as a square, which widens every peak (Efron, The
jackknife, the bootstrap and other resampling plans, SIAM 1982, ch. 2 and 3).  The auxiliary
stays the same, so that its own sampling error is not in these figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from himlip_ase.sscha.curvature.interpolated_spectrum import interpolated_spectral_function
from himlip_ase.sscha.curvature.spectral_function import SpectralFunction
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup

BLOCKS = 10
"""Of the ensemble, where nothing is said."""


@dataclass(frozen=True, eq=False)
class PeakErrors:
    """What sampling leaves open in peaks at some q-points.

    Attributes
    ----------
    places : ndarray of int, shape (k,)
        Of the q-points in the spectrum.
    positions, widths : ndarray, shape (k, 3n)
        Standard errors, cm⁻¹; NaN where a peak has no position or width in some part of the ensemble.
    width_bias : ndarray, shape (k, 3n)
        By how much the finite ensemble widens each peak, cm⁻¹; not subtracted from the widths.
    n_blocks : int
    """

    places: np.ndarray
    positions: np.ndarray
    widths: np.ndarray
    width_bias: np.ndarray
    n_blocks: int


def peaks(spectrum: SpectralFunction) -> tuple[np.ndarray, np.ndarray]:
    """Where each mode's curve is highest, and its full width at half of that height.

    Parameters
    ----------
    spectrum : SpectralFunction

    Returns
    -------
    positions, widths : ndarray, shape (k, 3n)
        cm⁻¹; the width holds 2δ of the smearing. NaN for translations, and widths that leave the range of ω.
    """
    omega = spectrum.wavenumbers
    positions = np.full(spectrum.modes.shape[:2], np.nan)
    widths = positions.copy()
    for place in np.ndindex(*positions.shape):
        curve = spectrum.modes[place]
        top = int(curve.argmax())
        if curve[top] <= 0:
            continue
        positions[place] = omega[top]
        if 0 < top < len(omega) - 1:  # of the parabola through the three highest points
            left, middle, right = curve[top - 1 : top + 2]
            positions[place] += 0.5 * (left - right) / (left - 2 * middle + right) * (omega[1] - omega[0])
        below = np.flatnonzero(curve[:top] < curve[top] / 2)
        above = top + np.flatnonzero(curve[top:] < curve[top] / 2)
        if len(below) and len(above):
            edges = [(below[-1], below[-1] + 1), (above[0], above[0] - 1)]
            ends = [
                omega[i] + (curve[top] / 2 - curve[i]) / (curve[j] - curve[i]) * (omega[j] - omega[i])
                for i, j in edges
            ]
            widths[place] = ends[1] - ends[0]
    return positions, widths


def peak_errors(
    distribution: HarmonicDistribution,
    ensemble: Ensemble,
    spectrum: SpectralFunction,
    places: Sequence[int],
    directions: np.ndarray | None = None,
    n_blocks: int = BLOCKS,
    on_progress: Callable[[int, int], None] | None = None,
) -> PeakErrors:
    """Sampling errors of the peaks at some q-points of a spectrum.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary.
    ensemble : Ensemble
        As `spectrum` was made from.
    spectrum : SpectralFunction
        Off the grid: of `interpolated_spectral_function`.
    places : sequence of int
        Of the q-points.
    directions : ndarray, shape (q, 3), optional
        Of all q-points of the spectrum, as it was made.
    n_blocks : int
        At least two; no more than there are pairs of configurations.
    on_progress : callable, optional
        Called with blocks done and in all.

    Returns
    -------
    PeakErrors
    """
    chosen = np.asarray(places, dtype=int)
    group = SpaceGroup(distribution.dynamical)
    blocks = ensemble.pair_blocks(max(2, min(n_blocks, len(ensemble) // 2)))
    found = []
    for done, block in enumerate(blocks, start=1):
        kept = np.setdiff1d(np.arange(len(ensemble)), block)
        without = interpolated_spectral_function(
            distribution,
            ensemble.part(kept),
            group,
            spectrum.qpoints[chosen],
            spectrum.wavenumbers,
            spectrum.smearing_cm,
            spectrum.mesh or distribution.dims,
            None if directions is None else directions[chosen],
        )
        found.append(peaks(without))
        if on_progress is not None:
            on_progress(done, len(blocks))
    parts = np.array(found)  # (blocks, position or width, q, mode)
    errors = np.sqrt((len(blocks) - 1) * parts.var(axis=0))
    bias = (len(blocks) - 1) * (parts[:, 1].mean(axis=0) - peaks(spectrum)[1][chosen])
    return PeakErrors(chosen, errors[0], errors[1], bias, len(blocks))

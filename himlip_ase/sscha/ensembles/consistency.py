"""Was an ensemble drawn from the Gaussian it is said to come from?  Its displacements answer, mode by mode.

For a draw from force constants Φ around centroids R at a temperature T, each normal coordinate has the mean
square σ = ħ(1 + 2n)/(2ω), so that the mean of uᵀΥu per mode is 1 within its noise.  Another temperature,
other matrices or masses, atoms in another order, or other units make it something else.  Files of other codes
hold no temperature: the one at which the mean is 1 is found here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from himlip_ase.errors import InputError
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import mode_variance

ALLOWED = 5.0
"""Standard errors that the mean over all modes may be off."""

NEGLIGIBLE = 0.005
"""A mean off by less is never held against an ensemble: constants and digits of other codes differ."""

SPREAD = 8.0
"""Standard errors that the mean square deviation of single modes may be above its expectation."""

HOTTEST_K = 1e5
"""Largest temperature that is looked for."""


@dataclass(frozen=True)
class Widths:
    """Widths of an ensemble in units of those of its Gaussian.

    Attributes
    ----------
    mean, sigma : float
        Mean of uᵀΥu per mode, 1 for a draw from the Gaussian, and its standard error.
    modes : ndarray, shape (n_modes,)
        The same of each mode of the supercell, lowest frequency first; pairs (q, -q) are one.
    scatter : float
        Mean square of (mode - 1) over its error: about 1 for a draw, less for Sobol sequences.
    scatter_limit : float
        What it may be.
    offset : float
        Mean square of the mean of each mode over its error: 1 for independent draws, 0 for opposite pairs.
    offset_limit : float
        What it may be.
    temperature_k : float or None
        Temperature at which the mean would be 1; 0 where it is 1 or less already at 0 K, None where there is
        none.
    temperature_sigma_k : float
        Its standard error.
    """

    mean: float
    sigma: float
    modes: np.ndarray
    scatter: float
    scatter_limit: float
    offset: float
    offset_limit: float
    temperature_k: float | None
    temperature_sigma_k: float

    @property
    def right_width(self) -> bool:
        """Whether the mean over all modes is 1."""
        return abs(self.mean - 1) <= max(ALLOWED * self.sigma, NEGLIGIBLE)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the ensemble."""
        return self.right_width and self.scatter <= self.scatter_limit and self.offset <= self.offset_limit

    def sentence(self) -> str:
        """The number, for people."""
        return f"mean uᵀΥu per mode {self.mean:.3f} ± {self.sigma:.3f} (1 for a draw from these matrices)"


def measure_widths(ensemble: Ensemble) -> Widths:
    """Compare the widths of an ensemble with those of the Gaussian it is said to be drawn from.

    Parameters
    ----------
    ensemble : Ensemble

    Returns
    -------
    Widths
    """
    n, pairs = len(ensemble), _opposite_pairs(ensemble.displacements)
    draws = n // 2 if pairs else n
    squares, means, freedom, energies = _normal_coordinates(ensemble)
    variances = mode_variance(energies, ensemble.drawn_from.temperature_k)
    ratios = squares.mean(axis=0) / variances
    weights = freedom / freedom.sum()
    each = (squares / variances) @ weights  # uᵀΥu per mode of each configuration
    if pairs:
        each = each[::2]
    expected = float(np.sqrt(2 / freedom.sum() / draws))
    sigma = max(expected, float(each.std(ddof=1) / np.sqrt(len(each)))) if len(each) > 1 else expected
    error = np.sqrt(2 / (freedom * draws))
    count = len(ratios)
    heavy = 12 / draws + 2  # variance of the square of a chi-squared mean over its own
    offset = np.abs(means) ** 2 / variances * n
    temperature, temperature_sigma = _fitted_temperature(squares.mean(axis=0), energies, weights, expected)
    return Widths(
        float(ratios @ weights),
        sigma,
        ratios[np.argsort(energies)],
        float((((ratios - 1) / error) ** 2).mean()),
        float(1 + SPREAD * np.sqrt(heavy / count)),
        float(offset @ weights),
        float(1 + SPREAD * np.sqrt(2 / freedom.sum())),
        temperature,
        temperature_sigma,
    )


def check_widths(ensemble: Ensemble, source: str, remedy: str) -> Widths:
    """Refuse an ensemble that was not drawn from its Gaussian.

    Parameters
    ----------
    ensemble : Ensemble
    source : str
        Where it came from, for the message.
    remedy : str
        What to type for another temperature, with ``{temperature}`` where it goes, and for other matrices.

    Returns
    -------
    Widths

    Raises
    ------
    InputError
        The displacements do not have the widths, or the means, of the Gaussian; the message says at which
        temperature they would.
    """
    found = measure_widths(ensemble)
    if found.passed:
        return found
    at = f"{ensemble.drawn_from.temperature_k:g} K"
    what = f"{source} was not drawn from these matrices at {at}: {found.sentence()}"
    if found.right_width and found.offset > found.offset_limit:
        what += f"; its means lie {np.sqrt(found.offset):.1f} errors off the centroids"
    elif found.right_width:
        what += f", but single modes scatter by {np.sqrt(found.scatter):.1f} times their error"
    elif found.temperature_k is not None:
        what += f"; it would be 1 at {found.temperature_k:.4g} ± {found.temperature_sigma_k:.2g} K"
    else:
        what += "; it is 1 at no temperature"
    suggested = 0.0 if found.temperature_k is None else found.temperature_k
    raise InputError(f"{what}. {remedy.format(temperature=f'{suggested:.4g}')}")


def _opposite_pairs(displacements: np.ndarray) -> bool:
    """Whether rows 2k and 2k+1 are opposites."""
    if len(displacements) % 2:
        return False
    sums = displacements[::2] + displacements[1::2]
    return bool(np.abs(sums).max() <= 1e-4 * max(np.abs(displacements).max(), 1e-12))


def _normal_coordinates(ensemble: Ensemble) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """|Q|² (n, m), means of Q (m,), real degrees of freedom and ħω (eV) of each mode but the translations."""
    fourier = ensemble.fourier
    gaussian = fourier.gaussian
    squares, means, freedom, energies = [], [], [], []
    for number, (sector, vectors, energy, field) in enumerate(
        zip(fourier.grid.sectors, gaussian.vectors, gaussian.energies, fourier.displacements, strict=True)
    ):
        coordinates = (field * gaussian.crystal.roots) @ vectors.conj()  # (k, n, 3n)
        moving = np.isfinite(energy)
        assert number or moving.sum() == moving.size - 3
        flat = np.moveaxis(coordinates, 1, 0)[:, moving]
        squares.append(np.abs(flat) ** 2)
        means.append(flat.mean(axis=0))
        freedom.append(np.full(flat.shape[1], float(sector.multiplicity)))
        energies.append(energy[moving])
    return (
        np.concatenate(squares, axis=1),
        np.concatenate([mean.astype(complex) for mean in means]),
        np.concatenate(freedom),
        np.concatenate(energies),
    )


def _fitted_temperature(
    squares: np.ndarray, energies: np.ndarray, weights: np.ndarray, sigma: float
) -> tuple[float | None, float]:
    def excess(temperature_k: float) -> float:
        return float((squares / mode_variance(energies, temperature_k)) @ weights) - 1

    def root(shift: float) -> float | None:
        if excess(0.0) <= shift:
            return 0.0
        if excess(HOTTEST_K) >= shift:
            return None
        return float(brentq(lambda t: excess(t) - shift, 0.0, HOTTEST_K, xtol=1e-6))

    found, cooler, hotter = root(0.0), root(sigma), root(-sigma)
    if found is None:
        return None, np.nan
    if cooler is None or hotter is None:
        return found, float("inf")
    if found == 0:
        return 0.0, hotter
    return found, max(hotter - found, found - cooler)

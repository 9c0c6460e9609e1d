"""Uncertainty of λ and Tc: the broadening σ, and the noise of the phonons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.spectral import GammaWeight, mode_coupling
from himlip_ase.superconductivity.tc import DEFAULT_MU_STAR, METHODS, Method, NoTc, Tc, critical_temperature

if TYPE_CHECKING:
    from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices


@dataclass(frozen=True)
class SigmaPlateau:
    """λ and Tc against the broadening of the double delta.

    Attributes
    ----------
    sigma_ry, lambdas, omega_log_k, tc_kelvin : ndarray, shape (nsigma,)
        Tc is nan where there is none.
    found : bool
        Whether some window of at least three neighbouring σ keeps λ within `tolerance`.
    window : (float, float)
        First and last σ (Ry) of the plateau, or of the flattest three when none was found.
    sigma_chosen_ry : float
        The middle of the window.
    lambda_spread, tc_spread_kelvin : float
        (max − min)/2 over the window; Tc's is nan when a Tc is missing there.
    reasons : tuple of str
        Why there is no Tc, where there is none.
    """

    sigma_ry: np.ndarray
    lambdas: np.ndarray
    omega_log_k: np.ndarray
    tc_kelvin: np.ndarray
    found: bool
    window: tuple[float, float]
    sigma_chosen_ry: float
    lambda_spread: float
    tc_spread_kelvin: float
    reasons: tuple[str, ...]


def sigma_plateau(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    mu_star: float = 0.10,
    method: Method = "allen-dynes",
    gamma_weight: GammaWeight = "counted",
    tolerance: float = 0.05,
    accept: Sequence[str] = (),
) -> SigmaPlateau:
    """Look for the plateau of λ(σ) at low σ.

    The window is the first run of three or more neighbouring σ whose λ differ by at most `tolerance`
    relative, extended upwards as long as that holds. A plateau at high σ only means that the double delta is
    smeared over the whole band, so that earlier windows win over flatter later ones.

    Parameters
    ----------
    elph, phonons, gamma_weight
        As in `mode_coupling`.
    mu_star, method, accept
        As in `critical_temperature`.
    tolerance : float
        Relative.

    Raises
    ------
    InputError
        Fewer than three broadenings.
    """
    if len(elph.sigma_ry) < 3:
        raise InputError(f"{len(elph.sigma_ry)} broadenings; at least 3 are wanted (el_ph_nsigma of ph.x)")
    order = np.argsort(elph.sigma_ry)
    sigma = elph.sigma_ry[order]
    spectra = [mode_coupling(elph, phonons, float(s), gamma_weight).spectrum() for s in sigma]
    lambdas = np.array([s.lambda_total for s in spectra])
    results = [critical_temperature(s, mu_star, method, accept) for s in spectra]
    kelvin = np.array([r.kelvin if isinstance(r, Tc) else np.nan for r in results])

    def spread(start: int, stop: int) -> float:
        part = lambdas[start:stop]
        return float((part.max() - part.min()) / max(abs(part.mean()), 1e-300))

    starts = range(len(sigma) - 2)
    first = next((i for i in starts if spread(i, i + 3) <= tolerance), None)
    found = first is not None
    start = first if first is not None else min(starts, key=lambda i: spread(i, i + 3))
    stop = start + 3
    while found and stop < len(sigma) and spread(start, stop + 1) <= tolerance:
        stop += 1
    part = slice(start, stop)
    middle = (start + stop - 1) // 2
    return SigmaPlateau(
        sigma,
        lambdas,
        np.array([s.omega_log_k for s in spectra]),
        kelvin,
        found,
        (float(sigma[start]), float(sigma[stop - 1])),
        float(sigma[middle]),
        float(np.ptp(lambdas[part])) / 2,
        float(np.ptp(kelvin[part])) / 2,
        tuple(dict.fromkeys(r.reason for r in results if isinstance(r, NoTc))),
    )


@dataclass(frozen=True)
class BootstrapTc:
    """Spread of the results over samples of the phonons.

    Attributes
    ----------
    lambda_mean, lambda_std : float
        Over the samples without imaginary modes.
    results : tuple of Tc or NoTc
        One for each (μ*, method): the mean, with the standard deviation as its uncertainty.
    samples, refused : int
        How many were given, and how many of them had imaginary modes or another reason for no Tc.
    kelvin : ndarray, shape (samples, n_results)
        Tc of each sample; nan where refused.
    """

    lambda_mean: float
    lambda_std: float
    results: tuple[Tc | NoTc, ...]
    samples: int
    refused: int
    kelvin: np.ndarray


def bootstrap_tc(
    elph: ElphMatrices,
    samples: Sequence[DynamicalMatrices],
    mu_star: Sequence[float] = DEFAULT_MU_STAR,
    methods: Sequence[Method] = METHODS,
    sigma_ry: float | None = None,
    gamma_weight: GammaWeight = "counted",
    max_refused: float = 0.1,
) -> BootstrapTc:
    """Carry the statistical noise of the phonons into Tc.

    Parameters
    ----------
    elph : ElphMatrices
    samples : sequence of DynamicalMatrices
        For example free-energy Hessians from resampled SSCHA ensembles, on the grid of `elph`.
    mu_star, methods, sigma_ry, gamma_weight
        As in `tc_table` and `mode_coupling`.
    max_refused : float
        Allowed fraction of samples without a Tc. Above it there is no Tc: leaving out the unstable samples
        would bias what is left.

    Raises
    ------
    InputError
        Fewer than two samples.
    """
    if len(samples) < 2:
        raise InputError(f"{len(samples)} samples; at least 2 are wanted for a spread")
    combinations = [(mu, method) for mu in mu_star for method in methods]
    kelvin = np.full((len(samples), len(combinations)), np.nan)
    lambdas = np.full(len(samples), np.nan)
    reasons: list[dict[str, int]] = [{} for _ in combinations]
    caveats: tuple[str, ...] = ()
    for row, phonons in enumerate(samples):
        spectrum = mode_coupling(elph, phonons, sigma_ry, gamma_weight).spectrum()
        caveats = spectrum.caveats
        if not spectrum.problems:
            lambdas[row] = spectrum.lambda_total
        for column, (mu, method) in enumerate(combinations):
            entry = critical_temperature(spectrum, mu, method)
            if isinstance(entry, Tc):
                kelvin[row, column] = entry.kelvin
            else:
                reasons[column][entry.reason] = reasons[column].get(entry.reason, 0) + 1
    results: list[Tc | NoTc] = []
    for column, (mu, method) in enumerate(combinations):
        good = kelvin[np.isfinite(kelvin[:, column]), column]
        lost = 1 - len(good) / len(samples)
        if lost > max_refused or len(good) < 2:
            reason = max(reasons[column], key=lambda text: reasons[column][text])
            results.append(NoTc(method, mu, f"{lost:.0%} of the samples have no Tc; most often: {reason}"))
            continue
        text = f"standard deviation over {len(good)} samples of the phonons"
        more = (f"{lost:.1%} of the samples had no Tc and were left out",) if lost else ()
        results.append(Tc(method, mu, float(good.mean()), float(good.std(ddof=1)), text, caveats + more))
    stable = lambdas[np.isfinite(lambdas)]
    return BootstrapTc(
        float(stable.mean()) if len(stable) else float("nan"),
        float(stable.std(ddof=1)) if len(stable) > 1 else float("nan"),
        tuple(results),
        len(samples),
        int(np.isnan(kelvin).any(axis=1).sum()),
        kelvin,
    )

"""Uncertainty of λ and Tc from the broadening σ of the double delta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity import codec
from himlip_ase.superconductivity.codec import Record
from himlip_ase.superconductivity.coupling import GammaWeight, mode_coupling
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import NoTc, Tc

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices


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

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {
            "found": self.found,
            "window_ry": list(self.window),
            "lambda_half_spread": self.lambda_spread,
            "tc_half_spread_kelvin": codec.optional(self.tc_spread_kelvin),
            "sigma_ry": codec.column(self.sigma_ry),
            "lambda": codec.column(self.lambdas),
            "tc_kelvin": codec.column(self.tc_kelvin),
            "omega_log_kelvin": codec.column(self.omega_log_k),
            "sigma_chosen_ry": self.sigma_chosen_ry,
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SigmaPlateau:
        """What `to_record` wrote."""
        low, high = record["window_ry"]
        return cls(
            codec.array(record["sigma_ry"]),
            codec.array(record["lambda"]),
            codec.array(record["omega_log_kelvin"]),
            codec.array(record["tc_kelvin"]),
            record["found"],
            (low, high),
            record["sigma_chosen_ry"],
            record["lambda_half_spread"],
            codec.number(record["tc_half_spread_kelvin"]),
            tuple(record["reasons"]),
        )


def sigma_plateau(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    mu_star: float = 0.10,
    method: str = "allen-dynes",
    gamma_weight: GammaWeight = "counted",
    tolerance: float = 0.05,
    accept: Sequence[str] = (),
    mu_star_at: float = 1.0,
) -> SigmaPlateau:
    """Look for the plateau of λ(σ) at low σ.

    The window is the first run of three or more neighbouring σ whose λ differ by at most `tolerance`
    relative, extended upwards as long as that holds. A plateau at high σ only means that the double delta is
    smeared over the whole band, so that earlier windows win over flatter later ones.

    Parameters
    ----------
    elph, phonons, gamma_weight
        As in `mode_coupling`.
    mu_star, method, accept, mu_star_at
        As in `critical_temperature`.
    tolerance : float
        Relative.

    Returns
    -------
    SigmaPlateau

    Raises
    ------
    InputError
        Fewer than three broadenings.
    """
    if len(elph.sigma_ry) < 3:
        raise InputError(f"{len(elph.sigma_ry)} broadenings; at least 3 are wanted (el_ph_nsigma of ph.x)")
    spectra = [mode_coupling(elph, phonons, float(s), gamma_weight).spectrum() for s in elph.sigma_ry]
    return plateau_of(elph.sigma_ry, spectra, mu_star, method, tolerance, accept, mu_star_at)


def plateau_of(
    sigma_ry: Sequence[float] | np.ndarray,
    spectra: Sequence[Spectrum],
    mu_star: float = 0.10,
    method: str = "allen-dynes",
    tolerance: float = 0.05,
    accept: Sequence[str] = (),
    mu_star_at: float = 1.0,
) -> SigmaPlateau:
    """The plateau of λ over spectra of several broadenings.

    Parameters
    ----------
    sigma_ry : sequence of float
        Three or more, Ry, in any order.
    spectra : sequence of Spectrum
        One for each.
    mu_star, method, accept, mu_star_at
        As in `critical_temperature`.
    tolerance : float
        As in `sigma_plateau`.

    Returns
    -------
    SigmaPlateau
    """
    order = np.argsort(sigma_ry)
    sigma = np.asarray(sigma_ry, dtype=float)[order]
    spectra = [spectra[place] for place in order]
    lambdas = np.array([s.lambda_total for s in spectra])
    results = [critical_temperature(s, mu_star, method, accept, mu_star_at=mu_star_at) for s in spectra]
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

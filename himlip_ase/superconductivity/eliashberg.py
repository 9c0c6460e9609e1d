"""Tc from the linearised isotropic Migdal–Eliashberg equations on the imaginary axis."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.sparse.linalg import ArpackError, eigsh

from himlip_ase import units
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.superconductivity.formulas import mcmillan, mu_star_at_cutoff
from himlip_ase.superconductivity.spectrum import Spectrum

MIN_FREQUENCIES = 64
MAX_FREQUENCIES = 6000
DEFAULT_CUTOFF = 15.0


def coupling_at_matsubara(spectrum: Spectrum, kt_ev: float, count: int) -> np.ndarray:
    """λ(l) = ∫ 2ωα²F(ω)/(ω² + (2πlkT)²) dω for l = 0 … count−1."""
    nu2 = (2 * np.pi * kt_ev * np.arange(count)) ** 2
    omega2 = spectrum.energies_ev**2
    return (spectrum.lambdas * omega2) @ (1 / (omega2[:, None] + nu2[None, :]))


def largest_eigenvalue(spectrum: Spectrum, kt_ev: float, count: int, mu_star: float) -> float:
    """Excess of the pairing kernel over pair breaking at kT: positive below Tc, zero at Tc.

    With K_nm = λ(n−m) + λ(n+m+1) − 2μ* − δ_nm D_n, D_n = 2n+1 + λ(0) + 2Σ_{l=1}^{n} λ(l), n, m ≥ 0 (Allen,
    Dynes 1975), the largest eigenvalue of D^-½ (K + D) D^-½ is 1 at Tc; this returns it minus 1, whose sign
    is that of the largest eigenvalue of K.

    Parameters
    ----------
    spectrum : Spectrum
    kt_ev : float
        Temperature in eV.
    count : int
        Positive Matsubara frequencies kept.
    mu_star : float
        μ* that belongs to the cutoff 2πkT·count.
    """
    lam = coupling_at_matsubara(spectrum, kt_ev, 2 * count)
    n = np.arange(count)
    pairing = lam[np.abs(n[:, None] - n)] + lam[n[:, None] + n + 1] - 2 * mu_star
    diagonal = 2 * n + 1 + lam[0] + 2 * (np.cumsum(lam[:count]) - lam[0])
    if not (diagonal > 0).all():
        raise CalculationError(
            "the mass renormalisation is not positive: the α²F has too much negative weight"
        )
    scale = 1 / np.sqrt(diagonal)
    matrix = pairing * scale[:, None] * scale
    if count > 150:
        try:
            start = scale / (n + 0.5)
            return (
                float(eigsh(matrix, k=1, which="LA", v0=start, tol=1e-11, return_eigenvectors=False)[0]) - 1
            )
        except ArpackError:
            pass
    return float(eigh(matrix, eigvals_only=True, subset_by_index=[count - 1, count - 1])[0]) - 1


def eliashberg_tc(
    spectrum: Spectrum,
    mu_star: float,
    cutoff: float = DEFAULT_CUTOFF,
    mu_star_at: float | None = None,
    min_frequencies: int = MIN_FREQUENCIES,
) -> float:
    """Tc (K) of the linearised isotropic Migdal–Eliashberg equations, constant density of states.

    Parameters
    ----------
    spectrum : Spectrum
    mu_star : float
        In the sense of Allen and Dynes (cutoff at the highest phonon); it is moved to the Matsubara cutoff
        through 1/μ*_ME = 1/μ*_AD + ln(ω_ph/ω_c).
    cutoff : float
        Matsubara cutoff ω_c in units of the highest phonon.
    mu_star_at : float, optional
        Cutoff (in units of the highest phonon) to which `mu_star` belongs; None is 1. Give the value of
        `cutoff` to use `mu_star` unchanged, as other Eliashberg codes do.
    min_frequencies : int
        Positive Matsubara frequencies kept at least (matters when Tc is of the order of the phonons).

    Returns
    -------
    float
        Kelvin; nan when there is no Tc above the lowest temperature that `MAX_FREQUENCIES` frequencies
        resolve.

    Raises
    ------
    InputError
        Cutoff below the highest phonon, or μ* with no counterpart at the cutoff.
    """
    if not cutoff >= 2:
        raise InputError(
            f"cutoff = {cutoff}; at least 2 highest-phonon energies are wanted, {DEFAULT_CUTOFF:g} is usual"
        )
    spectrum = spectrum.coarsened()
    top = spectrum.omega_max_ev
    reference = top * (1.0 if mu_star_at is None else mu_star_at)
    lowest = cutoff * top / (2 * np.pi * MAX_FREQUENCIES)

    def excess(log_kt: float, count: int) -> float:
        kt = float(np.exp(log_kt))
        here = mu_star_at_cutoff(mu_star, reference, 2 * np.pi * kt * count)
        return largest_eigenvalue(spectrum, kt, count, here)

    def count_at(kt: float) -> int:
        return max(min_frequencies, int(np.ceil(cutoff * top / (2 * np.pi * kt))))

    guess = mcmillan(spectrum.lambda_total, spectrum.omega_log_k, mu_star) / units.EV_KELVIN
    kt = max(guess, 2 * lowest) if np.isfinite(guess) else 1e-2 * top
    for _ in range(60):  # bracket, with the number of frequencies following the temperature
        if excess(np.log(kt), count_at(kt)) > 0:
            low = kt
            kt *= 1.6
            if excess(np.log(kt), count_at(low)) <= 0:
                break
        else:
            kt /= 1.6
            if kt < lowest:
                return float("nan")
            if excess(np.log(kt), count_at(kt)) > 0:
                low, kt = kt, kt * 1.6
                if excess(np.log(kt), count_at(low)) <= 0:
                    break
    else:
        raise CalculationError("the Eliashberg Tc could not be bracketed")
    count = count_at(low)
    root = brentq(excess, np.log(low), np.log(kt), args=(count,), xtol=1e-7)
    return float(np.exp(root)) * units.EV_KELVIN

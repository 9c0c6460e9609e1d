"""Closed formulas for Tc and the conversions of μ*. Energies in K in, Tc in K out; no guards but nan."""

from __future__ import annotations

import numpy as np

from himlip_ase.errors import InputError


def threshold_exceeded(lambda_total: float, mu_star: float) -> bool:
    """Whether λ > μ*(1 + 0.62λ), the condition for any Tc from McMillan's exponent.

    Parameters
    ----------
    lambda_total, mu_star : float

    Returns
    -------
    bool
    """
    return lambda_total > mu_star * (1 + 0.62 * lambda_total)


def mcmillan(lambda_total: float, omega_log_k: float, mu_star: float) -> float:
    """McMillan–Dynes: Tc = (ω_log/1.2) exp[−1.04(1+λ)/(λ − μ*(1+0.62λ))] (Allen, Dynes, PRB 12, 905, eq. 2).

    Returns nan when λ ≤ μ*(1 + 0.62λ).

    Parameters
    ----------
    lambda_total : float
    omega_log_k : float
        K.
    mu_star : float

    Returns
    -------
    float
        K.
    """
    if not threshold_exceeded(lambda_total, mu_star):
        return float("nan")
    exponent = -1.04 * (1 + lambda_total) / (lambda_total - mu_star * (1 + 0.62 * lambda_total))
    return float(omega_log_k / 1.2 * np.exp(exponent))


def allen_dynes_factors(
    lambda_total: float, omega_log_k: float, omega_2_k: float, mu_star: float
) -> tuple[float, float]:
    """f₁ and f₂ of Allen and Dynes (PRB 12, 905, eqs. 34–38): strong coupling and shape.

    Parameters
    ----------
    lambda_total : float
    omega_log_k, omega_2_k : float
        K.
    mu_star : float

    Returns
    -------
    (float, float)
    """
    ratio = omega_2_k / omega_log_k
    scale_1 = 2.46 * (1 + 3.8 * mu_star)
    scale_2 = 1.82 * (1 + 6.3 * mu_star) * ratio
    f1 = (1 + (lambda_total / scale_1) ** 1.5) ** (1 / 3)
    f2 = 1 + (ratio - 1) * lambda_total**2 / (lambda_total**2 + scale_2**2)
    return float(f1), float(f2)


def allen_dynes(lambda_total: float, omega_log_k: float, omega_2_k: float, mu_star: float) -> float:
    """Allen–Dynes: McMillan–Dynes times f₁f₂; nan when λ ≤ μ*(1 + 0.62λ).

    Parameters
    ----------
    lambda_total : float
    omega_log_k, omega_2_k : float
        K.
    mu_star : float

    Returns
    -------
    float
        K.
    """
    f1, f2 = allen_dynes_factors(lambda_total, omega_log_k, omega_2_k, mu_star)
    return f1 * f2 * mcmillan(lambda_total, omega_log_k, mu_star)


def sisso_factors(
    lambda_total: float, omega_log_k: float, omega_2_k: float, mu_star: float
) -> tuple[float, float]:
    """f_ω and f_μ of the machine-learnt form (Xie et al., npj Comput. Mater. 8, 14 (2022); as in EPW).

    Parameters
    ----------
    lambda_total : float
    omega_log_k, omega_2_k : float
        K.
    mu_star : float

    Returns
    -------
    (float, float)
    """
    ratio = omega_log_k / omega_2_k
    f_omega = (
        1.92 * (lambda_total + ratio - np.cbrt(mu_star)) / (np.sqrt(lambda_total) * np.exp(ratio)) - 0.08
    )
    decay = np.exp(-lambda_total / mu_star) if mu_star > 0 else 0.0
    f_mu = 1 + 6.86 * decay / (1 / lambda_total - mu_star - ratio)
    return float(f_omega), float(f_mu)


def sisso_refusal(lambda_total: float, omega_log_k: float, omega_2_k: float, mu_star: float) -> str:
    """Why the machine-learnt form cannot be used here; empty where it can.

    f_μ has a pole at 1/λ = μ* + ω_log/ω₂, which means nothing: near it, where f_μ differs from 1 by more than
    2 % and 1/λ from the pole by less than 0.1, a small change of λ makes Tc anything.

    Parameters
    ----------
    lambda_total : float
    omega_log_k, omega_2_k : float
        K.
    mu_star : float

    Returns
    -------
    str
    """
    f_omega, f_mu = sisso_factors(lambda_total, omega_log_k, omega_2_k, mu_star)
    if not (0.3 < f_omega < 3 and 0.3 < f_mu < 3):
        return (
            f"outside the range of the SISSO form: f_ω = {f_omega:.2f}, f_μ = {f_mu:.2f} (0.3 to 3 allowed)"
        )
    distance = 1 / lambda_total - mu_star - omega_log_k / omega_2_k
    if abs(f_mu - 1) > 0.02 and abs(distance) < 0.1:
        return f"beside the pole of the SISSO form: 1/λ − μ* − ω_log/ω₂ = {distance:.3f}, f_μ = {f_mu:.2f}"
    return ""


def sisso(lambda_total: float, omega_log_k: float, omega_2_k: float, mu_star: float) -> float:
    """McMillan–Dynes times f_ω f_μ; nan when λ ≤ μ*(1 + 0.62λ).

    Parameters
    ----------
    lambda_total : float
    omega_log_k, omega_2_k : float
        K.
    mu_star : float

    Returns
    -------
    float
        K.
    """
    f_omega, f_mu = sisso_factors(lambda_total, omega_log_k, omega_2_k, mu_star)
    return f_omega * f_mu * mcmillan(lambda_total, omega_log_k, mu_star)


def mu_star_at_cutoff(mu_star: float, omega_from: float, omega_to: float) -> float:
    """μ* moved from one energy cutoff to another: 1/μ*(ω₂) = 1/μ*(ω₁) + ln(ω₁/ω₂).

    Parameters
    ----------
    mu_star : float
        At `omega_from`; for Allen–Dynes formulas that is the highest phonon.
    omega_from, omega_to : float
        Any common unit.

    Returns
    -------
    float

    Raises
    ------
    InputError
        The repulsion diverges before `omega_to` is reached: no such μ* exists.
    """
    if mu_star == 0:
        return 0.0
    inverse = 1 / mu_star + np.log(omega_from / omega_to)
    if mu_star < 0 or not inverse > 0:
        raise InputError(
            f"μ* = {mu_star} at the cutoff {omega_from:.4g} has no counterpart at {omega_to:.4g} (1/μ* = "
            f"{inverse:.3g}); "
            "give a smaller μ* or a lower cutoff"
        )
    return float(1 / inverse)


def mu_star_of_frequencies(
    mu_star: float, kt: float, count: int, omega_from: float, omega_cutoff: float
) -> float:
    """μ* of the first `count` positive Matsubara frequencies, the cutoff of the interaction kept where it is.

    From `omega_from` to the cutoff the conversion is the logarithm by which μ* is defined. From there to the
    number of frequencies that happens to be summed it is the sum that the logarithm stands for, 2πT Σ 1/ω_n =
    ψ(N + ½) − ψ(ω_c/2πT + ½), so that the number of frequencies is a matter of convergence alone.

    Parameters
    ----------
    mu_star : float
        At `omega_from`.
    kt : float
        kT, in the unit of the two energies.
    count : int
    omega_from, omega_cutoff : float
        Where μ* is meant, and the Matsubara cutoff.

    Returns
    -------
    float

    Raises
    ------
    InputError
        As in `mu_star_at_cutoff`.
    """
    from scipy.special import digamma

    at_cutoff = mu_star_at_cutoff(mu_star, omega_from, omega_cutoff)
    if at_cutoff == 0:
        return 0.0
    there = omega_cutoff / (2 * np.pi * kt)
    inverse = 1 / at_cutoff - float(digamma(count + 0.5) - digamma(there + 0.5))
    if not inverse > 0:
        raise InputError(
            f"μ* = {mu_star} at {omega_from:.4g} has no counterpart for {count} Matsubara frequencies "
            f"(1/μ* = "
            f"{inverse:.3g}); give a smaller μ* or a lower cutoff"
        )
    return 1 / inverse


def mu_star_from_mu(mu: float, electronic_energy: float, omega: float) -> float:
    """Morel–Anderson: μ* = μ/(1 + μ ln(ε_el/ω)); InputError unless μ ≥ 0 and ε_el > ω > 0.

    Parameters
    ----------
    mu : float
        Dimensionless, N(E_F)·V.
    electronic_energy, omega : float
        Any common unit.

    Returns
    -------
    float
    """
    if not (mu >= 0 and electronic_energy > omega > 0):
        raise InputError(f"μ = {mu}, ε_el = {electronic_energy}, ω = {omega}: want μ ≥ 0 and ε_el > ω > 0")
    return float(mu / (1 + mu * np.log(electronic_energy / omega)))


def isotope_coefficient(tc_light: float, tc_heavy: float, mass_light: float, mass_heavy: float) -> float:
    """α = −ln(Tc_heavy/Tc_light)/ln(M_heavy/M_light); ½ for harmonic phonons and fixed μ*.

    Parameters
    ----------
    tc_light, tc_heavy : float
        K.
    mass_light, mass_heavy : float
        Any common unit.

    Returns
    -------
    float
    """
    return float(-np.log(tc_heavy / tc_light) / np.log(mass_heavy / mass_light))

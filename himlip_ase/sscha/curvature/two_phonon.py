"""The two-phonon propagator Λ of the SSCHA Gaussian, static and at a complex energy.

On mass-reduced normal coordinates it is diagonal in pairs of modes,

    Λ_μν(z) = -ħ²/(4 ω_μ ω_ν) [ (ω_μ+ω_ν)(1+n_μ+n_ν) / ((ω_μ+ω_ν)² - z²)
                               - (ω_μ-ω_ν)(n_μ-n_ν) / ((ω_μ-ω_ν)² - z²) ]

(Bianco et al., PRB 96, 014111 (2017), eq. 22 for z = 0; PRB 97, 214101 (2018) for z = ω + iδ), negative in
the static limit.  Energies are ħω in eV; a translation is an infinite energy and takes no part.
"""

from __future__ import annotations

import numpy as np

from himlip_ase.units import KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV

SAME = 1e-6
"""Two energies closer than this fraction of their sum are degenerate: the difference quotient of their
occupations becomes its limit."""


def occupation(energies: np.ndarray, temperature_k: float) -> np.ndarray:
    """Bose-Einstein occupation of energies in eV; 0 at T = 0.

    Parameters
    ----------
    energies : ndarray
        ħω, eV.
    temperature_k : float

    Returns
    -------
    ndarray
    """
    if temperature_k == 0:
        return np.zeros_like(energies)
    return 1 / np.expm1(np.minimum(energies / (KB_EV_PER_K * temperature_k), 700.0))


def static_propagator(first: np.ndarray, second: np.ndarray, temperature_k: float) -> np.ndarray:
    """Λ(0) of pairs of modes.

    Parameters
    ----------
    first, second : ndarray
        ħω in eV, broadcast against each other; infinite for a translation.
    temperature_k : float
        K, 0 included.

    Returns
    -------
    ndarray
        amu² Å⁴/eV, negative; 0 with a translation.
    """
    first, second, moving = _without_translations(first, second)
    sums, differences = first + second, first - second
    factor = 1 / sums
    if temperature_k > 0:
        thermal = KB_EV_PER_K * temperature_k
        n_first, n_second = occupation(first, temperature_k), occupation(second, temperature_k)
        close = np.abs(differences) < SAME * sums
        middle = occupation(sums / 2, temperature_k)
        quotient = (n_first - n_second) / np.where(close, 1.0, differences)
        factor = (1 + n_first + n_second) / sums + np.where(close, middle * (middle + 1) / thermal, -quotient)
    return np.where(moving, -(SQRT_EV_PER_ANGSTROM2_AMU_EV**4) / 4 * factor / (first * second), 0.0)


def dynamic_propagator(
    first: np.ndarray, second: np.ndarray, temperature_k: float, z: complex | np.ndarray
) -> np.ndarray:
    """Λ(z) of pairs of modes at a complex energy z (eV) off the real axis, amu² Å⁴/eV.

    Parameters
    ----------
    first, second : ndarray
        ħω in eV, broadcast against each other; infinite for a translation.
    temperature_k : float
    z : complex or ndarray
        eV.

    Returns
    -------
    ndarray
        0 with a translation.
    """
    first, second, moving = _without_translations(first, second)
    sums, differences = first + second, first - second
    n_first, n_second = occupation(first, temperature_k), occupation(second, temperature_k)
    square = np.asarray(z) ** 2
    factor = (1 + n_first + n_second) * sums / (sums**2 - square)
    if temperature_k > 0:
        factor = factor - (n_first - n_second) * differences / (differences**2 - square)
    return np.where(moving, -(SQRT_EV_PER_ANGSTROM2_AMU_EV**4) / 4 * factor / (first * second), 0.0)


def _without_translations(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = np.broadcast_arrays(first, second)
    moving = np.isfinite(first) & np.isfinite(second)
    return np.where(moving, first, 1.0), np.where(moving, second, 1.0), moving

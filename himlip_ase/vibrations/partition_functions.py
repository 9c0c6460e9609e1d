"""Ideal-gas contributions to energy and entropy: rigid rotor, harmonic oscillators, and what mends them.

Soft vibrations are no harmonic oscillators; their entropy diverges as the frequency goes to zero. A registry
of entropy models says what is done about it. Energies in eV, entropies in eV/K, frequencies in cm⁻¹.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from himlip_ase.registry import Registry
from himlip_ase.units import AMU_KG, EV_CM, EV_JOULE, KB_EV_PER_K, LIGHT_CM_PER_S, PLANCK_EV_S

KB_JOULE = KB_EV_PER_K * EV_JOULE
PLANCK_JOULE_S = PLANCK_EV_S * EV_JOULE

AVERAGE_MOMENT = 1e-44
"""kg m²; B_av of Grimme (Chem. Eur. J. 18, 9955 (2012)), the rotor into which a soft vibration turns."""

Entropy = Callable[[np.ndarray, float, float], np.ndarray]


def translation(mass: float, temperature: float, pressure: float) -> float:
    """Entropy of translation (Sackur–Tetrode), eV/K.

    Parameters
    ----------
    mass : float
        amu.
    temperature, pressure : float
        K, Pa.

    Returns
    -------
    float
    """
    wave = (2 * np.pi * mass * AMU_KG * KB_JOULE * temperature / PLANCK_JOULE_S**2) ** 1.5
    return float(KB_EV_PER_K * (np.log(wave * KB_JOULE * temperature / pressure) + 2.5))


def rotation(
    moments: np.ndarray, freedom: int, temperature: float, symmetry_number: int
) -> tuple[float, float]:
    """Energy (eV) and entropy (eV/K) of a classical rigid rotor.

    Parameters
    ----------
    moments : ndarray (3,)
        Principal moments of inertia, amu Å².
    freedom : int
        Rotations: 0 for an atom, 2 for a linear molecule, 3 otherwise; the largest moments count.
    temperature : float
        K.
    symmetry_number : int

    Returns
    -------
    energy, entropy : float
    """
    turning = np.sort(moments)[::-1][:freedom] * AMU_KG * 1e-20
    if not len(turning):
        return 0.0, 0.0
    temperatures = PLANCK_JOULE_S**2 / (8 * np.pi**2 * turning * KB_JOULE)
    if len(turning) == 2:
        logarithm = np.log(temperature / (symmetry_number * np.sqrt(temperatures.prod())))
    else:
        logarithm = 0.5 * np.log(np.pi * temperature**3 / temperatures.prod()) - np.log(symmetry_number)
    half = len(turning) / 2
    return half * KB_EV_PER_K * temperature, float(KB_EV_PER_K * (logarithm + half))


def zero_point_energy(frequencies: np.ndarray) -> float:
    """½ Σ ħω in eV."""
    return float(frequencies.sum() / EV_CM / 2)


def vibrational_energy(frequencies: np.ndarray, temperature: float) -> float:
    """Thermal energy of harmonic oscillators above the zero point, eV.

    Parameters
    ----------
    frequencies : ndarray (n,)
        cm⁻¹, positive.
    temperature : float
        K.

    Returns
    -------
    float
    """
    quanta = frequencies / EV_CM
    return float((quanta / np.expm1(quanta / (KB_EV_PER_K * temperature))).sum())


def harmonic_entropy(frequencies: np.ndarray, temperature: float, cutoff: float = 0.0) -> np.ndarray:
    """Entropy of each harmonic oscillator, eV/K; `cutoff` has no say.

    Parameters
    ----------
    frequencies : ndarray (n,)
        cm⁻¹, positive.
    temperature : float
        K.
    cutoff : float
        cm⁻¹.

    Returns
    -------
    ndarray (n,)
        eV/K.
    """
    x = frequencies / EV_CM / (KB_EV_PER_K * temperature)
    return KB_EV_PER_K * (x / np.expm1(x) - np.log(-np.expm1(-x)))


def free_rotor_entropy(frequencies: np.ndarray, temperature: float) -> np.ndarray:
    """Entropy of a free rotor with the moment of each vibration, eV/K (Grimme 2012, eqs. 4 to 6).

    Parameters
    ----------
    frequencies : ndarray (n,)
        cm⁻¹, positive.
    temperature : float
        K.

    Returns
    -------
    ndarray (n,)
        eV/K.
    """
    moment = PLANCK_JOULE_S / (8 * np.pi**2 * frequencies * LIGHT_CM_PER_S)
    effective = moment * AVERAGE_MOMENT / (moment + AVERAGE_MOMENT)
    return KB_EV_PER_K * (
        0.5 + 0.5 * np.log(8 * np.pi**3 * effective * KB_JOULE * temperature / PLANCK_JOULE_S**2)
    )


def damping(frequencies: np.ndarray, cutoff: float) -> np.ndarray:
    """Head-Gordon's weight of the harmonic oscillator, 1 / (1 + (ω₀/ω)⁴).

    Parameters
    ----------
    frequencies : ndarray (n,)
        cm⁻¹, positive.
    cutoff : float
        ω₀, cm⁻¹.

    Returns
    -------
    ndarray (n,)
    """
    return 1 / (1 + (cutoff / frequencies) ** 4)


def grimme_entropy(frequencies: np.ndarray, temperature: float, cutoff: float) -> np.ndarray:
    """From the free rotor at soft vibrations to the oscillator at stiff ones, eV/K (Grimme 2012, eq. 7).

    Parameters
    ----------
    frequencies : ndarray (n,)
        cm⁻¹, positive.
    temperature : float
        K.
    cutoff : float
        cm⁻¹.

    Returns
    -------
    ndarray (n,)
        eV/K.
    """
    weight = damping(frequencies, cutoff)
    return weight * harmonic_entropy(frequencies, temperature) + (1 - weight) * free_rotor_entropy(
        frequencies, temperature
    )


def truhlar_entropy(frequencies: np.ndarray, temperature: float, cutoff: float) -> np.ndarray:
    """Vibrations below the cutoff raised to it (Ribeiro, J. Phys. Chem. B 115, 14556 (2011)), eV/K.

    Parameters
    ----------
    frequencies : ndarray (n,)
        cm⁻¹, positive.
    temperature : float
        K.
    cutoff : float
        cm⁻¹.

    Returns
    -------
    ndarray (n,)
        eV/K.
    """
    return harmonic_entropy(np.maximum(frequencies, cutoff), temperature)


@dataclass(frozen=True)
class EntropyModel:
    """What is taken for the entropy of vibrations.

    Attributes
    ----------
    name, summary : str
    entropy : callable
        Frequencies (cm⁻¹), temperature (K), cutoff ω₀ (cm⁻¹) → entropy of each, eV/K.
    """

    name: str
    summary: str
    entropy: Entropy


ENTROPY_MODELS = Registry(
    "entropy model",
    EntropyModel("grimme", "quasi-RRHO: free rotors below ω₀, B_av = 1e-44 kg m²", grimme_entropy),
    EntropyModel("truhlar", "quasi-harmonic: vibrations below ω₀ raised to it", truhlar_entropy),
    EntropyModel("rrho", "harmonic oscillators throughout", harmonic_entropy),
)

"""Rate constants of unimolecular and bimolecular steps by transition state theory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.registry import Registry
from himlip_ase.units import EV_CM, KB_EV_PER_K, PLANCK_EV_S


def no_tunnelling(imaginary: float, temperature: float) -> float:
    """1.

    Parameters
    ----------
    imaginary : float
        cm⁻¹.
    temperature : float
        K.

    Returns
    -------
    float
    """
    return 1.0


def wigner(imaginary: float, temperature: float) -> float:
    """κ = 1 + (ħω‡/kT)²/24 (Wigner, Z. Phys. Chem. B 19, 203 (1932)); good while κ is near 1.

    Parameters
    ----------
    imaginary : float
        Imaginary frequency, cm⁻¹; its sign has no say.
    temperature : float
        K.

    Returns
    -------
    float
    """
    return float(1 + (imaginary / EV_CM / (KB_EV_PER_K * temperature)) ** 2 / 24)


@dataclass(frozen=True)
class Tunnelling:
    """A transmission coefficient.

    Attributes
    ----------
    name, summary : str
    coefficient : callable
        Imaginary frequency (cm⁻¹), temperature (K) → κ.
    """

    name: str
    summary: str
    coefficient: Callable[[float, float], float]


TUNNELLING = Registry(
    "tunnelling correction",
    Tunnelling("none", "κ = 1", no_tunnelling),
    Tunnelling("wigner", "κ = 1 + (ħω‡/kT)²/24", wigner),
)


def eyring_rate(barrier: float, temperature: float, transmission: float = 1.0) -> float:
    """k = κ (k_B T/h) exp(−ΔG‡/k_B T), in s⁻¹ for one reactant (Eyring, J. Chem. Phys. 3, 107 (1935)).

    For two reactants in a standard state of c mol/L the rate constant is this over c, in L mol⁻¹ s⁻¹.

    Parameters
    ----------
    barrier : float
        ΔG‡, eV.
    temperature : float
        K.
    transmission : float
        κ.

    Returns
    -------
    float
    """
    if not temperature > 0:
        raise InputError(f"the temperature must be positive, got {temperature}")
    thermal = KB_EV_PER_K * temperature
    return float(transmission * thermal / PLANCK_EV_S * np.exp(-barrier / thermal))


def barrier_of_rate(rate: float, temperature: float) -> float:
    """ΔG‡ in eV that gives a rate in s⁻¹ at κ = 1.

    Parameters
    ----------
    rate : float
        s⁻¹.
    temperature : float
        K.

    Returns
    -------
    float
    """
    thermal = KB_EV_PER_K * temperature
    return float(thermal * np.log(thermal / PLANCK_EV_S / rate))

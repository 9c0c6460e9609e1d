"""Physical constants and conversion factors, the only place where they are written.

Values are CODATA 2018 (as in phonopy and Quantum ESPRESSO ≥ 6.6); the unit is in the name.
python-sscha and ASE carry older CODATA sets: bridges to them use the peer's own constants.
"""

from __future__ import annotations

from typing import Final

import numpy as np

BOHR_ANGSTROM: Final = 0.529177210903
HARTREE_EV: Final = 27.211386245988
RY_EV: Final = HARTREE_EV / 2
KB_EV_PER_K: Final = 8.617333262e-5
HBAR_EV_S: Final = 6.582119569e-16
PLANCK_EV_S: Final = 4.135667696e-15
LIGHT_CM_PER_S: Final = 2.99792458e10
AMU_KG: Final = 1.66053906660e-27
ELECTRON_MASS_KG: Final = 9.1093837015e-31
EV_JOULE: Final = 1.602176634e-19
AVOGADRO_PER_MOL: Final = 6.02214076e23
CALORIE_JOULE: Final = 4.184

AMU_RY: Final = AMU_KG / ELECTRON_MASS_KG / 2
"""One atomic mass unit in Rydberg atomic units (mₑ/2): 911.444, the mass unit of QE's dyn and fc files."""

RY_PER_BOHR2_EV_PER_ANGSTROM2: Final = RY_EV / BOHR_ANGSTROM**2
RY_PER_BOHR3_EV_PER_ANGSTROM3: Final = RY_EV / BOHR_ANGSTROM**3
COULOMB_EV_ANGSTROM: Final = HARTREE_EV * BOHR_ANGSTROM
"""e²/4πε₀ in eV Å: 14.3996, the energy of two elementary charges at 1 Å."""

EV_PER_ANGSTROM3_GPA: Final = EV_JOULE * 1e21
GPA_EV_PER_ANGSTROM3: Final = 1 / EV_PER_ANGSTROM3_GPA

EV_CM: Final = 1 / (PLANCK_EV_S * LIGHT_CM_PER_S)
"""Wavenumber (cm⁻¹) of one eV: 8065.54."""

RY_CM: Final = RY_EV * EV_CM
THZ_CM: Final = 1e12 / LIGHT_CM_PER_S
EV_KELVIN: Final = 1 / KB_EV_PER_K
RY_KELVIN: Final = RY_EV / KB_EV_PER_K
EV_THZ: Final = 1e-12 / PLANCK_EV_S

SQRT_EV_PER_ANGSTROM2_AMU_EV: Final = HBAR_EV_S * float(np.sqrt(EV_JOULE / (1e-20 * AMU_KG)))
"""ħω in eV of an eigenvalue of 1 eV/Å²/amu of the mass-reduced dynamical matrix."""

SQRT_EV_PER_ANGSTROM2_AMU_CM: Final = SQRT_EV_PER_ANGSTROM2_AMU_EV * EV_CM
"""Wavenumber in cm⁻¹ of an eigenvalue of 1 eV/Å²/amu: 521.47."""


def signed_frequencies_cm(eigenvalues: np.ndarray) -> np.ndarray:
    """Frequencies of the eigenvalues of a mass-reduced dynamical matrix.

    Parameters
    ----------
    eigenvalues : ndarray
        ω² in eV/Å²/amu, any shape.

    Returns
    -------
    ndarray
        Wavenumbers in cm⁻¹; imaginary frequencies are shown negative.
    """
    eigenvalues = np.asarray(eigenvalues)
    return np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) * SQRT_EV_PER_ANGSTROM2_AMU_CM

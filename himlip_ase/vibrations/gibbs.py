"""Gibbs energies of molecules and transition states from their Hessians."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.symmetry.point_groups import is_linear, rotational_symmetry_number
from himlip_ase.units import AVOGADRO_PER_MOL, EV_JOULE, KB_EV_PER_K
from himlip_ase.vibrations.normal_modes import NormalModes, normal_modes
from himlip_ase.vibrations.partition_functions import (
    ENTROPY_MODELS,
    rotation,
    translation,
    vibrational_energy,
    zero_point_energy,
)

ATMOSPHERE_PA = 101325.0
SMALLEST_CM = 1.0
"""cm⁻¹; a vibration below this is none: its entropy would be arbitrary."""

SYMMETRIC_ANGSTROM = 0.02
"""Atoms this close to where a rotation puts them are mapped by it: relaxed structures are not exact."""

LINEAR_ANGSTROM = 0.02
"""A molecule whose atoms lie this close to a line is linear."""

TOLERATED_CM = 30.0
"""cm⁻¹; an imaginary frequency up to this, beside those of a saddle, is taken as a real one of its size (and
named): noise of the Hessian turns soft rotations imaginary."""


@dataclass(frozen=True)
class Conventions:
    """What a Gibbs energy is the Gibbs energy of.

    Parameters
    ----------
    temperature : float
        K.
    pressure : float, optional
        Pa; the standard state. By default one atmosphere, 101325 Pa, unless a concentration is given.
    concentration : float, optional
        mol/L; the standard state of solutes, 1 usually. Excludes `pressure`.
    entropy : str
        A name of `himlip_ase.vibrations.partition_functions.ENTROPY_MODELS`.
    cutoff : float
        ω₀ of the entropy model, cm⁻¹.
    multiplicity : int
        Degeneracy of the electronic ground state, 2S + 1.
    symmetry_number : int, optional
        By default from the point group of the structure.
    scale : float
        Factor of all frequencies.
    isotopes : mapping of int or str to float
        Masses in amu: of atoms by their index, or of all atoms of an element by its symbol.
    """

    temperature: float = 298.15
    pressure: float | None = None
    concentration: float | None = None
    entropy: str = "grimme"
    cutoff: float = 100.0
    multiplicity: int = 1
    symmetry_number: int | None = None
    scale: float = 1.0
    isotopes: Mapping[int | str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ENTROPY_MODELS[self.entropy]  # an unknown name is refused here
        if self.pressure is not None and self.concentration is not None:
            raise InputError("a standard state is a pressure or a concentration; give one of the two")
        for name in ("temperature", "pressure", "concentration", "cutoff", "scale"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"{name} must be positive, got {value}")
        for name in ("multiplicity", "symmetry_number"):
            value = getattr(self, name)
            if value is not None and (value < 1 or value != int(value)):
                raise InputError(f"{name} must be a whole number from 1, got {value}")
        if any(not mass > 0 for mass in self.isotopes.values()):
            raise InputError(f"masses of isotopes must be positive, got {dict(self.isotopes)}")

    @property
    def standard_pressure(self) -> float:
        """Pressure of the ideal gas in the standard state, Pa."""
        if self.concentration is not None:
            return 1000 * self.concentration * AVOGADRO_PER_MOL * KB_EV_PER_K * EV_JOULE * self.temperature
        return ATMOSPHERE_PA if self.pressure is None else self.pressure

    def described(self) -> list[str]:
        """Each convention in words."""
        state = (
            f"{self.concentration:g} mol/L" if self.concentration is not None
            else f"{self.standard_pressure / 1000:.6g} kPa"
        )  # fmt: skip
        model = ENTROPY_MODELS[self.entropy]
        soft = "" if self.entropy == "rrho" else f", ω₀ = {self.cutoff:g} cm⁻¹"
        found = [
            f"temperature {self.temperature:g} K, standard state: ideal gas at {state}",
            f"vibrational entropy {model.name} ({model.summary}{soft}); energies harmonic; frequencies × "
            f"{self.scale:g}",
            "classical rigid rotor, symmetry number "
            + ("of the point group" if self.symmetry_number is None else str(self.symmetry_number)),
            f"electronic degeneracy {self.multiplicity}, no excited electronic states",
        ]
        if self.isotopes:
            found.append(
                "masses "
                + ", ".join(f"{key}: {mass:g} amu" for key, mass in self.isotopes.items())
                + ", others natural averages"
            )
        else:
            found.append("masses those of the structure (natural averages unless set)")
        return found


@dataclass(frozen=True, eq=False)
class GibbsEnergy:
    """Thermochemistry of one structure; energies in eV, entropies in eV/K.

    Attributes
    ----------
    conventions : Conventions
    electronic : float
        Potential energy.
    frequencies : ndarray
        Real vibrations that count, cm⁻¹, scaled.
    left_out : tuple of float
        Imaginary frequencies of the saddle, cm⁻¹, negative, not scaled.
    raised : tuple of float
        Weak imaginary frequencies that were taken as real ones.
    symmetry_number : int
    zero_point : float
    thermal : float
        Thermal energy of translation, rotation and vibration.
    entropies : dict
        "translation", "rotation", "vibration", "electronic".
    """

    conventions: Conventions
    electronic: float
    frequencies: np.ndarray
    left_out: tuple[float, ...]
    raised: tuple[float, ...]
    symmetry_number: int
    zero_point: float
    thermal: float
    entropies: dict[str, float]

    @property
    def enthalpy(self) -> float:
        """E + ZPE + thermal energy + kT."""
        kt = KB_EV_PER_K * self.conventions.temperature
        return self.electronic + self.zero_point + self.thermal + kt

    @property
    def entropy(self) -> float:
        """Sum of the parts."""
        return sum(self.entropies.values())

    @property
    def gibbs(self) -> float:
        """H − TS."""
        return self.enthalpy - self.conventions.temperature * self.entropy


def gibbs_energy(
    atoms: Atoms,
    energy: float,
    hessian: np.ndarray,
    saddle: int = 0,
    conventions: Conventions | None = None,
) -> GibbsEnergy:
    """Gibbs energy of an ideal gas of a molecule.

    Parameters
    ----------
    atoms : Atoms
        A stationary point without periodic directions.
    energy : float
        eV.
    hessian : ndarray (N, 3, N, 3) or (3N, 3N)
        eV/Å².
    saddle : int
        Order of the saddle: 0 for a minimum, 1 for a transition state, whose imaginary mode is left out.
    conventions : Conventions, optional

    Returns
    -------
    GibbsEnergy

    Raises
    ------
    InputError
        A periodic structure, another number of imaginary modes than `saddle`, or an isotope of an atom that
        is not there.
    """
    conventions = conventions or Conventions()
    subject, modes = _vibrating(atoms, hessian, conventions)
    n = len(subject)
    left_out, raised, real = _sorted_frequencies(modes.frequencies, saddle)
    frequencies = conventions.scale * real
    symmetry = conventions.symmetry_number or rotational_symmetry_number(subject, SYMMETRIC_ANGSTROM)
    temperature = conventions.temperature
    moments = subject.get_moments_of_inertia()
    freedom = 3 * n - 3 - len(modes.frequencies)
    rotating, rotational_entropy = rotation(moments, freedom, temperature, symmetry)
    model = ENTROPY_MODELS[conventions.entropy]
    entropies = {
        "translation": translation(
            float(subject.get_masses().sum()), temperature, conventions.standard_pressure
        ),
        "rotation": rotational_entropy,
        "vibration": float(model.entropy(frequencies, temperature, conventions.cutoff).sum()),
        "electronic": float(KB_EV_PER_K * np.log(conventions.multiplicity)),
    }
    thermal = 1.5 * KB_EV_PER_K * temperature + rotating + vibrational_energy(frequencies, temperature)
    return GibbsEnergy(
        conventions, energy, frequencies, left_out, raised, symmetry, zero_point_energy(frequencies), thermal,
        entropies,
    )  # fmt: skip


def gibbs_slopes(
    atoms: Atoms, hessian: np.ndarray, saddle: int = 0, conventions: Conventions | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How a Gibbs energy changes with the curvature along each vibration.

    To first order a change δH of the Hessian changes G by Σ_m (∂G/∂λ_m) d_mᵀ δH d_m, with λ = ω².

    Parameters
    ----------
    atoms, hessian, saddle, conventions
        As for `gibbs_energy`.

    Returns
    -------
    slopes : ndarray (m,)
        ∂G/∂λ of the vibrations that count, eV / (eV Å⁻² amu⁻¹).
    displacements : ndarray (m, N, 3)
        d = e/√mass of their orthonormal modes e, amu^-1/2.

    Raises
    ------
    InputError
        As of `gibbs_energy`.
    """
    conventions = conventions or Conventions()
    subject, modes = _vibrating(atoms, hessian, conventions)
    frequencies = conventions.scale * _sorted_frequencies(modes.frequencies, saddle)[2]
    eigenvalues = modes.eigenvalues[saddle:]
    step = 1e-4 * frequencies
    ahead, behind = (_vibrational_gibbs(frequencies + shift, conventions) for shift in (step, -step))
    # a weak imaginary frequency was taken as a real one of its size: its slope has the other sign
    slopes = (ahead - behind) / (2 * step) * frequencies / (2 * eigenvalues)
    return slopes, modes.modes[saddle:] / np.sqrt(subject.get_masses())[:, None]


def _vibrational_gibbs(frequencies: np.ndarray, conventions: Conventions) -> np.ndarray:
    """Contribution of each vibration to the Gibbs energy, eV."""
    temperature = conventions.temperature
    energies = [zero_point_energy(one) + vibrational_energy(one, temperature) for one in frequencies[:, None]]
    entropy = ENTROPY_MODELS[conventions.entropy].entropy(frequencies, temperature, conventions.cutoff)
    return np.array(energies) - temperature * entropy


def _vibrating(atoms: Atoms, hessian: np.ndarray, conventions: Conventions) -> tuple[Atoms, NormalModes]:
    """The molecule with its masses, straight if it is nearly so, and its normal modes."""
    if atoms.pbc.any():
        raise InputError(f"an ideal gas is made of molecules; the structure has pbc {atoms.pbc.tolist()}")
    subject = _straightened(with_isotopes(atoms, conventions.isotopes))
    n = len(subject)
    return subject, normal_modes(subject, np.reshape(hessian, (n, 3, n, 3)))


def with_isotopes(atoms: Atoms, isotopes: Mapping[int | str, float]) -> Atoms:
    """A copy with other masses; InputError for an atom or element that is not there.

    Parameters
    ----------
    atoms : Atoms
    isotopes : mapping of int or str to float
        See `Conventions`.

    Returns
    -------
    Atoms
    """
    subject = atoms.copy()
    masses = subject.get_masses()
    symbols = np.array(subject.get_chemical_symbols())
    for key, mass in isotopes.items():
        chosen = symbols == key if isinstance(key, str) else np.arange(len(atoms)) == key
        if not chosen.any():
            raise InputError(f"isotope of {key!r}: {atoms.get_chemical_formula()} has no such atom")
        masses[chosen] = mass
    subject.set_masses(masses)
    return subject


def _straightened(atoms: Atoms) -> Atoms:
    """A nearly linear molecule put on its axis: what is left of a bend by a relaxation is no rotation."""
    if not is_linear(atoms, LINEAR_ANGSTROM):
        return atoms
    straight = atoms.copy()
    centre = atoms.positions.mean(axis=0)
    axis = np.linalg.svd(atoms.positions - centre, full_matrices=False)[2][0]
    along = (atoms.positions - centre) @ axis
    straight.set_positions(centre + along[:, None] * axis, apply_constraint=False)
    return straight


def _sorted_frequencies(
    frequencies: np.ndarray, saddle: int
) -> tuple[tuple[float, ...], tuple[float, ...], np.ndarray]:
    """Imaginary ones of the saddle, weak imaginary ones taken as real, and all that count."""
    imaginary = frequencies[frequencies < 0]
    left_out, others = imaginary[:saddle], imaginary[saddle:]
    if len(left_out) < saddle:
        raise InputError(
            f"{len(imaginary)} imaginary frequencies where a saddle of order {saddle} has {saddle}: this is "
            "no transition state; search one with himlip ts, or leave saddle at 0"
        )
    if len(others) and others[0] < -TOLERATED_CM:
        listed = ", ".join(f"{value:.1f}" for value in imaginary)
        raise InputError(
            f"{len(imaginary)} imaginary frequencies ({listed} cm⁻¹) instead of {saddle}: relax further, or "
            "give saddle=1 for a transition state"
        )
    rest = np.abs(frequencies[saddle:])
    if (rest < SMALLEST_CM).any():
        raise InputError(
            f"a vibration of {rest.min():.2f} cm⁻¹ is too soft for a partition function: two molecules far "
            "apart, or a structure that is not relaxed"
        )
    return tuple(left_out.tolist()), tuple(others.tolist()), rest

"""Gibbs energies along a reaction: ΔG‡, ΔG and rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.units import AVOGADRO_PER_MOL, CALORIE_JOULE, EV_JOULE, KB_EV_PER_K
from himlip_ase.vibrations.gibbs import Conventions, GibbsEnergy, gibbs_energy
from himlip_ase.vibrations.rates import TUNNELLING, eyring_rate

EV_KJ_PER_MOL = EV_JOULE * AVOGADRO_PER_MOL / 1000
EV_KCAL_PER_MOL = EV_KJ_PER_MOL / CALORIE_JOULE


@dataclass(frozen=True, eq=False)
class Species:
    """A stationary point: all that a Gibbs energy needs.

    Attributes
    ----------
    name : str
    atoms : Atoms
    energy : float
        eV.
    hessian : ndarray (3N, 3N)
        eV/Å².
    saddle : int
        1 for the transition state.
    """

    name: str
    atoms: Atoms
    energy: float
    hessian: np.ndarray
    saddle: int = 0

    def gibbs(self, conventions: Conventions) -> GibbsEnergy:
        """Its Gibbs energy."""
        return gibbs_energy(self.atoms, self.energy, self.hessian, self.saddle, conventions)


@dataclass(frozen=True, eq=False)
class ReactionGibbs:
    """Gibbs energies of reactants, transition state and products.

    Attributes
    ----------
    conventions : Conventions
    reactants, products : tuple of Species
        The molecules of each side, each an ideal gas of its own. One species of several molecules counts as
        one molecule: a complex.
    transition_state : Species or None
    tunnelling : str
        A name of `himlip_ase.vibrations.rates.TUNNELLING`.
    """

    conventions: Conventions
    reactants: tuple[Species, ...]
    products: tuple[Species, ...]
    transition_state: Species | None
    tunnelling: str = "wigner"

    def __post_init__(self) -> None:
        TUNNELLING[self.tunnelling]  # an unknown name is refused here
        if not self.reactants:
            raise InputError("a reaction needs reactants")
        wanted = _composition(self.reactants)
        for side, members in (("products", self.products), ("transition state", self._states())):
            if members and _composition(members) != wanted:
                raise InputError(
                    f"the {side} are made of other atoms ({_formula(members)}) than the reactants "
                    f"({_formula(self.reactants)})"
                )

    def _states(self) -> tuple[Species, ...]:
        return () if self.transition_state is None else (self.transition_state,)

    def difference(self, members: Sequence[Species], quantity: str = "gibbs") -> float | None:
        """A quantity of some species less that of the reactants, eV; None without species.

        Parameters
        ----------
        members : sequence of Species
        quantity : str
            An attribute of `himlip_ase.vibrations.gibbs.GibbsEnergy`: "gibbs", "enthalpy", "entropy", …

        Returns
        -------
        float or None
            eV (entropies eV/K).
        """
        if not members:
            return None

        def total(species: Sequence[Species]) -> float:
            return sum(getattr(one.gibbs(self.conventions), quantity) for one in species)

        return total(members) - total(self.reactants)

    @property
    def activation(self) -> float | None:
        """ΔG‡ in eV."""
        return self.difference(self._states())

    @property
    def reaction(self) -> float | None:
        """ΔG in eV."""
        return self.difference(self.products)

    @property
    def imaginary(self) -> float | None:
        """Imaginary frequency of the transition state, cm⁻¹, negative."""
        if self.transition_state is None:
            return None
        return self.transition_state.gibbs(self.conventions).left_out[0]

    @property
    def transmission(self) -> float | None:
        """κ."""
        if self.imaginary is None:
            return None
        return TUNNELLING[self.tunnelling].coefficient(self.imaginary, self.conventions.temperature)

    @property
    def rate(self) -> float | None:
        """Rate constant by Eyring's equation, in `rate_unit`."""
        barrier, transmission = self.activation, self.transmission
        if barrier is None or transmission is None:
            return None
        rate = eyring_rate(barrier, self.conventions.temperature, transmission)
        return rate / self.concentration ** (len(self.reactants) - 1)

    @property
    def concentration(self) -> float:
        """Concentration of the standard state, mol/L."""
        state = self.conventions
        return (
            state.standard_pressure / (KB_EV_PER_K * EV_JOULE * state.temperature) / AVOGADRO_PER_MOL / 1000
        )

    @property
    def rate_unit(self) -> str:
        """s⁻¹, L mol⁻¹ s⁻¹, … by the number of reactants."""
        order = len(self.reactants) - 1
        return {0: "s⁻¹", 1: "L mol⁻¹ s⁻¹"}.get(order, f"L{order} mol-{order} s⁻¹")

    def at(self, temperature: float) -> ReactionGibbs:
        """The same at another temperature."""
        return replace(self, conventions=replace(self.conventions, temperature=temperature))

    def curve(self, temperatures: Sequence[float]) -> list[dict[str, float | None]]:
        """ΔG‡, ΔG, κ and k at some temperatures."""
        found = []
        for temperature in temperatures:
            there = self.at(float(temperature))
            found.append(
                {
                    "temperature_k": float(temperature), "activation_gibbs_ev": there.activation,
                    "reaction_gibbs_ev": there.reaction, "transmission": there.transmission, "rate":
                    there.rate,
                }
            )  # fmt: skip
        return found

    def as_dict(self, temperatures: Sequence[float] = ()) -> dict[str, Any]:
        """Everything for ``result.json``; energies in eV, kJ/mol and kcal/mol."""
        state = self.conventions
        members = [*self.reactants, *self._states(), *self.products]
        return {
            "conventions": state.described(),
            "temperature_k": state.temperature,
            "standard_pressure_pa": state.standard_pressure,
            "activation": _in_units(self.activation),
            "activation_enthalpy": _in_units(self.difference(self._states(), "enthalpy")),
            "reaction": _in_units(self.reaction),
            "reaction_enthalpy": _in_units(self.difference(self.products, "enthalpy")),
            "tunnelling": self.tunnelling,
            "transmission": self.transmission,
            "rate": self.rate,
            "rate_unit": self.rate_unit,
            "species": {one.name: _species(one.gibbs(state)) for one in members},
            "curve": self.curve(temperatures),
        }


def _species(found: GibbsEnergy) -> dict[str, Any]:
    return {
        "electronic_ev": found.electronic,
        "zero_point_ev": found.zero_point,
        "enthalpy_ev": found.enthalpy,
        "entropy_ev_per_k": found.entropies,
        "gibbs_ev": found.gibbs,
        "symmetry_number": found.symmetry_number,
        "imaginary_left_out_cm": list(found.left_out),
        "imaginary_taken_as_real_cm": list(found.raised),
        "lowest_frequency_cm": float(found.frequencies.min()) if len(found.frequencies) else None,
    }


def _in_units(value: float | None) -> dict[str, float] | None:
    if value is None:
        return None
    return {"ev": value, "kj_per_mol": value * EV_KJ_PER_MOL, "kcal_per_mol": value * EV_KCAL_PER_MOL}


def _composition(members: Sequence[Species]) -> list[int]:
    return sorted(np.concatenate([one.atoms.numbers for one in members]).tolist())


def _formula(members: Sequence[Species]) -> str:
    return " + ".join(one.atoms.get_chemical_formula() for one in members)

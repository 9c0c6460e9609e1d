"""How sure a potential is of barriers and free energies, to first order in its head's coefficients.

Energy and Hessian of a potential with a posterior are linear in coefficients θ with a Gaussian distribution.
A Gibbs energy at a stationary point then moves by

    δG = δE + Σ_m (∂G/∂λ_m) d_mᵀ δH d_m,

d_m the displacements of the vibrations and λ_m their squared frequencies. The structures of a reaction share
θ: their changes are subtracted before a variance is taken, so that what reactant and transition state err
alike cancels. That the stationary points move as well changes no energy to first order; what it changes of
the frequencies (third derivatives) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from himlip_ase.reactions.free_energies import ReactionGibbs, Species
from himlip_ase.vibrations.gibbs import Conventions, gibbs_slopes


@dataclass(frozen=True)
class Deviation:
    """Standard deviation of a difference of energies.

    Attributes
    ----------
    total : float
        eV; with the spread of labels about the best head, taken as independent for each structure.
    coefficients : float
        eV; of the head's coefficients alone: what more labels could take away.
    """

    total: float
    coefficients: float


@dataclass(frozen=True)
class GibbsUncertainty:
    """Standard deviations of a reaction's energies; None where the reaction has no such quantity.

    Attributes
    ----------
    barrier, activation : Deviation or None
        Of ΔE‡ and ΔG‡.
    reaction_energy, reaction : Deviation or None
        Of ΔE and ΔG.
    """

    barrier: Deviation | None
    activation: Deviation | None
    reaction_energy: Deviation | None
    reaction: Deviation | None

    def as_dict(self) -> dict[str, Any]:
        """For ``result.json``, eV.

        Returns
        -------
        dict
            "barrier", "activation", "reaction_energy", "reaction": each {"total", "coefficients"} or None.
        """
        return asdict(self)


def gibbs_uncertainty(reaction: ReactionGibbs, calculator: Any) -> GibbsUncertainty | None:
    """Standard deviations of barrier and free energies from the posterior of the potential.

    Parameters
    ----------
    reaction : ReactionGibbs
        Found with `calculator`.
    calculator : object
        An `himlip_ase.hint.last_layer.uncertain_calculator.UncertainCalculator` has a posterior.

    Returns
    -------
    GibbsUncertainty or None
        None for a calculator without a posterior.
    """
    if not has_posterior(calculator):
        return None
    state = reaction.conventions
    start = [_Shift.of(one, state, calculator) for one in reaction.reactants]

    def of(members: Sequence[Species], quantity: str) -> Deviation | None:
        if not members:
            return None
        ends = [_Shift.of(one, state, calculator) for one in members]
        vector = sum(getattr(one, quantity) for one in ends) - sum(getattr(one, quantity) for one in start)
        noise = sum(getattr(one, f"{quantity}_noise") for one in [*ends, *start])
        along = float(vector @ vector)
        return Deviation(float(np.sqrt(along + noise)), float(np.sqrt(along)))

    states = () if reaction.transition_state is None else (reaction.transition_state,)
    return GibbsUncertainty(
        of(states, "energy"), of(states, "gibbs"), of(reaction.products, "energy"),
        of(reaction.products, "gibbs"),
    )  # fmt: skip


def has_posterior(calculator: Any) -> bool:
    """Whether a calculator says how sure it is.

    Parameters
    ----------
    calculator : object

    Returns
    -------
    bool
    """
    return hasattr(calculator, "posterior") and hasattr(calculator, "model")


@dataclass(frozen=True, eq=False)
class _Shift:
    """Energies of a species as vectors of the coefficients (eV), and the variances of their noise (eV²)."""

    energy: np.ndarray
    gibbs: np.ndarray
    energy_noise: float
    gibbs_noise: float

    @classmethod
    def of(cls, species: Species, conventions: Conventions, calculator: Any) -> _Shift:
        posterior, model, atoms = calculator.posterior, calculator.model, species.atoms
        slopes, modes = gibbs_slopes(atoms, species.hessian, species.saddle, conventions)
        energy = posterior.energy_coordinates(model, atoms)
        curvatures = posterior.eigenvalue_coordinates(model, atoms, modes)
        factors, n = posterior.factors, len(atoms)
        of_energy = (factors.get("energy", 1.0) * posterior.noise.energy * n) ** 2
        # an element of the Hessian has the row's noise over √(3N)
        element = factors.get("hessian", 1.0) * posterior.noise.hessian / np.sqrt(3 * n)
        of_curvatures = (slopes * element * (modes**2).sum(axis=(1, 2))) ** 2
        return cls(energy, energy + slopes @ curvatures, of_energy, of_energy + float(of_curvatures.sum()))

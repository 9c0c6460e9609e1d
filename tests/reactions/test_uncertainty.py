"""Standard deviations of barriers and free energies, against searches with heads drawn from the posterior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential

from himlip_ase.calculator import HiMLIPCalculator
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings, fit_closed_form
from himlip_ase.hint.last_layer.posterior import Posterior
from himlip_ase.hint.last_layer.uncertain_calculator import UncertainCalculator
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from himlip_ase.reactions import Surface, find_minimum, find_saddle
from himlip_ase.reactions.free_energies import ReactionGibbs, Species
from himlip_ase.reactions.gibbs_uncertainty import gibbs_uncertainty
from himlip_ase.vibrations.gibbs import Conventions
from tests.hint.toy import rattled

NETWORK = HiMLIPConfig(
    ("H",), cutoff=6.0, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1, mean_neighbours=3.0
)
DRAWN = 40
TETRAHEDRON = Atoms("H4", 0.93 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]]))
RHOMBUS = Atoms("H4", [[1.3, 0, 0], [-1.3, 0, 0], [0, 2.25, 0], [0, -2.25, 0]])
STATE = Conventions(symmetry_number=1)


@pytest.fixture(scope="module")
def calculator() -> UncertainCalculator:
    """Four atoms in a tetrahedron, and in the rhombus through which two of them change places."""
    shapes = [image for start in (TETRAHEDRON, RHOMBUS) for image in rattled(start, 12, 0.12)]
    network = HiMLIP(NETWORK, seed=1)
    network.standardise(build_graph(shapes, network.elements, network.cutoff))
    frames = []
    for atoms in shapes:
        atoms.calc = MorsePotential(epsilon=0.4, r0=2.6, rho0=4.0, rcut1=7.0, rcut2=9.0)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        frames.append(LabelledFrame(Atoms(atoms.numbers, atoms.positions), energy, forces, None, set="toy"))
    fit = fit_closed_form(network, frames, [], ClosedFormSettings("wide"))
    narrow = Posterior(fit.posterior.root * 0.1, fit.posterior.noise, "wide", NETWORK.hidden)
    return UncertainCalculator(fit.model, narrow)


def found_with(calculator: HiMLIPCalculator) -> ReactionGibbs:
    """Stationary points and their free energies."""
    surface = Surface(TETRAHEDRON, calculator)
    minimum = find_minimum(surface, TETRAHEDRON.positions.ravel(), 1e-4).atoms
    saddle = find_saddle(RHOMBUS, surface)
    assert len(saddle.imaginary) == 1
    where = minimum.positions.ravel()
    end = Species("reactant", minimum, surface.evaluate(where)[0], surface.hessian(where))
    state = Species("transition_state", saddle.atoms, saddle.energy, saddle.hessian, 1)
    return ReactionGibbs(STATE, (end,), (end,), state)


def test_searches_with_drawn_heads_scatter_as_is_said(calculator: UncertainCalculator) -> None:
    said = gibbs_uncertainty(found_with(calculator), calculator)
    drawn = [found_with(one) for one in calculator.sampled(DRAWN, seed=2)]
    barriers = [one.transition_state.energy - one.reactants[0].energy for one in drawn]
    scatter = 4 / (2 * DRAWN) ** 0.5
    assert np.std(barriers, ddof=1) == pytest.approx(said.barrier.coefficients, rel=scatter)
    activations = [one.activation for one in drawn]
    assert np.std(activations, ddof=1) == pytest.approx(said.activation.coefficients, rel=scatter)


def test_what_two_structures_err_alike_cancels(calculator: UncertainCalculator) -> None:
    reaction = found_with(calculator)
    said = gibbs_uncertainty(reaction, calculator)
    assert said.reaction.coefficients < 1e-12 < said.activation.coefficients  # the ends are one structure
    apart = [
        calculator.posterior.energy_coordinates(calculator.model, one.atoms)
        for one in (reaction.reactants[0], reaction.transition_state)
    ]
    independent = np.sqrt(sum(vector @ vector for vector in apart))
    assert said.barrier.coefficients < independent
    assert said.barrier.total > said.barrier.coefficients
    loud = replace(calculator.posterior, factors={"energy": 2.0, "hessian": 2.0})
    twice = gibbs_uncertainty(reaction, UncertainCalculator(calculator.model, loud))
    assert twice.activation.total == pytest.approx(2 * said.activation.total)


def test_a_calculator_without_posterior_gives_none(calculator: UncertainCalculator) -> None:
    assert gibbs_uncertainty(found_with(calculator), EMT()) is None

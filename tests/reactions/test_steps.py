"""Steps on quadratic models, Hessian updates, the space in which a search moves."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLength, FixedPlane

from himlip_ase.errors import InputError
from himlip_ase.reactions.free_directions import FreeDirections
from himlip_ase.reactions.hessian_updates import UPDATES, bofill
from himlip_ase.reactions.model_hessian import model_hessian
from himlip_ase.reactions.rational_steps import SADDLE_STEPS, minimising_step


@pytest.mark.parametrize("name", SADDLE_STEPS.names())
def test_saddle_steps_converge_on_a_quadratic_saddle_and_keep_to_the_radius(name: str) -> None:
    values = np.array([-2.0, 0.5, 3.0, 9.0])
    where = np.array([0.7, -0.5, 0.4, 0.3])
    for _ in range(30):
        step = SADDLE_STEPS[name].step(values, values * where, 0, 0.2)
        assert np.linalg.norm(step) <= 0.2 + 1e-9
        where = where + step
    assert np.abs(where).max() < 1e-6


@pytest.mark.parametrize("name", SADDLE_STEPS.names())
def test_a_mode_of_positive_curvature_is_climbed(name: str) -> None:
    values, gradient = np.array([0.4, 1.0]), np.array([0.1, 0.3])
    step = SADDLE_STEPS[name].step(values, gradient, 0, 0.3)
    assert step[0] > 0 > step[1]  # up along the first, down along the second


def test_minimising_step_goes_down_a_negative_curvature() -> None:
    step = minimising_step(np.array([-1.0, 2.0]), np.array([0.01, 0.5]), 0.3)
    assert step[0] < 0 and step[1] < 0 and np.linalg.norm(step) == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize("name", UPDATES)
def test_updates_meet_the_secant_condition_and_stay_symmetric(name: str) -> None:
    rng = np.random.default_rng(0)
    true = np.diag([1.0, 2.0, 5.0, 7.0])
    step = rng.normal(size=4)
    new = UPDATES[name](np.eye(4), step, true @ step)
    assert np.allclose(new @ step, true @ step) and np.allclose(new, new.T)


def test_bofill_learns_a_negative_curvature() -> None:
    true = np.diag([-1.0, 2.0, 3.0])
    matrix = np.diag([1.0, 2.0, 3.0])
    step = np.array([0.1, 0.01, 0.0])
    assert np.linalg.eigvalsh(bofill(matrix, step, true @ step))[0] < 0


def test_model_hessian_is_positive_and_near_a_force_field_in_stiffness() -> None:
    values = np.linalg.eigvalsh(model_hessian(molecule("CH3CH2OH")))
    assert values[0] > 0.5 and 50 < values[-1] < 200  # O–H and C–H stretches


@pytest.mark.parametrize(("name", "free"), [("H2O", 3), ("CO2", 4), ("CH3OH", 12)])
def test_rigid_motions_of_molecules_are_left_out(name: str, free: int) -> None:
    atoms = molecule(name)
    assert FreeDirections(atoms).basis(atoms.positions).shape == (3 * len(atoms), free)


def test_crystals_keep_rotations_and_constraints_are_honoured() -> None:
    crystal = bulk("Al", cubic=True)
    assert FreeDirections(crystal).basis(crystal.positions).shape[1] == 9
    crystal.set_constraint([FixAtoms([0]), FixedPlane(1, (0, 0, 1))])
    basis = FreeDirections(crystal).basis(crystal.positions).reshape(4, 3, -1)
    assert basis.shape[2] == 8
    assert np.allclose(basis[0], 0) and np.allclose(basis[1, 2], 0)


def test_a_fixed_atom_of_a_molecule_leaves_its_rotations_about_it_out() -> None:
    water = molecule("H2O")
    water.set_constraint(FixAtoms([0]))
    assert FreeDirections(water).basis(water.positions).shape[1] == 3


def test_constraints_that_bend_the_space_are_refused() -> None:
    water = molecule("H2O")
    water.set_constraint(FixBondLength(0, 1))
    with pytest.raises(InputError, match="FixAtoms, FixCartesian"):
        FreeDirections(water)

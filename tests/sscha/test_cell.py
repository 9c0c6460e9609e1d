"""The cell of the quantum crystal: allowed strains, pressure as -∂F/∂V, relaxation to a pressure."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import spglib
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.sscha import SschaSettings, load_result, run_sscha
from himlip_ase.sscha.cell import (
    ExcessStress,
    allowed_strains,
    excess_stress,
    next_strain,
    pressure_gpa,
    secant_update,
    static_stiffness,
    strained,
)
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

from .test_loop import Killed
from .toy import STRONG, BondCrystal, HarmonicCrystal, cscl

DIMS = (1, 1, 2)
SETTINGS = SschaSettings(n_configurations=400, n_hessian_configurations=1000, seed=1, n_blocks=10)


@pytest.fixture(scope="module")
def crystal():
    return BondCrystal(cscl(c=2.7), DIMS, STRONG)


@pytest.fixture(scope="module")
def relaxed(crystal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("relaxed")
    settings = dataclasses.replace(SETTINGS, pressure_gpa=4.0)
    return run_sscha(crystal.harmonic(), crystal, settings, folder), folder, settings


def test_strains_that_symmetry_allows():
    for cell, number in ((cscl(), 1), (cscl(c=2.7), 2), (bulk("Mg"), 2), (bulk("Al"), 1)):
        found = spglib.get_symmetry((cell.cell.array, cell.get_scaled_positions(), cell.numbers))
        columns = cell.cell.array.T
        rotations = [columns @ turn @ np.linalg.inv(columns) for turn in found["rotations"]]
        basis = allowed_strains(rotations)
        assert len(basis) == number
        np.testing.assert_allclose(np.einsum("aij,bij->ab", basis, basis), np.eye(number), atol=1e-12)
        for turn in rotations:
            np.testing.assert_allclose(turn @ basis @ turn.T, basis, atol=1e-10)
    assert len(allowed_strains([np.eye(3)])) == 6


def test_static_stiffness_is_the_second_derivative_of_the_energy(crystal):
    basis = allowed_strains(SpaceGroup(crystal.harmonic()).rotations)
    stiffness = static_stiffness(crystal.ideal, basis, crystal)

    def stress(strain):
        image = crystal.ideal.copy()
        image.set_cell(image.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        result = crystal([image])
        full = result.stresses[0][[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
        return np.einsum("kij,ij->k", basis, full)

    for row, strain in enumerate(basis):
        slope = (stress(1e-4 * strain) - stress(-1e-4 * strain)) / 2e-4
        np.testing.assert_allclose(stiffness[:, row], slope, rtol=1e-3, atol=1e-4)


def test_newton_and_secant_find_the_pressure_of_a_known_equation_of_state():
    basis = np.eye(3)[None] / np.sqrt(3)
    target, strain, stiffness = 10.0, np.zeros((3, 3)), np.array([[0.4]])
    before, step = None, strain
    for _ in range(8):
        x = np.einsum("kij,ij->k", basis, strain)[0]
        voigt = np.array([1.0, 1, 1, 0, 0, 0]) * (0.9 * x - 6 * x**2)  # not the stiffness of the start
        now = excess_stress(voigt, np.full(6, 1e-6), basis, target)
        if before is not None:
            stiffness = secant_update(stiffness, step, before, now, basis)
        step = next_strain(now, stiffness, basis)
        assert np.linalg.norm(step) <= 0.02 + 1e-12
        strain, before = strain + step, now
    assert -voigt[0] * EV_PER_ANGSTROM3_GPA == pytest.approx(target, abs=0.01)


def test_noise_moves_no_cell():
    basis = np.eye(3)[None] / np.sqrt(3)
    quiet = ExcessStress(np.array([0.01]), np.array([0.02]))
    assert not next_strain(quiet, np.array([[1.0]]), basis).any()
    assert secant_update(np.array([[1.0]]), 0.01 * basis[0], quiet, quiet, basis) == 1.0
    assert quiet.z() < 1


def test_strain_keeps_fractions_and_force_constants(crystal):
    harmonic = crystal.harmonic()
    strain = np.array([[0.01, 0.002, 0], [0.002, -0.01, 0], [0, 0, 0.02]])
    moved = strained(harmonic, strain)
    assert np.array_equal(moved.matrices, harmonic.matrices)
    np.testing.assert_allclose(
        moved.primitive.get_scaled_positions(), harmonic.primitive.get_scaled_positions(), atol=1e-12
    )
    ratio = moved.primitive.get_volume() / harmonic.primitive.get_volume()
    assert ratio == pytest.approx(np.linalg.det(np.eye(3) + strain))


def test_relaxation_reaches_the_pressure_isotropically(relaxed):
    result = relaxed[0]
    assert result.converged, result.verdict
    assert "from the target" in result.verdict
    value, sigma = pressure_gpa(result.stress, result.stress_sigma)
    assert abs(value - 4.0) < 3 * sigma < 1.5
    along, across = (-result.stress[[2, 0]] * EV_PER_ANGSTROM3_GPA).tolist()
    assert abs(along - across) < 5 * sigma
    lengths = result.auxiliary.primitive.cell.lengths()
    assert lengths[0] == pytest.approx(lengths[1], abs=1e-9)
    assert result.auxiliary.primitive.get_volume() < 0.995 * result.populations[0].volume


def test_pressure_is_the_derivative_of_the_free_energy(relaxed, crystal, tmp_path):
    result, _, settings = relaxed
    fixed = dataclasses.replace(settings, pressure_gpa=None)
    energies, volumes = [], []
    for sign in (-1, 1):
        start = strained(result.auxiliary, sign * 0.008 * np.eye(3))
        found = run_sscha(start, crystal, fixed, tmp_path / str(sign))
        energies.append((found.free_energy + found.static_energy, found.free_energy_sigma))
        volumes.append(found.auxiliary.primitive.get_volume())
    slope = -(energies[1][0] - energies[0][0]) / (volumes[1] - volumes[0]) * EV_PER_ANGSTROM3_GPA
    error = np.hypot(energies[0][1], energies[1][1]) / (volumes[1] - volumes[0]) * EV_PER_ANGSTROM3_GPA
    value, sigma = pressure_gpa(result.stress, result.stress_sigma)
    assert error < 1.0
    assert abs(slope - value) < 2.5 * np.hypot(error, sigma)


def test_killed_and_resumed_ends_in_the_same_cell(relaxed, crystal, tmp_path):
    result, _, settings = relaxed
    calls = 0

    def killer(images):
        nonlocal calls
        calls += 1
        if calls == 12:
            raise Killed
        return crystal(images)

    with pytest.raises(Killed):
        run_sscha(crystal.harmonic(), killer, settings, tmp_path)
    again = run_sscha(crystal.harmonic(), crystal, settings, tmp_path, resume=True)
    assert again.as_dict() == result.as_dict()
    assert np.array_equal(again.auxiliary.matrices, result.auxiliary.matrices)
    assert load_result(tmp_path).as_dict() == result.as_dict()


def test_a_pressure_needs_stresses(crystal, tmp_path):
    settings = dataclasses.replace(SETTINGS, pressure_gpa=1.0, n_configurations=20)
    with pytest.raises(InputError, match="needs stresses"):
        run_sscha(crystal.harmonic(), HarmonicCrystal(crystal.harmonic()), settings, tmp_path)

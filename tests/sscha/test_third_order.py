"""Third-order constants against finite differences, the bubble against exact free energies."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.sscha.curvature.third_order import hessian_with_bubble, third_order
from himlip_ase.sscha.curvature.two_phonon import dynamic_propagator, static_propagator
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV

from .toy import DIMS, BondCrystal, HarmonicCrystal, cscl

HBAR = SQRT_EV_PER_ANGSTROM2_AMU_EV


@pytest.mark.parametrize("temperature", [0.0, 900.0])
@pytest.mark.parametrize("splitting", [0.0, 0.3])
def test_propagator_is_the_curvature_of_the_exact_scha_free_energy(temperature, splitting):
    """V = R x y g + harmonic: Φ(R) has no fluctuation of its own, so F(R) is the free energy of its modes."""
    springs, coupling = np.array([4.0, 4.0 + splitting]), 0.7

    def free_energy(r: float) -> float:
        matrix = np.diag(springs) + coupling * r * np.array([[0, 1], [1, 0]])
        energies = HBAR * np.sqrt(np.linalg.eigvalsh(matrix))
        total = energies.sum() / 2
        if temperature:
            thermal = KB_EV_PER_K * temperature
            total += thermal * np.log(1 - np.exp(-energies / thermal)).sum()
        return float(total)

    h = 0.02
    curvature = (free_energy(h) - 2 * free_energy(0) + free_energy(-h)) / h**2
    third = coupling * np.array([[0, 1], [1, 0]])
    energies = HBAR * np.sqrt(springs)
    bubble = (third**2 * static_propagator(energies[:, None], energies[None, :], temperature)).sum()
    assert bubble == pytest.approx(curvature, rel=1e-3)


@pytest.mark.parametrize("temperature", [0.0, 900.0])
def test_propagator_at_an_energy_tends_to_the_static_one_and_keeps_translations_out(temperature):
    first, second = np.array([0.1, 0.2, np.inf, 0.05]), np.array([0.15, 0.21, 0.1, np.inf])
    static = static_propagator(first, second, temperature)
    np.testing.assert_allclose(dynamic_propagator(first, second, temperature, 1e-7j), static, rtol=1e-9)
    assert (static[:2] < 0).all() and (static[2:] == 0).all()


def test_degenerate_modes_have_the_limit_of_close_ones():
    close = static_propagator(np.array(0.1), np.array(0.1 * (1 + 1e-4)), 600.0)
    assert static_propagator(np.array(0.1), np.array(0.1), 600.0) == pytest.approx(float(close), rel=2e-4)


def test_group_is_a_projection_that_keeps_symmetric_tensors():
    crystal = BondCrystal(cscl(), DIMS, [(6.0, -20.0, 120.0, -0.02), (2.0, 0, 0, 0.02), (1.0, 0, 0, 0)])
    harmonic = crystal.harmonic()
    group = SpaceGroup(harmonic)
    assert len(group.rotations) == 48 and not group.has_free_coordinates()
    np.testing.assert_allclose(group.matrices(harmonic.matrices), harmonic.matrices, atol=1e-6)
    compact = group.to_compact(harmonic.matrices)
    np.testing.assert_allclose(group.to_matrices(compact), harmonic.matrices, atol=1e-12)
    tensor = np.random.default_rng(0).normal(size=(6, 48, 48))
    once = group.third(tensor)
    np.testing.assert_allclose(group.third(once), once, atol=1e-12)
    assert np.linalg.norm(once) < 0.5 * np.linalg.norm(tensor)


def test_isotopes_break_the_symmetry():
    primitive = cscl()
    primitive.set_chemical_symbols("HH")
    harmonic = BondCrystal(primitive, DIMS, [(6.0, 0, 0, 0), (2.0, 0, 0, 0), (1.0, 0, 0, 0)]).harmonic()
    assert len(SpaceGroup(harmonic).rotations) == 96  # the cell is centred: both atoms are equal
    assert len(SpaceGroup(harmonic.with_masses([1.008, 2.014])).rotations) == 48


def test_narrow_gaussian_gives_the_third_derivatives():
    """Heavy atoms hardly move: the averages tend to derivatives at the ideal positions."""
    crystal = BondCrystal(cscl(), DIMS, [(6.0, -20.0, 0.0, -0.02), (2.0, -5.0, 0.0, 0.02), (1.0, 0, 0, 0)])
    start, _ = positive_definite_start(crystal.harmonic().with_masses({"S": 3e5, "H": 1e5}))
    distribution, group = HarmonicDistribution(start), SpaceGroup(start)
    ensemble = draw_ensemble(distribution, 2000, np.random.SeedSequence(1), crystal)
    found = third_order(distribution, ensemble, group)
    h, images = 3e-3, []
    for side in (1, -1):
        for atom in range(16):
            for axis in range(3):
                for sign in (1, -1):
                    image = crystal.ideal.copy()
                    image.positions[1, 0] += side * h
                    image.positions[atom, axis] += sign * h
                    images.append(image)
    forces = crystal(images).forces.reshape(2, 48, 2, 48)
    hessians = -(forces[:, :, 0] - forces[:, :, 1]) / (2 * h)
    exact = (hessians[0] - hessians[1]) / (2 * h)
    assert np.abs(exact).max() > 5
    assert np.abs(found[3] - exact).max() < 0.05 * np.abs(exact).max()


def test_harmonic_forces_leave_no_bubble():
    harmonic = BondCrystal(cscl(), DIMS, [(6.0, 0, 0, 0), (2.0, 0, 0, 0), (1.0, 0, 0, 0)]).harmonic()
    start, _ = positive_definite_start(harmonic)
    distribution, group = HarmonicDistribution(start, 300.0), SpaceGroup(start)
    ensemble = draw_ensemble(distribution, 40, np.random.SeedSequence(1), HarmonicCrystal(start))
    hessian = hessian_with_bubble(distribution, third_order(distribution, ensemble, group), group)
    np.testing.assert_allclose(hessian.matrices, start.matrices, atol=1e-9)

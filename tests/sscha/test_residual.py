"""The self-consistency residual against finite differences of exact averages, and the ensemble's watch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.convergence.residual import residual
from himlip_ase.sscha.ensembles.distances import shortest_distance
from himlip_ase.sscha.ensembles.evaluation import checked
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import FLOOR_CM, positive_definite_start

from .toy import DIMS, MILD, BondCrystal, HarmonicCrystal, cscl

PLAIN = SimpleNamespace(matrices=lambda blocks: blocks, vectors=lambda values: values)


@pytest.fixture(scope="module")
def harmonic() -> DynamicalMatrices:
    return BondCrystal(cscl(), DIMS, MILD).harmonic()


def scaled(dynamical: DynamicalMatrices, factor: float) -> DynamicalMatrices:
    return DynamicalMatrices(
        dynamical.primitive, dynamical.dims, dynamical.qpoints, factor * dynamical.matrices
    )


@pytest.mark.parametrize("temperature", [0.0, 500.0])
def test_zero_in_a_harmonic_crystal(harmonic, temperature):
    distribution = HarmonicDistribution(harmonic, temperature)
    ensemble = draw_ensemble(distribution, 80, np.random.SeedSequence(1), HarmonicCrystal(harmonic))
    found = residual(distribution, ensemble, PLAIN, n_blocks=4)
    assert np.abs(found.shifts_cm).max() < 1e-6
    assert np.abs(found.force).max() < 1e-10


def test_recovers_the_true_force_constants_of_a_harmonic_crystal(harmonic):
    """With auxiliary 0.9 Φ the residual is the missing 0.1 Φ within its own error."""
    start = scaled(harmonic, 0.9)
    distribution = HarmonicDistribution(start)
    n = 4000
    ensemble = draw_ensemble(distribution, n, np.random.SeedSequence(2), HarmonicCrystal(harmonic))
    found = residual(distribution, ensemble, PLAIN, n_blocks=20)
    exact = start.frequencies() * 0.1 / 0.9 / 2
    exact[0, :3] = 0
    moved = found.sigma_cm > 0
    z = ((found.shifts_cm - exact) / np.where(moved, found.sigma_cm, 1))[moved]
    assert 0.6 < np.sqrt((z**2).mean()) < 1.4
    assert np.abs(found.shifts_cm - exact).max() < 0.2 * exact.max()


def test_start_is_positive_and_says_what_it_changed():
    crystal = BondCrystal(cscl(), DIMS, [(-2.0, 0.0, 400.0, 0.0), (3.0, 0.0, 0.0, 0.0), (2.0, 0.0, 0.0, 0.0)])
    harmonic = crystal.harmonic()
    imaginary = (harmonic.frequencies() < -1).sum()
    assert imaginary > 0
    start, changed = positive_definite_start(harmonic)
    assert (changed[:, 3] < -1).sum() == imaginary
    HarmonicDistribution(start)
    before, after = np.sort(np.abs(harmonic.frequencies()), axis=1), start.frequencies()
    kept = before > FLOOR_CM
    np.testing.assert_allclose(after[kept], before[kept], rtol=1e-6)
    again, unchanged = positive_definite_start(start)
    np.testing.assert_allclose(again.matrices, start.matrices, atol=1e-8)
    assert len(unchanged) == 0


def test_shortest_distance_sees_periodic_images():
    ideal = Atoms("H2", positions=[[0, 0, 0], [0, 0, 2.0]], cell=[3, 3, 4], pbc=True)
    still = np.zeros((2, 2, 3))
    assert shortest_distance(ideal, still) == pytest.approx(2.0)
    still[1, 0, 2] = -0.7  # towards the image of its neighbour below
    assert shortest_distance(ideal, still) == pytest.approx(1.3)


def test_bad_evaluations_are_refused(harmonic):
    images = [harmonic.primitive.repeat(DIMS)] * 3
    crystal = HarmonicCrystal(harmonic)
    good = crystal(images)
    good.forces = good.forces[:2]
    with pytest.raises(InputError, match="forces"):
        checked(good, images)
    broken = crystal(images)
    broken.energies = broken.energies + np.array([0, np.nan, 0])
    with pytest.raises(CalculationError, match="1 of 3"):
        checked(broken, images)
    wrong = crystal(images)
    wrong.stresses = np.zeros((3, 3, 3))
    with pytest.raises(InputError, match="Voigt"):
        checked(wrong, images)

"""The native minimisers: exact SCHA of small systems, one minimum by all ways, endings with their reasons."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.choices import MINIMISERS
from himlip_ase.sscha.convergence.residual import residual
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import MinimisationProblem
from himlip_ase.sscha.minimisation.engines import engine
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup

from .crystals import CRYSTALS, random_matrices
from .oscillators import Oscillator, shift_of, spring_of
from .toy import DIMS, MILD, BondCrystal, HarmonicCrystal, cscl

SETTINGS = SschaSettings(n_configurations=40, n_hessian_configurations=0, n_blocks=4)
TIGHT = dataclasses.replace(SETTINGS, meaningful_factor=1e-7, kong_liu=1e-3)
QUARTIC, CUBIC = Oscillator(8.0, 0.0, 20.0), Oscillator(12.0, -9.0, 12.0)


@pytest.fixture(scope="module")
def crystal() -> BondCrystal:
    return BondCrystal(cscl(), DIMS, MILD)


@pytest.fixture(scope="module")
def start(crystal) -> DynamicalMatrices:
    return positive_definite_start(crystal.harmonic())[0]


@pytest.fixture(scope="module")
def ensemble(crystal, start):
    return draw_ensemble(HarmonicDistribution(start), 200, np.random.SeedSequence(5), crystal)


@pytest.mark.parametrize(
    ("name", "minimiser"),
    [
        ("cubic, complex q", "anderson"),
        ("hexagonal", "descent"),
        ("no symmetry", "root-descent"),
        ("one atom", "anderson"),
        ("one cell", "anderson"),
    ],
)
def test_harmonic_crystal_is_left_as_it_is(name, minimiser):
    dynamical = random_matrices(*CRYSTALS[name])
    drawn = HarmonicDistribution(dynamical, 200.0)
    cells = int(np.prod(dynamical.dims))
    ensemble = draw_ensemble(drawn, 40, np.random.SeedSequence(1), HarmonicCrystal(dynamical, -2.0 * cells))
    problem = MinimisationProblem(ensemble, SpaceGroup(dynamical), SETTINGS, static_energy=-2.0)
    found = engine("native", minimiser).minimise(problem)
    assert found.ended == "gradient" and len(found.free_energy) == 1
    assert found.free_energy[0] == pytest.approx(drawn.free_energy(), abs=1e-9)
    np.testing.assert_allclose(found.auxiliary.matrices, dynamical.matrices, atol=1e-9)
    np.testing.assert_allclose(found.auxiliary.primitive.positions, dynamical.primitive.positions, atol=1e-9)
    assert found.frequencies.shape == (1, 3 * cells * len(dynamical.primitive))


@pytest.mark.parametrize("minimiser", MINIMISERS.names())
@pytest.mark.parametrize("temperature", [0.0, 400.0])
@pytest.mark.parametrize("oscillator", [QUARTIC, CUBIC], ids=["quartic", "cubic"])
def test_exact_scha_of_an_oscillator(oscillator, temperature, minimiser):
    """With averages that are exact where the points were drawn, the minimum is that of the analytic SCHA."""
    spring, shift, free_energy = oscillator.scha(temperature)
    assert abs(spring / oscillator.k - 1) > 0.02
    assert (abs(shift) > 0.01) == (oscillator.g != 0)
    auxiliary = oscillator.start()
    settings = dataclasses.replace(TIGHT, max_steps=8, step=0.5)
    for _ in range(14):  # ever fresh points: reweighted ones are exact no more
        drawn = HarmonicDistribution(auxiliary, temperature)
        ensemble = oscillator.quadrature(drawn)
        found = engine("native", minimiser).minimise(
            MinimisationProblem(ensemble, SpaceGroup(auxiliary), settings)
        )
        auxiliary = found.auxiliary
    np.testing.assert_allclose(spring_of(auxiliary), spring, rtol=1e-6)
    np.testing.assert_allclose(shift_of(auxiliary, oscillator), shift, atol=1e-6)
    assert found.free_energy[0] == pytest.approx(free_energy, abs=1e-8)


@pytest.mark.parametrize("oscillator", [QUARTIC, CUBIC], ids=["quartic", "cubic"])
def test_exact_scha_within_the_error_of_random_ensembles(oscillator):
    spring, shift, free_energy = oscillator.scha(100.0)
    auxiliary = oscillator.start()
    for population in range(4):
        drawn = HarmonicDistribution(auxiliary, 100.0)
        ensemble = draw_ensemble(drawn, 2000, np.random.SeedSequence(population), oscillator)
        found = engine().minimise(MinimisationProblem(ensemble, SpaceGroup(auxiliary), SETTINGS))
        auxiliary = found.auxiliary
    assert found.ended == "gradient"
    assert abs(found.free_energy[-1] - free_energy) < 4 * found.free_energy_sigma[-1]
    springs = spring_of(auxiliary)
    assert np.abs(springs - spring).max() < 0.03 * spring
    assert np.abs(shift_of(auxiliary, oscillator) - shift).max() < 0.01


def test_all_ways_find_the_same_minimum_and_the_default_needs_fewest_steps(start, ensemble):
    group = SpaceGroup(start)
    calls = {}
    found = {}
    for minimiser in MINIMISERS.names():
        made: list[int] = []
        found[minimiser] = engine("native", minimiser).minimise(
            MinimisationProblem(ensemble, group, SETTINGS), made.append
        )
        assert made == list(range(1, len(made) + 1))
        calls[minimiser] = len(made)
    reference = found["anderson"]
    for other in found.values():
        assert other.ended == "gradient"
        assert other.gradient[-1] < 2e-3 * other.gradient_sigma[-1]
        assert other.free_energy[-1] == pytest.approx(reference.free_energy[-1], abs=1e-7)
        np.testing.assert_allclose(
            other.auxiliary.frequencies(), reference.auxiliary.frequencies(), atol=0.05
        )
    assert calls["anderson"] < min(calls["descent"], calls["root-descent"])
    assert found["descent"].free_energy[0] > reference.free_energy[-1]
    after = residual(HarmonicDistribution(reference.auxiliary), ensemble, group, 4, reference.weights)
    assert np.abs(after.shifts_cm).max() < 0.05


@pytest.mark.parametrize("minimiser", MINIMISERS.names())
def test_fault_39_an_ensemble_is_not_asked_for_more_than_it_carries(crystal, minimiser):
    """From a start far too stiff: the end still has the Kong-Liu ratio wanted, and a lower free energy."""
    harmonic = positive_definite_start(crystal.harmonic())[0]
    stiff = DynamicalMatrices(harmonic.primitive, DIMS, harmonic.qpoints, 3 * harmonic.matrices)
    drawn = HarmonicDistribution(stiff)
    ensemble = draw_ensemble(drawn, 200, np.random.SeedSequence(5), crystal)
    found = engine("native", minimiser).minimise(MinimisationProblem(ensemble, SpaceGroup(stiff), SETTINGS))
    assert found.ended == "kong-liu"
    assert "Kong-Liu" in found.reason
    assert 0.5 <= found.kong_liu[-1] < 0.75
    weights = found.weights
    assert weights.sum() ** 2 / (weights**2).sum() / 200 == pytest.approx(found.kong_liu[-1])
    assert found.free_energy[-1] < found.free_energy[0] - 0.01
    assert found.auxiliary.frequencies().sum() < stiff.frequencies().sum()


@pytest.mark.parametrize("minimiser", MINIMISERS.names())
def test_limit_of_steps(start, ensemble, minimiser):
    settings = dataclasses.replace(TIGHT, max_steps=2, meaningful_factor=1e-12)
    found = engine("native", minimiser).minimise(MinimisationProblem(ensemble, SpaceGroup(start), settings))
    assert found.ended == "steps" and "2 steps" in found.reason


@pytest.mark.parametrize("minimiser", ["anderson", "descent"])
def test_steps_that_would_turn_a_mode_imaginary_are_shortened(crystal, minimiser):
    """Forces of an inverted crystal ask for negative force constants: refused, not taken."""
    start = positive_definite_start(crystal.harmonic())[0]
    inverted = DynamicalMatrices(start.primitive, DIMS, start.qpoints, -2.0 * start.matrices)
    drawn = HarmonicDistribution(start)
    ensemble = draw_ensemble(drawn, 200, np.random.SeedSequence(5), HarmonicCrystal(inverted))
    settings = dataclasses.replace(TIGHT, kong_liu=1e-6, max_steps=60)
    found = engine("native", minimiser).minimise(MinimisationProblem(ensemble, SpaceGroup(start), settings))
    assert found.ended != "gradient"
    assert np.delete(found.auxiliary.frequencies().ravel(), [0, 1, 2]).min() > 0


def shifted_truth(primitive, dims) -> DynamicalMatrices:
    """Other force constants around positions that the group allows and the start does not know."""
    other = random_matrices(primitive, dims, seed=2, spread=0.2)
    group = SpaceGroup(other)
    moves = group.vectors(np.random.default_rng(0).normal(scale=0.01, size=primitive.positions.shape))
    moved = primitive.copy()
    moved.positions += moves - primitive.get_masses() @ moves / primitive.get_masses().sum()
    return DynamicalMatrices(moved, dims, other.qpoints, other.matrices)


@pytest.mark.parametrize("temperature", [0.0, 300.0])
@pytest.mark.parametrize(
    ("name", "minimiser"),
    [
        ("hexagonal", "anderson"),
        ("hexagonal", "descent"),
        ("no symmetry", "anderson"),
        ("one atom", "root-descent"),
        ("grid breaks the symmetry", "anderson"),
    ],
)
def test_a_harmonic_crystal_is_found_from_elsewhere(name, minimiser, temperature):
    """Whatever the noise: f + Φu vanishes for each configuration at the true Φ and positions."""
    primitive, dims = CRYSTALS[name]
    truth = shifted_truth(primitive, dims)
    drawn = HarmonicDistribution(random_matrices(primitive, dims, seed=1, spread=0.2), temperature)
    ensemble = draw_ensemble(drawn, 400, np.random.SeedSequence(0), HarmonicCrystal(truth, 0.0))
    group = SpaceGroup(drawn.dynamical)
    settings = dataclasses.replace(SETTINGS, kong_liu=0.01)
    found = engine("native", minimiser).minimise(MinimisationProblem(ensemble, group, settings))
    assert found.ended == "gradient" and found.kong_liu[-1] < 0.999
    assert found.shift[-1] <= max(1e-7, 1e-3 * found.shift_sigma[-1])
    distance = np.linalg.norm(truth.primitive.positions - primitive.positions)
    assert distance / 2 - 1e-7 < found.shift[0] < 2 * distance + 1e-7  # by springs not quite the true ones
    np.testing.assert_allclose(found.auxiliary.matrices, truth.matrices, atol=1e-4)
    positions = found.auxiliary.primitive.positions
    np.testing.assert_allclose(positions, truth.primitive.positions, atol=1e-6)
    exact = HarmonicDistribution(truth, temperature).free_energy()
    assert found.free_energy[-1] == pytest.approx(exact, abs=1e-7)


def test_symmetry_and_translations_are_kept_exactly():
    primitive, dims = CRYSTALS["hexagonal"]
    begun = random_matrices(primitive, dims, seed=1, spread=0.2)
    truth = HarmonicCrystal(random_matrices(primitive, dims, seed=2, spread=0.2), 0.0)
    drawn = HarmonicDistribution(begun)
    group = SpaceGroup(begun)
    ensemble = draw_ensemble(drawn, 200, np.random.SeedSequence(0), truth)
    found = engine().minimise(MinimisationProblem(ensemble, group, SETTINGS)).auxiliary
    assert np.abs(found.matrices - begun.matrices).max() > 0.1
    np.testing.assert_allclose(group.matrices(found.matrices), found.matrices, atol=1e-10)
    assert found.acoustic_sum_rule_violation() < 1e-10
    assert found.time_reversal_violation() < 1e-12
    moved = found.primitive.positions - primitive.positions
    np.testing.assert_allclose(group.vectors(moved), moved, atol=1e-12)
    assert np.abs(primitive.get_masses() @ moved).max() < 1e-10


def test_a_start_apart_from_the_draw(start, ensemble):
    """The minimum does not depend on where on the ensemble the minimisation starts."""
    group = SpaceGroup(start)
    other = DynamicalMatrices(start.primitive, DIMS, start.qpoints, 1.05 * start.matrices)
    first = engine().minimise(MinimisationProblem(ensemble, group, SETTINGS))
    second = engine().minimise(
        MinimisationProblem(ensemble, group, SETTINGS, start=HarmonicDistribution(other))
    )
    assert second.kong_liu[0] < 1.0
    np.testing.assert_allclose(second.auxiliary.frequencies(), first.auxiliary.frequencies(), atol=0.05)
    same = engine().minimise(MinimisationProblem(ensemble, group, SETTINGS))
    np.testing.assert_array_equal(same.auxiliary.matrices, first.auxiliary.matrices)


def test_engines_and_minimisers_by_name(start):
    with pytest.raises(InputError, match="python-sscha"):
        engine("sscha")
    with pytest.raises(InputError, match="anderson"):
        engine("native", "newton")
    assert engine().name.startswith("himlip-ase")
    soft = DynamicalMatrices(start.primitive, DIMS, start.qpoints, -start.matrices)
    with pytest.raises((CalculationError, InputError), match="imaginary"):
        HarmonicDistribution(soft)

"""Free energy and gradients against finite differences, and against averages that can be done exactly."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.reweighting import weighted_mean
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.trial_gaussian import TrialGaussian
from himlip_ase.sscha.minimisation.basis import SymmetryBasis
from himlip_ase.sscha.minimisation.gradient import TrialAverages, free_energy_gradient
from himlip_ase.sscha.minimisation.native_engine import NativeEngine
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.symmetry import SpaceGroup

from .crystals import CRYSTALS, ensemble_of, random_blocks, random_matrices
from .toy import DIMS, MILD, BondCrystal, HarmonicCrystal, cscl


def averages(ensemble, target=None) -> TrialAverages:
    return TrialAverages(ensemble, TrialGaussian.of(target or ensemble.drawn_from, ensemble.fourier.grid))


def with_matrices(dynamical: DynamicalMatrices, matrices: np.ndarray) -> DynamicalMatrices:
    return DynamicalMatrices(dynamical.primitive, dynamical.dims, dynamical.qpoints, matrices)


def directional(gradient: np.ndarray, change: np.ndarray) -> float:
    """Σ_q Re tr(∂F/∂Φ† dΦ) per primitive cell."""
    return float(np.einsum("qij,qij->", gradient.conj(), change).real) / len(change)


@pytest.fixture(scope="module")
def crystal() -> BondCrystal:
    return BondCrystal(cscl(), DIMS, MILD)


@pytest.fixture(scope="module")
def start(crystal) -> DynamicalMatrices:
    return positive_definite_start(crystal.harmonic())[0]


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("temperature", [0.0, 300.0])
def test_harmonic_crystal(name, temperature):
    """Zero gradients, the exact free energy, no error."""
    dynamical = random_matrices(*CRYSTALS[name])
    drawn = HarmonicDistribution(dynamical, temperature)
    ensemble = draw_ensemble(drawn, 20, np.random.SeedSequence(1), HarmonicCrystal(dynamical, -2.0))
    found = averages(ensemble)
    value, sigma = found.free_energy()
    assert value == pytest.approx(drawn.free_energy() - 2.0 / found.ensemble.fourier.grid.cells, abs=1e-9)
    assert sigma < 1e-9
    assert found.ensemble.fourier.grid.norm(found.preconditioned_gradient()) < 1e-9
    assert np.abs(found.force()).max() < 1e-9
    np.testing.assert_allclose(found.weights, 1.0, rtol=1e-9)


def exact_covariance(drawn: HarmonicDistribution, crystal, n: int, seed: int):
    """Random opposite pairs whose sample covariance is that of the Gaussian, as a smooth function of it."""
    roots = np.repeat(np.sqrt(drawn.supercell.get_masses()), 3)
    values, vectors = np.linalg.eigh(drawn.covariance() * np.outer(roots, roots))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    noise, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n // 2, len(roots))))
    half = np.sqrt(n // 2) * noise @ root / roots
    points = np.stack([half, -half], axis=1).reshape(n, -1, 3)
    images = [drawn.supercell for _ in points]
    for image, point in zip(images, points, strict=True):
        image.positions += point
    found = crystal(images)
    return averages(ensemble_of(drawn, points, found.energies, found.forces))


@pytest.mark.parametrize("temperature", [0.0, 700.0])
@pytest.mark.parametrize("mode", [(0, 3), (0, 5), (3, 0), (7, 4)])
def test_derivative_along_a_mode(crystal, start, temperature, mode):
    """Of an anharmonic crystal, with the same noise at Φ ± h: difference quotient and gradient are one."""
    q, index = mode
    masses = np.repeat(np.sqrt(start.primitive.get_masses()), 3)
    vector = start.eigen()[1][q][:, index] * masses
    change = np.zeros_like(start.matrices)
    change[q] = np.outer(vector, vector.conj())

    def found_at(step: float) -> TrialAverages:
        drawn = HarmonicDistribution(with_matrices(start, start.matrices + step * change), temperature)
        return exact_covariance(drawn, crystal, 120, seed=4)

    h = 1e-4
    quotient = (found_at(h).free_energy()[0] - found_at(-h).free_energy()[0]) / (2 * h)
    found = found_at(0.0)
    gradient = free_energy_gradient(found.trial, found.preconditioned_gradient())
    exact = directional(found.ensemble.fourier.grid.join(gradient), change)
    assert abs(exact) > 1e-6
    assert quotient == pytest.approx(exact, rel=2e-5)


def test_derivative_with_respect_to_a_centroid(crystal, start):
    """The same for a shift of the sublattices against each other."""
    move = np.array([[0.0, 0, 0], [0.3, -0.1, 0.2]])

    def found_at(step: float) -> TrialAverages:
        primitive = start.primitive.copy()
        primitive.positions += 0.05 * move + step * move
        drawn = HarmonicDistribution(
            DynamicalMatrices(primitive, start.dims, start.qpoints, start.matrices), 300.0
        )
        return averages(draw_ensemble(drawn, 40, np.random.SeedSequence(4), crystal))

    h = 1e-3
    quotient = (found_at(h).free_energy()[0] - found_at(-h).free_energy()[0]) / (2 * h)
    exact = -float((found_at(0.0).force() * move).sum())
    assert abs(exact) > 1e-3
    assert quotient == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 400.0])
@pytest.mark.parametrize("name", ["no symmetry", "one atom", "hexagonal"])
def test_any_direction_on_a_quadratic_potential(name, temperature):
    """With points ±a_k of exact covariance, F = F_harm + ½tr(Ψ - Φ)A and its gradient hold exactly."""
    primitive, dims = CRYSTALS[name]
    true, auxiliary = random_matrices(primitive, dims, seed=1), random_matrices(primitive, dims, seed=2)

    def ensemble_at(dynamical: DynamicalMatrices):
        drawn = HarmonicDistribution(dynamical, temperature)
        values, vectors = np.linalg.eigh(drawn.covariance())
        points = (vectors * np.sqrt(np.clip(values, 0, None) * len(values))).T
        points = np.stack([points, -points], axis=1).reshape(2 * len(values), -1, 3)
        images = [drawn.supercell for _ in points]
        for image, point in zip(images, points, strict=True):
            image.positions += point
        found = HarmonicCrystal(true, 0.0)(images)
        return drawn, averages(ensemble_of(drawn, points, found.energies, found.forces))

    change = np.zeros_like(true.matrices) + SpaceGroup(true).matrices(random_blocks(primitive, dims, 5))

    def free_energy(step: float) -> float:
        return ensemble_at(with_matrices(auxiliary, auxiliary.matrices + step * change))[1].free_energy()[0]

    drawn, found = ensemble_at(auxiliary)
    kernel = drawn.covariance().reshape(-1)
    size = int(np.sqrt(len(kernel)))
    springs = [m.force_constants().hessian(order="ase").reshape(size, size) for m in (true, auxiliary)]
    exact = drawn.free_energy() + (springs[0] - springs[1]).ravel() @ kernel / 2 / len(true.qpoints)
    assert found.free_energy()[0] == pytest.approx(exact, rel=1e-11)
    gradient = found.preconditioned_gradient()
    np.testing.assert_allclose(
        found.ensemble.fourier.grid.join(gradient), auxiliary.matrices - true.matrices, atol=1e-9
    )
    h = 1e-3
    quotient = (free_energy(h) - free_energy(-h)) / (2 * h)
    slope = directional(found.ensemble.fourier.grid.join(free_energy_gradient(found.trial, gradient)), change)
    assert abs(slope) > 1e-7
    assert quotient == pytest.approx(slope, rel=1e-5)


def test_reweighting_reaches_other_force_constants_centroids_and_temperature(crystal, start):
    """A reweighted average agrees with a fresh ensemble within the errors."""
    primitive = start.primitive.copy()
    primitive.positions[1] += [0.01, 0.0, 0.0]
    there = DynamicalMatrices(primitive, start.dims, start.qpoints, 1.12 * start.matrices)
    here, target = HarmonicDistribution(start, 0.0), HarmonicDistribution(there, 200.0)
    n = 3000
    old = draw_ensemble(here, n, np.random.SeedSequence(1), crystal)
    new = draw_ensemble(target, n, np.random.SeedSequence(2), crystal)
    reweighted, fresh = averages(old, target), averages(new)
    assert 0.3 < reweighted.kong_liu < 0.95
    assert reweighted.weights.mean() == pytest.approx(1.0, abs=0.1)
    (a, sigma_a), (b, sigma_b) = reweighted.free_energy(), fresh.free_energy()
    assert abs(a - b) < 4 * np.hypot(sigma_a, sigma_b)
    blocks, shares = reweighted.gradient_blocks(20)
    grid = HalfGrid(DIMS)
    basis = SymmetryBasis(SpaceGroup(start), grid)
    ours = basis.coefficients(blocks)
    theirs = basis.coefficients(fresh.gradient_blocks(20)[0])
    spread = np.sqrt(ours.var(axis=0) * 20 + theirs.var(axis=0) * 20)
    z = (ours.sum(axis=0) - theirs.sum(axis=0)) / spread
    assert np.abs(z).max() < 4.5
    assert shares.sum() == pytest.approx(1.0)


def test_isotopes_are_reached_by_reweighting(crystal, start):
    """Weights know the masses: mean 1, and the covariance of the heavier crystal."""
    heavy = start.with_masses({"S": 34.0, "H": 1.15})
    here, target = HarmonicDistribution(start), HarmonicDistribution(heavy)
    ensemble = draw_ensemble(here, 4000, np.random.SeedSequence(1), crystal)
    found = averages(ensemble, target)
    assert found.weights.mean() == pytest.approx(1.0, abs=0.05)
    assert NativeEngine().kong_liu(ensemble, target) == found.kong_liu > 0.5
    hydrogen = ensemble.displacements[:, 1::2] - ensemble.displacements[:, ::2]
    squares = (hydrogen**2).sum(axis=2).mean(axis=1)
    mean, sigma = weighted_mean(squares, found.weights)
    cov = target.covariance().reshape(16, 3, 16, 3)
    trace = np.einsum("aibi->ab", cov)
    exact = np.mean([trace[i, i] + trace[i + 1, i + 1] - 2 * trace[i, i + 1] for i in range(0, 16, 2)])
    unweighted = squares.mean()
    assert abs(mean - exact) < 4 * sigma < abs(unweighted - exact)


def test_standard_errors_cover_the_truth(crystal, start):
    """Over 60 ensembles the deviations of F, of a force constant and of the stress are those quoted."""
    drawn, group, engine = HarmonicDistribution(start), SpaceGroup(start), NativeEngine()
    grid = HalfGrid(DIMS)
    basis = SymmetryBasis(group, grid)
    rows, errors = [], []
    for seed in range(60):
        ensemble = draw_ensemble(drawn, 60, np.random.SeedSequence(seed), crystal)
        found = averages(ensemble)
        value, sigma = found.free_energy()
        stress, stress_sigma = engine.stress(ensemble, group)
        parts = basis.coefficients(found.gradient_blocks(10)[0])
        rows.append([value, stress[0], parts.sum(axis=0)[4]])
        errors.append([sigma, stress_sigma[0], parts[:, 4].std(ddof=1) * np.sqrt(10)])
    spread, quoted = np.std(rows, axis=0, ddof=1), np.sqrt(np.mean(np.square(errors), axis=0))
    np.testing.assert_allclose(quoted / spread, 1.0, atol=0.25)

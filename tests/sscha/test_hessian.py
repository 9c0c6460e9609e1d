"""The free-energy Hessian against exact curvatures, whole tensors, python-sscha, and its own resampling."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from scipy.optimize import brentq

from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.convergence.residual import Residual
from himlip_ase.sscha.curvature.hessian import estimate_hessian, free_energy_hessian
from himlip_ase.sscha.curvature.third_order import hessian_with_bubble, third_order
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV

from .crystals import ensemble_of
from .explicit import explicit_hessian, tensors
from .oscillators import REDUCED_MASS, Oscillator
from .toy import MILD, BondCrystal, HarmonicCrystal, cscl

SKEW = Atoms(
    "SH",
    scaled_positions=[[0, 0, 0], [0.45, 0.5, 0.52]],
    cell=[[2.6, 0, 0], [0.2, 2.7, 0], [0.1, 0.3, 2.9]],
    pbc=True,
)
POLAR = Atoms("SH", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.45]], cell=[2.6, 2.6, 2.9], pbc=True)
CHAIN = Atoms("SHO", scaled_positions=[[0, 0, 0], [0, 0, 0.3], [0, 0, 0.55]], cell=[2.7, 2.7, 4.0], pbc=True)
CASES = {
    "cubic": (cscl(), (2, 1, 1)),
    "cubic, complex q": (cscl(), (3, 1, 1)),
    "no symmetry, complex q": (SKEW, (3, 1, 1)),
    "polar": (POLAR, (1, 1, 2)),
    "three atoms": (CHAIN, (1, 1, 1)),
}


def drawn(primitive, dims, temperature, n, seed=3, shells=MILD):
    """Auxiliary (the harmonic start), group and an ensemble of a crystal of bonds."""
    crystal = BondCrystal(primitive, dims, shells)
    distribution = HarmonicDistribution(positive_definite_start(crystal.harmonic())[0], temperature)
    ensemble = draw_ensemble(distribution, n, np.random.SeedSequence(seed), crystal)
    return distribution, ensemble, SpaceGroup(distribution.dynamical)


def deviation(found, exact, distribution) -> float:
    """Largest difference over the largest change from the auxiliary."""
    change = exact.matrices - distribution.dynamical.matrices
    return float(np.abs(found.matrices - exact.matrices).max() / np.abs(change).max())


@pytest.mark.parametrize("temperature", [0.0, 900.0])
@pytest.mark.parametrize("case", CASES)
def test_matrix_free_is_the_dense_solution_with_whole_tensors(case, temperature):
    distribution, ensemble, group = drawn(*CASES[case], temperature, 400)
    for subtract in (False, True):
        exact = explicit_hessian(distribution, *tensors(distribution, ensemble, group, subtract))
        found = free_energy_hessian(distribution, ensemble, group, subtract_response=subtract)
        assert deviation(found, exact, distribution) < 1e-8


@pytest.mark.parametrize("dims", [(2, 2, 2), (3, 2, 1)])
def test_third_order_alone_is_the_bubble_of_the_real_space_tensor(dims):
    distribution, ensemble, group = drawn(cscl(), dims, 300.0, 60)
    exact = hessian_with_bubble(distribution, third_order(distribution, ensemble, group), group)
    found = free_energy_hessian(distribution, ensemble, group, fourth=False)
    assert deviation(found, exact, distribution) < 1e-12


def test_harmonic_crystal_has_its_force_constants_as_hessian():
    harmonic = BondCrystal(cscl(), (2, 2, 2), [(6.0, 0, 0, 0), (2.0, 0, 0, 0), (1.0, 0, 0, 0)]).harmonic()
    start, _ = positive_definite_start(harmonic)
    distribution, group = HarmonicDistribution(start, 300.0), SpaceGroup(start)
    ensemble = draw_ensemble(distribution, 40, np.random.SeedSequence(1), HarmonicCrystal(start))
    found = estimate_hessian(distribution, ensemble, None, group, fourth=True)
    np.testing.assert_allclose(found.hessian.matrices, start.matrices, atol=1e-10)
    assert found.sigma_cm.max() < 1e-4 and found.positive


class Axis:
    """Exact SCHA of V = ½k x² + g x³ + λ x⁴ at a fixed centroid."""

    def __init__(self, oscillator: Oscillator, temperature_k: float) -> None:
        self.oscillator, self.temperature_k = oscillator, temperature_k

    def spread(self, spring: float) -> float:
        energy = np.sqrt(spring / REDUCED_MASS) * SQRT_EV_PER_ANGSTROM2_AMU_EV
        coth = 1.0
        if self.temperature_k:
            coth = 1 / np.tanh(energy / (2 * KB_EV_PER_K * self.temperature_k))
        return SQRT_EV_PER_ANGSTROM2_AMU_EV**2 / (2 * energy * REDUCED_MASS) * coth

    def spring(self, r: float) -> float:
        """The self-consistent one: ⟨V''⟩."""
        o = self.oscillator

        def excess(k: float) -> float:
            return k - (o.k + 6 * o.g * r + 12 * o.quartic * (r**2 + self.spread(k)))

        return brentq(excess, 0.1, 100 * o.k, xtol=1e-14)

    def force(self, r: float) -> float:
        """dF/dR = ⟨V'⟩ at the self-consistent spring, whose own change costs nothing."""
        o, sigma = self.oscillator, self.spread(self.spring(r))
        return o.k * r + 3 * o.g * (r**2 + sigma) + 4 * o.quartic * (r**3 + 3 * r * sigma)


@pytest.mark.parametrize("temperature", [0.0, 700.0])
@pytest.mark.parametrize("r", [0.0, -0.05])
def test_curvature_of_the_exact_scha_free_energy(temperature, r):
    """By exact quadrature, on a centroid that is no equilibrium: d²F/dR² with the response of Φ to R."""
    oscillator = Oscillator(k=4.0, g=-6.0, quartic=30.0)
    axis, h = Axis(oscillator, temperature), 1e-4
    exact = (axis.force(r + h) - axis.force(r - h)) / (2 * h)
    start = oscillator.start(axis.spring(r))
    start.primitive.positions[1] += r
    distribution = HarmonicDistribution(start, temperature)
    levels, shares = np.polynomial.hermite_e.hermegauss(6)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.prod(np.stack(np.meshgrid(shares, shares, shares, indexing="ij"), axis=-1), axis=-1).ravel()
    values, vectors = np.linalg.eigh(distribution.covariance())
    moved = (grid @ (vectors[:, 3:] * np.sqrt(values[3:])).T).reshape(-1, 2, 3)
    images = [distribution.supercell for _ in moved]
    for image, displacement in zip(images, moved, strict=True):
        image.positions += displacement
    found = oscillator(images)
    ensemble = ensemble_of(distribution, moved, found.energies, found.forces)
    group = SpaceGroup(start)
    whole = free_energy_hessian(distribution, ensemble, group, weights=weights)
    third = free_energy_hessian(distribution, ensemble, group, fourth=False, weights=weights)
    np.testing.assert_allclose(np.diag(whole.matrices[0].real), exact, rtol=1e-6)
    correction = abs(axis.spring(r) - exact)
    assert abs(third.matrices[0, 0, 0].real - exact) > 0.03 * correction > 1e-3


@pytest.mark.parametrize("fourth", [pytest.param(False, marks=pytest.mark.slow), True])
def test_bootstrap_without_solves_agrees_with_recomputed_hessians(fourth):
    n, resamples = 400, 40
    distribution, ensemble, group = drawn(POLAR, (1, 1, 2), 300.0, n)
    found = estimate_hessian(distribution, ensemble, None, group, fourth=fourth)
    generator = np.random.default_rng(1)
    again = []
    for _ in range(resamples):
        pairs = generator.integers(0, n // 2, n // 2)
        part = ensemble.part((2 * pairs[:, None] + [0, 1]).ravel())
        again.append(free_energy_hessian(distribution, part, group, fourth=fourth).frequencies())
    moving = found.sigma_cm > 1e-3
    ratios = np.std(again, axis=0)[moving] / found.sigma_cm[moving]
    assert moving.sum() == 9  # all but the translations
    assert 0.8 < ratios.mean() < 1.2
    assert (np.abs(ratios - 1) < 5 / np.sqrt(2 * resamples)).all()


@pytest.mark.parametrize("fourth", [pytest.param(False, marks=pytest.mark.slow), True])
def test_bias_is_what_more_configurations_take_away(fourth):
    """Mean over parts of a large ensemble against the whole of it."""
    n, parts = 60, 60
    distribution, ensemble, group = drawn(SKEW, (1, 1, 1), 0.0, 6000, seed=5)
    reference = free_energy_hessian(distribution, ensemble, group, fourth=fourth).frequencies()
    off, quoted = 0.0, 0.0
    for start in range(0, n * parts, n):
        part = ensemble.part(np.arange(start, start + n))
        found = estimate_hessian(distribution, part, None, group, fourth=fourth)
        off += (found.hessian.frequencies() - reference)[0, 3:].sum() / parts
        quoted += found.bias_cm[0, 3:].sum() / parts
    assert off < -20  # cm⁻¹: there is a bias to see
    assert quoted == pytest.approx(off, rel=0.35)


def test_noise_of_the_auxiliary_joins_the_error():
    distribution, ensemble, group = drawn(cscl(), (2, 1, 1), 0.0, 100)
    nothing = np.zeros(0)
    scale = distribution.dynamical.matrices
    blocks = scale * np.array([0.9, 1.1, 0.95, 1.05])[:, None, None, None]
    in_sample = Residual(nothing, nothing, blocks, nothing, nothing)
    without = estimate_hessian(distribution, ensemble, None, group)
    found = estimate_hessian(distribution, ensemble, in_sample, group)
    share = np.std([0.9, 1.1, 0.95, 1.05], ddof=1) / 2  # relative error of Φ
    expected = np.hypot(without.sigma_cm, distribution.dynamical.frequencies() * share / 2)
    np.testing.assert_allclose(found.sigma_cm[0, 3:], expected[0, 3:], rtol=0.25)


def test_an_auxiliary_that_is_no_minimum_is_solved_and_reported():
    """1 - Φ⁴Λ is indefinite where the quartic term is strongly negative."""
    oscillator = Oscillator(k=4.0, g=-4.0, quartic=-60.0)
    start = oscillator.start()
    distribution = HarmonicDistribution(start)
    ensemble = draw_ensemble(distribution, 4000, np.random.SeedSequence(1), oscillator)
    group = SpaceGroup(start)
    found = estimate_hessian(distribution, ensemble, None, group, fourth=True)
    assert not found.positive and found.residual < 1e-6
    exact = explicit_hessian(distribution, *tensors(distribution, ensemble, group, True))
    assert deviation(found.hessian, exact, distribution) < 1e-5


def test_weights_replace_repeated_configurations():
    distribution, ensemble, group = drawn(POLAR, (1, 1, 2), 0.0, 60)
    counts = np.repeat(np.random.default_rng(0).integers(0, 3, 30), 2)
    weighted = free_energy_hessian(distribution, ensemble, group, weights=counts.astype(float))
    repeated = ensemble.part(np.repeat(np.arange(60), counts))
    np.testing.assert_allclose(
        weighted.matrices, free_energy_hessian(distribution, repeated, group).matrices, atol=1e-8
    )


def test_a_uniform_acceleration_changes_nothing():
    distribution, ensemble, group = drawn(cscl(), (2, 1, 1), 0.0, 60)
    masses = distribution.supercell.get_masses()[:, None]
    pushed = dataclasses.replace(ensemble, forces=ensemble.forces + masses * np.array([0.3, -0.1, 0.2]))
    before = free_energy_hessian(distribution, ensemble, group)
    after = free_energy_hessian(distribution, pushed, group)
    np.testing.assert_allclose(after.matrices, before.matrices, atol=1e-8)


@pytest.mark.peer
@pytest.mark.parametrize("temperature", [0.0, 900.0])
@pytest.mark.parametrize(
    "case",
    [(cscl(2.6, 2.9), (1, 1, 2)), (POLAR, (1, 1, 2)), (SKEW, (1, 1, 1))],
    ids=["cubic", "polar", "skew"],
)
def test_third_and_fourth_order_equal_python_ssschas(case, temperature):
    pytest.importorskip("sscha")
    from himlip_ase.phonons.cellconstructor import from_cellconstructor
    from himlip_ase.sscha.minimisation import python_sscha

    distribution, ensemble, group = drawn(*case, temperature, 2000)
    peer = python_sscha.build_ensemble(ensemble)
    with python_sscha._quiet():
        theirs = peer.get_free_energy_hessian(include_v4=True, use_symmetries=True)
        theirs.Symmetrize()
    ours = free_energy_hessian(distribution, ensemble, group, subtract_response=False)
    third = free_energy_hessian(distribution, ensemble, group, fourth=False)
    exact = from_cellconstructor(theirs)
    scale = np.abs(exact.matrices).max()
    assert np.abs(ours.matrices - exact.matrices).max() < 1e-6 * scale
    assert deviation(ours, exact, distribution) < 1e-5  # of the correction; constants differ at 1e-6
    assert (
        np.abs(third.matrices - exact.matrices).max()
        > 1e-3 * np.abs(exact.matrices - distribution.dynamical.matrices).max()
    )


@pytest.mark.slow
@pytest.mark.parametrize("fourth", [False, True])
def test_one_sigma_covers_the_reference(fourth):
    """48 ensembles of one auxiliary; frequencies of one irreducible multiplet count once."""
    parts = drawn(cscl(), (2, 2, 1), 0.0, 16000, seed=1000)
    reference = free_energy_hessian(*parts, fourth=fourth).frequencies()
    inside = []
    for seed in range(48):
        distribution, ensemble, group = drawn(cscl(), (2, 2, 1), 0.0, 400, seed=seed)
        found = estimate_hessian(distribution, ensemble, None, group, fourth=fourth, seed=seed)
        z = (found.hessian.frequencies() - found.bias_cm - reference) / np.where(
            found.sigma_cm > 1e-6, found.sigma_cm, np.inf
        )
        inside.append(np.abs(z[found.sigma_cm > 1e-6]) < 1)
    assert np.mean(inside) == pytest.approx(0.68, abs=0.10)


def moved_target(distribution: HarmonicDistribution, group: SpaceGroup) -> HarmonicDistribution:
    """A Gaussian around other centroids, as the group allows, with stiffer springs."""
    dynamical = distribution.dynamical
    primitive = dynamical.primitive.copy()
    moves = group.vectors(np.random.default_rng(1).normal(size=primitive.positions.shape))
    moves -= moves.mean(axis=0)
    primitive.positions += 0.02 * moves / np.abs(moves).max()
    matrices = 1.05 * dynamical.matrices
    moved = DynamicalMatrices(primitive, dynamical.dims, dynamical.qpoints, matrices)
    return HarmonicDistribution(moved, distribution.temperature_k)


@pytest.mark.peer
@pytest.mark.parametrize("fourth", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 300.0])
@pytest.mark.parametrize("case", [(POLAR, (1, 1, 2)), (SKEW, (1, 1, 1))], ids=["polar", "skew"])
def test_reweighted_to_moved_centroids_it_equals_python_sschas(case, temperature, fourth):
    """Displacements are counted from the centroids of the auxiliary, not from those of the draw."""
    pytest.importorskip("sscha")
    from himlip_ase.phonons.cellconstructor import from_cellconstructor
    from himlip_ase.sscha.minimisation import python_sscha

    distribution, ensemble, group = drawn(*case, temperature, 1000)
    target = moved_target(distribution, group)
    peer = python_sscha.build_ensemble(ensemble, target)
    with python_sscha._quiet():
        theirs = peer.get_free_energy_hessian(include_v4=fourth, use_symmetries=True)
        theirs.Symmetrize()
    exact = from_cellconstructor(theirs)
    ours = free_energy_hessian(target, ensemble, group, fourth=fourth, subtract_response=False)
    assert deviation(ours, exact, target) < 2e-4  # of the correction; k_B differs at 5e-4
    old_places = dataclasses.replace(ensemble, drawn_from=target)
    weights = ensemble.weights(target)
    wrong = free_energy_hessian(
        target, old_places, group, fourth=fourth, subtract_response=False, weights=weights
    )
    assert deviation(wrong, exact, target) > 0.03  # a hundred times that


@pytest.mark.parametrize("fourth", [False, True])
def test_reweighted_and_fresh_agree_within_their_errors(fourth):
    distribution, ensemble, group = drawn(POLAR, (1, 1, 2), 300.0, 4000)
    target = moved_target(distribution, group)
    crystal = BondCrystal(POLAR, (1, 1, 2), MILD)
    fresh = draw_ensemble(target, 4000, np.random.SeedSequence(8), crystal)
    one, two = (estimate_hessian(target, source, None, group, fourth=fourth) for source in (ensemble, fresh))
    sigma = np.hypot(one.sigma_cm, two.sigma_cm)
    moving = sigma > 1e-3
    z = (one.hessian.frequencies() - two.hessian.frequencies())[moving] / sigma[moving]
    assert np.sqrt((z**2).mean()) < 2 and np.abs(z).max() < 4


@pytest.mark.parametrize("case", ["cubic, complex q", "polar"])
def test_opposites_that_are_joined_change_nothing(case):
    """The same configurations in another order have no neighbours that are opposites."""
    primitive, dims = CASES[case]
    distribution, ensemble, group = drawn(primitive, dims, 300.0, 200)
    mixed = ensemble.part(np.random.default_rng(0).permutation(200))
    for weights in (None, np.random.default_rng(1).uniform(0.5, 2, 200)):
        order = (
            np.lexsort(mixed.displacements.reshape(200, -1).T),
            np.lexsort(ensemble.displacements.reshape(200, -1).T),
        )
        other = None
        if weights is not None:
            other = np.empty(200)
            other[order[0]] = weights[order[1]]
        one = free_energy_hessian(distribution, ensemble, group, weights=weights)
        two = free_energy_hessian(distribution, mixed, group, weights=other)
        assert deviation(one, two, distribution) < 1e-9


def test_a_crystal_without_pairs_at_gamma_keeps_its_auxiliary_there():
    """One atom on a centre of inversion: no third order at q = 0, and nothing to solve."""
    cubic = Atoms("Cu", cell=[2.6, 2.6, 2.6], pbc=True)
    distribution, ensemble, group = drawn(cubic, (2, 2, 1), 300.0, 80)
    found = estimate_hessian(distribution, ensemble, None, group, 10, fourth=True)
    assert np.isfinite(found.hessian.frequencies()).all() and found.residual < 1e-6
    assert np.abs(found.hessian.frequencies()[0]).max() < 1e-2

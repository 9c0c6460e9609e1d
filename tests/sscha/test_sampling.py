"""The harmonic Gaussian against the dense supercell formula and against its own samples."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.sscha.ensembles.draws import draw_displacements, stream
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution, draw_configurations
from himlip_ase.units import KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV

DIMS = (2, 3, 2)


def random_crystal(soft: float = 0.0) -> tuple[SimpleNamespace, np.ndarray]:
    """A triclinic diatomic crystal with random positive, translation-invariant springs, and its Hessian."""
    generator = np.random.default_rng(0)
    primitive = Atoms(
        "SH", positions=[[0, 0, 0], [1, 1.1, 1.2]], cell=[[2, 0, 0], [0.3, 2.2, 0], [0.1, 0.2, 2.5]], pbc=True
    )
    cells = np.indices(DIMS).reshape(3, -1).T
    couplings = generator.normal(size=(*DIMS, 6, 6))
    relative = (cells[None] - cells[:, None]) % DIMS
    root = couplings[tuple(np.moveaxis(relative, -1, 0))].transpose(0, 2, 1, 3).reshape(72, 72)
    rigid = np.kron(np.ones((24, 1)), np.eye(3))
    root = root - root @ rigid @ rigid.T / 24
    hessian = root.T @ root - soft * (np.eye(72) - rigid @ rigid.T / 24)
    qpoints = np.array(list(itertools.product(*[np.arange(d) / d for d in DIMS])))
    blocks = hessian.reshape(12, 6, 12, 6)[0]
    matrices = np.einsum("qc,icj->qij", np.exp(2j * np.pi * qpoints @ cells.T), blocks)
    order = generator.permutation(12)
    shifted = qpoints[order] - generator.integers(0, 2, (12, 1))
    return SimpleNamespace(primitive=primitive, dims=DIMS, qpoints=shifted, matrices=matrices[order]), hessian


@pytest.mark.parametrize("temperature", [0.0, 800.0])
def test_covariance_and_energies_equal_the_dense_formula(temperature):
    dynamical, hessian = random_crystal()
    distribution = HarmonicDistribution(dynamical, temperature)
    root_masses = np.sqrt(np.repeat(distribution.supercell.get_masses(), 3))
    eigenvalues, vectors = np.linalg.eigh(hessian / np.outer(root_masses, root_masses))
    energies = np.sqrt(eigenvalues[3:]) * SQRT_EV_PER_ANGSTROM2_AMU_EV
    occupation = 1 / np.expm1(energies / (KB_EV_PER_K * temperature)) if temperature else np.zeros(69)
    variance = SQRT_EV_PER_ANGSTROM2_AMU_EV**2 * (1 + 2 * occupation) / (2 * energies)
    dense = (vectors[:, 3:] * variance) @ vectors[:, 3:].T / np.outer(root_masses, root_masses)
    assert np.abs(distribution.covariance() - dense).max() < 1e-10 * dense.max()
    np.testing.assert_allclose(distribution.energies(), energies, rtol=1e-10)
    free = (energies / 2).sum()
    if temperature:
        free += KB_EV_PER_K * temperature * np.log(1 - np.exp(-energies / KB_EV_PER_K / temperature)).sum()
    assert distribution.free_energy() == pytest.approx(free / 12, abs=1e-10)


def test_samples_have_the_covariance():
    dynamical, _ = random_crystal()
    distribution = HarmonicDistribution(dynamical, 300.0)
    n = 20_000
    sample = distribution.displacements(n, seed=1).reshape(n, -1)
    variances, axes = np.linalg.eigh(distribution.covariance())
    assert np.abs(variances[:3]).max() < 1e-12 * variances[-1] and variances[3] > 1e-6
    white = sample @ axes[:, 3:] / np.sqrt(variances[3:])
    upper = np.triu_indices(69, 1)
    deviation = (white.T @ white / n - np.eye(69)) * np.sqrt(n)
    assert np.sqrt((deviation[upper] ** 2).mean()) == pytest.approx(1, abs=0.06)
    assert np.sqrt((np.diag(deviation) ** 2).mean()) == pytest.approx(np.sqrt(2), abs=0.5)
    centre = sample.reshape(n, -1, 3).transpose(0, 2, 1) @ distribution.supercell.get_masses()
    assert np.abs(centre).max() < 1e-10


def test_seed_and_pairs():
    dynamical, _ = random_crystal()
    distribution = HarmonicDistribution(dynamical)
    assert np.array_equal(distribution.displacements(4, 7), distribution.displacements(4, 7))
    assert not np.array_equal(distribution.displacements(4, 7), distribution.displacements(4, 8))
    pairs = distribution.displacements(4, 7, pairs=True)
    assert np.array_equal(pairs[::2], -pairs[1::2])
    images = draw_configurations(dynamical, 3, 0, seed=7)
    assert len(images) == 3 and len(images[0]) == 24
    moved = images[1].positions - dynamical.primitive.repeat(DIMS).positions
    np.testing.assert_allclose(moved, distribution.displacements(3, 7)[1], atol=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 800.0])
def test_standing_waves_rebuild_the_covariance(temperature):
    distribution = HarmonicDistribution(random_crystal()[0], temperature)
    waves = distribution.from_modes(np.eye(distribution.n_modes)).reshape(distribution.n_modes, -1)
    exact = distribution.covariance()
    assert np.abs(waves.T @ waves - exact).max() < 1e-12 * exact.max()
    roots = np.sqrt(np.repeat(distribution.supercell.get_masses(), 3))
    widths = np.linalg.norm(waves * roots, axis=1)  # the softest modes are the widest: they come first
    assert (np.diff(widths) < 1e-6 * widths[0]).all()


@pytest.mark.parametrize("sampling", ["pairs", "independent", "sobol"])
def test_every_way_of_drawing_has_the_covariance(sampling):
    distribution = HarmonicDistribution(random_crystal()[0], 300.0)
    variances, axes = np.linalg.eigh(distribution.covariance())
    sample = draw_displacements(distribution, 8192, stream(3, 1), sampling, 16).reshape(8192, -1)
    white = sample @ axes[:, 3:] / np.sqrt(variances[3:])
    deviation = (white.T @ white / 8192 - np.eye(69)) * np.sqrt(8192)
    assert np.sqrt((np.diag(deviation) ** 2).mean()) < 2.2
    assert np.sqrt((deviation**2).mean()) < 1.6
    assert np.abs(white.mean(axis=0)).max() < 5 / np.sqrt(8192)
    again = draw_displacements(distribution, 8192, stream(3, 1), sampling, 16)
    assert np.array_equal(again.reshape(sample.shape), sample)
    other = draw_displacements(distribution, 8192, stream(3, 2), sampling, 16)
    assert not np.allclose(other, again)


def test_sobol_beats_independent_draws_and_its_blocks_give_the_error():
    """Mean square of each normal coordinate: 1 exactly."""
    distribution = HarmonicDistribution(random_crystal()[0])
    inverse = np.linalg.pinv(distribution.from_modes(np.eye(69)).reshape(69, -1))

    def blocks(sampling, seed):
        white = draw_displacements(distribution, 1024, seed, sampling, 8).reshape(1024, -1) @ inverse
        return (white**2).reshape(8, 128, -1).mean(axis=1) - 1

    found = {kind: np.array([blocks(kind, s) for s in range(20)]) for kind in ("independent", "sobol")}
    error = {kind: np.sqrt((b.mean(axis=1) ** 2).mean()) for kind, b in found.items()}
    assert error["sobol"] < error["independent"] / 2
    sobol = found["sobol"]
    quoted = sobol.std(axis=1, ddof=1) / np.sqrt(8)
    z = sobol.mean(axis=1) / quoted
    assert 0.60 < (np.abs(z) < 1).mean() < 0.75  # Student's t with 7 degrees of freedom: 0.65
    assert 0.9 < np.sqrt((sobol.mean(axis=1) ** 2).mean() / (quoted**2).mean()) < 1.1


def test_impossible_draws_are_explained():
    distribution = HarmonicDistribution(random_crystal()[0])
    with pytest.raises(InputError, match="pairs, independent, sobol"):
        draw_displacements(distribution, 4, 0, "halton")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"multiple of 40, e\.g\. 480"):
        draw_displacements(distribution, 500, 0, "sobol", 20)
    with pytest.raises(InputError, match="even"):
        draw_displacements(distribution, 5, 0, "pairs")


def test_fault_39_imaginary_modes_are_refused_unless_flipped():
    dynamical, _ = random_crystal(soft=1.0)
    with pytest.raises(InputError, match="flip_imaginary"):
        HarmonicDistribution(dynamical)
    assert np.isfinite(HarmonicDistribution(dynamical, flip_imaginary=True).displacements(2, 0)).all()


def test_bad_input_is_refused():
    dynamical, _ = random_crystal()
    with pytest.raises(InputError, match="temperature"):
        HarmonicDistribution(dynamical, -1.0)
    with pytest.raises(InputError, match="grid"):
        HarmonicDistribution(
            SimpleNamespace(**{**vars(dynamical), "qpoints": np.zeros((12, 3))})  # type: ignore[arg-type]
        )
    broken = dynamical.matrices.copy()
    broken[3, 0, 1] += 1
    with pytest.raises(InputError, match="Hermitian"):
        HarmonicDistribution(SimpleNamespace(**{**vars(dynamical), "matrices": broken}))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="NaN"):
        HarmonicDistribution(SimpleNamespace(**{**vars(dynamical), "matrices": broken * np.nan}))  # type: ignore[arg-type]

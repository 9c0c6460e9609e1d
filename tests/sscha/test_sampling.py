"""The harmonic Gaussian against the dense supercell formula and against its own samples."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.sscha.sampling import HarmonicDistribution, draw_configurations
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


def test_imaginary_modes_are_refused_unless_flipped():
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

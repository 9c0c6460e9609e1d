"""What the stages compute themselves, against cases with a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from himlip_ase.labels.displacements import softest_gamma_mode
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline import figures
from himlip_ase.pipeline.finetune import bootstrap_rmse
from himlip_ase.pipeline.make_labels import double_well_scan
from himlip_ase.pipeline.phonons import fit_well
from himlip_ase.sscha.results.sampling_noise import independent_deviations
from himlip_ase.superconductivity.bootstrap import resampled_phonons
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM


def diatomic(spring: float) -> DynamicalMatrices:
    """Rock salt with one isotropic spring (eV/Å²) between the sublattices, at every q of a 2×2×2 grid."""
    atoms = bulk("NaCl", "rocksalt", a=5.0)
    block = spring * np.array([[1.0, -1.0], [-1.0, 1.0]])
    matrix = np.kron(block, np.eye(3)).astype(complex)
    qpoints = commensurate_qpoints((2, 2, 2))
    return DynamicalMatrices(atoms, (2, 2, 2), qpoints, np.repeat(matrix[None], len(qpoints), axis=0))


@pytest.mark.parametrize("spring", [4.0, -1.5])
def test_softest_mode_is_the_optical_one(spring: float) -> None:
    matrices = diatomic(spring)
    masses = matrices.primitive.get_masses()
    reduced = masses.prod() / masses.sum()
    pattern, frequency = softest_gamma_mode(matrices)
    expected = np.sign(spring) * np.sqrt(abs(spring) / reduced) * SQRT_EV_PER_ANGSTROM2_AMU_CM
    assert frequency == pytest.approx(expected, rel=1e-9)
    assert np.linalg.norm(pattern) == pytest.approx(1)
    assert np.abs(masses @ pattern).max() < 1e-9


def test_double_well_scan_reaches_the_zero_point_width() -> None:
    matrices = diatomic(4.0)
    masses = matrices.primitive.get_masses()
    mode, amplitudes = double_well_scan(matrices, 5)
    reduced = masses.prod() / masses.sum()
    # <x²> of the relative coordinate is ħ/(2 √(k μ)); the norm of the pattern is |x| √(m₁²+m₂²)/(m₁+m₂)
    hbar2 = 0.00418016  # eV amu Å²
    width = np.sqrt(np.sqrt(hbar2 / (4.0 * reduced)) / 2) * np.sqrt((masses**2).sum()) / masses.sum()
    assert amplitudes[0] == 0
    assert amplitudes[-1] == pytest.approx(2.2 * width, rel=1e-3)
    assert mode.shape == (2, 3)


def test_well_of_a_known_polynomial() -> None:
    x = np.linspace(0, 0.34, 9)
    well = fit_well(x, 7.0 - 3.0 * x**2 + 40.0 * x**4, -6.0 * x + 160.0 * x**3)
    # the error of cubic Hermite interpolation is at most h⁴ max|f⁗| / 384
    bound = (0.34 / 8) ** 4 * 960 / 384
    assert well.position == pytest.approx(np.sqrt(3 / 80), abs=1e-3)
    assert well.depth == pytest.approx(9 / 160, abs=bound)
    assert well.energies[0] == pytest.approx(0, abs=1e-9)


def test_a_single_well_has_no_depth() -> None:
    x = np.linspace(0, 0.3, 9)
    well = fit_well(x, 2.0 * x**2, 4.0 * x)
    assert (well.position, well.depth) == (0.0, pytest.approx(0.0, abs=1e-12))


def test_noisy_phonons_have_the_noise_asked_for_and_keep_degeneracy() -> None:
    matrices = diatomic(4.0)
    sigma = np.full((8, 6), 5.0)
    sigma[:, :3] = 0.0
    samples = resampled_phonons(matrices, independent_deviations(matrices, sigma, seed=1), 400)
    frequencies = np.array([m.frequencies() for m in samples])
    optical = frequencies[:, :, 3:]
    assert optical.mean() == pytest.approx(matrices.frequencies()[0, 3], abs=1.0)
    assert optical[:, 0, 0].std() == pytest.approx(5.0, rel=0.15)
    assert np.ptp(optical, axis=(1, 2)).max() < 1e-6
    assert np.abs(frequencies[:, :, :3]).max() < 1e-2


def test_noise_keeps_imaginary_modes_imaginary() -> None:
    soft = diatomic(-1.5)
    sample = resampled_phonons(soft, independent_deviations(soft, np.full((8, 6), 1.0)), 1)[0]
    assert sample.frequencies()[:, 0].max() < -100


def test_standard_error_of_an_rmse_falls_with_the_number_of_frames() -> None:
    rng = np.random.default_rng(0)
    errors = {}
    for frames in (8, 128):
        wanted = np.zeros(frames * 96)
        got = np.repeat(rng.normal(1.0, 0.3, frames), 96) * rng.normal(size=frames * 96)
        error = bootstrap_rmse(wanted, got, frames)
        assert error is not None
        errors[frames] = error
    assert errors[128] < 0.5 * errors[8]
    assert bootstrap_rmse(np.zeros(5), np.ones(5), 2) is None


def test_one_atom_has_no_optical_mode() -> None:
    atoms = Atoms("Al", cell=np.eye(3) * 3.0, pbc=True)
    matrices = DynamicalMatrices(atoms, (1, 1, 1), np.zeros((1, 3)), np.zeros((1, 3, 3), dtype=complex))
    with pytest.raises(ValueError, match="one atom"):
        softest_gamma_mode(matrices)


def test_a_stable_mode_gets_no_double_well(tmp_path: Path) -> None:
    """Noise of single points near the bottom of one well is not a second one."""
    amplitudes = np.linspace(0, 0.3, 7)
    energies = 5.0 * amplitudes**2 - np.array([0, 4e-6, 2e-6, 0, 0, 0, 0])
    single = fit_well(amplitudes, energies, 10.0 * amplitudes)
    assert (single.position, single.depth) == (0.0, 0.0)
    quartic = amplitudes**4 - 0.02 * amplitudes**2
    double = fit_well(amplitudes, quartic, 4 * amplitudes**3 - 0.04 * amplitudes)
    assert double.depth == pytest.approx(1e-4, rel=0.05) and double.position == pytest.approx(0.1, abs=0.005)
    (tmp_path / "double").mkdir()
    assert [p.stem for p in figures.double_well(tmp_path, {"dft": single.to_dict()})] == ["softest_mode"]
    drawn = figures.double_well(tmp_path / "double", {"dft": double.to_dict(), "pattern": []})
    assert [p.stem for p in drawn] == ["double_well", "double_well_bottom"]

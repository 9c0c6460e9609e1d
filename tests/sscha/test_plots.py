"""What the figures show, read back from their axes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha import SschaSettings, run_sscha
from himlip_ase.sscha.results.plots import (
    irreducible,
    plot_error_bars,
    plot_free_energy,
    plot_frequencies,
    plot_gradient,
    plot_kong_liu,
    write_figures,
)
from himlip_ase.sscha.results.summary import describe, describe_ensemble
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.plots_verify import plot_changes, plot_energy_parity, plot_force_parity
from himlip_ase.sscha.trust.verify import verify_with
from himlip_ase.sscha.trust.verify_files import load_final_ensemble

from .toy import STRONG, BondCrystal, cscl

DIMS = (1, 1, 2)


@pytest.fixture(scope="module")
def crystal():
    return BondCrystal(cscl(c=2.7), DIMS, STRONG)


@pytest.fixture(scope="module")
def run(crystal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = SschaSettings(n_configurations=60, n_hessian_configurations=80, seed=2, n_blocks=5)
    return folder, run_sscha(crystal.harmonic(), crystal, settings, folder)


@pytest.fixture
def ax():
    return Figure().subplots()


def points(ax) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in ax.lines]


def test_each_population_begins_where_the_last_ended(run, ax):
    result = run[1]
    plot_free_energy(ax, result)
    lines = [p for p in points(ax) if len(p) > 2]
    assert len(lines) == len(result.populations)
    assert all(a[-1, 0] == b[0, 0] for a, b in itertools.pairwise(lines))
    drawn = np.concatenate([p[:, 1] for p in lines])
    np.testing.assert_allclose(drawn, result.history.free_energy * 1e3)
    final = [p for p in points(ax) if len(p) == 2 and p[0, 1] == p[1, 1]]
    assert any(p[0, 1] == pytest.approx(result.free_energy * 1e3) for p in final)


def test_gradients_stand_at_the_step_they_were_taken_at(run, ax):
    result = run[1]
    plot_gradient(ax, result)
    history = result.history
    first = points(ax)[0]
    mine = history.gradient_population == 1
    assert first[0, 0] == 0
    np.testing.assert_allclose(first[:, 1], history.gradient[mine])
    assert ax.get_yscale() == "log" and "eV/Å²" in ax.get_ylabel()


def test_kong_liu_and_its_threshold(run, ax):
    result = run[1]
    plot_kong_liu(ax, result)
    heights = np.concatenate([p[:, 1] for p in points(ax)])
    assert result.settings.kong_liu in heights and ax.get_ylim()[0] == 0


def test_frequencies_end_at_the_auxiliary(run, ax):
    result = run[1]
    plot_frequencies(ax, result)
    last = max(p[-1, 0] for p in points(ax))
    ends = sorted(p[-1, 1] for p in points(ax) if p[-1, 0] == last and len(p) > 1 and p[0, 0] > 0)
    expected = np.sort(result.frequencies().ravel())[3:]
    np.testing.assert_allclose(ends[-len(expected) :], expected, atol=0.05)


def test_levels_of_both_matrices_with_imaginary_ones_shaded(run, ax):
    result = run[1]
    assert irreducible(result) == [0, 1]
    plot_error_bars(ax, result)
    assert ax.get_ylim()[0] == 0 and not ax.texts
    hessian = result.hessian
    soft = DynamicalMatrices(
        hessian.primitive, hessian.dims, hessian.qpoints, hessian.matrices - 3 * np.eye(6)
    )
    unstable = Figure().subplots()
    plot_error_bars(unstable, dataclasses.replace(result, hessian=soft))
    assert unstable.get_ylim()[0] < 0 and "unstable" in unstable.texts[0].get_text()
    levels = [segment[0, 1] for c in ax.collections for segment in c.get_segments() if len(segment) == 2]
    shown = np.concatenate([result.frequencies()[0, 3:], result.frequencies()[1]])
    for frequency in shown:
        assert np.abs(np.array(levels) - frequency).min() < 1e-6


def test_files_are_written_once(run, tmp_path):
    paths = write_figures(run[1], tmp_path)
    assert {path.name for path in paths} == {
        "sscha_convergence.pdf", "sscha_convergence.png", "sscha_frequencies.pdf", "sscha_frequencies.png",
        "sscha_history.csv",
    }  # fmt: skip
    assert all(path.stat().st_size > 200 for path in paths)
    with pytest.raises(InputError, match="overwrite"):
        write_figures(run[1], tmp_path)


def test_verification_panels(run, crystal):
    folder, result = run
    final = load_final_ensemble(folder)
    stiffer = BondCrystal(cscl(c=2.7), DIMS, [(6.6, -30.0, 300.0, -0.02), *STRONG[1:]])
    group = SpaceGroup(result.auxiliary)
    found = verify_with(final.target, final.ensemble, stiffer, group, n=10, n_blocks=5)
    axes = Figure().subplots(1, 3)
    plot_force_parity(axes[0], found, final.target.supercell.get_chemical_symbols())
    forces = np.concatenate(points(axes[0])[1:])
    assert len(forces) == 10 * 4 * 3
    assert np.polyfit(forces[:, 0], forces[:, 1], 1)[0] < 1  # the potential is softer than the reference
    plot_energy_parity(axes[1], found)
    assert len(points(axes[1])[1]) == 10
    plot_changes(axes[2], found, result)
    assert "corrected" in axes[2].get_legend().get_texts()[1].get_text()


def test_words(run, crystal):
    folder, result = run
    lines = "\n".join(describe(result))
    assert lines.startswith("converged") and "free energy" in lines and "Hessian" in lines
    final = load_final_ensemble(folder)
    words = "\n".join(describe_ensemble(final.ensemble))
    assert "80 configurations of a 1×1×2 supercell" in words
    free_energy = result.free_energy + result.static_energy
    assert f"{free_energy:.4f}" in words

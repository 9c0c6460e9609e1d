"""Paths, bands, densities of states and their figures."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from himlip_ase.errors import InputError
from himlip_ase.figure_style import look
from himlip_ase.phonons import DynamicalMatrices
from himlip_ase.phonons.bands import band_path, band_structure, dos
from himlip_ase.phonons.output_files import write_bands_and_dos, write_phonons
from himlip_ase.phonons.plots import (
    limit_frequencies,
    plot_bands,
    plot_dos,
    plot_grid_points,
    shared_limits,
)

from .springs import triclinic, zincblende
from .test_force_constants import build


@pytest.fixture(scope="module")
def stable():
    return build(zincblende, (2, 2, 2))[1]


@pytest.fixture(scope="module")
def unstable(stable):
    dm = stable.dynamical_matrices()
    shift = np.linalg.eigvalsh(dm.matrices[1:]).min() + 1.0  # eV/Å²
    softened = dm.matrices - np.where(dm.qpoints.any(axis=1), shift, 0.0)[:, None, None] * np.eye(6)
    return DynamicalMatrices(dm.primitive, dm.dims, dm.qpoints, softened).force_constants()


@pytest.mark.parametrize(
    "rows", [np.eye(3), [[1, 1, 0], [0, 1, 0], [0, 0, 1]], [[0, 0, 1], [-1, 0, 0], [2, 1, 1]]]
)
def test_special_points_are_right_in_a_cell_that_is_not_the_standard_one(stable, rows):
    """The lengths of Γ, X, W, L, K, U of an fcc zone, from the cell of Quantum ESPRESSO and skewed ones."""
    crystal = stable.primitive.copy()
    crystal.set_cell(np.asarray(rows) @ np.asarray(crystal.cell))
    path = band_path(crystal, npoints=20)
    reciprocal = np.linalg.inv(np.asarray(crystal.cell)).T * 4.4
    lengths = {
        "Γ": 0,
        "X": 1,
        "W": np.sqrt(5) / 2,
        "L": np.sqrt(3) / 2,
        "K": np.sqrt(9 / 8),
        "U": np.sqrt(9 / 8),
    }
    assert {name for pair in path.labels for name in pair} == set(lengths)
    for (start, end), q in zip(path.labels, path.qpoints, strict=True):
        assert np.linalg.norm(q[0] @ reciprocal) == pytest.approx(lengths[start], abs=1e-9)
        assert np.linalg.norm(q[-1] @ reciprocal) == pytest.approx(lengths[end], abs=1e-9)
    steps = np.concatenate([np.linalg.norm(np.diff(q @ reciprocal, axis=0), axis=1) for q in path.qpoints])
    assert steps.max() < 1.5 * steps.min()


def test_bands_are_the_frequencies_along_the_path(stable):
    bands = band_structure(stable, npoints=15)
    for q, f in zip(bands.path.qpoints, bands.frequencies, strict=True):
        assert np.array_equal(f, stable.frequencies(q))
    positions, labels = bands.path.ticks()
    assert positions == sorted(positions)
    assert any("|" in label for label in labels)
    # Δ is an axis of order 2 with mirror planes: transverse modes are degenerate there
    first = bands.frequencies[0]
    assert np.abs(first[1:, 0] - first[1:, 1]).max() < 1e-3


def test_one_path_serves_several_sets(stable, unstable):
    bands = band_structure(stable, npoints=11)
    other = band_structure(unstable, path=bands.path)
    assert other.path is bands.path
    low, q = other.minimum()
    assert low < -10
    assert unstable.frequencies(q[None])[0, 0] == pytest.approx(low)


@pytest.mark.parametrize("sigma", [None, 0.0])
def test_dos_counts_all_modes_and_elements_share_them(stable, sigma):
    density = dos(stable, mesh=(7, 7, 7), npoints=1000, sigma=sigma)
    assert np.trapezoid(density.total, density.frequencies) == pytest.approx(6, rel=0.01)
    assert set(density.partial) == {"B", "N"}
    for partial in density.partial.values():
        assert np.trapezoid(partial, density.frequencies) == pytest.approx(3, rel=0.01)
    # first moment, against frequencies summed over the same mesh
    grid = stable.dynamical_matrices().interpolated((7, 7, 7)).frequencies()
    mean = np.trapezoid(density.total * density.frequencies, density.frequencies)
    assert mean == pytest.approx(grid.mean() * 6, rel=0.02)


def test_dos_of_an_unstable_crystal_reaches_below_zero(unstable):
    density = dos(unstable, mesh=(6, 6, 6))
    assert np.trapezoid(density.total * (density.frequencies < -5), density.frequencies) > 0.1


def test_figures_show_imaginary_modes_below_a_zero_line(stable, unstable):
    bands = band_structure(stable, npoints=11)
    pair = [bands, band_structure(unstable, path=bands.path)]
    ax = Figure().subplots()
    assert plot_bands(ax, pair, ["a", "b"]) is ax
    assert ax.get_ylim()[0] < pair[1].minimum()[0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    assert any(np.allclose(line.get_ydata(), 0) for line in ax.lines)
    lowest = min(float(np.min(line.get_ydata())) for line in ax.lines if len(line.get_ydata()) > 2)
    assert lowest == pytest.approx(pair[1].minimum()[0])
    alone = plot_bands(Figure().subplots(), bands)
    assert alone.get_ylim()[0] == 0
    assert alone.get_legend() is None
    ax = Figure().subplots()
    assert plot_dos(ax, dos(stable, mesh=(4, 4, 4)), "a") is ax
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"B", "N", "a"}


def test_imaginary_bands_take_a_quarter_of_the_axis_at_most_and_their_depth_is_said(stable, unstable):
    good = band_structure(stable, npoints=9)
    deep = band_structure(unstable, path=good.path)
    low, high = shared_limits([good, deep])
    assert high == pytest.approx(1.04 * max(f.max() for f in good.frequencies))
    assert 0 > low >= -high / 3 - 1e-9
    ax = plot_bands(Figure().subplots(), [good, deep], ["a", "b"])
    limit_frequencies(ax, [good, deep], -50.0, high)
    assert f"{deep.minimum()[0]:.0f} cm" in ax.texts[0].get_text()
    assert shared_limits([good])[0] == 0


def test_points_of_the_grid_carry_their_errors(stable):
    bands, matrices = band_structure(stable, npoints=9), stable.dynamical_matrices()
    ax = plot_bands(Figure().subplots(), bands)
    sigma = np.full(matrices.frequencies().shape, 2.5)
    plot_grid_points(ax, bands.path, matrices, sigma, look(0))
    drawn = [np.asarray(line.get_ydata()) for c in ax.containers for line in [c.lines[0]]]
    at_gamma = matrices.frequencies()[matrices.index((0, 0, 0))]
    assert any(np.allclose(values, at_gamma) for values in drawn)
    bars = ax.containers[0].lines[2][0].get_segments()
    assert np.ptp(bars[0][:, 1]) == pytest.approx(5.0)
    assert ax.child_axes[0].get_ylabel() == "ħω (meV)"


def test_sets_that_do_not_fit_together_are_refused(stable):
    low = build(triclinic, (2, 1, 3))[1]
    bands = band_structure(stable, npoints=5)
    with pytest.raises(InputError, match="different paths"):
        plot_bands(Figure().subplots(), [bands, band_structure(low, npoints=5)])
    with pytest.raises(InputError, match="2 sets but 1 labels"):
        plot_bands(Figure().subplots(), [bands, bands], ["a"])
    with pytest.raises(InputError, match="at least one set"):
        plot_bands(Figure().subplots(), [])
    with pytest.raises(InputError, match="npoints"):
        band_structure(stable, npoints=1)
    with pytest.raises(InputError, match="sigma"):
        dos(stable, sigma=-1.0)


def test_data_lie_beside_the_figures_and_nothing_is_written_over(stable, unstable, tmp_path):
    sets = {"DFT": stable, "free-energy Hessian": unstable}
    files = write_bands_and_dos(sets, tmp_path, npoints=9, mesh=(4, 4, 4))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in files)
    assert {"bands.png", "bands.pdf", "bands_DFT.dat", "dos_free-energy-Hessian.dat"} < {
        p.name for p in files
    }
    assert all(p.stat().st_size > 0 for p in files)
    table = np.loadtxt(tmp_path / "bands_DFT.dat")
    assert np.allclose(table[:, 4:], stable.frequencies(table[:, 1:4]), atol=1e-3)
    before = {p: p.read_bytes() for p in files}
    (tmp_path / "bands.png").unlink()
    with pytest.raises(InputError, match="exists already"):
        write_bands_and_dos(sets, tmp_path, npoints=9, mesh=(4, 4, 4))
    assert not (tmp_path / "bands.png").exists()
    assert all(p.read_bytes() == data for p, data in before.items() if p.exists())


def test_summary_tells_of_instability(stable, unstable, tmp_path):
    lines = write_phonons(
        {"good": stable, "bad": unstable}, tmp_path, npoints=5, mesh=(3, 3, 3), write_dyn_files=True
    )
    assert "good" in lines[0]
    assert "no imaginary" in lines[0]
    assert "unstable" in lines[1]
    assert (tmp_path / "phonopy_params_bad.yaml").exists()
    assert (tmp_path / "dyn_good_0").exists()

"""Spectral functions off the grid: exact on it and for short bonds; translations scatter nothing."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.sscha.curvature.interpolated_spectrum import interpolated_spectral_function
from himlip_ase.sscha.curvature.spectral_function import spectral_function
from himlip_ase.sscha.curvature.third_order import third_order
from himlip_ase.sscha.curvature.third_order_waves import ThirdOrderWaves
from himlip_ase.sscha.results.spectral_errors import peak_errors, peaks

from .test_hessian import cscl, drawn


class Bonds:
    """Third derivatives of bonds from atom 0 to its eight neighbours 1, no two alike."""

    def __init__(self) -> None:
        self.atoms = Atoms("SH", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=3 * [2.6], pbc=True)
        generator = np.random.default_rng(3)
        self.cells = np.indices((2, 2, 2)).reshape(3, -1).T - 1
        raw = generator.normal(size=(8, 3, 3, 3))
        orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        self.blocks = sum(raw.transpose(0, *(i + 1 for i in order)) for order in orders)

    def triplets(self):
        """Φ³(0a, R'b, R''c): places and signed blocks."""
        for cell, block in zip(self.cells, self.blocks, strict=True):
            for ends in np.ndindex(2, 2, 2):
                sign = (-1) ** (3 - sum(ends))
                places = [cell * end for end in ends]
                yield ends, places[1] - places[0], places[2] - places[0], sign * block

    def tensor(self, dims) -> np.ndarray:
        count = int(np.prod(dims))
        total = np.zeros((2, 3, count, 2, 3, count, 2, 3))
        for (a, b, c), second, third, block in self.triplets():
            left, right = (int(np.ravel_multi_index(tuple(cell % dims), dims)) for cell in (second, third))
            total[a, :, left, b, :, right, c] += block
        return total.reshape(6, 6 * count, 6 * count)

    def exact(self, q, k) -> np.ndarray:
        total = np.zeros((2, 3, 2, 3, 2, 3), dtype=complex)
        for (a, b, c), second, third, block in self.triplets():
            total[a, :, b, :, c] += block * np.exp(2j * np.pi * (k @ second + (q - k) @ third))
        return total.reshape(6, 6, 6)


@pytest.mark.parametrize("dims", [(2, 2, 2), (3, 2, 2)])
def test_bonds_shorter_than_the_supercell_are_exact_at_any_wave(dims):
    bonds = Bonds()
    waves = ThirdOrderWaves(bonds.tensor(dims), bonds.atoms, dims)
    q, kpoints = np.array([0.13, 0.41, -0.27]), np.array([[0.37, -0.11, 0.29], [0.0, 0.0, 0.0]])
    found = waves.between(waves.leg(q), q, kpoints)
    for each, k in zip(found, kpoints, strict=True):
        np.testing.assert_allclose(each, bonds.exact(q, k), atol=1e-12)


def test_translations_scatter_nothing_and_the_grid_is_exact():
    """For a tensor that reaches as far as its supercell, too."""
    distribution, ensemble, group = drawn(cscl(), (2, 2, 1), 0.0, 40)
    tensor = third_order(distribution, ensemble, group)
    waves = ThirdOrderWaves(tensor, distribution.dynamical.primitive, distribution.dims)
    kpoints = np.random.default_rng(0).uniform(size=(5, 3))
    found = waves.between(waves.leg(np.zeros(3)), np.zeros(3), kpoints)
    scale = np.abs(found).max()
    assert np.abs(found.reshape(5, 2, 3, 6, 6).sum(axis=1)).max() < 1e-10 * scale
    whole = tensor.reshape(6, 4, 6, 4, 6)
    q, k = np.array([0.5, 0, 0]), np.array([0.5, 0.5, 0])
    cells = np.indices((2, 2, 1)).reshape(3, -1).T
    direct = np.einsum(
        "albmc,l,m->abc", whole, np.exp(2j * np.pi * cells @ k), np.exp(2j * np.pi * cells @ (q - k))
    )
    np.testing.assert_allclose(waves.between(waves.leg(q), q, k[None])[0], direct, atol=1e-10 * scale)


@pytest.mark.parametrize("temperature", [0.0, 900.0])
def test_on_the_grid_it_is_the_commensurate_spectrum(temperature):
    distribution, ensemble, group = drawn(cscl(), (2, 2, 1), temperature, 60)
    points = distribution.dynamical.qpoints
    known = spectral_function(distribution, ensemble, group, points, smearing_cm=20.0)
    found = interpolated_spectral_function(
        distribution, ensemble, group, points, known.wavenumbers, 20.0, mesh=(2, 2, 1)
    )
    np.testing.assert_allclose(found.total, known.total, atol=2e-3 * known.total.max())
    np.testing.assert_allclose(found.auxiliary_cm, known.auxiliary_cm, atol=1e-3)


def test_every_mode_is_there_at_any_q():
    distribution, ensemble, group = drawn(cscl(), (2, 1, 1), 0.0, 40)
    wavenumbers = np.linspace(0, 40000, 4001)
    found = interpolated_spectral_function(
        distribution, ensemble, group, [(0.21, 0.07, 0.33)], wavenumbers, 60.0, mesh=(3, 2, 2)
    )
    tail = 2 / np.pi * 60.0 / 40000
    assert np.trapezoid(found.total[0], wavenumbers) == pytest.approx(6 * (1 - tail), rel=3e-3)
    assert found.total.min() > 0


def test_bad_requests_are_explained():
    distribution, ensemble, group = drawn(cscl(), (1, 1, 1), 0.0, 20)
    with pytest.raises(InputError, match="smearing_cm"):
        interpolated_spectral_function(distribution, ensemble, group, [(0, 0, 0)], smearing_cm=0)
    with pytest.raises(InputError, match="dims must be"):
        interpolated_spectral_function(distribution, ensemble, group, [(0, 0, 0)], mesh=(0, 1, 1))


def test_interpolation_gives_what_a_supercell_twice_as_long_has():
    """Bonds reach one cell: three cells hold the third order, and q = 1/6 lies on no grid of theirs."""
    small, large = (drawn(cscl(), (cells, 1, 1), 0.0, 1000) for cells in (3, 6))
    points = [(1 / 6, 0, 0), (1 / 2, 0, 0)]
    known = spectral_function(*large, points, smearing_cm=40.0)
    found = interpolated_spectral_function(*small, points, known.wavenumbers, 40.0, mesh=(6, 1, 1))
    coarse = interpolated_spectral_function(*small, points, known.wavenumbers, 40.0, mesh=(1, 1, 1))
    z = known.wavenumbers + 40j
    bare = -2 / np.pi * (z / (z**2 - known.auxiliary_cm[:, :, None] ** 2)).sum(axis=1).imag

    def apart(total):
        """Weight that lies elsewhere, as a part of all."""
        return np.trapezoid(np.abs(total - known.total), known.wavenumbers, axis=1) / 12

    assert (apart(found.total) < 0.012).all()  # the noise of two ensembles is in it
    assert (apart(coarse.total) > 2 * apart(found.total)).all()  # the finer mesh of k is needed
    assert (apart(bare) > 4 * apart(found.total)).all()


def test_errors_of_peaks_are_the_spread_of_independent_ensembles():
    """Jackknife errors against the standard deviation over other ensembles, of all modes."""
    found, errors, omega = [], [], None
    for seed in range(6):
        distribution, ensemble, group = drawn(cscl(), (2, 1, 1), 300.0, 80, seed=seed)
        if omega is None:
            omega = np.linspace(0, 1.3 * distribution.dynamical.frequencies().max(), 150)
        spectrum = interpolated_spectral_function(
            distribution, ensemble, group, [(0.5, 0.2, 0.1)], omega, smearing_cm=40, mesh=(2, 1, 1)
        )
        found.append(np.array(peaks(spectrum))[:, 0])
        error = peak_errors(distribution, ensemble, spectrum, [0], n_blocks=8)
        errors.append([error.positions[0], error.widths[0]])
    spread = np.std(found, axis=0, ddof=1)
    typical = np.sqrt(np.mean(np.square(errors), axis=0))
    known = np.isfinite(spread) & np.isfinite(typical)
    assert known.sum() >= 6
    # 6 seeds know a standard deviation to 32 %, a dozen of them together to less
    ratio = np.median(typical[known] / spread[known])
    assert 0.6 < ratio < 1.7, (typical, spread)

"""The dynamic bubble against its static limit, sum rules and an oscillator coupled to a pair of others."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.sscha.curvature.hessian import free_energy_hessian
from himlip_ase.sscha.curvature.little_group import GridSymmetry, grid_modes
from himlip_ase.sscha.curvature.normal_coordinates import ensemble_coordinates
from himlip_ase.sscha.curvature.spectral_function import (
    SpectralFunction,
    dynamic_bubble,
    plot_spectral_function,
    spectral_function,
)
from himlip_ase.units import EV_CM

from .test_hessian import cscl, drawn


@pytest.mark.parametrize("dims", [(2, 2, 1), (3, 1, 1)])
def test_static_limit_is_the_third_order_hessian(dims):
    distribution, ensemble, group = drawn(cscl(), dims, 0.0, 60)
    symmetry = GridSymmetry(group, distribution.dynamical.primitive.cell.array, grid_modes(distribution))
    waves = ensemble_coordinates(distribution, symmetry.modes, ensemble, group)
    hessian = free_energy_hessian(distribution, ensemble, group, fourth=False)
    scale = np.outer(symmetry.modes.inverse_roots, symmetry.modes.inverse_roots)
    for place, q in enumerate(distribution.grid_order):
        exact = (hessian.matrices - distribution.dynamical.matrices)[place] * scale
        found = dynamic_bubble(symmetry, int(q), waves, np.array([1e-9j]))[0]
        np.testing.assert_allclose(found, exact, atol=1e-10 * np.abs(exact).max())


@pytest.mark.parametrize("temperature", [0.0, 900.0])
def test_positive_and_as_many_modes_as_there_are(temperature):
    distribution, ensemble, group = drawn(cscl(), (2, 1, 1), temperature, 60)
    wavenumbers = np.linspace(0, 40000, 8001)
    found = spectral_function(
        distribution, ensemble, group, distribution.dynamical.qpoints, wavenumbers, smearing_cm=30.0
    )
    tail = 2 / np.pi * 30.0 / 40000  # of one Lorentzian beyond the last ω
    for total, modes, count in zip(found.total, found.modes, (3, 6), strict=True):
        assert np.trapezoid(total, wavenumbers) == pytest.approx(count * (1 - tail), rel=1e-3)
        each = np.trapezoid(modes, wavenumbers, axis=1)
        np.testing.assert_allclose(each, [0.0] * (6 - count) + [1 - tail] * count, atol=1e-3)
    assert found.total.min() > 0


def test_mode_mixing_is_left_out_of_the_modes_and_small_here():
    """The optical triplet of Γ is alone in its symmetry: both ways give one curve."""
    distribution, ensemble, group = drawn(cscl(), (2, 2, 2), 0.0, 60)
    found = spectral_function(distribution, ensemble, group)
    np.testing.assert_allclose(found.modes[0].sum(axis=0), found.total[0], rtol=1e-8)
    # a peak near the static frequency of the Hessian, below the auxiliary's
    peak = found.wavenumbers[found.total[0].argmax()]
    hessian = free_energy_hessian(distribution, ensemble, group, fourth=False).frequencies()[0, -1]
    assert peak == pytest.approx(hessian, abs=15.0)


def test_two_phonon_energies_are_where_the_bubble_has_weight():
    """Im Π has its extrema at sums of auxiliary energies of k and q - k."""
    distribution, ensemble, group = drawn(cscl(), (2, 1, 1), 0.0, 60)
    modes = grid_modes(distribution)
    symmetry = GridSymmetry(group, distribution.dynamical.primitive.cell.array, modes)
    waves = ensemble_coordinates(distribution, modes, ensemble, group)
    omega = np.linspace(50, 7000, 6000)
    bubble = dynamic_bubble(symmetry, 0, waves, (omega + 2j) / EV_CM)
    strength = -np.trace(bubble, axis1=1, axis2=2).imag
    assert strength.min() > -1e-12
    sums = [
        (modes.energies[k][:, None] + modes.energies[modes.partner(0)[k]][None]).ravel() * EV_CM
        for k in (0, 1)
    ]
    expected = np.concatenate(sums)
    peaks = omega[1:-1][(strength[1:-1] > strength[:-2]) & (strength[1:-1] > strength[2:])]
    high = peaks[strength[1:-1][np.searchsorted(omega[1:-1], peaks)] > 0.01 * strength.max()]
    assert len(high) > 0
    assert all(np.abs(expected - peak).min() < 3.0 for peak in high)


def test_bad_requests_are_explained():
    distribution, ensemble, group = drawn(cscl(), (2, 1, 1), 0.0, 20)
    with pytest.raises(InputError, match="smearing_cm"):
        spectral_function(distribution, ensemble, group, smearing_cm=0.0)
    with pytest.raises(InputError, match="grid"):
        spectral_function(distribution, ensemble, group, [(0.3, 0, 0)])


@pytest.mark.parametrize("count", [1, 6])
def test_figure_has_a_curve_or_a_map(count):
    from matplotlib.figure import Figure

    spectrum = SpectralFunction(
        np.zeros((count, 3)),
        np.linspace(0, 10, 5),
        1.0,
        np.ones((count, 5)),
        np.ones((count, 6, 5)),
        np.ones((count, 6)),
    )
    ax = plot_spectral_function(Figure().subplots(), spectrum)
    assert "cm⁻¹" in ax.get_xlabel() + ax.get_ylabel()

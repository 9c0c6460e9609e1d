"""The non-linear equations against their linear form, BCS, and published strong-coupling ratios."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.eliashberg import eliashberg_tc
from himlip_ase.superconductivity.gap import gap_curve, pade, pade_gap_edge, solve_gap, tc_sensitivity
from himlip_ase.superconductivity.spectrum import Spectrum


def einstein(lam: float, omega: float = 0.03) -> Spectrum:
    return Spectrum(np.array([omega]), np.array([lam]))


@pytest.mark.parametrize(("lam", "mu_star"), [(0.5, 0.0), (1.0, 0.1), (2.0, 0.13)])
def test_gap_vanishes_at_the_linearised_tc(lam: float, mu_star: float) -> None:
    curve = gap_curve(einstein(lam), mu_star, (0.5, 0.95, 0.98, 0.99))
    assert curve.vanishing_kelvin == pytest.approx(curve.tc_kelvin, rel=2e-3)
    assert (np.diff(curve.delta0_ev) < 0).all()


def test_no_gap_above_tc_and_one_below() -> None:
    tc = eliashberg_tc(einstein(1.0), 0.1)
    above, below = (solve_gap(einstein(1.0), f * tc, 0.1) for f in (1.003, 0.997))
    assert (above.delta_ev == 0).all() and pade_gap_edge(above) == (0.0, 0.0)
    assert below.delta_ev[0] > 0 and below.residual_ev < 1e-13


def test_bcs_ratio_in_weak_coupling() -> None:
    # 2Δ₀/kTc → 3.528, and rises with (Tc/ω_log)² ln(ω_log/2Tc)
    curves = [gap_curve(einstein(lam), 0.0, (0.2, 0.5, 0.9)) for lam in (0.3, 0.4, 0.5)]
    ratios = [c.ratio for c in curves]
    assert ratios[0] < ratios[1] < ratios[2]
    assert ratios[0] == pytest.approx(3.528, abs=0.04)


@pytest.mark.parametrize(("lam", "mu_star"), [(1.0, 0.1), (1.5, 0.1)])
def test_strong_coupling_ratio_near_the_formula_of_mitrovic_zarate_carbotte(
    lam: float, mu_star: float
) -> None:
    spectrum = einstein(lam)
    curve = gap_curve(spectrum, mu_star, (0.15, 0.5, 0.9))
    x = curve.tc_kelvin / spectrum.omega_log_k
    assert curve.ratio == pytest.approx(3.53 * (1 + 12.5 * x**2 * np.log(1 / (2 * x))), rel=0.03)
    assert curve.gap_edge_spread_ev < 1e-3 * curve.gap_edge_ev[0]


def test_mass_renormalisation_is_one_plus_lambda_at_low_frequency() -> None:
    solution = solve_gap(einstein(0.3), 2.0, 0.0)
    assert solution.delta_ev[0] > 0
    assert solution.z[0] == pytest.approx(1.3, rel=0.02)
    assert solution.z[-1] == pytest.approx(1.0, abs=0.05)
    normal = solve_gap(einstein(0.6), 1.0, 0.3)  # strong repulsion: no gap, and no failure either
    assert (normal.delta_ev == 0).all() and normal.z[0] == pytest.approx(1.6, rel=0.02)


def test_pade_continues_a_rational_function_exactly() -> None:
    def function(z):
        return (0.3 + 0.1 * z) / (z**2 - 2.0) + 0.05

    points = 1j * np.arange(1, 8)
    where = np.array([0.4 + 0j, 1.1 + 0j])
    assert pade(points, function(points), where) == pytest.approx(function(where), rel=1e-9)


def test_sensitivity_predicts_the_change_of_tc() -> None:
    spectrum = Spectrum(np.array([0.02, 0.05]), np.array([0.6, 0.5]))
    omega = np.array([0.01, 0.03, 0.09])
    slope = tc_sensitivity(spectrum, omega, 0.1)
    assert (slope > 0).all()
    for w, s in zip(omega, slope, strict=True):
        weight = 1e-3
        energies = np.append(spectrum.energies_ev, w)
        # keep the highest phonon, to which μ* belongs, where it was
        if w > 0.05:
            continue
        tcs = [
            eliashberg_tc(Spectrum(energies, np.append(spectrum.lambdas, x)), 0.1) for x in (-weight, weight)
        ]
        alpha2f = 2 * weight * w / 2  # λ = 2ε/ω
        assert (tcs[1] - tcs[0]) / alpha2f == pytest.approx(s, rel=5e-3)


def test_refusals() -> None:
    with pytest.raises(InputError, match="no transition"):
        gap_curve(einstein(0.05), 0.1)
    with pytest.raises(InputError, match="ascending"):
        gap_curve(einstein(1.0), 0.1, (0.9, 0.5, 0.2))
    with pytest.raises(InputError, match="the lowest is"):
        solve_gap(einstein(1.0), 1e-3, 0.1)

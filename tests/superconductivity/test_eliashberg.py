"""Limits that the linearised isotropic Migdal–Eliashberg equations are known to have."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.superconductivity import formulas
from himlip_ase.superconductivity.eliashberg import eliashberg_tc, largest_eigenvalue
from himlip_ase.superconductivity.spectrum import Spectrum
from tests.superconductivity.material import toy

OMEGA = 0.03  # eV
SHAPE = ([0.02, 0.05, 0.15], np.array([0.4, 0.2, 0.4]))


def einstein(lam: float) -> Spectrum:
    return Spectrum(np.array([OMEGA]), np.array([lam]))


def broad(lam: float) -> Spectrum:
    return Spectrum(np.array(SHAPE[0]), SHAPE[1] * lam)


def test_strong_coupling_limit_of_allen_and_dynes() -> None:
    tc = eliashberg_tc(einstein(1e5), 0.0) / units.EV_KELVIN
    assert tc / (OMEGA * np.sqrt(1e5)) == pytest.approx(0.1827, rel=1e-3)


def test_weak_coupling_limit_of_an_einstein_phonon() -> None:
    # Tc → (2 e^γ/π) e^(-1/2) ω exp(-(1+λ)/λ) as λ → 0; the ratio approaches 1 linearly in λ
    lams = np.array([0.2, 0.25, 0.3])
    bcs = 2 * np.exp(np.euler_gamma) / np.pi * np.exp(-0.5) * OMEGA * np.exp(-(1 + lams) / lams)
    ratio = np.array([eliashberg_tc(einstein(lam), 0.0) for lam in lams]) / units.EV_KELVIN / bcs
    assert (np.diff(ratio) > 0).all()
    assert np.polyval(np.polyfit(lams, ratio, 2), 0.0) == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize(("lam", "mu_star"), [(0.6, 0.1), (1.0, 0.13), (2.5, 0.16)])
def test_converged_in_cutoff_and_mesh(lam: float, mu_star: float) -> None:
    default = eliashberg_tc(broad(lam), mu_star)
    better = eliashberg_tc(broad(lam), mu_star, cutoff=45.0, min_frequencies=256)
    assert default == pytest.approx(better, rel=1e-3)


def test_scales_with_the_phonon_energies() -> None:
    spectrum = broad(1.2)
    doubled = Spectrum(2 * spectrum.energies_ev, spectrum.lambdas)
    assert eliashberg_tc(doubled, 0.1) == pytest.approx(2 * eliashberg_tc(spectrum, 0.1), rel=1e-6)


def test_eigenvalue_changes_sign_at_tc() -> None:
    kt = eliashberg_tc(broad(1.0), 0.0) / units.EV_KELVIN
    assert largest_eigenvalue(broad(1.0), 0.99 * kt, 200, 0.0) > 0
    assert largest_eigenvalue(broad(1.0), 1.01 * kt, 200, 0.0) < 0


def test_gathering_modes_in_bins_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    spectrum = Spectrum(rng.uniform(0.005, 0.2, 5000), rng.uniform(0, 4e-4, 5000))
    short = spectrum.coarsened(300)
    assert len(short.energies_ev) <= 300
    assert short.lambda_total == pytest.approx(spectrum.lambda_total, rel=1e-12)
    assert short.omega_log_ev == pytest.approx(spectrum.omega_log_ev, rel=1e-12)
    ours = largest_eigenvalue(spectrum, 0.005, 64, 0.1), largest_eigenvalue(short, 0.005, 64, 0.1)
    assert ours[0] == pytest.approx(ours[1], abs=1e-5)


def test_repulsion_lowers_tc_and_its_conversion_is_a_group() -> None:
    tcs = [eliashberg_tc(broad(1.0), mu) for mu in (0.0, 0.1, 0.2)]
    assert tcs[0] > tcs[1] > tcs[2]
    there = formulas.mu_star_at_cutoff(0.1, 1.0, 10.0)
    assert there > 0.1 and formulas.mu_star_at_cutoff(there, 10.0, 1.0) == pytest.approx(0.1)
    # μ → μ* in one step, or through an intermediate cutoff
    half_way = formulas.mu_star_from_mu(0.3, 5.0, 0.5)
    assert formulas.mu_star_at_cutoff(half_way, 0.5, 0.05) == pytest.approx(
        formulas.mu_star_from_mu(0.3, 5.0, 0.05)
    )
    with pytest.raises(InputError, match="no counterpart"):
        formulas.mu_star_at_cutoff(0.6, 1.0, 10.0)


def test_mu_star_taken_as_it_is_at_the_cutoff() -> None:
    converted = eliashberg_tc(broad(1.0), 0.1)
    unchanged = eliashberg_tc(broad(1.0), formulas.mu_star_at_cutoff(0.1, 1.0, 15.0), mu_star_at=15.0)
    assert unchanged == pytest.approx(converted, rel=1e-3)


def test_no_transition_is_nan_not_zero() -> None:
    assert np.isnan(eliashberg_tc(einstein(0.05), 0.1))


def test_near_allen_dynes_where_that_was_fitted() -> None:
    spectrum = einstein(1.0)
    closed = formulas.allen_dynes(1.0, spectrum.omega_log_k, spectrum.omega_2_k, 0.1)
    assert eliashberg_tc(spectrum, 0.1) == pytest.approx(closed, rel=0.1)


def test_allen_dynes_factors_at_a_point_worked_by_hand() -> None:
    # λ = 2, μ* = 0.1, ω₂/ω_log = 1.5: Λ₁ = 2.46·1.38 = 3.3948, Λ₂ = 1.82·1.63·1.5 = 4.4499
    f1, f2 = formulas.allen_dynes_factors(2.0, 100.0, 150.0, 0.1)
    assert f1 == pytest.approx((1 + (2 / 3.3948) ** 1.5) ** (1 / 3), rel=1e-6)
    assert f2 == pytest.approx(1 + 0.5 * 4 / (4 + 4.4499**2), rel=1e-6)
    assert formulas.mcmillan(2.0, 100.0, 0.1) == pytest.approx(100 / 1.2 * np.exp(-3.12 / (2 - 0.224)))


def test_toy_matrices_obey_time_reversal() -> None:
    d, elph = toy()
    assert d.time_reversal_violation() < 1e-12 and elph.matrices.shape == (2, 8, 6, 6)

"""Migdal–Eliashberg with N(ε): the constant limit, analytic integrals, and its own linear form."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.electronic_dos import ElectronicDos, read_electronic_dos
from himlip_ase.superconductivity.eliashberg import eliashberg_tc
from himlip_ase.superconductivity.full_bandwidth import (
    _Equations,
    eliashberg_tc_full_bandwidth,
    solve_full_bandwidth,
)
from himlip_ase.superconductivity.gap import solve_gap
from himlip_ase.superconductivity.spectrum import Spectrum

SPECTRUM = Spectrum(np.array([0.02, 0.05, 0.15]), 1.2 * np.array([0.4, 0.2, 0.4]))
ENERGIES = np.linspace(-8.0, 8.0, 641)


def peak(centre: float = 0.1, height: float = 0.8, width: float = 0.3) -> ElectronicDos:
    return ElectronicDos(ENERGIES, 1 + height * np.exp(-(((ENERGIES - centre) / width) ** 2)))


@pytest.mark.parametrize("mu_star", [0.0, 0.13])
def test_constant_dos_is_the_constant_dos_limit(mu_star: float) -> None:
    usual = eliashberg_tc(SPECTRUM, mu_star)
    constant = ElectronicDos(np.array([-9.0, -3.0, 0.0, 2.0, 5.0]), np.full(5, 3.7))
    assert eliashberg_tc_full_bandwidth(SPECTRUM, constant, mu_star) == pytest.approx(usual, rel=1e-8)
    theirs = solve_gap(SPECTRUM, 0.6 * usual, mu_star)
    ours = solve_full_bandwidth(SPECTRUM, constant, 0.6 * usual, mu_star)
    assert ours.delta_ev == pytest.approx(theirs.delta_ev, abs=1e-8 * theirs.delta_ev[0])
    assert ours.z == pytest.approx(theirs.z, rel=1e-8) and (ours.chi_ev == 0).all()


def test_a_band_of_finite_width_by_hand() -> None:
    # N = 1 in |ε| < 1 eV, 0 beyond (to 60 eV, then 1 again): ∫(n−1)/(a²+ε²) is a difference of arctangents
    edges = np.array([-60.0, -1.0 - 1e-9, -1.0, -0.5, 0.0, 0.5, 1.0, 1.0 + 1e-9, 60.0])
    dos = ElectronicDos(edges, np.array([0.0, 0, 1, 1, 1, 1, 1, 0, 0]))
    equations = _Equations(SPECTRUM, dos, 0.005, 32, 0.0)
    z, zero = np.full(32, 1.4), np.zeros(32)
    first, second = equations.integrals(z, zero, zero, 0.0)
    a = equations.omega * 1.4
    expected = -2 / a * (np.arctan(60 / a) - np.arctan(1 / a))
    assert first == pytest.approx(expected, rel=2e-3)
    assert np.abs(second).max() < 1e-9


def test_symmetric_dos_moves_nothing_and_an_asymmetric_one_conserves_its_electrons() -> None:
    symmetric = _Equations(SPECTRUM, peak(0.0), 0.006, 64, 0.1)
    _, chi, mu, _ = symmetric.normal_state()
    assert abs(mu) < 1e-8 and np.abs(chi).max() < 1e-8
    shifted = _Equations(SPECTRUM, peak(0.2), 0.006, 64, 0.1)
    z, chi, mu, _ = shifted.normal_state()
    assert abs(mu) > 1e-3
    assert shifted.occupation(z, chi, np.zeros(64), mu) == pytest.approx(0.0, abs=1e-7)


def test_normal_state_solves_the_equations_summed_by_hand() -> None:
    equations = _Equations(SPECTRUM, peak(), 0.006, 40, 0.1)
    z, chi, mu, _ = equations.normal_state()
    kt, omega, lam = equations.kt, equations.omega, equations.lam
    n = np.arange(40)
    both = np.concatenate([-n[::-1] - 1, n])  # all Matsubara indices within the cutoff
    w, zz, cc = ((2 * both + 1) * np.pi * kt, *(np.concatenate([x[::-1], x]) for x in (z, chi)))
    shifted = equations.energies[None, :] - mu + cc[:, None]
    inner = (equations.weights / ((w * zz)[:, None] ** 2 + shifted**2)).sum(1)
    odd = (equations.weights * shifted / ((w * zz)[:, None] ** 2 + shifted**2)).sum(1)
    kernel = lam[np.abs(n[:, None] - both[None, :])]
    assert chi == pytest.approx(-kt * kernel @ odd, abs=1e-8)
    by_hand = equations.normal_z + kt / omega * (kernel @ (w * zz * inner))
    assert z == pytest.approx(by_hand, abs=1e-7)


def test_gap_vanishes_at_the_linearised_tc() -> None:
    dos = peak()
    tc = eliashberg_tc_full_bandwidth(SPECTRUM, dos, 0.1)
    fractions = np.array([0.97, 0.985, 0.993])
    squares = [solve_full_bandwidth(SPECTRUM, dos, f * tc, 0.1).delta_ev[0] ** 2 for f in fractions]
    roots = np.roots(np.polyfit(fractions, squares / squares[0], 2))
    assert roots[np.abs(roots - 1).argmin()].real == pytest.approx(1.0, abs=2e-3)
    assert (solve_full_bandwidth(SPECTRUM, dos, 1.003 * tc, 0.1).delta_ev == 0).all()


def test_states_away_from_the_fermi_level_help_pairing() -> None:
    dip = ElectronicDos(ENERGIES, 1 - 0.6 * np.exp(-((ENERGIES / 0.15) ** 2)))
    usual = eliashberg_tc(SPECTRUM, 0.1)
    assert eliashberg_tc_full_bandwidth(SPECTRUM, dip, 0.1) > usual
    assert eliashberg_tc_full_bandwidth(SPECTRUM, peak(0.0, 0.8, 0.1), 0.1) < usual


def test_reader_takes_the_fermi_level_of_dos_x(tmp_path) -> None:
    energies = np.linspace(5, 20, 61)
    rows = "\n".join(f"{e:8.3f}  {1 + 0.1 * e:.4E}  {e:.4E}" for e in energies)
    path = tmp_path / "h3s.dos"
    path.write_text(f"#  E (eV)   dos(E)     Int dos(E) EFermi =   12.500 eV\n{rows}\n")
    dos = read_electronic_dos(path)
    assert dos.energies_ev[0] == pytest.approx(-7.5) and np.interp(0, dos.energies_ev, dos.ratio) == 1
    assert read_electronic_dos(path, 10.0).energies_ev[0] == pytest.approx(-5.0)
    with pytest.raises(InputError, match="not inside"):
        read_electronic_dos(path, 30.0)
    path.write_text("nothing\n")
    with pytest.raises(InputError, match="two numbers"):
        read_electronic_dos(path)


def test_too_low_a_temperature_is_named() -> None:
    with pytest.raises(InputError, match="Matsubara"):
        solve_full_bandwidth(SPECTRUM, peak(), 0.01, 0.1)
    assert np.isnan(eliashberg_tc_full_bandwidth(Spectrum(np.array([0.03]), np.array([0.05])), peak(), 0.1))

"""α²F as an integral over the zone: nothing lost, and matdyn.x's tetrahedra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.superconductivity.coupling import ModeCoupling, interpolated_coupling, mode_coupling
from himlip_ase.superconductivity.elph_matrices import read_elph
from himlip_ase.superconductivity.qe_outputs import read_a2f_dos
from himlip_ase.superconductivity.zone import band_steps, integrate_zone
from tests.superconductivity.material import AL, al_phonons, al_primitive, needs_al, toy


@pytest.fixture(scope="module")
def al() -> ModeCoupling:
    return interpolated_coupling(read_elph(AL, al_primitive()), al_phonons(), (10, 10, 10), 0.01)


@pytest.mark.parametrize("method", ["sum", "tetrahedron", "gaussian"])
def test_lambda_is_kept_and_shared_among_the_elements(method) -> None:
    d, elph = toy((4, 4, 4))
    coupling = mode_coupling(elph, d, 0.02)
    zone = integrate_zone(coupling, method, points=300)
    total = coupling.spectrum().lambda_total
    assert zone.spectrum.lambda_total == pytest.approx(total, rel=1e-10)
    assert zone.curve.cumulative_lambda[-1] == pytest.approx(total, rel=1e-10)
    parts = [curve.alpha2f for curve in zone.elements.values()]
    assert set(zone.elements) == {"Pd", "H"} and sum(parts) == pytest.approx(zone.curve.alpha2f)
    assert any("α²F by" in text for text in zone.spectrum.caveats)


def test_excluded_gamma_is_carried_through() -> None:
    d, elph = toy((4, 4, 4))
    coupling = mode_coupling(elph, d, 0.02, gamma_weight="excluded")
    zone = integrate_zone(coupling, "tetrahedron", points=200)
    assert zone.spectrum.lambda_total == pytest.approx(coupling.spectrum().lambda_total, rel=1e-10)


@needs_al
def test_tetrahedra_of_linewidths_are_those_of_matdyn_x(al: ModeCoupling) -> None:
    # its ω-grid is coarse: both integrated on it by the same rule
    theirs = read_a2f_dos(AL / "a2F.dos2")
    zone = integrate_zone(al, "tetrahedron", points=1000, quantity="linewidth")
    omega = theirs.omega_ry * units.RY_CM
    ours = np.interp(omega, zone.curve.omega_cm, zone.curve.alpha2f)
    keep = omega > 0
    lam = 2 * (ours[keep] / omega[keep]).sum() * (omega[1] - omega[0])
    assert lam == pytest.approx(theirs.lambda_total, rel=0.01)
    middle = (omega > 60) & (omega < 180)  # away from edges, where 50 points do not resolve anything
    assert np.abs(ours - theirs.total)[middle].max() < 0.02 * theirs.total.max()


@needs_al
def test_methods_agree_better_on_a_denser_mesh(al: ModeCoupling) -> None:
    elph, phonons = read_elph(AL, al_primitive()), al_phonons()

    def difference(coupling: ModeCoupling) -> float:
        logs = [
            integrate_zone(coupling, method).spectrum.omega_log_k
            for method in ("sum", "tetrahedron", "gaussian")
        ]
        return float(np.ptp(logs))

    dense = interpolated_coupling(elph, phonons, (16, 16, 16), 0.01)
    assert difference(dense) < difference(al) < 0.03 * 430


def test_gaussian_widths_follow_the_slopes() -> None:
    d, elph = toy((4, 4, 4))
    coupling = mode_coupling(elph, d, 0.02)
    flat = replace(coupling, frequencies_cm=np.full_like(coupling.frequencies_cm, 500.0))
    assert (band_steps(flat) == 0).all()
    tilted = 100.0 + 50 * np.sin(2 * np.pi * coupling.qpoints[:, :1]) * np.ones(6)
    steps = band_steps(replace(coupling, frequencies_cm=tilted))
    assert steps == pytest.approx(
        50 * np.abs(np.cos(2 * np.pi * coupling.qpoints[:, :1])) * np.ones(6), abs=1e-9
    )


def test_refusals() -> None:
    d, elph = toy()
    coupling = mode_coupling(elph, d, 0.02)
    with pytest.raises(InputError, match="tetrahedron"):
        integrate_zone(coupling, "tetra")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="≥ 10 points"):
        integrate_zone(coupling, points=3)

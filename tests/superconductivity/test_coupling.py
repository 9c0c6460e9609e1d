"""What α²F must not depend on, and what it must: eigenvectors, masses, the swap of phonons, Γ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad

from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity import formulas
from himlip_ase.superconductivity.coupling import interpolated_coupling, mode_coupling
from himlip_ase.superconductivity.onto_elph_grid import swap_onto_grid
from himlip_ase.superconductivity.spectrum import Spectrum, spectrum_from_curve
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import Tc
from tests.superconductivity.material import toy


def test_lambda_is_the_trace_of_g_with_the_inverse_of_d() -> None:
    # Σ_ν z†Gz/ω² = Tr G·Φ⁻¹ whatever the masses: an independent formula without eigenvectors
    d, elph = toy()
    coupling = mode_coupling(elph, d, 0.02)
    from himlip_ase import units

    for q in range(1, 8):
        phi = d.matrices[q] / units.RY_PER_BOHR2_EV_PER_ANGSTROM2
        expected = np.trace(np.linalg.solve(phi, elph.matrices[1, q])).real / (2 * 2.5)
        assert coupling.lambdas[q].sum() == pytest.approx(expected, rel=1e-6)


def test_sums_over_degenerate_modes_do_not_depend_on_the_eigenvectors(monkeypatch) -> None:
    d, elph = toy()
    degenerate = DynamicalMatrices(
        d.primitive.copy(),
        d.dims,
        d.qpoints,
        np.array([np.diag([3.0, 3, 3, 0.5, 0.5, 0.5])] * 8, dtype=complex),
    )
    before = mode_coupling(elph, degenerate, 0.01)
    rng = np.random.default_rng(3)
    true_eigh = np.linalg.eigh

    def rotated(matrices):
        values, vectors = true_eigh(matrices)
        for q in range(len(vectors)):
            for block in (slice(0, 3), slice(3, 6)):
                mix = np.linalg.qr(rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3)))[0]
                vectors[q][:, block] = vectors[q][:, block] @ mix
        return values, vectors

    monkeypatch.setattr(np.linalg, "eigh", rotated)
    after = mode_coupling(elph, degenerate, 0.01)
    assert np.abs(after.lambdas[1:] - before.lambdas[1:]).max() > 1e-5  # single modes do depend on it
    for block in (slice(0, 3), slice(3, 6)):
        assert after.lambdas[1:, block].sum(1) == pytest.approx(before.lambdas[1:, block].sum(1), rel=1e-10)


def test_isotope_scales_frequencies_and_leaves_lambda() -> None:
    d, elph = toy()
    light = mode_coupling(elph, d, 0.02).spectrum()
    masses = {
        s: 2.25 * m for s, m in zip(d.primitive.get_chemical_symbols(), d.primitive.get_masses(), strict=True)
    }
    heavy = mode_coupling(elph, d.with_masses(masses), 0.02).spectrum()
    assert heavy.lambda_total == pytest.approx(light.lambda_total, rel=1e-10)
    assert heavy.omega_log_k == pytest.approx(light.omega_log_k / 1.5, rel=1e-8)
    assert heavy.omega_2_k == pytest.approx(light.omega_2_k / 1.5, rel=1e-8)
    tcs = [critical_temperature(s, 0.0, "eliashberg") for s in (replace(light), heavy)]
    assert isinstance(tcs[0], Tc) and isinstance(tcs[1], Tc)
    assert formulas.isotope_coefficient(tcs[0].kelvin, tcs[1].kelvin, 1.0, 2.25) == pytest.approx(
        0.5, abs=1e-4
    )


def test_one_heavier_element_conserves_lambda_but_moves_its_modes() -> None:
    d, elph = toy()
    light, heavy = (mode_coupling(elph, x, 0.02) for x in (d, d.with_masses({"H": 2.014})))
    assert heavy.spectrum().lambda_total == pytest.approx(light.spectrum().lambda_total, rel=1e-8)
    assert heavy.spectrum().omega_log_k < light.spectrum().omega_log_k
    shares = light.atom_spectra()
    assert shares["Pd"].lambda_total + shares["H"].lambda_total == pytest.approx(
        light.spectrum().lambda_total
    )


def test_gamma_conventions() -> None:
    d, elph = toy()
    counted = mode_coupling(elph, d, 0.02, gamma_weight="counted")
    excluded = mode_coupling(elph, d, 0.02, gamma_weight="excluded")
    at_gamma = counted.lambdas[0].sum()
    assert at_gamma > 0 and (counted.lambdas[0] == 0).sum() == 3  # optical modes count, translations do not
    total = counted.spectrum().lambda_total
    assert excluded.spectrum().lambda_total == pytest.approx((8 * total - at_gamma) / 7)
    other = counted.spectrum().alternative
    assert other is not None and other.lambda_total == pytest.approx(excluded.spectrum().lambda_total)
    with pytest.raises(InputError, match="counted"):
        mode_coupling(elph, d, 0.02, gamma_weight="half")  # type: ignore[arg-type]


def test_swap_of_equal_phonons_changes_nothing() -> None:
    fine, elph = toy((4, 4, 2))
    coarse_q = commensurate_qpoints((2, 2, 2))
    coarse = DynamicalMatrices(
        fine.primitive, (2, 2, 2), coarse_q, np.array([fine.matrices[fine.index(q)] for q in coarse_q])
    )
    swapped = swap_onto_grid(coarse, fine)
    assert np.abs(swapped.matrices - fine.matrices).max() < 1e-10
    same = mode_coupling(elph, swapped, 0.01).spectrum().lambda_total
    assert same == pytest.approx(mode_coupling(elph, fine, 0.01).spectrum().lambda_total, rel=1e-10)


def test_swap_carries_a_short_ranged_difference_exactly() -> None:
    # an on-site stiffening is the same at every q, so that any grid interpolates it exactly
    fine, _ = toy((4, 4, 4))
    coarse_q = commensurate_qpoints((2, 2, 2))
    onsite = np.kron(np.eye(2), 0.3 * np.eye(3))
    coarse = DynamicalMatrices(
        fine.primitive,
        (2, 2, 2),
        coarse_q,
        np.array([fine.matrices[fine.index(q)] for q in coarse_q]) + onsite,
    )
    assert np.abs(swap_onto_grid(coarse, fine).matrices - fine.matrices - onsite).max() < 1e-10


def test_grids_that_do_not_nest_are_joined_through_short_range() -> None:
    """Force constants that reach no farther than half of the smaller box are the same on every grid."""
    primitive = toy((2, 2, 2))[0].primitive

    def everywhere(dims: tuple[int, int, int], factor: float) -> DynamicalMatrices:
        springs = np.kron(np.diag([1.0, 2.0]), np.eye(3)) * factor
        qpoints = commensurate_qpoints(dims)
        phases = np.cos(2 * np.pi * qpoints).sum(axis=1)  # nearest cells
        matrices = springs * (4 - 0.3 * phases)[:, None, None]
        return DynamicalMatrices(primitive, dims, qpoints, matrices.astype(complex))

    for sscha in ((4, 4, 4), (3, 3, 3)):
        for wanted in ((6, 6, 6), (5, 5, 5)):
            swapped = swap_onto_grid(everywhere(sscha, 1.7), everywhere(wanted, 1.0))
            assert swapped.dims == wanted
            assert np.abs(swapped.matrices - everywhere(wanted, 1.7).matrices).max() < 1e-9


def test_interpolation_returns_the_grid_itself() -> None:
    d, elph = toy((3, 3, 3))
    # make both obey the sum rule first, as interpolation enforces it
    d = d.force_constants().with_acoustic_sum_rule("onsite").dynamical_matrices()
    carrier = [DynamicalMatrices(d.primitive, d.dims, d.qpoints, g).force_constants() for g in elph.matrices]
    matrices = np.array([c.with_acoustic_sum_rule("onsite").dynamical_matrices().matrices for c in carrier])
    elph = replace(elph, matrices=matrices)
    plain, dense = mode_coupling(elph, d, 0.01), interpolated_coupling(elph, d, (3, 3, 3), 0.01)
    # Γ is singular under interpolated sum rules only through rounding; compare the rest
    assert dense.lambdas[1:] == pytest.approx(plain.lambdas[1:], rel=1e-6, abs=1e-12)
    with pytest.raises(InputError, match="coarser"):
        interpolated_coupling(elph, d, (2, 2, 2), 0.01)


def test_curve_and_sum_have_the_same_moments() -> None:
    spectrum = Spectrum(np.array([0.04, 0.06, 0.09]), np.array([0.5, 0.8, 0.3]))
    curve = spectrum.broadened(width_cm=4.0, points=20000)
    back = spectrum_from_curve(curve.omega_cm, curve.alpha2f, "cm-1")
    assert back.lambda_total == pytest.approx(1.6, rel=1e-3)
    assert back.omega_log_k == pytest.approx(spectrum.omega_log_k, rel=1e-3)
    assert curve.cumulative_lambda[-1] == pytest.approx(1.6, rel=1e-4)


@pytest.mark.parametrize(
    ("unit", "scale"), [("eV", 1e-3), ("meV", 1.0), ("cm-1", 8.065544), ("THz", 0.24179892), ("K", 11.604518)]
)
def test_units_of_curves(unit: str, scale: float) -> None:
    def curve(omega):
        return np.exp(-(((omega - 50) / 10) ** 2))

    lam = 2 * quad(lambda w: curve(w) / w, 1e-6, 100, points=[50])[0]
    log = 2 / lam * quad(lambda w: curve(w) / w * np.log(w), 1e-6, 100, points=[50])[0]
    omega = np.linspace(0, 100, 2001)
    spectrum = spectrum_from_curve(omega * scale, curve(omega), unit)
    assert spectrum.lambda_total == pytest.approx(lam, rel=1e-6)
    assert spectrum.omega_log_ev == pytest.approx(np.exp(log) * 1e-3, rel=1e-6)

"""What makes Tc uncertain: blocks of an ensemble, q-grids, one σ for all; and isotope coefficients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.bootstrap import (
    bootstrap_tc,
    jackknife_deviations,
    one_sigma,
    resampled_phonons,
    spread_as_jackknife,
)
from himlip_ase.superconductivity.coupling import mode_coupling
from himlip_ase.superconductivity.elph_matrices import read_elph
from himlip_ase.superconductivity.isotope import IsotopeEffect, isotope_effect, isotope_effects
from himlip_ase.superconductivity.methods import FORMULAS
from himlip_ase.superconductivity.onto_elph_grid import carry_deviations, swap_onto_grid
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.q_mesh import q_mesh_convergence
from himlip_ase.superconductivity.tables import budget_rows, format_table
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, TcTable
from tests.superconductivity.material import AL, al_phonons, al_primitive, needs_al, toy


def coarse_part(fine: DynamicalMatrices, dims: tuple[int, int, int]) -> DynamicalMatrices:
    grid = commensurate_qpoints(dims)
    return DynamicalMatrices(
        fine.primitive, dims, grid, np.array([fine.matrices[fine.index(q)] for q in grid])
    )


def blocks_of(d: DynamicalMatrices, count: int, size: float, seed: int = 3) -> np.ndarray:
    """Hermitian, time-reversal symmetric changes, independent from block to block."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(count, 6, 6)) * size
    return np.repeat((real + real.swapaxes(1, 2))[:, None] + 0j, len(d.qpoints), axis=1)


def test_resampled_phonons_have_the_variance_of_the_mean() -> None:
    d, _ = toy()
    blocks = blocks_of(d, 20, 0.05)
    samples = np.array([s.matrices for s in resampled_phonons(d, blocks, 4000, seed=1)])
    assert samples.mean(axis=0) == pytest.approx(d.matrices, abs=2e-3)
    expected = blocks[:, 0].real.std(axis=0, ddof=1) / np.sqrt(20)
    assert samples[:, 0].real.std(axis=0) == pytest.approx(expected, rel=0.06)
    # one displacement of the whole crystal moves every q alike: the correlation survives
    moves = samples - d.matrices
    assert moves[:, 3] == pytest.approx(moves[:, 0], abs=1e-12)


def test_jackknife_deviations_are_those_of_the_blocks() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.normal(size=(12, 3))
    deleted = (blocks.sum(axis=0) - blocks) / 11
    assert jackknife_deviations(deleted) == pytest.approx(blocks - blocks.mean(axis=0))


def test_noise_of_tc_is_that_of_linear_propagation() -> None:
    d, elph = toy((4, 4, 2))
    blocks = blocks_of(d, 20, 0.01)
    result = analyse("x", elph, d, options=TcOptions((0.1,), sigma_ry=0.02, samples=300), deviations=blocks)
    assert result.noise is not None and result.noise.refused == 0
    logs = []
    for sign in (-1, 1):
        moved = [
            DynamicalMatrices(d.primitive, d.dims, d.qpoints, d.matrices + sign * 1e-2 * b) for b in blocks
        ]
        logs.append([mode_coupling(elph, m, 0.02).spectrum().lambda_total for m in moved])
    slopes = np.diff(logs, axis=0)[0] / 2e-2
    expected = slopes.std(ddof=1) / np.sqrt(20)
    assert result.noise.lambda_std == pytest.approx(expected, rel=0.15)
    entry = result.table.get("allen-dynes", 0.1)
    assert isinstance(entry, Tc) and any(part.kind == "ensemble" for part in entry.parts)
    assert entry.uncertainty_kelvin == pytest.approx(np.sqrt(sum(part.size**2 for part in entry.parts)))


def test_one_soft_sample_does_not_make_the_error_bar() -> None:
    """Of a Gaussian the spread is its σ; a single far sample of 200, as λ ∝ 1/ω² has them, changes little."""
    rng = np.random.default_rng(4)
    assert one_sigma(rng.normal(2.0, 0.3, size=40_000)) == pytest.approx(0.3, rel=0.02)
    values = rng.normal(1.4, 0.04, size=200)
    soft = np.append(values[:-1], 2.6)
    assert one_sigma(soft) == pytest.approx(one_sigma(values), rel=0.05) and soft.std() > 2 * values.std()
    few = np.array([1.0, 2.0, 4.0])
    assert one_sigma(few) == pytest.approx(few.std(ddof=1))


def test_deviations_are_carried_like_the_phonons() -> None:
    fine, _ = toy((4, 4, 4))
    coarse = coarse_part(fine, (2, 2, 2))
    change = blocks_of(coarse, 5, 0.01)
    carried = carry_deviations(change, coarse, (4, 4, 4))
    moved = DynamicalMatrices(coarse.primitive, coarse.dims, coarse.qpoints, coarse.matrices + change[2])
    expected = swap_onto_grid(moved, fine).matrices - swap_onto_grid(coarse, fine).matrices
    assert carried[2] == pytest.approx(expected, abs=1e-10)


def test_swap_reproduces_the_common_points_and_takes_a_finer_grid() -> None:
    fine, _ = toy((4, 4, 4))
    other, _ = toy((2, 2, 2), seed=5)
    swapped = swap_onto_grid(other, fine)
    for q in other.qpoints:
        assert swapped.matrices[swapped.index(q)] == pytest.approx(other.matrices[other.index(q)], abs=1e-10)
    down = swap_onto_grid(fine, other)
    assert down.dims == (2, 2, 2)
    for q in other.qpoints:
        assert down.matrices[down.index(q)] == pytest.approx(fine.matrices[fine.index(q)])


def test_unstable_samples_take_the_tc_away() -> None:
    d, elph = toy()
    result = analyse(
        "x", elph, d, options=TcOptions((0.1,), sigma_ry=0.02, samples=50), deviations=blocks_of(d, 8, 8.0)
    )
    assert all(isinstance(entry, NoTc) and "samples" in entry.reason for entry in result.table.results)


@needs_al
def test_q_grid_of_g_enters_the_uncertainty() -> None:
    elph, phonons = read_elph(AL, al_primitive()), al_phonons()
    half = elph.part((2, 2, 2))
    result = analyse("Al", elph, phonons, None, TcOptions((0.1,), meshes=((8, 8, 8),)), coarser=[half])
    assert [(row.elph_dims, row.mesh) for row in result.q_mesh] == [
        ((2, 2, 2), (2, 2, 2)),
        ((2, 2, 2), (8, 8, 8)),
        ((4, 4, 4), (4, 4, 4)),
        ((4, 4, 4), (8, 8, 8)),
    ]
    lambdas = [row.lambda_total for row in result.q_mesh]
    part = next(part.size for part in result.table.lambda_parts if part.kind == "q-grid")
    assert part == pytest.approx(abs(lambdas[2] - lambdas[0]) / 2)
    assert result.q_mesh[2].lambda_total == pytest.approx(result.table.lambda_total)
    text = format_table([result])
    assert "G on 2×2×2, interpolated onto 8×8×8" in text and "together" in text
    with pytest.raises(InputError, match="coarser than"):
        q_mesh_convergence([elph], coarse_part(phonons, (2, 2, 2)))


@needs_al
def test_runs_of_other_electrons_differ_at_the_points_they_share() -> None:
    """G of a coarser run 10 % larger: λ of the finer may be off by 10 %, for each Tc what that makes."""
    elph, phonons = read_elph(AL, al_primitive()), al_phonons()
    options = TcOptions((0.1,), methods=("allen-dynes",), sigma_ry=0.03)
    for factor in (1.0, 1.1):
        half = elph.part((2, 2, 2))
        half = replace(half, matrices=factor * half.matrices)
        result = analyse("Al", elph, phonons, None, options, coarser=[half])
        (size,) = [part.size for part in result.table.lambda_parts if part.kind == "k-grid"]
        assert size == pytest.approx((factor - 1) * result.table.lambda_total, abs=1e-9)
        (entry,) = result.table.results
        assert isinstance(entry, Tc)
        (kelvin,) = [part.size for part in entry.parts if part.kind == "k-grid"]
        assert (kelvin > 0.2 * entry.kelvin) == (factor > 1)
    other = elph.part((2, 2, 2))
    runs = [replace(other, matrices=1.1 * other.matrices), elph.part((4, 2, 2))]
    result = analyse("Al", elph, phonons, None, options, coarser=runs)
    (size,) = [part.size for part in result.table.lambda_parts if part.kind == "k-grid"]
    assert size == pytest.approx(0.1 * result.table.lambda_total)  # the run that differs, not the largest


@needs_al
def test_two_sets_of_phonons_share_one_sigma() -> None:
    elph, harmonic = read_elph(AL, al_primitive()), al_phonons()
    leading = analyse("a", elph, harmonic, None, TcOptions((0.1,)))
    stiff = DynamicalMatrices(harmonic.primitive, harmonic.dims, harmonic.qpoints, 1.2 * harmonic.matrices)
    other = analyse("b", elph, stiff, harmonic, TcOptions((0.1,)), sigma_of=leading)
    assert other.sigma_ry == leading.sigma_ry == pytest.approx(0.035)
    assert other.sigma_source == "that of 'a'" and "plateau" in leading.sigma_source
    assert other.plateau is not None and leading.plateau is not None
    assert other.plateau.lambdas == pytest.approx(leading.plateau.lambdas / 1.2, rel=1e-3)


@needs_al
def test_a_table_survives_json_and_shows_its_budget() -> None:
    result = analyse("Al", read_elph(AL, al_primitive()), al_phonons(), None, TcOptions((0.08, 0.1, 0.12)))
    again = TcTable.from_record(result.to_record())
    assert again.results == result.table.results and again.lambda_parts == result.table.lambda_parts
    rows = budget_rows(result.table)
    names = [name for name, _, _ in rows]
    assert names[-2] == "together" and names[-1].startswith("μ*")
    for place in range(len(FORMULAS)):
        parts = [kelvins[place] for _, _, kelvins in rows[:-2]]
        assert rows[-2][2][place] == pytest.approx(np.sqrt(np.sum(np.square(parts))))


@pytest.mark.parametrize("method", FORMULAS.names())
def test_isotope_coefficients(method) -> None:
    d, elph = toy()
    effect = isotope_effect(elph, d, 0.1, method, 0.02)
    assert isinstance(effect, IsotopeEffect)
    assert effect.total == pytest.approx(0.5, abs=1e-4)  # λ does not know the masses
    assert sum(effect.elements.values()) == pytest.approx(effect.total, abs=2e-3)
    assert set(effect.elements) == {"Pd", "H"} and effect.elements["H"] > 0


@pytest.mark.parametrize("integration", ["sum", "gaussian"])
def test_isotope_coefficients_are_those_of_the_table(integration) -> None:
    """On a mesh, too: by Tc of two analyses that differ in a mass alone."""
    d, elph = toy()
    one = TcOptions((0.1,), ("allen-dynes",), sigma_ry=0.02, accept=("imaginary", "coarse"))
    options = replace(one, mesh=(3, 3, 3), integration=integration)
    found = analyse("toy", elph, d, None, options)
    (effect,) = isotope_effects(elph, d, None, found, options)
    assert isinstance(effect, IsotopeEffect)
    mass = found.masses_amu["H"]
    logs = []
    for power in (-0.02, 0.02):
        entry = analyse("toy", elph, d, None, options, masses={"H": mass * np.exp(power)}).table.results[0]
        logs.append(np.log(entry.kelvin))
    assert effect.elements["H"] == pytest.approx((logs[0] - logs[1]) / 0.04, rel=1e-6)
    assert effect.total == pytest.approx(0.5, abs=1e-3)
    (plain,) = isotope_effects(elph, d, None, found, one)
    assert isinstance(plain, IsotopeEffect) and abs(plain.elements["H"] - effect.elements["H"]) > 0.04


def test_phonons_that_leave_a_part_out_spread_as_their_jackknife_error() -> None:
    """Of a mean over independent parts that error is the one that the parts themselves tell."""
    d, _ = toy()
    parts = blocks_of(d, 8, 0.02)
    deleted = (parts.sum(axis=0) - parts) / 7
    spread = np.array([one.matrices for one in spread_as_jackknife(d, deleted)])
    own = parts.std(axis=0, ddof=1) / np.sqrt(8)
    student = np.sqrt(7 / 5)  # eight parts tell their own error with Student's t
    np.testing.assert_allclose(spread.std(axis=0, ddof=1), student * own, atol=1e-12)
    np.testing.assert_allclose(spread.mean(axis=0), d.matrices, atol=1e-12)


def test_a_thousand_samples_keep_their_search_warm() -> None:
    d, elph = toy((4, 4, 4))
    blocks = blocks_of(d, 20, 0.02)
    samples = resampled_phonons(d, blocks, 30)
    warm = bootstrap_tc(elph, samples, (0.1,), ("eliashberg",), 0.02)
    from himlip_ase.superconductivity.eliashberg import eliashberg_tc

    cold = [eliashberg_tc(mode_coupling(elph, s, 0.02).spectrum(), 0.1) for s in samples]
    assert warm.kelvin[:, 0] == pytest.approx(cold, rel=2e-3)


def test_an_uncertainty_that_cannot_be_compared_is_not_called_small() -> None:
    from himlip_ase.superconductivity.spectrum import Spectrum
    from himlip_ase.superconductivity.tc import add_spread, tc_table

    strong = tc_table(Spectrum(np.array([0.05]), np.array([1.5])), (0.1,), ("allen-dynes",))
    weak = tc_table(Spectrum(np.array([0.05]), np.array([0.1])), (0.1,), ("allen-dynes",))
    entry = add_spread(strong, [weak], "q-grid", "another grid").get("allen-dynes", 0.1)
    assert isinstance(entry, Tc) and entry.uncertainty_kelvin is None
    assert "no Tc to compare with for another grid" in entry.uncertainty_source

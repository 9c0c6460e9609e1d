"""Phonons of a relaxed cell with G(q) of the labels' cell."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity import TcOptions, analyse, bring_to_cell, mode_coupling
from himlip_ase.superconductivity.cell_strain import strain_between
from tests.superconductivity.material import strained_toy, toy

OPTIONS = TcOptions((0.1,), ("allen-dynes",), sigma_ry=0.02)


def test_frequencies_and_lambda_do_not_depend_on_how_the_cell_is_written() -> None:
    d, elph = toy()
    relaxed = strained_toy(d, -0.006).with_masses({"H": 2.014})
    carried, strain = bring_to_cell(relaxed, elph.primitive)
    assert strain is not None and strain.principal == pytest.approx((-0.006,) * 3)
    assert strain.volume == pytest.approx(0.994**3 - 1)
    assert carried.frequencies() == pytest.approx(relaxed.frequencies(), abs=1e-9)
    assert list(carried.primitive.get_masses()) == list(relaxed.primitive.get_masses())
    found = analyse("relaxed", elph, relaxed, d, OPTIONS)
    expected = mode_coupling(elph, d.with_masses({"H": 2.014}), 0.02).spectrum()
    assert found.table.lambda_total == pytest.approx(expected.lambda_total, rel=1e-12)
    assert found.table.omega_log_k == pytest.approx(expected.omega_log_k, rel=1e-12)


def test_the_strain_is_stated_and_what_is_not_recalculated_named() -> None:
    d, elph = toy()
    found = analyse("relaxed", elph, strained_toy(d, 0.005, axis=2), d, OPTIONS)
    assert found.strain is not None
    assert found.strain.principal == pytest.approx((0, 0, 0.005), abs=1e-12)
    (caveat,) = [text for text in found.table.caveats if "relaxed cell" in text]
    for words in ("+0.50 %", "volume", "G(q)", "N(E_F)", "not recalculated"):
        assert words in caveat
    entry = found.table.results[0]
    assert caveat in entry.caveats  # type: ignore[union-attr]
    assert found.to_record()["cell_strain"]["not_recalculated"]


def test_beyond_the_limit_it_is_refused_with_what_to_type() -> None:
    d, elph = toy()
    far = strained_toy(d, 0.02)
    with pytest.raises(
        InputError, match=r"2\.00.*1 % are allowed.*--max-strain 0\.021.*tc\.max_strain=0\.021"
    ):
        analyse("far", elph, far, d, OPTIONS)
    assert analyse("far", elph, far, d, TcOptions((0.1,), max_strain=0.021)).strain is not None
    assert analyse("near", elph, strained_toy(d, 1e-4), d, OPTIONS).strain is None  # 0.0003 Å


def test_a_coarser_relaxed_grid_reaches_the_grid_of_g() -> None:
    fine, elph = toy((4, 4, 4))
    coarse, _ = toy((2, 2, 2))
    harmonic = np.array([fine.matrices[fine.index(q)] for q in coarse.qpoints])
    own = DynamicalMatrices(fine.primitive, coarse.dims, coarse.qpoints, 1.1 * harmonic)
    straight = analyse("own cell", elph, own, fine, OPTIONS)
    relaxed = analyse("relaxed", elph, strained_toy(own, 0.008), fine, OPTIONS)
    assert relaxed.table.lambda_total == pytest.approx(straight.table.lambda_total, rel=1e-12)


def test_another_crystal_a_turned_cell_or_another_site_is_refused() -> None:
    d, _ = toy()
    other = d.primitive.copy()
    angle = 0.02
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    other.set_cell(other.cell.array @ turn * 1.004, scale_atoms=True)
    with pytest.raises(InputError, match=r"turned against one another by 1\.15°"):
        strain_between(d.primitive, other, "first", "second")
    moved = d.primitive.copy()
    moved.positions[1, 0] += 0.2
    with pytest.raises(InputError, match=r"atom 1 \(H\)"):
        strain_between(d.primitive, moved, "first", "second")
    moved.symbols[1] = "Li"
    with pytest.raises(InputError, match="LiPd"):
        strain_between(d.primitive, moved, "first", "second")
    assert strain_between(d.primitive, d.primitive, "first", "second") is None

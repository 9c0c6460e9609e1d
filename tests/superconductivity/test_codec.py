"""Results as objects: what is written comes back, version 1 included, and no key is a rounded number."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.lattice import grid_indices
from himlip_ase.pipeline.tc_cases import CaseResult, Phonons, TcResults
from himlip_ase.superconductivity import (
    TcAnalysis,
    TcOptions,
    analyse,
    format_table,
    read_results,
    write_results,
)
from himlip_ase.superconductivity.isotope import IsotopeEffect, isotope_effects
from himlip_ase.superconductivity.output_files import write_figures
from himlip_ase.superconductivity.tc_entries import NoTc, Tc
from tests.superconductivity.material import strained_toy, toy

VERSION_1 = Path(__file__).parent / "version_1"
OPTIONS = TcOptions(
    (0.12, 0.125, 0.13), ("allen-dynes", "sisso"), sigma_ry=0.02, samples=10, meshes=((3, 3, 3),)
)


def same(first: Any, second: Any) -> None:
    """Equal in every field, arrays and nan included; meV to eV and back costs the last digit."""
    if is_dataclass(first):
        assert type(first) is type(second)
        for item in fields(first):
            same(getattr(first, item.name), getattr(second, item.name))
    elif isinstance(first, np.ndarray | float):
        assert np.shape(first) == np.shape(second)
        np.testing.assert_allclose(first, second, rtol=1e-14, atol=0, equal_nan=True)
    elif isinstance(first, dict | tuple | list):
        assert len(first) == len(second)
        assert not isinstance(first, dict) or list(first) == list(second)
        pairs = zip(*(x.values() if isinstance(x, dict) else x for x in (first, second)), strict=True)
        for one, two in pairs:
            same(one, two)
    else:
        assert first == second


@pytest.fixture(scope="module")
def found() -> TcAnalysis:
    d, elph = toy()
    moved = 0.01 * np.random.default_rng(1).normal(size=(6, 1, 1, 1)) * d.matrices
    moved = (moved + moved[:, grid_indices(-d.qpoints, d.dims)].conj()) / 2
    return analyse(
        "hessian", elph, strained_toy(d, 0.004), None, replace(OPTIONS, gap=True), deviations=moved
    )


def test_every_part_of_an_analysis_survives_the_file(found: TcAnalysis, tmp_path: Path) -> None:
    d, elph = toy()
    effects = isotope_effects(elph, d, None, found, OPTIONS)
    write_results(tmp_path / "tc.json", [found], isotopes=effects)
    (again,), effects_again = read_results(tmp_path / "tc.json")
    same(found, again)
    same(effects, effects_again)
    assert found.noise is not None and found.gap is not None and found.q_mesh and found.elements
    assert found.strain is not None and found.spectrum is not None and found.spectrum.alternative is not None
    json.loads((tmp_path / "tc.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    with pytest.raises(InputError, match="--overwrite"):
        write_results(tmp_path / "tc.json", [found])


def test_problems_keep_their_kinds(tmp_path: Path) -> None:
    d, elph = toy((1, 1, 1))
    coarse = analyse("coarse", elph, d, None, OPTIONS)
    write_results(tmp_path / "tc.json", [coarse])
    (again,), _ = read_results(tmp_path / "tc.json")
    assert again.spectrum is not None
    assert [problem.kind for problem in again.table.problems] == ["coarse"]
    assert again.spectrum.problems == again.table.problems == coarse.table.problems
    assert not again.table.stable_modes_only


def test_three_values_of_mu_star_that_two_decimals_do_not_tell_apart(found: TcAnalysis) -> None:
    kelvins = [found.table.get("allen-dynes", mu).kelvin for mu in OPTIONS.mu_star]  # type: ignore[union-attr]
    assert kelvins[0] > kelvins[1] > kelvins[2]
    again = TcAnalysis.from_record(found.to_record())
    assert again.table.mu_stars == (0.12, 0.125, 0.13)
    text = format_table([again])
    for mu, kelvin in zip(("0.12 ", "0.125", "0.13 "), kelvins, strict=True):
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {mu}  ")]
        assert f"{kelvin:.2f}" in line


def test_results_of_version_1_are_read() -> None:
    (harmonic, hessian), effects = read_results(VERSION_1 / "results.json")
    assert [problem.kind for problem in harmonic.table.problems] == ["imaginary"]
    assert harmonic.table.stable_modes_only and len(harmonic.imaginary) == 1
    assert all(isinstance(entry, NoTc) for entry in harmonic.table.results)
    entry = hessian.table.get("allen-dynes", 0.125)
    assert isinstance(entry, Tc) and entry.kelvin > 0
    assert {part.kind for part in entry.parts} == {"sum", "ensemble"}
    assert hessian.gap is not None and hessian.q_mesh[1].mesh == (3, 3, 3)
    assert any(isinstance(effect, IsotopeEffect) for effect in effects)
    assert "free-energy Hessian" in format_table([harmonic, hessian])


def test_figures_can_be_drawn_of_version_1(tmp_path: Path) -> None:
    analyses, _ = read_results(VERSION_1 / "results.json")
    assert any(path.name == "tc_mu_star.png" for path in write_figures(tmp_path, analyses))


def test_a_run_of_version_1_is_read(tmp_path: Path) -> None:
    results = TcResults.read(VERSION_1)
    assert list(results.cases) == [
        Phonons("harmonic"),
        Phonons("hessian"),
        Phonons("hessian", "D"),
        Phonons("hessian", grid=(4, 4, 4)),
    ]
    for case in results.cases.values():
        assert case.analysis is not None and case.analysis.spectrum is not None
        assert case.analysis.spectrum.lambda_total == pytest.approx(case.analysis.table.lambda_total)
    assert "did not converge" in results.cases[Phonons("hessian", grid=(4, 4, 4))].refusal
    coefficient = next(item for item in results.isotope_coefficients() if item.method == "allen-dynes")
    assert coefficient.element == "H" and coefficient.value is not None and 0 < coefficient.value < 0.5
    assert coefficient.uncertainty is not None and coefficient.uncertainty > 0
    results.write(tmp_path)
    same(TcResults.read(tmp_path).cases, results.cases)


def test_a_case_without_analysis_and_a_damaged_file(tmp_path: Path) -> None:
    failed = TcResults({Phonons("auxiliary", grid=(4, 4, 4)): CaseResult(None, "another crystal")})
    failed.write(tmp_path)
    assert TcResults.read(tmp_path).cases == failed.cases
    assert TcResults.read(tmp_path / "nothing").cases == {}
    text = (tmp_path / "tc.json").read_text()
    for wrong in (text[:40], text.replace("himlip-tc/2", "himlip-tc/9"), '{"schema": "himlip-tc/2"}', "[]"):
        (tmp_path / "tc.json").write_text(wrong)
        with pytest.raises(CalculationError, match="--from tc"):
            TcResults.read(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"a": 1}', '{"schema": "himlip-tc/1"}', '{"schema": 7}']
)
def test_other_files_are_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"x\.json"):
        read_results(tmp_path / "x.json")


def test_report_of_version_1_is_drawn_again(tmp_path: Path) -> None:
    from himlip_ase.pipeline import tc_report
    from himlip_ase.pipeline.config import parse_config
    from himlip_ase.pipeline.document import Document

    shutil.copytree(VERSION_1, tmp_path / "tc")
    results = TcResults.read(tmp_path / "tc")
    document = Document("old")
    tc_report.headline(document, parse_config("structure: x.cif"), results)
    tc_report.pictures(document, results, tmp_path)
    tc_report.uncertainty(document, results, {}, tmp_path)
    text = document.markdown(tmp_path)
    for words in (
        "μ* = 0.125",
        "isotope coefficient",
        "imaginary modes",
        "SSCHA grid 4×4×4",
        "3×3×3, interpolated",
    ):
        assert words in text, words

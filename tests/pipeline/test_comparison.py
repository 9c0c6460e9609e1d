"""Several runs side by side: H3S with an isotope (phonons made stable by hand), and springs without G(q)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.pipeline.comparison import tables
from himlip_ase.pipeline.comparison.band_gap import acoustic_optical_gap
from himlip_ase.pipeline.comparison.compounds import Compound, read_compounds
from himlip_ase.pipeline.comparison.measured import Measured, read_measured
from himlip_ase.pipeline.comparison.report import compare_runs
from himlip_ase.pipeline.config import parse_config
from himlip_ase.pipeline.runfolder import Figure, RunFolder, StageRecord
from himlip_ase.pipeline.stages import Context, Outcome
from himlip_ase.pipeline.tc import STAGE
from himlip_ase.superconductivity.formulas import isotope_coefficient
from tests.browser import faults_of, find_browser, opened_browser
from tests.phonons.springs import zincblende
from tests.phonons.test_force_constants import build

from .test_tc import run, sscha_like

NATURE = {"source": "Nature 525, 73 (2015)", "doi": "10.1038/nature14964"}
MEASURED = [
    Measured("H3S", 203.0, pressure_gpa=155.0, **NATURE),
    Measured("D3S", 150.0, uncertainty_kelvin=5.0, **NATURE),
]


def finish(context: Context, outcome: Outcome, **figures: Figure) -> Path:
    """What the stages record at their end."""
    folder = context.folder
    folder.write_config(context.config.resolved())
    folder.write_record(StageRecord("labels", "a", dict(figures)))
    calls = {"sscha_force_calls": Figure(3000, "supercells", None, "counted")}
    folder.write_record(StageRecord("sscha", "b", calls, cpu_seconds=600.0))
    gate = None if outcome.gate is None else outcome.gate.to_record()
    folder.write_record(StageRecord("tc", "c", outcome.figures, outcome.notes, gate=gate, cpu_seconds=60.0))
    folder.write_results(context.config.name, ["labels", "sscha", "tc"])
    return folder.path


@pytest.fixture(scope="module")
def hydride(tmp_path_factory: pytest.TempPathFactory) -> Path:
    context, outcome = run(
        tmp_path_factory.mktemp("hydride") / "h3s", **{"tc.methods": ["mcmillan", "allen-dynes"]}
    )
    return finish(context, outcome, pressure=Figure(150.0, "GPa", None, "static"))


def cheap(place: Path, name: str, stiffness: float) -> Path:
    """A run whose labels are springs: no electron-phonon matrices, so no Tc."""
    matrices = build(zincblende, (2, 2, 2))[1].dynamical_matrices()
    matrices = matrices.with_matrices(stiffness * matrices.matrices)
    labels = place / f"labels-{name}"
    (labels / "harmonic").mkdir(parents=True)
    write_dyn(matrices, labels / "harmonic" / "dyn")
    matrices.primitive.write(labels / "crystal.extxyz")
    record = {"code": "ase.calculators.emt:EMT", "settings": {}, "core_seconds": 12.0}
    (labels / "harmonic" / "provenance.json").write_text(json.dumps(record))
    config = parse_config(f"name: {name}\nlabels: {{folder: {labels}}}")
    context = Context(config, RunFolder(place / name))
    sscha_like(matrices, None, True).save(context.of("sscha"))
    context.of("tc").mkdir(parents=True)
    return finish(context, STAGE.run(context, context.of("tc")))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("cheap")
    return [cheap(place, "soft", 1.0), cheap(place, "hard", 1.3)]


@pytest.fixture(scope="module")
def page(hydride: Path, pair: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "out"
    return compare_runs([hydride, *pair], out, MEASURED, notes=["A sentence of the user."])


def test_an_isotope_of_a_run_is_a_compound_with_its_own_masses(hydride: Path) -> None:
    h3s, d3s = read_compounds([hydride])
    assert (h3s.name, h3s.formula, d3s.name, d3s.formula) == ("H3S 150 GPa", "H3S", "D3S", "D3S")
    assert d3s.masses["H"] == pytest.approx(2.014) and h3s.lightest_amu == pytest.approx(1.008)
    assert d3s.isotopologue_of(h3s) == "H" and h3s.isotopologue_of(h3s) is None
    ratio = h3s.harmonic.frequencies().max() / d3s.harmonic.frequencies().max()
    assert 1.3 < ratio < np.sqrt(2.014 / 1.008) + 1e-6
    assert [v.tc_kelvin for v in h3s.measured_in(MEASURED)] == [203.0]
    assert "Im-3m (229)" in h3s.facts.space_group and "60 Ry" in h3s.facts.cutoffs


def test_isotope_coefficient_is_that_of_the_two_tc(hydride: Path) -> None:
    compounds = read_compounds([hydride])
    light, heavy = (c.cases["hessian"].table for c in compounds)
    assert light is not None and heavy is not None
    for name, item in tables.isotope_coefficients(compounds):
        if item.kind == "hessian" and item.value is not None:
            pair = (t.get(item.method, item.mu_star).kelvin for t in (light, heavy))  # type: ignore[union-attr]
            assert name == "H3S 150 GPa" and item.isotope == "D3S"
            assert item.value == pytest.approx(isotope_coefficient(*pair, 1.008, 2.014), rel=1e-6)
            assert item.uncertainty is not None and item.uncertainty > 0


def test_refused_rows_say_no_tc_and_why(hydride: Path, pair: list[Path], page: Path) -> None:
    compounds = read_compounds([hydride, *pair])
    table = tables.tc_table(compounds, MEASURED, ["mcmillan", "allen-dynes"], 0.10)
    rows = {str(row[0]): [str(cell) for cell in row[1:]] for row in table.rows}
    assert rows["H3S 150 GPa, DFT, harmonic"][1:] == ["no Tc", "no Tc", "203"]
    assert (
        "±" in rows["D3S, free-energy Hessian"][1] and rows["D3S, free-energy Hessian"][-1] == "150.0 ± 5.0"
    )  # type: ignore[operator]
    assert rows["soft, DFT, harmonic"] == ["–", "no Tc", "no Tc", ""]
    reasons = tables.reasons_table(compounds)
    assert reasons is not None
    said = {(row[0], row[1]): str(row[2]) for row in reasons.rows}
    assert "imaginary" in said["H3S 150 GPa", "DFT, harmonic"]
    assert "ase.calculators.emt:EMT" in said["soft", "all phonons"]
    found = json.loads((page.parent / "results.json").read_text())["tc"]
    assert all(item["value"] is not None or item["reason"] for item in found)
    text = (page.parent / "report.md").read_text()
    assert "soft: no Tc." in text and "A sentence of the user." in text
    assert "[Nature 525, 73 (2015), doi:10.1038/nature14964](https://doi.org/10.1038/nature14964)" in text


def test_two_cheap_runs_alone_are_compared(pair: list[Path], tmp_path: Path) -> None:
    words = ["report", "--compare", *map(str, pair), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert "soft · hard" in text and "| no Tc |" in text and "acoustic to optical" in text
    assert not (tmp_path / "out" / "figures" / "tc_mu_star.png").exists()
    assert (tmp_path / "out" / "figures" / "phonons.pdf").stat().st_size > 5000
    again = CliRunner().invoke(app, words)
    assert again.exit_code != 0 and "--overwrite" in again.output
    assert "--compare" in CliRunner().invoke(app, ["report", str(pair[0]), "--note", "x"]).output


def test_gap_between_bands_scales_with_the_springs_and_wants_stable_modes(
    pair: list[Path],
) -> None:
    soft, hard = read_compounds(pair)
    gaps = [acoustic_optical_gap(c.harmonic, None).size_cm for c in (soft, hard)]
    assert gaps[1] / gaps[0] == pytest.approx(np.sqrt(1.3), rel=1e-3)
    sigma = np.full(soft.harmonic.frequencies().shape, 3.0)
    assert acoustic_optical_gap(soft.harmonic, sigma).error_cm == pytest.approx(3 * np.sqrt(2))
    unstable = soft.harmonic.with_matrices(-soft.harmonic.matrices)
    with pytest.raises(InputError, match="imaginary modes"):
        acoustic_optical_gap(unstable, None)


def test_cost_is_what_the_records_say(pair: list[Path]) -> None:
    soft: Compound = read_compounds(pair)[0]
    assert soft.costs["labels"] == pytest.approx(0.2) and soft.costs["sscha"] == pytest.approx(10.0)
    row = dict(zip(tables.cost_table([soft]).columns, tables.cost_table([soft]).rows[0], strict=True))
    assert row["together"] == "11.20" and row["times"] == "–"


def test_runs_and_formulas_that_do_not_fit_are_refused(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given twice"):
        read_compounds([pair[0], pair[0]])
    with pytest.raises(InputError, match="not a run folder"):
        read_compounds([tmp_path])
    with pytest.raises(InputError, match="run folder"):
        compare_runs(pair, pair[0])
    with pytest.raises(InputError, match="no run has a Tc by 'eliashberg'"):
        compare_runs(pair, tmp_path / "out", method="eliashberg")


def test_measured_values_from_yaml_and_csv_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "- {compound: PdD, tc_kelvin: 10.5, uncertainty_kelvin: 0.5, source: a paper,\n"
        "   doi: 'https://doi.org/10.1103/x'}\n"
    )
    (tmp_path / "a.csv").write_text(
        "compound,tc_kelvin,uncertainty_kelvin,pressure_gpa,source,doi\nPdD,10.5,0.5,,a paper,10.1103/x\n"
    )
    expected = Measured("PdD", 10.5, "a paper", 0.5, None, "10.1103/x")
    assert read_measured(tmp_path / "a.yaml") == read_measured(tmp_path / "a.csv") == [expected]
    for text, words in (
        ("- {compound: A, tc_kelvin: 1}", "no source"),
        ("- {compound: A, tc_kelvin: cold, source: b}", "a number is wanted"),
        ("- {compound: A, tc_kelvin: .nan, source: b}", "a temperature in K"),
        ("- {compound: A, tc_kelvn: 1, source: b}", "did you mean 'tc_kelvin'"),
        ("- {compound: A, tc_kelvin: 1, source: b, doi: see there}", "write it as"),
        ("{}", "no list"),
    ):
        (tmp_path / "b.yaml").write_text(text)
        with pytest.raises(InputError, match=words):
            read_measured(tmp_path / "b.yaml")


@pytest.mark.skipif(find_browser() is None, reason="no Chromium here (apt-get install chromium)")
def test_the_comparison_can_be_read_on_a_phone_and_a_screen(page: Path) -> None:
    with opened_browser() as browser:
        assert faults_of(browser, page) == []

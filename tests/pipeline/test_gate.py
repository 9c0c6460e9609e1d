"""The gate before every Tc: its data, its limits, and a run on PdH that may not quote one."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.config import load_config, parse_config
from himlip_ase.pipeline.gate import Check, Gate, GateLimits, Limit, judge
from himlip_ase.pipeline.gate_checks import _judging_error, share_of_main_cells
from himlip_ase.pipeline.headlines import closing_lines
from himlip_ase.pipeline.known import on_further_grids, tc_notice
from himlip_ase.pipeline.labels import LabelFolder
from himlip_ase.pipeline.roads import roads, with_gap
from himlip_ase.pipeline.run import run_pipeline
from himlip_ase.pipeline.tc_cases import CaseResult, Phonons, TcResults
from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.tc_entries import Tc
from tests.pipeline.test_tc import run as run_tc
from tests.superconductivity.material import toy

PDH = """
name: PdH
structure: pdh.extxyz
q_grid: [2, 2, 2]
engine: {name: ase, calculator: 'ase.calculators.emt:EMT'}
labels:
  relax: false
  quantum: {quantum111: {number: 4}, quantum211: null, quantum221: null}
  rattle: {rattle040: {number: 5}}
  double_well: 3
  validation: 0
finetune:
  compare: false
  network: {cutoff: 3.5, n_radial: 4, channels: 4, edge_features: 2, hidden: 8, layers: 1, bond_degree: 1}
  training: {epochs: 60, polish: {rounds: 0}}
sscha: {n_configurations: 200, max_populations: 1, n_hessian_configurations: 500}
anharmonic: {workers: 1}
learn: {enabled: false}
tc: {methods: [allen-dynes], gap: false, meshes: [], samples: 20}
"""
"""The settings of a run that once quoted a Tc of 7.2 ± 2.1 K from a potential that missed the harmonic
frequencies by 158 cm⁻¹; EMT stands in for DFT, the network is small, the refinement is off as it was."""


def coupled(labels: LabelFolder, name: str) -> tuple[DynamicalMatrices, ElphMatrices]:
    """G(q) of a model: proportional to the matrices of the stable half of the modes."""
    phonons = labels.harmonic
    values, vectors = np.linalg.eigh(phonons.matrices)
    g = np.einsum("qik,qk,qjk->qij", vectors, np.abs(values) * 0.05, vectors.conj())
    sigma = np.array([0.01, 0.02, 0.03])
    elph = ElphMatrices(
        phonons.primitive,
        phonons.dims,
        phonons.qpoints,
        np.array([g, 1.01 * g, 1.02 * g]),
        sigma,
        np.full(3, 3.0),
        np.full(3, 8.0),
    )
    return phonons, elph


def test_a_potential_that_misses_dft_gives_no_tc_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LabelFolder, "elph_runs", lambda self: ["harmonic"])
    monkeypatch.setattr(LabelFolder, "coupled", coupled)
    bulk("PdH", "rocksalt", a=4.09).write(tmp_path / "pdh.extxyz")
    (tmp_path / "pdh.yaml").write_text(PDH)
    with caplog.at_level(logging.INFO, "himlip_ase"):
        written = run_pipeline(load_config(tmp_path / "pdh.yaml"), tmp_path / "run", until="tc")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    gate = Gate.from_record(results["gate"])
    assert gate.verdict == "withheld"
    beyond = {check.name: check for check in gate.of("withheld")}
    assert beyond["harmonic_rmse_cm"].value > 50 and "polish" in beyond["harmonic_rmse_cm"].what_to_do
    marked = {check.name: check.value for check in gate.of("marked")}
    assert marked["force_error_percent"] is None and marked["k_error_cm"] is None
    tc = [f for f in results["figures"].values() if f.get("key", {}).get("quantity") == "tc"]
    assert tc and all(f["value"] is None and "harmonic frequencies" in f["how"] for f in tc)
    cases = TcResults.read(tmp_path / "run" / "state" / "tc").cases
    assert cases and not any(case.has_tc for case in cases.values())
    said = closing_lines(written)
    assert any(line.startswith("Tc is withheld: harmonic frequencies") for line in said)
    assert not any(line.startswith("Tc,") for line in said)
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "switched off: finetune.compare: False, finetune.training.polish.rounds: 0" in logged


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tc stage on H3S without SSCHA, within all limits but those of what was not measured."""
    _, outcome = run_tc(tmp_path_factory.mktemp("gate") / "run", **{"tc.methods": ["allen-dynes"]})
    assert outcome.gate is not None
    return {
        "gate": outcome.gate.to_record(),
        "figures": {n: f.to_record() for n, f in outcome.figures.items()},
    }


def test_what_was_not_measured_marks_and_tc_is_shown_after_the_gate(stable: dict[str, Any]) -> None:
    from himlip_ase.pipeline.headlines import headlines

    gate = Gate.from_record(stable["gate"])
    assert gate.verdict == "marked"
    assert {check.name for check in gate.checks} == set(GateLimits.__dataclass_fields__)
    figure = stable["figures"]["tc.hessian.allen-dynes.mu0.10"]
    assert figure["value"] > 0 and "marked: " in figure["how"] and "q-grid not measured" in figure["how"]
    (k_error,) = (check for check in gate.checks if check.name == "k_error_cm")  # measured, in the labels
    assert k_error.verdict == "ok" and 0 < k_error.value < 10
    lines = headlines(stable)
    assert lines[0].startswith("Tc is marked")
    quoted = lines[1 + len(gate.checks) :]  # the formula asked for, and N(ε) where its bands are at hand
    assert quoted[0].startswith("Tc, free-energy Hessian, Allen–Dynes") and len(quoted) <= 2
    assert all(line.startswith("Tc, free-energy Hessian") and line.endswith("K") for line in quoted)


def test_a_limit_of_the_configuration_withholds(tmp_path: Path) -> None:
    limits = {"gate.plateau_percent": {"mark": 0, "withhold": 0}, "tc.methods": ["allen-dynes"]}
    context, outcome = run_tc(tmp_path / "run", **limits)
    assert outcome.gate is not None and outcome.gate.refusal.startswith("plateau of σ")
    for name, figure in outcome.figures.items():
        if name.startswith(("tc.", "isotope_coefficient")):
            assert figure.value is None and "plateau of σ" in figure.how
    assert TcResults.read(context.of("tc")).of_interest() is None


def test_what_was_not_measured_withholds_where_its_limit_says_so() -> None:
    text = "structure: a.cif\ngate: {q_grid_percent: {unknown: withheld}}"
    limits = parse_config(text).gate
    assert limits.q_grid_percent == Limit(15.0, 50.0, "withheld")
    assert limits.q_grid_percent.verdict(None) == "withheld" and limits.q_grid_percent.verdict(1.0) == "ok"
    assert limits.plateau_percent.verdict(None) == "marked"
    with pytest.raises(InputError, match=r"gate\.q_grid_percent\.unknown"):
        parse_config(text.replace("withheld", "ok"))


def test_limits_keep_what_is_not_named_and_null_switches_off() -> None:
    config = parse_config(
        "structure: a\ngate: {k_error_cm: {mark: 5}, q_grid_percent: {mark: null, withhold: null}}"
    )
    assert config.gate.k_error_cm == Limit(5, 50) and config.gate.harmonic_rmse_cm == Limit(10, 50)
    assert config.gate.off() == ["gate.q_grid_percent: {mark: null, withhold: null}"]
    assert parse_config(json.dumps(config.resolved())) == config
    for wrong in ("{k_error_cm: {mark: -1}}", "{k_error_cm: {mark: 60}}", "{k_eror_cm: {mark: 1}}"):
        with pytest.raises(InputError, match=r"mark|k_error_cm"):
            parse_config(f"structure: a\ngate: {wrong}")


@pytest.mark.parametrize(
    ("value", "verdict", "limit"),
    [(5.0, "ok", 10), (20.0, "marked", 10), (60.0, "withheld", 50), (None, "marked", 10)],
)
def test_verdict_and_limit(value: float | None, verdict: str, limit: float) -> None:
    check = judge(GateLimits(), "k_error_cm", value, "cm⁻¹", "why", "do this")
    assert (check.verdict, check.limit) == (verdict, limit)
    assert check.what_to_do == ("" if verdict == "ok" else "do this")
    assert Check.from_record(json.loads(json.dumps(check.to_record()))) == check
    off = replace(GateLimits(), k_error_cm=Limit())
    assert judge(off, "k_error_cm", value, "cm⁻¹", "why", "").verdict == "ok"


def test_half_the_gap_between_the_roads_is_part_of_the_error(tmp_path: Path) -> None:
    """G(q) on the finer grid of two: matrices through the difference, and an SSCHA on that grid itself."""
    phonons, elph = toy()
    options = TcOptions(methods=("allen-dynes",), mu_star=(0.1,))
    stiffer = phonons.with_matrices(1.3 * phonons.matrices)
    near, on = (analyse("x", elph, d, options=options) for d in (phonons, stiffer))
    cases = {Phonons("auxiliary"): CaseResult(near), Phonons("auxiliary", grid=(2, 2, 2)): CaseResult(on)}
    results = TcResults(cases)
    both = roads(results, (1, 1, 1), (2, 2, 2))
    assert both is not None and both.grid == (2, 2, 2)
    assert both.lambdas == {"auxiliary": (near.table.lambda_total, on.table.lambda_total)}
    found = with_gap(results, both).cases[Phonons("auxiliary")].analysis
    assert found is not None
    (part,) = [part for part in found.table.lambda_parts if part.kind == "road"]
    assert part.size == pytest.approx(abs(near.table.lambda_total - on.table.lambda_total) / 2)
    assert roads(TcResults({Phonons("auxiliary"): CaseResult(near)}), (1, 1, 1), (2, 2, 2)) is None
    assert roads(results, (4, 4, 4), (4, 4, 4)) is None  # nothing is carried
    assert roads(results, (4, 4, 4), (6, 6, 6)) is None  # the other SSCHA is on a coarser grid
    still_finer = TcResults(cases | {Phonons("auxiliary", grid=(3, 3, 3)): CaseResult(near)})
    assert roads(still_finer, (1, 1, 1), (2, 2, 2)) == both  # that of G(q) itself before one that is carried
    assert with_gap(results, None).cases == cases
    said = tc_notice({}, results, None)
    assert "By the SSCHA on" not in said.text  # nothing is quoted where the checks were not made
    beside = on_further_grids(results, Phonons("auxiliary"))
    (tc,) = on.table.results
    assert isinstance(tc, Tc) and beside.startswith(f"By the SSCHA on 2×2×2 itself: {tc.kelvin:.2f} ± ")


def test_the_worst_of_the_sets_that_judge_counts() -> None:
    sets = {
        name: {"forces": {"rmse": rmse, "label_rms": 1.0}}
        for name, rmse in (("validation_a", 0.05), ("validation_b", 0.12), ("learn", 0.3))
    }
    found = _judging_error({"with_hessian": {"sets": sets}})
    assert found is not None and found[0] == pytest.approx(12) and "validation_b" in found[1]
    assert _judging_error({}) is None


def test_a_larger_cell_is_not_outside_the_region_for_its_size_alone() -> None:
    rng = np.random.default_rng(0)
    small = rng.random((4000, 8)) < 0.03  # eight small cells make a large one
    large = small.any(axis=1).mean()
    assert large > 5 * small.mean()
    assert share_of_main_cells(float(large), 8) == pytest.approx(small.mean(), rel=0.05)
    assert share_of_main_cells(0.4, 1) == 0.4 and share_of_main_cells(1.0, 8) == 1.0


def test_corrected_phonons_have_the_gap_between_corrected_roads_where_both_are() -> None:
    phonons, elph = toy()
    options = TcOptions(methods=("allen-dynes",), mu_star=(0.1,))
    softer, stiffer = (phonons.with_matrices(f * phonons.matrices) for f in (1.1, 1.3))
    near, nearer, on = (analyse("x", elph, d, options=options) for d in (phonons, softer, stiffer))
    grid = (2, 2, 2)
    cases = {
        Phonons("auxiliary"): CaseResult(near),
        Phonons("auxiliary", grid=grid): CaseResult(on),
        Phonons("auxiliary_corrected"): CaseResult(near),
    }

    def gap(cases: dict[Phonons, CaseResult]) -> float:
        results = TcResults(cases)
        found = with_gap(results, roads(results, (1, 1, 1), grid)).cases[Phonons("auxiliary_corrected")]
        assert found.analysis is not None
        return sum(part.size for part in found.analysis.table.lambda_parts if part.kind == "road")

    def half(other: TcAnalysis) -> float:
        return abs(near.table.lambda_total - other.table.lambda_total) / 2

    assert gap(cases) == pytest.approx(half(on))
    assert gap(cases | {Phonons("auxiliary_corrected", grid=grid): CaseResult(nearer)}) == pytest.approx(
        half(nearer)
    )

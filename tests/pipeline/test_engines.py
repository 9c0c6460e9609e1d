"""A run whose labels come from any ASE calculator; engines and stages that are added by one entry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import typer
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read
from typer.testing import CliRunner

from himlip_ase.cli import label, run
from himlip_ase.cli.app import app
from himlip_ase.dft.ase_calculator.engine import AseCalculator
from himlip_ase.dft.engines import ENGINES
from himlip_ase.errors import InputError
from himlip_ase.pipeline.config import load_config, parse_config
from himlip_ase.pipeline.labels import _inputs
from himlip_ase.pipeline.registry import STAGES, StageEntry
from himlip_ase.pipeline.runfolder import RunFolder, hash_inputs
from himlip_ase.pipeline.stages import Context, Outcome, Stage

EMT_ENGINE = "engine: {name: ase, calculator: 'ase.calculators.emt:EMT'}"
SMALL = f"""
name: Cu
structure: cu.extxyz
q_grid: [2, 2, 2]
{EMT_ENGINE}
labels:
  rattle: {{rattle040: {{number: 4, supercell: [2, 2, 2], amplitude_angstrom: 0.1}}}}
  quantum: {{quantum111: null, quantum211: null, quantum221: {{number: 2, supercell: [2, 2, 2]}}}}
  validation: 2
finetune:
  compare: false
  network: {{cutoff: 4.0, n_radial: 4, channels: 4, edge_features: 2, hidden: 8, layers: 2, bond_degree: 1}}
  training: {{epochs: 2, polish: {{rounds: 2, iterations: 20}}}}
sscha: {{n_configurations: 40, max_populations: 3, n_hessian_configurations: 80, temperature_k: 100}}
anharmonic: {{workers: 1}}
learn: {{configurations: 4, rounds: 1}}
"""


def test_from_a_crystal_to_anharmonic_phonons_without_dft_and_no_tc(tmp_path: Path) -> None:
    """A metal of one atom, by EMT; Tc is refused with the reason, and a second run keeps every stage."""
    bulk("Cu", a=3.7).write(tmp_path / "cu.extxyz")
    (tmp_path / "cu.yaml").write_text(SMALL)
    words = ["run", str(tmp_path / "cu.yaml"), "--folder", str(tmp_path / "run"), "--until", "tc"]
    result = CliRunner().invoke(app, ["-q", *words])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["figures"]
    assert figures["tc"]["value"] is None
    assert "ase.calculators.emt:EMT" in figures["tc"]["how"] and "engine: espresso" in figures["tc"]["how"]
    assert figures["free_energy"]["value"] > 0 and figures["free_energy"]["uncertainty"] > 0
    # the loop is on, because an engine is at hand: judged before it is learnt, then corrected by its labels
    assert figures["learning_curve.round1"]["value"] > 0 and "learn.agreed" in figures
    assert figures["free_energy.corrected"]["uncertainty"] > figures["free_energy"]["uncertainty"]
    learnt, begun = (
        tmp_path / "run" / "state" / name / "model.safetensors" for name in ("learn", "finetune")
    )
    assert learnt.read_bytes() != begun.read_bytes()
    labels = tmp_path / "run" / "state" / "labels" / "collected"
    crystal = read(labels / "crystal.extxyz")
    assert abs(crystal.info["pressure_gpa"]) < 0.2
    for frame in read(labels / "rattle040.extxyz", index=":"):
        frame.calc = EMT()
        assert frame.info["REF_energy"] == pytest.approx(frame.get_potential_energy(), abs=1e-6)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "state").glob("*.json")}
    assert CliRunner().invoke(app, ["-q", *words, "--resume"]).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@dataclass(frozen=True)
class Dummy(AseCalculator):
    """EMT under another name, with a setting of its own."""

    calculator: str = "ase.calculators.emt:EMT"
    flavour: str = "plain"
    name: ClassVar[str] = "dummy"
    summary: ClassVar[str] = "an engine that a test added"

    @classmethod
    def holds(cls, folder: Path) -> bool:
        """Never: what it wrote is read as that of its parent."""
        return False


def _help(module: Any, *words: str) -> str:
    group = typer.Typer(add_completion=False)
    module.register(group)
    group.callback()(lambda: None)
    return " ".join(CliRunner().invoke(group, [*words, "--help"], env={"COLUMNS": "300"}).output.split())


def test_an_engine_is_one_entry(tmp_path: Path) -> None:
    bulk("Cu").write(tmp_path / "cu.extxyz")
    with ENGINES.added(Dummy):
        assert "dummy (an engine that a test added)" in _help(label, "label", "rattle")
        config = parse_config("structure: cu.extxyz\nengine: {name: dummy, flavour: sweet}", tmp_path)
        assert config.dft == Dummy(flavour="sweet")
        with pytest.raises(InputError, match="did you mean 'flavour'"):
            parse_config("structure: a\nengine: {name: dummy, flavor: sweet}")
        with pytest.raises(InputError, match="allowed: espresso, ase, dummy"):
            parse_config("structure: a\nengine: zzz")
        words = ["label", "rattle", str(tmp_path / "cu.extxyz"), "-n", "1", "--out", str(tmp_path / "runs")]
        assert CliRunner().invoke(app, ["-q", *words, "--engine", "dummy"]).exit_code == 0
    with pytest.raises(InputError, match="allowed: espresso, ase"):
        parse_config("structure: a\nengine: dummy")


def test_a_stage_is_one_entry(tmp_path: Path) -> None:
    def work(context: Context, folder: Path) -> Outcome:
        outcome = Outcome()
        outcome.add("dummy", 3.0, "eV", "a stage that a test added", 0.1)
        return outcome

    entry = StageEntry("dummy", "adds a number", lambda: Stage("dummy", work, lambda context: []))
    bulk("Cu").write(tmp_path / "cu.extxyz")
    (tmp_path / "cu.yaml").write_text(SMALL)
    with STAGES.added(entry, before="labels"):
        assert STAGES.names()[:2] == ["dummy", "labels"]
        assert "dummy, labels, finetune" in _help(run, "run")
        words = ["run", str(tmp_path / "cu.yaml"), "--folder", str(tmp_path / "run"), "--until", "dummy"]
        result = CliRunner().invoke(app, ["-q", *words])
        assert result.exit_code == 0, result.output
        figures = json.loads((tmp_path / "run" / "results.json").read_text())["figures"]
        found = figures["dummy"]
        assert (found["value"], found["unit"], found["uncertainty"]) == (3.0, "eV", 0.1)
    assert STAGES.names()[0] == "labels"


def test_naming_one_key_never_drops_another() -> None:
    config = parse_config(
        "structure: a\n"
        "labels: {quantum: {quantum211: {number: 3}, quantum221: null}, rattle: {soft: {number: 2}}}\n"
        "finetune: {training: {learning_rate: 0.01, polish: {iterations: 7}}}"
    )
    quantum = config.labels.quantum_sets
    assert sorted(quantum) == ["quantum111", "quantum211"]
    chosen = quantum["quantum211"]
    assert (chosen.number, chosen.supercell, chosen.seed) == (3, (2, 1, 1), 11)
    assert sorted(config.labels.rattle_sets) == ["rattle040", "soft"]
    training = config.finetune.training
    assert (training.epochs, training.polish.rounds, training.polish.iterations) == (300, 10, 7)
    again = parse_config(json.dumps(config.resolved()))
    assert again == config


def _labels_hash(text: str, folder: Path) -> str:
    config = parse_config(text, folder)
    return hash_inputs(_inputs(Context(config, RunFolder(folder / "run", resume=True))))


def test_what_decides_the_labels(tmp_path: Path) -> None:
    """Finished labels of earlier versions stay done; where jobs run is no input, what runs is."""
    (tmp_path / "a.cif").write_text("the same file")
    plain = _labels_hash("structure: a.cif", tmp_path)
    assert plain == "4d1f64711f730e7d2d0720d99937d27c953585986c2809174c3e0a41658ee6b6"
    for same in ("workers: 8", "executor: dask", "engine: espresso", "launcher: {threads: 2}"):
        assert _labels_hash(f"structure: a.cif\n{same}", tmp_path) == plain, same
    for other in (EMT_ENGINE, "qe: {ecutwfc_ry: 70}", "engine: {name: espresso, electron_phonon: false}"):
        assert _labels_hash(f"structure: a.cif\n{other}", tmp_path) != plain, other
    quiet = "structure: a.cif\nengine: {name: espresso, electron_phonon: false%s}"
    without = "426272e969a655fe843328005d8a96f104ecab639d53ceeb4eb45f53fde387ba"
    assert _labels_hash(quiet % "", tmp_path) == without != _labels_hash(quiet % ", k_shift: true", tmp_path)
    emt = _labels_hash(f"structure: a.cif\n{EMT_ENGINE}", tmp_path)
    assert _labels_hash(f"structure: a.cif\n{EMT_ENGINE}\nqe: {{ecutwfc_ry: 70}}", tmp_path) == emt


def test_finished_runs_of_h3s_stay_done(tmp_path: Path) -> None:
    """Key of the labels stage of `make h3s` as version 0.1.0 wrote it; every file in labels/ enters it."""
    config = load_config(Path(__file__).parents[2] / "examples" / "h3s" / "h3s_k12.yaml")
    context = Context(config, RunFolder(tmp_path / "run", resume=True))
    key = hash_inputs("labels", "", _inputs(context))
    assert key == "57cf17b37240425cb87984f073e4be4a6a28339b9f6743cbc6ef89654f8e9f24"


def test_dry_run_of_a_run_says_where_it_would_go(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    bulk("Cu", a=3.6).write(tmp_path / "cu.extxyz")
    (tmp_path / "cu.yaml").write_text(SMALL)
    words = ["run", str(tmp_path / "cu.yaml"), "--folder", str(tmp_path / "run"), "--dry-run"]
    slurm = "{name: slurm, account: physics}"
    result = CliRunner().invoke(app, [*words, "--executor", slurm, "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert "#SBATCH -A physics" in result.output and "workers: 2" in result.output
    assert not (tmp_path / "run").exists()


def test_forces_of_an_ensemble_on_a_cluster(tmp_path: Path) -> None:
    """The SSCHA's forces by Dask are those of this process."""
    pytest.importorskip("distributed")
    from himlip_ase.dft.executors import Dask
    from himlip_ase.sscha.ensembles.workers import potential_forces

    images: Sequence[Any] = [read(Path(__file__).parents[2] / "examples/h3s/labels_k12/crystal.extxyz")] * 10
    for k, image in enumerate(images := [image.copy() for image in images]):
        image.rattle(0.05, seed=k)
    with potential_forces("himlip-h3s-1") as here, potential_forces("himlip-h3s-1", 1, Dask()) as there:
        ours, theirs = here(images), there(images)
    assert np.asarray(theirs.energies) == pytest.approx(np.asarray(ours.energies), abs=1e-9)
    assert np.asarray(theirs.forces) == pytest.approx(np.asarray(ours.forces), abs=1e-9)


@pytest.mark.parametrize("name", ["configuration.md", "own_hydride.md"])
def test_pages_list_what_there_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, defaults, engines, executors and stages; `python scripts/configuration_table.py` brings them."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    import configuration_table

    written = (configuration_table.DOCS / name).read_text(encoding="utf-8")
    assert configuration_table.pages()[name] == written

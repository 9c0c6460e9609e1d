"""``himlip run`` and ``himlip report``: bad input is one sentence, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from himlip_ase.cli.app import app

runner = CliRunner()
H3S = Path(__file__).parents[2] / "examples/h3s/h3s.yaml"


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("structure: a.cif\nsscha: {n_configuration: 30}", [], "did you mean 'n_configurations'?"),
        ("structure: a.cif", [], "a.cif does not exist"),
        ("structure: a.cif", ["--from", "ssch"], "did you mean 'sscha'?"),
        ("structure: a.cif", ["--set", "tc.mu_sta=[0.1]"], "did you mean 'mu_star'?"),
        ("structure: a.cif", ["--set", "tc"], "write key=value"),
        ("structure: !!python/name:os.system", [], "only plain values"),
    ],
)
def test_bad_input_is_one_message(tmp_path: Path, text: str, arguments: list[str], message: str) -> None:
    (tmp_path / "crystal.yaml").write_text(text)
    folder = tmp_path / "run"
    result = runner.invoke(
        app, ["-q", "run", str(tmp_path / "crystal.yaml"), "--folder", str(folder), *arguments]
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("Input error:")
    assert not (folder / "results.json").exists()


@pytest.mark.parametrize("more", [("--out", "mine"), ("--overwrite",), ("--formula", "mcmillan")])
def test_options_of_a_comparison_are_refused_without_it(tmp_path: Path, more: tuple[str, ...]) -> None:
    result = runner.invoke(app, ["report", str(tmp_path), *more])
    assert result.exit_code == 2
    assert f"{more[0]} belongs to --compare; type --compare, or leave it out" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "finetune.training.epochs=3"], "says how to train, and the run takes a finished model"),
        (["--set", "finetune={model: himlip-h3s-3, twins: 4}"], "--set finetune.twins says how to train"),
        (["--pressure-gpa", "200"], "of 150.6 GPa"),
    ],
)
def test_what_finished_labels_and_models_leave_unused_is_refused(arguments, message, tmp_path: Path) -> None:
    """The numbers would be those of 150 GPa and of the model of the package, whatever was asked for."""
    folder = tmp_path / "run"
    result = runner.invoke(app, ["-q", "run", str(H3S), "--folder", str(folder), "--dry-run", *arguments])
    assert result.exit_code == 2 and message in result.stderr
    plain = runner.invoke(app, ["-q", "run", str(H3S), "--folder", str(folder), "--dry-run"])
    assert plain.exit_code == 0, plain.stderr


def test_a_key_of_training_that_the_loop_reads_is_taken_beside_a_model(tmp_path: Path) -> None:
    more = ("learn.enabled=true", "anharmonic.corrected_by=[]", "anharmonic.grids_corrected_by=[]")
    arguments = ["-q", "run", str(H3S), "--folder", str(tmp_path / "run"), "--dry-run"]
    for text in (*more, "finetune.hessian=false"):
        arguments += ["--set", text]
    result = runner.invoke(app, arguments)
    assert "says how to train" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "--labels", "a", "--head", "wide"], "--head is of --closed-form"),
        (["finetune", "--labels", "a", "--closed-form", "alone", "--epochs", "9"], "--epochs is of"),
        (["sscha", "verify", "run", "--k", "8", "8", "8"], "--k belongs to --calculator qe"),
        (["sscha", "verify", "run", "--calculator", "qe", "--dry-run"], "--dry-run is not of this command"),
        (["sscha", "learn", "run", "-m", "m", "-o", "o", "-l", "l", "--dry-run"], "--dry-run is not of this"),
        (["sscha", "learn", "run", "-m", "m", "-o", "o", "-l", "l", "--config", "c"], "--config is of"),
        (["label", "collect", "jobs", "--run", "r", "--set", "learn"], "--set is of --out"),
        (["label", "harmonic", "c", "--out", "o", "--q", "2", "2", "2", "--no-electron-phonon",
          "--sigma", "0.01"], "--sigma is of electron-phonon matrices"),
        (["label", "supercell", "c", "--out", "o", "--k", "8", "8", "8", "--k-spacing", "1"], "both say"),
    ],
)  # fmt: skip
def test_an_option_that_would_be_unused_is_refused(arguments, message, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["-q", *arguments])
    assert result.exit_code == 2 and message in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_report_of_something_else_is_refused(tmp_path: Path) -> None:
    result = runner.invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a run folder" in result.stderr
    assert list(tmp_path.iterdir()) == []

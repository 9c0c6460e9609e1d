"""``himlip run`` and ``himlip report``: bad input is one sentence, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from himlip_ase.cli.app import app

runner = CliRunner()


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


def test_report_of_something_else_is_refused(tmp_path: Path) -> None:
    result = runner.invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a run folder" in result.stderr
    assert list(tmp_path.iterdir()) == []

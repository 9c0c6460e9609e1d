"""The workflows' command lines, without running what takes minutes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from himlip_ase.pipeline.config import load_config
from himlip_ase.pipeline.registry import STAGES

ROOT = Path(__file__).parents[2]
CRYSTALS = ("h3s_sscha", "pdh_isotopes", "cah6", "lah10")


@pytest.mark.parametrize("name", [*CRYSTALS, "hydrides"])
def test_workflow_shows_its_choices(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "workflows" / f"{name}.py"), "--help"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert all(flag in done.stdout for flag in ("--folder", "--resume", "--retrain", "--set"))


@pytest.mark.parametrize("name", CRYSTALS)
def test_method_of_a_workflow_is_that_of_himlip_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    method = importlib.import_module(f"workflows.{name}").METHOD
    assert [stage.name for stage in method] == STAGES.names()


def test_a_mistyped_stage_is_refused(tmp_path: Path) -> None:
    script = str(ROOT / "workflows" / "h3s_sscha.py")
    done = subprocess.run(
        [sys.executable, script, "--folder", str(tmp_path), "--from", "ssca"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "sscha" in done.stderr


def test_workflow_of_hydrides_finds_every_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    hydrides = importlib.import_module("workflows.hydrides")
    for name in hydrides.CRYSTALS:
        assert load_config(hydrides.EXAMPLES / name / f"{name}.yaml").labels.folder is not None


def test_a_model_of_the_package_is_named_like_one(tmp_path: Path) -> None:
    text = f"labels: {{folder: {ROOT / 'examples' / 'h3s' / 'labels'}}}\nfinetune: {{model: himlip-h3s-2}}\n"
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    found = load_config(tmp_path / "run.yaml").finetune.model
    assert found is not None and found.is_file() and found.stem == "himlip-h3s-2"

"""Fine-tuning an AlphaNet with forces and Hessians, by the same command as any base."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import bulk
from typer.testing import CliRunner

from himlip_ase import HiMLIPCalculator
from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.last_layer.closed_form_run import finetune_closed_form
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.store import write_labels
from himlip_ase.potential.alphanet import AlphaNetPotential
from tests.hint.toy import rattled, toy_frame, toy_label
from tests.potential.alphanet_zoo import alphanet_potential, needs_alphanet, write_files

pytestmark = needs_alphanet


def test_the_command_lowers_force_and_hessian_errors(tmp_path: Path) -> None:
    """From AlphaNet's files to a calculator that is read without them."""
    cube = rattled(bulk("S", "fcc", a=3.7, cubic=True), 1, 0.05)[0]
    frames = [toy_frame(atoms) for atoms in rattled(cube, 4, 0.1)]
    label = toy_label(cube)
    write_labels(tmp_path / "labels.h5", frames)
    write_labels(tmp_path / "hessian.h5", [toy_frame(cube, hessian=label)])
    settings = "batch_size: 2, validation_fraction: 0, warmup_steps: 2"
    (tmp_path / "train.yaml").write_text(f"training: {{{settings}}}")
    arguments = (
        "finetune", "--base", f"alphanet:{write_files(tmp_path)}", "--labels", tmp_path / "labels.h5",
        "--labels", tmp_path / "hessian.h5", "--config", tmp_path / "train.yaml", "--epochs", 25,
        "--learning-rate", "0.01", "--device", "cpu", "--no-plots", "--out", tmp_path / "run",
    )  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    assert "base: small.ckpt, AlphaNet small" in result.output.replace("\n", " "), result.output
    card = json.loads((tmp_path / "run" / "model.json").read_text())
    assert card["architecture"] == "AlphaNet" and "GPL-3" in card["licence"] and card["limits"]
    (tmp_path / "small.ckpt").unlink()
    tuned = HiMLIPCalculator(tmp_path / "run" / "model.safetensors").model
    assert isinstance(tuned, AlphaNetPotential)
    found = [evaluate_labels(model, frames, [label]) for model in (alphanet_potential(), tuned)]
    forces = [report.sets["toy"].forces for report in found]
    hessians = [report.hessians[label.name].hessian for report in found]
    for old, new in (forces, hessians):
        assert old is not None and new is not None
        assert new.rmse < 0.7 * old.rmse


def test_resumed_training_is_the_unbroken_one_to_the_bit(tmp_path: Path) -> None:
    cube = bulk("S", "fcc", a=3.7, cubic=True)
    frames = [toy_frame(atoms) for atoms in rattled(cube, 3, 0.1)]
    settings = TrainingSettings(
        epochs=3, batch_size=2, validation_fraction=0.0, learning_rate=3e-3, warmup_steps=1, device="cpu",
        checkpoint_seconds=0.0, validate_every=1,
    )  # fmt: skip

    class Stop(Exception):
        pass

    def stop(progress) -> None:
        if progress.epoch == 1:
            raise Stop

    def run(name: str, **options):
        base = copy.deepcopy(alphanet_potential())
        return finetune(
            frames, [toy_label(cube)], base=base, settings=settings, folder=tmp_path / name, **options
        )

    whole = run("whole")
    with pytest.raises(Stop):
        run("cut", on_epoch=stop)
    cut = run("cut", resume=True)
    for (name, a), b in zip(whole.model.state_dict().items(), cut.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_snippet_of_its_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "alphanet.md").read_text(encoding="utf-8")
    code = page.split("```{code-block} python\n")[1].split("```")[0]
    write_files(tmp_path).rename(tmp_path / "alphanet-oma.ckpt")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"atoms": bulk("S", "fcc", a=3.7)}
    exec(compile(code, "alphanet.md", "exec"), names)
    assert names["hessian"].shape == (1, 3, 1, 3)


def test_the_closed_form_says_that_it_is_not_for_alphanet() -> None:
    frames = [toy_frame(atoms) for atoms in rattled(bulk("S", "fcc", a=3.7, cubic=True), 2, 0.1)]
    with pytest.raises(InputError, match="--closed-form"):
        finetune_closed_form(frames, base=copy.deepcopy(alphanet_potential()))

"""Fine-tuning a MACE with forces and Hessians, by the same command and to the bit."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
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
from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.hint.training.settings import PolishSettings, TrainingSettings
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.potential.mace import MACEPotential
from tests.hint.toy import rattled, toy_frame, toy_label
from tests.potential.mace_zoo import mace_module, mace_potential, needs_mace
from tests.potential.zoo import h3s

pytestmark = needs_mace

LABELS = Path(__file__).parents[2] / "examples" / "h3s" / "labels_k12"
SHORT = TrainingSettings(
    epochs=3, batch_size=2, validation_fraction=0.0, learning_rate=3e-3, warmup_steps=1, device="cpu",
    checkpoint_seconds=0.0, validate_every=1,
)  # fmt: skip


def test_the_command_lowers_force_and_hessian_errors_of_h3s(tmp_path: Path) -> None:
    """From a MACE file to a calculator; four unit cells and the folded harmonic Hessian of 8 atoms."""
    torch.save(mace_module(), tmp_path / "base.model")
    few = read_labels(LABELS / "rattle040.extxyz")[:4]
    ase.io.write(tmp_path / "few.extxyz", ase.io.read(LABELS / "rattle040.extxyz", ":4"))
    (tmp_path / "train.yaml").write_text("training: {batch_size: 2, validation_fraction: 0, warmup_steps: 2}")
    arguments = (
        "finetune", "--base", f"mace:{tmp_path / 'base.model'}", "--labels", tmp_path / "few.extxyz",
        "--hessian", LABELS / "harmonic" / "dyn", "--config", tmp_path / "train.yaml", "--epochs", 12,
        "--learning-rate", "0.02", "--device", "cpu", "--no-plots", "--out", tmp_path / "run",
    )  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    assert "base: base.model, MACE base.model, file base.model, sha256" in result.output
    card = json.loads((tmp_path / "run" / "model.json").read_text())
    assert card["architecture"] == "MACE" and card["licence"].startswith("unknown")
    cell = fold_hessian(read_hessian(LABELS / "harmonic" / "dyn"))[0]
    before, after = (
        evaluate_labels(model, few, [cell])
        for model in (mace_potential(), HiMLIPCalculator(tmp_path / "run" / "model.safetensors").model)
    )
    errors = [
        (
            found.sets["rattle040" if "rattle040" in found.sets else "few"].forces,
            found.hessians[cell.name].hessian,
        )
        for found in (before, after)
    ]
    for old, new in zip(*errors, strict=True):
        assert old is not None and new is not None
        assert new.rmse < 0.7 * old.rmse


def test_resumed_training_is_the_unbroken_one_to_the_bit(tmp_path: Path) -> None:
    """With averages, replay, held-out frames and a descent at the end."""
    cube = bulk("S", "fcc", a=3.7, cubic=True)
    frames = [toy_frame(atoms) for atoms in rattled(cube, 5, 0.1)]
    replay = [toy_frame(atoms) for atoms in rattled(cube, 2, 0.2, seed=7)]
    settings = replace(
        SHORT, validation_fraction=0.2, ema=0.9, replay_every=1, polish=PolishSettings(rounds=1, iterations=2)
    )

    class Stop(Exception):
        pass

    def stop(progress) -> None:
        if progress.epoch == 1:
            raise Stop

    def run(name: str, **options):
        base = copy.deepcopy(mace_potential())
        return finetune(
            frames, [toy_label(cube)], base=base, settings=settings, folder=tmp_path / name, replay=replay,
            **options,
        )  # fmt: skip

    whole = run("whole")
    with pytest.raises(Stop):
        run("cut", on_epoch=stop)
    cut = run("cut", resume=True)
    for (name, a), b in zip(whole.model.state_dict().items(), cut.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert isinstance(cut.model, MACEPotential)
    assert whole.report["training"]["epochs"] == 3


def test_the_snippet_of_its_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (LABELS.parents[2] / "docs" / "mace.md").read_text(encoding="utf-8")
    code = page.split("```{code-block} python\n")[1].split("```")[0]
    torch.save(mace_module(), tmp_path / "mace-omat-0-medium.model")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"atoms": h3s()}
    exec(compile(code, "mace.md", "exec"), names)
    assert names["hessian"].shape == (4, 3, 4, 3)
    assert names["constants"].compact.shape == (4, 32, 3, 3)
    assert names["calc"].model.provenance["licence"].startswith("ASL")


def test_the_closed_form_says_that_it_is_not_for_mace() -> None:
    frames = [toy_frame(atoms) for atoms in rattled(bulk("S", "fcc", a=3.7, cubic=True), 2, 0.1)]
    with pytest.raises(InputError, match="--closed-form"):
        finetune_closed_form(frames, base=copy.deepcopy(mace_potential()))

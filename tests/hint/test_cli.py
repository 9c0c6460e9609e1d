"""The commands end to end on files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.phonopy_io import write_phonopy_params
from himlip_ase.potential.checkpoint import load_model, save_model
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_hessian, toy_labels

CONFIG = """
training: {epochs: 3, batch_size: 4, validation_fraction: 0.2, device: cpu}
network: {elements: [Cu], cutoff: 4.5, n_radial: 4, channels: 2, edge_features: 2, hidden: 8, layers: 1}
"""
SMALL = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    primitive = bulk("Cu", "fcc", a=3.7)
    for name, number in (("rattle", 6), ("validation", 2)):
        images = rattled(primitive.repeat((2, 1, 1)), number, 0.1, seed=number)
        for image in images:
            energy, forces, stress = toy_labels(image)
            image.info |= {"REF_energy": energy, "REF_stress": stress, "set": name}
            image.arrays["REF_forces"] = forces
        ase.io.write(tmp_path / f"{name}.extxyz", images)
    empty = ForceConstants(primitive, (2, 2, 2), np.zeros((1, 8, 3, 3)))
    constants = ForceConstants.from_hessian(
        primitive, (2, 2, 2), toy_hessian(empty.supercell), order="phonopy"
    )
    write_phonopy_params(constants, tmp_path / "phonopy_params.yaml")
    (tmp_path / "train.yaml").write_text(CONFIG)
    return tmp_path


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output


def test_finetune_and_eval(folder: Path) -> None:
    common = (
        "finetune",
        "--labels",
        folder,
        "--hessian",
        folder / "phonopy_params.yaml",
        "--out",
        folder / "run",
    )
    code, output = _run(*common, "--config", folder / "train.yaml", "--epochs", 2)
    assert code == 0, output
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["training"]["epochs"] == 2
    assert list(report["labels"]["sets"]) == ["rattle"], "validation sets are not trained on"
    assert report["labels"]["hessians"][0]["atoms"] == 8
    assert (folder / "run" / "figures" / "parity.png").is_file()
    code, output = _run(*common, "--config", folder / "train.yaml")
    assert code == 2
    assert "--resume" in output
    model = folder / "run" / "model.safetensors"
    code, output = _run("eval", model, "--labels", folder, "--sets", "validation", "--out", folder / "eval")
    assert code == 0, output
    assert "validation: 2 frames" in output
    errors = json.loads((folder / "eval" / "errors.json").read_text())
    assert errors["sets"]["validation"]["forces"]["count"] == 12


def test_typos_and_missing_files_exit_with_a_message(folder: Path) -> None:
    code, output = _run("finetune", "--labels", folder, "--sets", "ratle", "--out", folder / "run")
    assert code == 2
    assert "rattle" in output
    code, output = _run("finetune", "--labels", folder / "absent", "--out", folder / "run")
    assert code == 2
    (folder / "bad.yaml").write_text("training: {epoch: 3}")
    code, output = _run(
        "finetune", "--labels", folder, "--config", folder / "bad.yaml", "--out", folder / "run"
    )
    assert code == 2
    assert "did you mean 'epochs'" in output
    assert not (folder / "run").exists()


def test_closed_form_alone_and_after_training(folder: Path) -> None:
    common = (
        "finetune", "--labels", folder, "--hessian", folder / "phonopy_params.yaml", "--config",
        folder / "train.yaml", "--no-plots",
    )  # fmt: skip
    code, output = _run(*common, "--closed-form", "alone", "--head", "wide", "--out", folder / "alone")
    assert code == 0, output
    assert "closed form:" in output and "within 1σ" in output
    report = json.loads((folder / "alone" / "report.json").read_text())
    assert report["closed_form"]["rows"]["hessian"] > 0
    assert (folder / "alone" / "posterior.safetensors").is_file()
    code, output = _run("eval", folder / "alone", "--labels", folder, "--sets", "validation")
    assert code == 0, output
    code, output = _run(*common, "--closed-form", "after", "--out", folder / "after")
    assert code == 0, output
    for place in (folder / "after", folder / "after" / "closed_form"):
        assert (place / "model.safetensors").is_file()
    code, output = _run(*common, "--closed-form", "never", "--out", folder / "never")
    assert code == 2 and "alone, before, after" in output


def test_pretrain_streams_from_a_store(folder: Path) -> None:
    common = (
        "pretrain", "--store", folder / "labels.h5", "--config", folder / "train.yaml", "--epochs", 2,
        "--out", folder / "base",
    )  # fmt: skip
    code, output = _run(*common, "--labels", folder / "rattle.extxyz")
    assert code == 0, output
    assert (folder / "labels.h5").is_file() and "held out: rattle: 1 frames" in output
    report = json.loads((folder / "base" / "report.json").read_text())
    assert report["labels"]["training"]["frames"] == 5
    code, output = _run(*common, "--labels", folder / "rattle.extxyz", "--resume")
    assert code == 0, output
    name = f"{folder.name}/rattle.extxyz"
    for more in (("--labels", folder / "validation.extxyz"), ("--energy-key", "other")):
        code, output = _run(*common, "--labels", folder / "rattle.extxyz", *more, "--resume")
        text = " ".join(output.split())
        assert code == 2 and f"was made from --labels {name}; --labels {name} --" in text


def test_closed_form_around_a_base_of_more_elements(folder: Path) -> None:
    """Restricted to the labels' element, with given weights; of replayed frames, energies are left out."""
    save_model(HiMLIP(replace(SMALL, elements=("H", "Cu")), seed=0), folder / "base.safetensors", {})
    common = (
        "finetune", "--labels", folder / "rattle.extxyz", "--hessian", folder / "phonopy_params.yaml",
        "--base", folder / "base.safetensors", "--closed-form", "alone", "--no-plots", "--overwrite",
        "--noise", 0.01, 0.1, 0.01, 0.02, "--out", folder / "tuned",
    )  # fmt: skip
    rows = []
    for more in ((), ("--replay", folder / "validation.extxyz")):
        code, output = _run(*common, "--elements", "Cu", *more)
        assert code == 0, output
        rows.append(json.loads((folder / "tuned" / "report.json").read_text())["closed_form"]["rows"])
    assert rows[1]["energy"] == rows[0]["energy"] and rows[1]["forces"] > rows[0]["forces"]
    assert load_model(folder / "tuned" / "model.safetensors").elements == ("Cu",)
    assert json.loads((folder / "tuned" / "report.json").read_text())["base"] == "base"
    other = ase.io.read(folder / "validation.extxyz", index=":")
    other[0].numbers[0] = 1
    ase.io.write(folder / "mixed.extxyz", other)
    code, output = _run(*common, "--elements", "Cu", "--replay", folder / "mixed.extxyz")
    assert code == 0 and f"replayed: {len(other) - 1} of {len(other)} frames" in " ".join(output.split())
    ase.io.write(folder / "foreign.extxyz", other[:1])
    code, output = _run(*common, "--elements", "Cu", "--replay", folder / "foreign.extxyz")
    assert code == 2 and "none of 1 frames holds no other element" in " ".join(output.split())
    code, output = _run(*common, "--elements", "Ag")
    assert code == 2 and "Ag" in output
    code, output = _run(*common, "--elements", "H")
    assert code == 2 and "frames of --labels hold Cu" in " ".join(output.split())

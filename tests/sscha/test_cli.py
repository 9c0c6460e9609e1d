"""``himlip sscha`` parses, calls and reports."""

from __future__ import annotations

import json

import pytest
from ase.io import write
from typer.testing import CliRunner

import himlip_ase.potential.checkpoint
import himlip_ase.potential.evaluate
from himlip_ase.cli.app import app
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha import load_result

from .test_loop import DIMS
from .toy import STRONG, BondCrystal, cscl


@pytest.fixture
def crystal(monkeypatch):
    """The toy crystal in the place of a model."""
    crystal = BondCrystal(cscl(c=2.7), DIMS, STRONG)
    monkeypatch.setattr(himlip_ase.potential.checkpoint, "load_model", lambda name: name)
    monkeypatch.setattr(himlip_ase.potential.evaluate, "evaluate", lambda model, images: crystal(images))
    return crystal


def test_run_refusal_and_resume(crystal, tmp_path):
    write_dyn(crystal.harmonic(), tmp_path / "start.dyn")
    out = tmp_path / "out"
    command = ["sscha", "--dyn", str(tmp_path / "start.dyn"), "--model", "toy", "--out", str(out)]
    command += ["--n", "60", "--n-hessian", "80", "--seed", "3", "-T", "100"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    assert (
        "converged: a fresh ensemble" in run.output and "lowest mode of the free-energy Hessian" in run.output
    )
    assert load_result(out).settings.temperature_k == 100
    table = json.loads((out / "gamma_modes.json").read_text(encoding="utf-8"))
    assert table["Hessian"]["point_group"] == "4/mmm" and "Hessian: modes at Γ" in run.output
    assert {mode["label"] for mode in table["auxiliary"]["modes"]} == {"A2u", "Eu"}
    assert (out / "figures" / "sscha_convergence.png").stat().st_size > 1000
    command_of = ["sscha", "spectral", str(out), "--mesh", "2", "2", "2", "--npoints", "2"]
    command_of += ["--blocks", "2"]
    spectral = CliRunner().invoke(app, command_of)
    assert spectral.exit_code == 0 and "states on 2×2×2 k" in spectral.output, spectral.output
    record = json.loads((out / "spectral" / "spectral_function.json").read_text(encoding="utf-8"))
    assert record["special_points"][0] == ["Γ", 0.0] and record["peaks_cm"][0].count(None) == 3
    assert " ± " in spectral.output and "jackknife over 2 blocks" in spectral.output
    assert record["errors"]["places"][0] == 0 and record["errors"]["peaks_cm"][0].count(None) == 3
    assert CliRunner().invoke(app, command_of).exit_code == 2
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "--resume" in again.output
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 0
    wrong = CliRunner().invoke(app, [*command, "--n", "61"])
    assert wrong.exit_code == 2 and "n_configurations is 61" in wrong.output


def test_isotope_from_a_finished_run_and_one_file_of_it(crystal, tmp_path):
    write_dyn(crystal.harmonic(), tmp_path / "start.dyn")
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["sscha", "run", "--dyn", str(tmp_path / "start.dyn"), "--model", "toy", "--out", str(first)]
    command += ["--n", "60", "--n-hessian", "80", "--seed", "3"]
    assert CliRunner().invoke(app, command).exit_code == 0
    labels = [cscl(c=2.7).repeat(2) for _ in range(8)]
    for seed, atoms in enumerate(labels):
        atoms.rattle(0.1, seed=seed)
        atoms.info["REF_energy"] = 0.0
    write(tmp_path / "labels.extxyz", labels)
    command = ["sscha", "from", str(first), "--model", "toy", "--out", str(second)]
    command += ["--labels", str(tmp_path / "labels.extxyz"), "--mass", "S=33.97"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    assert "lie outside the labels" in run.output, "the watch knows what was learnt"
    assert "taken over from the neighbouring run" in run.output
    result = load_result(second)
    assert result.centroids.get_masses()[0] == 33.97 and result.settings == load_result(first).settings
    wrong = CliRunner().invoke(app, [*command[:-1], "S:33.97", "--resume"])
    assert wrong.exit_code == 2 and "ELEMENT=AMU" in wrong.output
    packed, third = tmp_path / "run.zip", tmp_path / "third"
    assert CliRunner().invoke(app, ["sscha", "pack", str(second), str(packed)]).exit_code == 0
    assert CliRunner().invoke(app, ["sscha", "unpack", str(packed), str(third)]).exit_code == 0
    assert load_result(third).as_dict() == result.as_dict()
    again = CliRunner().invoke(app, ["sscha", "unpack", str(packed), str(third)])
    assert again.exit_code == 2 and "exists already" in again.output


def test_help_lists_the_commands_of_the_group():
    shown = CliRunner().invoke(app, ["sscha", "--help"])
    assert shown.exit_code == 0
    for name in ("run", "from", "pack", "unpack"):
        assert name in shown.output

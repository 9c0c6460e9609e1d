"""``himlip sscha`` parses, calls and reports."""

from __future__ import annotations

import pytest

pytest.importorskip("sscha")

from typer.testing import CliRunner

import himlip_ase.potential.checkpoint
import himlip_ase.potential.evaluate
from himlip_ase.cli.app import app
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha import load_result

from .test_loop import DIMS, SHELLS
from .toy import BondCrystal, cscl

pytestmark = pytest.mark.peer


def test_run_refusal_and_resume(tmp_path, monkeypatch):
    crystal = BondCrystal(cscl(c=2.7), DIMS, SHELLS)
    monkeypatch.setattr(himlip_ase.potential.checkpoint, "load_model", lambda name: name)
    monkeypatch.setattr(himlip_ase.potential.evaluate, "evaluate", lambda model, images: crystal(images))
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
    assert (out / "figures" / "sscha_convergence.png").stat().st_size > 1000
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "--resume" in again.output
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 0
    wrong = CliRunner().invoke(app, [*command, "--n", "61"])
    assert wrong.exit_code == 2 and "n_configurations is 61" in wrong.output

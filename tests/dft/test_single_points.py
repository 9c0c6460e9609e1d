"""Sets of single points: each run once, resumed where they were stopped, published whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.espresso.single_points import run_single_points, single_points
from himlip_ase.dft.publish import collect, read_runs
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.labels.displacements import displace_along, rattle
from tests.dft.conftest import faulty


@pytest.fixture
def jobs(tmp_path, aluminium, settings):
    return single_points([aluminium] * 6, tmp_path / "runs", settings, generator={"method": "copies"})


def test_only_the_missing_ones_are_resumed(tmp_path, fake_pw, jobs):
    run_single_points(jobs, fake_pw.launcher)
    assert fake_pw.calls == 6
    (jobs[2].folder / "pw.out").write_text(faulty(fake_pw.good, "truncated"))  # killed in the middle
    (jobs[4].folder / "pw.out").unlink()
    with pytest.raises(CalculationError, match="2 of 6 runs"):
        collect(tmp_path / "runs", "copies", tmp_path / "labels")
    with pytest.raises(InputError, match="--resume"):
        run_single_points(jobs, fake_pw.launcher)
    outputs = run_single_points(jobs, fake_pw.launcher, resume=True)
    assert fake_pw.calls == 8 and len(outputs) == 6


def test_a_failing_run_does_not_stop_the_others(fake_pw, jobs):
    fake_pw.plan(*[faulty(fake_pw.good, "unconverged")] * 4)
    with pytest.raises(CalculationError, match=r"1 of 6 runs .*5 others are kept"):
        run_single_points(jobs, fake_pw.launcher)
    assert fake_pw.calls == 4 + 5
    run_single_points(jobs, fake_pw.launcher, resume=True)
    assert fake_pw.calls == 4 + 5 + 1


def test_other_inputs_are_refused_before_anything_runs(fake_pw, jobs, aluminium, settings, tmp_path):
    run_single_points(jobs, fake_pw.launcher)
    aluminium.positions[0, 0] += 0.1
    other = single_points([aluminium] * 6, tmp_path / "runs", settings)
    with pytest.raises(InputError, match="something else"):
        run_single_points(other, fake_pw.launcher, resume=True)
    assert fake_pw.calls == 6


def test_side_by_side(fake_pw, jobs, tmp_path, aluminium, settings):
    assert len(run_single_points(jobs, fake_pw.launcher, workers=3)) == 6
    others = single_points([aluminium] * 2, tmp_path / "processes", settings)
    with ProcessPoolExecutor(2) as executor:
        assert len(run_single_points(others, fake_pw.launcher, executor=executor)) == 2
    with pytest.raises(InputError, match="workers"):
        run_single_points(single_points([aluminium], tmp_path / "x", settings), fake_pw.launcher, workers=0)


def test_collected_labels(fake_pw, jobs, tmp_path, pseudo):
    outputs = run_single_points(jobs, fake_pw.launcher)
    path = collect(tmp_path / "runs", "copies", tmp_path / "labels")
    frames = read(path, index=":")
    assert len(frames) == 6
    frame = frames[3]
    assert frame.info["REF_energy"] == pytest.approx(outputs[0].energy, abs=1e-9)
    assert frame.arrays["REF_forces"] == pytest.approx(outputs[0].forces, abs=1e-8)
    assert frame.info["REF_stress"] == pytest.approx(outputs[0].stress, abs=1e-12)
    assert frame.positions == pytest.approx(outputs[0].positions, abs=1e-4)
    assert frame.info["set"] == "copies" and list(frame.info["k_grid"]) == [4, 4, 2]
    record = json.loads((tmp_path / "labels" / "copies.json").read_text())
    assert record["count"] == 6 and record["generator"] == {"method": "copies"}
    assert record["settings"]["ecutwfc_ry"] == 15
    everything = "".join(p.read_text() for p in (tmp_path / "labels").rglob("*") if p.is_file())
    assert str(tmp_path) not in everything, "published labels name no folder of the machine"
    assert len(list((tmp_path / "labels" / "inputs").glob("copies_*.in"))) == 6
    with pytest.raises(InputError, match="exists already"):
        collect(tmp_path / "runs", "copies", tmp_path / "labels")
    before = path.read_bytes()
    assert collect(tmp_path / "runs", "copies", tmp_path / "labels", overwrite=True).read_bytes() == before
    (pseudo / "Al.upf").write_text('<PP_HEADER element="Al"/> another one')
    with pytest.raises(InputError, match="not the file"):
        collect(tmp_path / "runs", "again", tmp_path / "labels")


def test_labels_of_two_pseudopotentials_do_not_mix(fake_pw, jobs, tmp_path):
    run_single_points(jobs[:1], fake_pw.launcher)
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "pseudopotentials.json").write_text(json.dumps({"Al": {"file": "Al.upf", "sha256": "0" * 64}}))
    with pytest.raises(InputError, match="do not mix"):
        collect(tmp_path / "runs", "copies", labels)
    assert not (labels / "copies.extxyz").exists()


def test_partial_set_is_only_taken_when_asked_for(fake_pw, jobs, tmp_path):
    run_single_points(jobs, fake_pw.launcher)
    (jobs[0].folder / "pw.out").unlink()
    assert [run.name for run in read_runs(tmp_path / "runs", partial=True)[0]] == [
        "001",
        "002",
        "003",
        "004",
        "005",
    ]
    for job in jobs[1:]:
        (job.folder / "pw.out").unlink()
    with pytest.raises(CalculationError, match="6 of 6"):
        read_runs(tmp_path / "runs", partial=True)
    with pytest.raises(InputError, match=r"pw\.in"):
        read_runs(tmp_path / "fake")


def test_one_accuracy_per_set(fake_pw, jobs, tmp_path, aluminium, settings):
    run_single_points(jobs, fake_pw.launcher)
    text = (jobs[5].folder / "pw.in").read_text()
    (jobs[5].folder / "pw.in").write_text(text.replace("15.0", "20.0"))
    output = (jobs[5].folder / "pw.out").read_text()
    (jobs[5].folder / "pw.out").write_text(re.sub(r"(cutoff\s+=\s+)15\.", r"\g<1>20.", output))
    with pytest.raises(InputError, match="ecutwfc_ry"):
        collect(tmp_path / "runs", "copies", tmp_path / "labels")


def test_rattle_statistics():
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat((3, 3, 3))
    atoms.symbols[1::2] = "H"
    images = rattle(atoms, 400, 0.2, seed=3)
    steps = np.array([image.positions - atoms.positions for image in images])
    assert steps.mean() == pytest.approx(0, abs=5 * 0.2 / np.sqrt(steps.size))
    assert steps.std() == pytest.approx(0.2, rel=0.01)
    assert np.mean(steps**4) / np.mean(steps**2) ** 2 == pytest.approx(3, abs=0.1)  # Gaussian
    scaled = np.array(
        [i.positions - atoms.positions for i in rattle(atoms, 400, 0.2, seed=3, mass_scaled=True)]
    )
    masses = atoms.get_masses()
    heavy, light = scaled[:, masses > 2].std(), scaled[:, masses < 2].std()
    assert light == pytest.approx(0.2, rel=0.01)
    assert heavy / light == pytest.approx((masses.min() / masses.max()) ** 0.25, rel=0.02)


def test_rattle_is_seeded_and_extends():
    atoms = bulk("Al")
    few, many = rattle(atoms, 3, 0.1, seed=1), rattle(atoms, 8, 0.1, seed=1)
    assert all((a.positions == b.positions).all() for a, b in zip(few, many, strict=False))
    assert (rattle(atoms, 1, 0.1, seed=2)[0].positions != few[0].positions).all()
    for wrong in ({"count": 0, "stdev": 0.1}, {"count": 1, "stdev": 0.0}, {"count": 1, "stdev": np.nan}):
        with pytest.raises(InputError):
            rattle(atoms, seed=1, **wrong)


def test_displacements_along_a_mode():
    atoms = bulk("Al").repeat((1, 1, 2))
    mode = np.array([[0, 0, 3.0], [0, 0, -4.0]])
    images = displace_along(atoms, mode, [0.0, 0.5])
    assert (images[0].positions == atoms.positions).all()
    assert np.linalg.norm(images[1].positions - atoms.positions) == pytest.approx(0.5)
    assert images[1].info["amplitude"] == 0.5
    with pytest.raises(InputError):
        displace_along(atoms, np.zeros((2, 3)), [0.1])


def test_command_line_errors(tmp_path, aluminium, pseudo, monkeypatch):
    run = CliRunner().invoke
    aluminium.write(tmp_path / "al.extxyz")
    arguments = ["label", "rattle", str(tmp_path / "al.extxyz"), "--out", str(tmp_path / "runs")]
    monkeypatch.delenv("ESPRESSO_PSEUDO", raising=False)
    assert "--pseudo" in run(app, arguments).output
    result = run(app, [*arguments, "--pseudo", str(pseudo), "--smearing", "magic"])
    assert result.exit_code == 2 and "magic" in result.output
    result = run(app, ["label", "rattle", str(tmp_path / "nothing.cif"), "--out", str(tmp_path / "runs")])
    assert result.exit_code == 2 and "nothing.cif does not exist" in result.output
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(app, [*arguments, "--pseudo", str(pseudo)])
    assert result.exit_code == 2 and "apt install quantum-espresso" in result.output
    assert not (tmp_path / "runs").exists(), "nothing is written on bad input"


def test_interrupt_stops_the_programs_and_starts_no_other(tmp_path, jobs):
    """Ctrl-C, sent to the parent alone: it ends within seconds, with its programs, and retries nothing."""
    slow = tmp_path / "slow.x"
    slow.write_text("#!/bin/sh\necho $$ > started\nexec sleep 90\n")
    slow.chmod(0o755)
    code = (
        "import pickle, signal, sys\n"
        "from himlip_ase.dft.espresso.runner import Launcher\n"
        "from himlip_ase.dft.espresso.single_points import run_single_points\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run_single_points(pickle.load(sys.stdin.buffer), Launcher(pw={str(slow)!r}), workers=2)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    parent.stdin.write(pickle.dumps(jobs))
    parent.stdin.close()
    started = [job.folder / "started" for job in jobs]
    deadline = time.monotonic() + 60
    while sum(path.exists() for path in started) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=20) != 0
    assert b"KeyboardInterrupt" in parent.stderr.read()
    parent.stderr.close()
    assert [path.exists() for path in started] == [True, True, False, False, False, False]
    for path in started[:2]:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
        assert not (path.parent / "pw.failed1.out").exists()

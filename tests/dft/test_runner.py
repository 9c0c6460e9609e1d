"""Running pw.x: a failed run is repeated a bounded number of times and never taken for a result."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.io import write

from himlip_ase.dft.espresso.inputs import pw_input
from himlip_ase.dft.espresso.runner import RETRY_CHANGES, Launcher, run_pw, with_electrons
from himlip_ase.dft.espresso.runs import read_run
from himlip_ase.dft.espresso.single_points import run_single_points, single_points
from himlip_ase.dft.programs import InterruptedRun
from himlip_ase.dft.publish import collect
from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.files import FolderLock
from tests.dft.conftest import FAULTS, faulty

RETRIED = tuple(fault for fault in FAULTS if fault != "out of time")


@pytest.fixture
def text(aluminium, settings):
    return pw_input(aluminium, settings, nosym=True)


def test_good_run_runs_once_and_is_reused(tmp_path, fake_pw, text):
    folder = tmp_path / "000"
    first = run_pw(folder, text, fake_pw.launcher)
    second = run_pw(folder, text, fake_pw.launcher)
    assert fake_pw.calls == 1 and first.energy == second.energy
    assert not (folder / "out").exists(), "scratch is removed after success"
    assert (fake_pw.state / "threads").read_text().strip() == "1"
    assert json.loads((folder / "pw.json").read_text())["retries"] == []


@pytest.mark.parametrize("fault", RETRIED)
def test_one_failure_is_repeated_with_stated_changes(tmp_path, fake_pw, text, fault):
    fake_pw.plan(faulty(fake_pw.good, fault))
    folder = tmp_path / "000"
    run_pw(folder, text, fake_pw.launcher)
    assert fake_pw.calls == 2
    assert fake_pw.input(1) == text and fake_pw.input(2) == with_electrons(text, RETRY_CHANGES[0])
    retries = json.loads((folder / "pw.json").read_text())["retries"]
    assert [entry["then_changed"] for entry in retries] == [RETRY_CHANGES[0]]
    assert (folder / "pw.failed1.out").is_file()
    run_pw(folder, text, fake_pw.launcher)  # found again under the input that was asked for
    assert fake_pw.calls == 2
    assert read_run(folder).notes["retries"] == retries


@pytest.mark.parametrize("fault", RETRIED)
def test_fault_37_lasting_failure_is_bounded_and_never_a_label(tmp_path, fake_pw, text, fault):
    fake_pw.always(faulty(fake_pw.good, fault))
    kind = NotConvergedError if fault == "unconverged" else CalculationError
    with pytest.raises(kind, match="after 4 attempts"):
        run_pw(tmp_path / "set" / "000", text, fake_pw.launcher)
    assert fake_pw.calls == 4
    assert "diagonalization  = 'cg'" in fake_pw.input(3) and "electron_maxstep = 300" in fake_pw.input(4)
    with pytest.raises(CalculationError, match="1 of 1 runs"):
        collect(tmp_path / "set", "bad", tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


MPI = """--------------------------------------------------------------------------
There are not enough slots available in the system to satisfy the 64
slots that were requested by the application:

  pw.x
"""


def test_a_time_limit_and_mpi_are_no_scf_failures(tmp_path, fake_pw, text):
    """Neither is repeated with gentler mixing; MPI is quoted in its own words."""
    fake_pw.always(faulty(fake_pw.good, "out of time"))
    with pytest.raises(NotConvergedError, match=r"line \d+: Maximum CPU time exceeded; give it more time"):
        run_pw(tmp_path / "a", text, fake_pw.launcher)
    fake_pw.always(MPI)
    with pytest.raises(CalculationError, match=r"MPI did not start.*not enough slots available"):
        run_pw(tmp_path / "b", text, fake_pw.launcher)
    assert fake_pw.calls == 2


def test_errors_that_no_retry_mends_are_not_retried(tmp_path, fake_pw, text):
    fake_pw.always("     Error in routine readpp (2):\n     file Al.upf not readable\n")
    with pytest.raises(CalculationError, match="readpp"):
        run_pw(tmp_path / "000", text, fake_pw.launcher)
    assert fake_pw.calls == 1


def test_fewer_retries(tmp_path, fake_pw, text):
    fake_pw.always("")
    with pytest.raises(CalculationError):
        run_pw(tmp_path / "000", text, Launcher(pw=fake_pw.launcher.pw, retries=1))
    assert fake_pw.calls == 2
    with pytest.raises(InputError, match="retries"):
        Launcher(retries=9)


def test_killed_program_is_not_retried_but_resumed(tmp_path, fake_pw, text):
    (fake_pw.state / "signal.1").touch()
    with pytest.raises(InterruptedRun, match="signal 9"):
        run_pw(tmp_path / "000", text, fake_pw.launcher)
    assert fake_pw.calls == 1
    run_pw(tmp_path / "000", text, fake_pw.launcher)
    assert fake_pw.calls == 2


def test_another_input_in_the_folder_is_refused(tmp_path, fake_pw, text):
    folder = tmp_path / "000"
    run_pw(folder, text, fake_pw.launcher)
    before = (folder / "pw.out").read_bytes()
    with pytest.raises(InputError, match=r"15\.0.*30\.0"):
        run_pw(folder, text.replace("15.0", "30.0"), fake_pw.launcher)
    assert (folder / "pw.out").read_bytes() == before and fake_pw.calls == 1


def test_changed_pseudopotential_is_refused(tmp_path, fake_pw, text, pseudo):
    run_pw(tmp_path / "000", text, fake_pw.launcher)
    (pseudo / "Al.upf").write_text('<PP_HEADER element="Al"/> another one')
    with pytest.raises(InputError, match="has changed"):
        run_pw(tmp_path / "000", text, fake_pw.launcher)


def test_output_of_another_crystal_is_no_result(tmp_path, fake_pw, text, aluminium, settings):
    aluminium.positions[0, 0] += 0.05
    with pytest.raises(CalculationError, match="different runs"):
        run_pw(tmp_path / "000", pw_input(aluminium, settings, nosym=True), fake_pw.launcher)


def test_missing_executable_names_the_package():
    with pytest.raises(InputError, match="apt install quantum-espresso"):
        Launcher(pw="no-such-pw.x").command("no-such-pw.x", "pw.in")
    with pytest.raises(InputError, match="no-such-mpirun"):
        Launcher(prefix="no-such-mpirun -n 2").command("sh", "pw.in")


def test_prefix_goes_in_front():
    command = Launcher(prefix="env -u HOME").command("sh", "pw.in")
    assert command[:3] == ["env", "-u", "HOME"] and command[-2:] == ["-in", "pw.in"]


def test_pools_of_k_points_are_asked_of_the_program():
    command = Launcher(prefix="env -u HOME", pools=2).command("sh", "pw.in")
    assert command[4:] == ["-nk", "2", "-in", "pw.in"]
    with pytest.raises(InputError, match="mpirun -n 2"):
        Launcher(pools=2)
    with pytest.raises(InputError, match="pools is 0"):
        Launcher(pools=0)


def test_fault_38_two_processes_in_one_folder(tmp_path, fake_pw, text, aluminium, settings):
    with FolderLock(tmp_path / "000"), pytest.raises(InputError, match="in use"):
        run_pw(tmp_path / "000", text, fake_pw.launcher)
    jobs = single_points([aluminium], tmp_path / "set", settings)
    with FolderLock(tmp_path / "set"), pytest.raises(InputError, match="in use"):
        run_single_points(jobs, fake_pw.launcher)
    assert fake_pw.calls == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_no_program_outlives_its_parent(tmp_path, fake_pw, text, how):
    """However the parent ends, its program is gone within seconds, and the folder can be continued."""
    slow = tmp_path / "slow.x"
    slow.write_text("#!/bin/sh\necho $$ > started\nexec sleep 90\n")
    slow.chmod(0o755)
    folder = tmp_path / "000"
    code = (
        "from himlip_ase.dft.espresso.runner import Launcher, run_pw; import sys\n"
        f"run_pw({str(folder)!r}, sys.stdin.read(), Launcher(pw={str(slow)!r}))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        parent.stdin.write(text)
        parent.stdin.close()
        started = folder / "started"
        deadline = time.monotonic() + 60
        while not (started.exists() and started.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.05)
        program = int(started.read_text())
        with pytest.raises(InputError, match=rf"in use by another process \(.*pid {parent.pid}.*\)"):
            run_pw(folder, text, fake_pw.launcher)
        parent.send_signal(how)
        parent.wait(timeout=20)
        deadline = time.monotonic() + 5
        while Path(f"/proc/{program}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{program}").exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    run_pw(folder, text, fake_pw.launcher)
    assert fake_pw.calls == 1


def test_sigterm_ends_a_command_as_ctrl_c_does(tmp_path, aluminium, pseudo, good_output):
    """One message, status 130, no program left, and what was finished is kept for --resume."""
    program = tmp_path / "bin" / "pw.x"
    program.parent.mkdir()
    (tmp_path / "good").write_text(good_output)
    program.write_text(
        f"#!/bin/sh\nif [ -f {tmp_path}/first ]; then echo $$ > {tmp_path}/second; exec sleep 90; fi\n"
        f"touch {tmp_path}/first; cat {tmp_path}/good\n"
    )
    program.chmod(0o755)
    write(tmp_path / "cells.extxyz", [aluminium, aluminium])
    words = ["label", "supercell", "cells.extxyz", "--out", "runs", "--reference", "one.extxyz"]
    accuracy = ["--pseudo", str(pseudo), "--ecutwfc", "15", "--k", "4", "4", "2", "--degauss", "0.05"]
    write(tmp_path / "one.extxyz", aluminium)
    process = subprocess.Popen(
        [sys.executable, "-m", "himlip_ase.cli.app", *words, *accuracy],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    second = tmp_path / "second"
    deadline = time.monotonic() + 60
    while not (second.exists() and second.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    assert "continue with --resume" in process.stderr.read()
    process.stderr.close()
    time.sleep(0.2)
    assert not Path(f"/proc/{int(second.read_text())}").exists()
    assert (tmp_path / "runs" / "000" / "pw.json").is_file(), "the first run is finished"
    assert not (tmp_path / "runs" / "001" / "pw.json").exists()

"""Runs that are killed again and again end as if nothing had happened, and leave no process behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.build import bulk

from himlip_ase.cli.app import _stop_as_interrupt
from himlip_ase.pipeline.config import load_config
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.stages import Context, run_stages
from himlip_ase.pipeline.tc import STAGE as TC_STAGE

from .pipeline.test_engines import SMALL
from .pipeline.test_tc import CONFIG as H3S
from .pipeline.test_tc import with_sscha

KILLS, KILLS_IN_TC = 12, 6
NAMES = ("unbroken", "broken")
TC = {"tc.samples": 10, "tc.meshes": [[4, 4, 4]], "tc.gap": False}
COMMAND = [sys.executable, "-m", "himlip_ase.cli.app", "-q", "run", "cu.yaml", "--folder", "run"]


def started(folder: Path) -> subprocess.Popen:
    """The run, in a process group of its own, going on where it was stopped."""
    resume = ["--resume"] if (folder / "run" / "config.yaml").is_file() else []
    return subprocess.Popen(
        [*COMMAND, *resume],
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS="1", HIMLIP_FUSED="0"),
    )


def alive(session: int) -> list[str]:
    """Command lines of the processes that are left of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == session and (path / "stat").read_text().split()[2] != "Z":
                found.append((path / "cmdline").read_text().replace("\0", " "))
        except (OSError, ValueError):
            continue
    return found


def killed(run: subprocess.Popen, number: int) -> None:
    """Kill it by SIGTERM or SIGKILL; nothing of it may live five seconds later."""
    run.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
    run.wait(60)
    deadline = time.monotonic() + 5
    while alive(run.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(run.pid)


def prepared(folder: Path) -> Path:
    folder.mkdir()
    bulk("Cu", a=3.7).write(folder / "cu.extxyz")
    (folder / "cu.yaml").write_text(SMALL)
    return folder


def figures(folder: Path) -> dict:
    """What the run quotes, without what it cost."""
    found = json.loads((folder / "run" / "results.json").read_text())["figures"]
    return {name: figure for name, figure in found.items() if figure["unit"] != "core-min"}


@pytest.mark.slow
def test_twelve_kills_in_labels_training_and_sscha_change_nothing(tmp_path: Path) -> None:
    unbroken = prepared(tmp_path / "unbroken")
    began = time.monotonic()
    assert started(unbroken).wait() == 0
    whole = time.monotonic() - began
    broken, generator = prepared(tmp_path / "broken"), random.Random(5)
    for number in range(KILLS):
        run = started(broken)
        # late enough to pass the imports, and further each time, so that every stage is hit
        wait = whole * (0.15 + 0.1 * generator.random() + 0.05 * (number % 4))
        try:
            assert run.wait(wait) == 0, run.stderr.read()
            break
        except subprocess.TimeoutExpired:
            killed(run, number)
    last = started(broken)
    assert last.wait(10 * whole + 60) == 0, last.stderr.read()
    assert figures(broken) == figures(unbroken)


def only_tc(folder: str) -> None:
    """The tc stage of a run whose SSCHA was done, as ``himlip run`` does it."""
    signal.signal(signal.SIGTERM, _stop_as_interrupt)
    context = Context(load_config(H3S, TC), RunFolder(Path(folder), resume=True))
    run_stages(context, [TC_STAGE])


@pytest.mark.slow
def test_kills_in_tc_change_nothing(tmp_path: Path) -> None:
    program = "import sys; from tests.test_kills import only_tc; only_tc(sys.argv[1])"

    def begun(folder: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            cwd=Path(__file__).parents[1],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ, OMP_NUM_THREADS="1"),
        )

    for name in NAMES:
        with_sscha(tmp_path / name / "run", **TC)
    began = time.monotonic()
    assert begun(tmp_path / "unbroken" / "run").wait() == 0
    whole = time.monotonic() - began
    place = tmp_path / "broken" / "run"
    for number in range(KILLS_IN_TC):
        run = begun(place)
        try:
            assert run.wait(whole * (number + 1) / (KILLS_IN_TC + 2)) == 0, run.stderr.read()
            pytest.skip("it was done before it could be killed")
        except subprocess.TimeoutExpired:
            killed(run, number)
        assert not (place / "results.json").exists()
    last = begun(place)
    assert last.wait(10 * whole + 60) == 0, last.stderr.read()
    assert figures(place.parent) == figures(tmp_path / "unbroken")
    kept = [sorted(p.name for p in (tmp_path / name / "run" / "state" / "tc").iterdir()) for name in NAMES]
    assert kept[0] == kept[1]

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

from .pipeline.test_engines import SMALL

KILLS = 12
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
            run.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
        run.wait(60)
        deadline = time.monotonic() + 5
        while alive(run.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not alive(run.pid)
    last = started(broken)
    assert last.wait(10 * whole + 60) == 0, last.stderr.read()
    assert figures(broken) == figures(unbroken)

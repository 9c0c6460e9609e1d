"""Ctrl-C from a terminal: what a person sees, what is left running, and how the run goes on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from himlip_ase.cli.app import EXIT_INTERRUPTED

from .test_kills import alive, prepared

COMMAND = [
    sys.executable,
    "-m",
    "himlip_ase.cli.app",
    "run",
    "cu.yaml",
    "--folder",
    "run",
    "--until",
    "sscha",
]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HIMLIP_FUSED": "0", "TERM": "xterm", "COLUMNS": "90"}
SEEN = {
    "labels": r"rattle040: 4 single points",
    "training": r"training epochs",
    "SSCHA": r"SSCHA population 1",
}
"""What the terminal shows while each of these is on."""


SLOW = """
import time
from pathlib import Path
from ase.calculators import emt

class EMT(emt.EMT):
    def calculate(self, *arguments):
        if (Path(__file__).parent / "slow").exists():
            time.sleep(1)
        super().calculate(*arguments)
"""


def slowed(folder: Path, slow: bool) -> Path:
    """The run of `prepared`, with labels that take a second each while there is a file "slow"."""
    prepared(folder)
    (folder / "slow_emt.py").write_text(SLOW)
    text = (folder / "cu.yaml").read_text()
    assert "ase.calculators.emt:EMT" in text
    text = text.replace("ase.calculators.emt:EMT", "slow_emt:EMT")
    (folder / "cu.yaml").write_text("\n".join(x for x in text.split("\n") if not x.startswith("learn:")))
    with open(folder / "cu.yaml", "a") as stream:
        stream.write("learn: {enabled: false}\n")
    if slow:
        (folder / "slow").touch()
    return folder


class Terminal:
    """A command on a terminal of its own, of which it is the foreground job."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.text = ""

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,
            env=os.environ | ENVIRONMENT,
        )
        self.slave = slave

    def read_until(self, pattern: str, seconds: float) -> bool:
        """Whether the terminal shows something before the command ends or the time is over."""
        os.set_blocking(self.master, False)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.05)
            if pattern and re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)):
                return True
            if ended:
                return False
        raise TimeoutError(f"no {pattern!r} within {seconds} s; the terminal shows {self.text[-2000:]}")

    def press_ctrl_c(self) -> None:
        os.write(self.master, b"\x03")

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


def interrupted(folder: Path, stage: str) -> str:
    """Press Ctrl-C while `stage` is on; what the terminal showed."""
    resume = ["--resume"] if (folder / "run" / "config.yaml").is_file() else []
    terminal = Terminal([*COMMAND, *resume], folder)
    try:
        assert terminal.read_until(SEEN[stage], 240), f"{stage} was not seen: {terminal.text[-2000:]}"
        terminal.press_ctrl_c()
        terminal.read_until("", 30)
        assert terminal.process.wait(30) == EXIT_INTERRUPTED, terminal.text[-2000:]
        deadline = time.monotonic() + 5
        while alive(terminal.process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not alive(terminal.process.pid)
        assert termios.tcgetattr(terminal.slave) == terminal.before
        cursor = re.findall(r"\x1b\[\?25([lh])", terminal.text)
        assert cursor[-1:] in ([], ["h"]), "the cursor is hidden"
        return terminal.text
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
        terminal.close()


def run_to_its_end(folder: Path, *more: str) -> None:
    done = subprocess.run(
        [*COMMAND, *more],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_ctrl_c_in_labels_training_and_sscha(tmp_path: Path) -> None:
    unbroken, broken = slowed(tmp_path / "unbroken", False), slowed(tmp_path / "broken", True)
    run_to_its_end(unbroken)
    for stage in SEEN:
        text = interrupted(broken, stage)
        (broken / "slow").unlink(missing_ok=True)
        assert "Stopped. Finished work is kept; continue with --resume." in text
        assert "Traceback" not in text
    run_to_its_end(broken, "--resume")
    model, record = "state/finetune/model.safetensors", "state/sscha.json"
    assert (broken / "run" / model).read_bytes() == (unbroken / "run" / model).read_bytes()
    first, second = (
        json.loads((place / "run" / record).read_text())["figures"] for place in (unbroken, broken)
    )
    assert first == second and first["free_energy"]["value"] > 0

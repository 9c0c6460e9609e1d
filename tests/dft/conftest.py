"""A pw.x that plays back prepared outputs, and a folder of toy pseudopotentials."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from himlip_ase.dft.espresso.input_reading import read_pw_input
from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.dft.espresso.runner import Launcher

DATA = Path(__file__).parent / "data"

SCRIPT = """#!/bin/sh
n=$(cat "{state}/count" 2>/dev/null || echo 0); n=$((n+1)); echo $n > "{state}/count"
cp "$2" "{state}/input.$n"; echo "$OMP_NUM_THREADS" > "{state}/threads"
mkdir -p out; echo scratch > out/wavefunctions
if [ -f "{state}/signal.$n" ]; then kill -9 $$; fi
if [ -f "{state}/output.$n" ]; then cat "{state}/output.$n"; else cat "{state}/output"; fi
"""


class FakePw:
    """Counts its calls; `plan` sets the outputs of the first calls, all others are good."""

    def __init__(self, folder: Path, good: str) -> None:
        self.state = folder
        self.good = good
        self.state.mkdir()
        (self.state / "output").write_text(good)
        script = self.state / "pw.x"
        script.write_text(SCRIPT.format(state=self.state))
        script.chmod(0o755)
        self.launcher = Launcher(pw=str(script))

    def plan(self, *outputs: str) -> None:
        for index, text in enumerate(outputs, 1):
            (self.state / f"output.{index}").write_text(text)

    def always(self, text: str) -> None:
        (self.state / "output").write_text(text)

    @property
    def calls(self) -> int:
        path = self.state / "count"
        return int(path.read_text()) if path.exists() else 0

    def input(self, call: int) -> str:
        return (self.state / f"input.{call}").read_text()


@pytest.fixture
def pseudo(tmp_path):
    folder = tmp_path / "pseudo"
    folder.mkdir()
    (folder / "Al.upf").write_text('<UPF version="2.0.1">\n<PP_HEADER\n element="Al"\n/>\n')
    return folder


@pytest.fixture
def settings(pseudo):
    return QESettings(ecutwfc_ry=15.0, k_grid=(4, 4, 2), degauss_ry=0.05, pseudo_dir=pseudo)


@pytest.fixture
def aluminium():
    """Two displaced atoms: the structure of al2.in."""
    return read_pw_input(DATA / "al2.in").atoms


@pytest.fixture
def good_output(pseudo):
    """The output of a real run of `aluminium`, as if it had read the toy pseudopotential."""
    digest = hashlib.md5((pseudo / "Al.upf").read_bytes()).hexdigest()
    text = (DATA / "al2.out").read_text()
    text = text.replace("Al.pz-vbc.UPF", "Al.upf")
    return re.sub(r"MD5 check sum: \w+", f"MD5 check sum: {digest}", text)


@pytest.fixture
def fake_pw(tmp_path, good_output):
    return FakePw(tmp_path / "fake", good_output)


@pytest.fixture
def unconverged(good_output):
    return good_output.replace("convergence has been achieved in", "convergence NOT achieved after")


def faulty(text: str, fault: str) -> str:
    """`text` with one of the faults that real runs show."""
    if fault == "unconverged":
        return text.replace("convergence has been achieved in", "convergence NOT achieved after")
    if fault == "out of time":
        return text.replace(
            "     Writing output data file", "     Maximum CPU time exceeded\n     Writing output data file"
        )
    if fault == "no JOB DONE":
        return text.replace("JOB DONE.", "")
    if fault == "truncated":
        return text[: text.index("Computing stress")]
    if fault == "truncated in the forces":
        return text[: text.index("atom    2 type")] + "JOB DONE."
    if fault == "empty":
        return ""
    if fault == "overflow":
        return re.sub(r"(atom    2 type  1   force =).*", r"\1   ************   0.0 0.0", text)
    if fault == "nan":
        return re.sub(r"(!    total energy\s+=).*", r"\1            NaN Ry", text)
    if fault == "crash":
        box = "%" * 78
        return text[: text.index("End of self")] + (
            f"\n {box}\n     Error in routine cdiaghg (139):\n      problems computing cholesky\n {box}\n"
        )
    raise ValueError(fault)


FAULTS = (
    "unconverged",
    "out of time",
    "no JOB DONE",
    "truncated",
    "truncated in the forces",
    "empty",
    "overflow",
    "nan",
    "crash",
)

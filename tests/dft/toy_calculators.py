"""Calculators that tests name as ``tests.dft.toy_calculators:…``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator, SCFError, all_changes
from ase.calculators.emt import EMT


class Counted(EMT):
    """EMT that writes a line when it begins and when it ends, and may take its time.

    Parameters
    ----------
    log : str
        The file.
    seconds : float
        What each calculation takes.
    fail : str
        A file; while it is there, calculations fail.
    """

    def __init__(self, log: str, seconds: float = 0.0, fail: str = "") -> None:
        super().__init__()
        self.log, self.seconds, self.fail = log, seconds, fail

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes):
        self._write("begin", atoms)
        if self.fail and Path(self.fail).exists():
            raise SCFError("did not converge")
        time.sleep(self.seconds)
        super().calculate(atoms, properties, system_changes)
        self._write("end", atoms)

    def _write(self, what: str, atoms: Any) -> None:
        with open(self.log, "a") as stream:
            stream.write(f"{what} {os.getpid()} {atoms.positions.sum():.9f}\n")


class Metal(Calculator):
    """An energy and a free energy that differ, a file in its working folder, and no stress."""

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes):
        super().calculate(atoms, properties, system_changes)
        Path("scratch.txt").write_text("x")
        self.results = {"energy": -1.0, "free_energy": -1.5, "forces": 0.1 * atoms.positions}


class Unconverged(Metal):
    """Says so, as ASE's Vasp does."""

    converged = False


def not_a_calculator() -> int:
    """A factory that makes something else."""
    return 3

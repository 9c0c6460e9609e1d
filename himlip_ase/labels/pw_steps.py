"""The ionic steps in an output of pw.x: line by line, geometry, then what was calculated for it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from himlip_ase.errors import CalculationError, NotConvergedError
from himlip_ase.evaluation import voigt_from_matrix
from himlip_ase.units import BOHR_ANGSTROM, RY_EV, RY_PER_BOHR3_EV_PER_ANGSTROM3

NUMBER = r"[-+]?\d+\.\d*(?:[EeDd][-+]?\d+)?"
DISCARDED = re.compile(r"Atomic positions (?:from file used, from input discarded|read from:)")
_GEOMETRY = re.compile(r"(CELL_PARAMETERS|ATOMIC_POSITIONS)\s*[({]|crystal axes:|Final scf calculation")
"""Lines after which what is calculated belongs to another structure; ``ATOMIC_POSITIONS: units set to alat``
of versions 5 and 6 is a warning."""
TOTAL_FORCE = 2e-6
"""Ry/bohr; rounding of the norm of all forces that is printed below them."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PwStep:
    """One ionic step.

    Attributes
    ----------
    cell : ndarray (3, 3)
        Rows are lattice vectors, Å.
    positions : ndarray (N, 3)
        Å.
    energy, forces, stress, accuracy_ry, iterations
        As `PwOutput`.
    """

    cell: np.ndarray
    positions: np.ndarray
    energy: float
    forces: np.ndarray | None
    stress: np.ndarray | None
    accuracy_ry: float
    iterations: int


def alat_of(text: str, name: str) -> float:
    """The unit of lengths of what is printed at the start.

    Parameters
    ----------
    text : str
        Output of pw.x.
    name : str
        Of the file, for messages.

    Returns
    -------
    float
        Å.
    """
    found = re.search(rf"celldm\(1\)=\s*({NUMBER})", text)
    if not found:
        raise CalculationError(f"{name}: no readable celldm(1)")
    return float(found.group(1)) * BOHR_ANGSTROM


class StepScanner:
    """Line by line through an output: geometry, then what was calculated for it."""

    def __init__(self, text: str, n_atoms: int, name: str) -> None:
        self.lines, self.n_atoms, self.name = text.splitlines(), n_atoms, name
        self.alat = alat_of(text, name)
        # versions up to 6.1 print a fraction of zero for every other functional
        self.hybrid = any(float(x) > 0 for x in re.findall(rf"EXX-fraction\s+=\s*({NUMBER})", text))
        self.threshold = self.asked = math.inf
        self.cell = np.full((3, 3), np.nan)
        self.positions = np.full((n_atoms, 3), np.nan)
        self.discarded = False
        self._new_step()

    def _new_step(self) -> None:
        self.energy: float | None = None
        self.final_energy: float | None = None
        self.exchange_error: float | None = None
        self.energy_line = 0
        self.accuracy, self.slack, self.iterations = math.nan, 0.0, 0
        self.forces: np.ndarray | None = None
        self.stress: np.ndarray | None = None

    def steps(self) -> Iterator[PwStep]:
        """All ionic steps."""
        for k, line in enumerate(self.lines):
            text = line.strip()
            if _GEOMETRY.match(text):
                yield from self._closed()
                self._geometry(k, text)
            elif text.startswith("site n.") and "alat units" in text:
                self.positions = self._rows(k + 1, r"=\s*\((.*?)\)", self.n_atoms) * self.alat
            elif DISCARDED.match(text):
                self.positions, self.discarded = np.full((self.n_atoms, 3), np.nan), True
            elif line.startswith("!"):
                self._energy(k, line)
            elif text.startswith("est. exchange err") and k - self.energy_line <= 3:
                self.exchange_error = self._number(k, text.split("=")[-1].split()[0])
            elif text.startswith("EXX self-consistency reached") and self.final_energy is None:
                self._hybrid_of_version_5()
            elif text.startswith("estimated scf accuracy"):
                self.accuracy = self._number(k, text.split("<")[-1].split()[0])
                self.slack = 0.0 if "E" in text.split("<")[-1].upper().split("RY")[0] else 5e-9
            elif text.startswith("convergence has been achieved"):
                self.iterations = int((re.findall(r"in\s+(\d+)\s+iter", text) or [0])[0])
            elif text.startswith(("scf convergence threshold", "convergence threshold", "new conv_thr")):
                self.threshold = self._number(k, text.split("=")[-1].split()[0])
            elif text.startswith("Forces acting on atoms"):
                self.forces = self._force_rows(k + 1)
            elif text.startswith("Total force =") and self.forces is not None:
                self._tell_other_forces(k, text, self.forces)
            elif text.startswith("total   stress") and "Ry/bohr**3" in text:
                rows = self._rows(k + 1, r"^(.*)$", 3, skip=False)[:, :3]
                tensor = -rows * RY_PER_BOHR3_EV_PER_ANGSTROM3
                self.stress = voigt_from_matrix(tensor) + 0.0
        yield from self._closed()

    def _closed(self) -> Iterator[PwStep]:
        if self.energy is None:
            self._new_step()
            return
        where = f"{self.name}, line {self.energy_line + 1}"
        if self.discarded and not np.isfinite(self.positions).all():
            logger.warning(
                "%s: left out: the run continues another, and its first positions are not printed", where
            )
            self._new_step()
            return
        if self.hybrid and self.final_energy is None:
            raise NotConvergedError(
                f"{where}: the exact exchange did not reach self-consistency (no !! line)"
            )
        energy = self.energy if self.final_energy is None else self.final_energy
        limit = 1.06 * self.asked + 5e-11 + self.slack
        if not self.accuracy <= limit:
            raise NotConvergedError(
                f"{where}: the estimated scf accuracy is {self.accuracy:.1e} Ry, asked for was "
                f"{self.asked:.1e} Ry (scf_must_converge = .false.?)"
            )
        if not (np.isfinite(self.cell).all() and np.isfinite(self.positions).all()):
            raise CalculationError(f"{where}: no readable structure belongs to this energy")
        yield PwStep(
            self.cell,
            self.positions,
            energy * RY_EV,
            self.forces,
            self.stress,
            self.accuracy,
            self.iterations,
        )
        self._new_step()

    def _energy(self, k: int, line: str) -> None:
        found = re.match(r"(!!?)\s+total energy\s+=\s*(\S+)\s*Ry", line)
        if not found:
            return
        value = self._number(k, found.group(2))
        if found.group(1) == "!!":
            self.final_energy = value
        else:
            self.energy, self.energy_line, self.exchange_error = value, k, None
            self.asked = self.threshold  # a relaxation prints that of the next step before it moves on

    def _hybrid_of_version_5(self) -> None:
        if self.exchange_error is not None:
            self.final_energy = self.energy
            self.accuracy = float(np.nanmax([self.exchange_error, self.accuracy]))

    def _geometry(self, k: int, heading: str) -> None:
        if heading.startswith("crystal axes"):
            self.cell = self._rows(k + 1, r"=\s*\(\s*(.*?)\s*\)", 3) * self.alat
        elif heading.startswith("CELL_PARAMETERS"):
            self.cell = self._rows(k + 1, r"^(.*)$", 3, skip=False) * self._unit(k, heading)
        elif heading.startswith("ATOMIC_POSITIONS"):
            rows = self._rows(k + 1, r"^\s*\S+\s+(.*)$", self.n_atoms, skip=False)[:, :3]
            crystal = "crystal" in heading
            self.positions = rows @ self.cell if crystal else rows * self._unit(k, heading)

    def _unit(self, k: int, heading: str) -> float:
        """Å of the unit that a heading names: ``(angstrom)``, ``(bohr)``, ``(alat)``, ``(alat= 7.2)``."""
        unit = heading.partition("(")[2].partition(")")[0].strip().lower()
        if unit == "angstrom":
            return 1.0
        if unit == "bohr":
            return BOHR_ANGSTROM
        if unit.startswith("alat"):
            given = unit.partition("=")[2].strip()
            return self._number(k, given) * BOHR_ANGSTROM if given else self.alat
        raise CalculationError(
            f"{self.name}, line {k + 1}: {heading!r} names no unit of length that is known"
        )

    def _rows(self, start: int, pattern: str, count: int, skip: bool = True) -> np.ndarray:
        """Numbers in `count` rows from line `start` on; `skip` passes over lines without any."""
        rows: list[list[float]] = []
        k = start
        while len(rows) < count:
            if k >= len(self.lines) or (not skip and not self.lines[k].strip()):
                raise CalculationError(f"{self.name}, line {k + 1}: {len(rows)} of {count} rows are readable")
            found = re.search(pattern, self.lines[k])
            words = found.group(1).split() if found and self.lines[k].strip() else []
            if words:
                rows.append([self._number(k, word) for word in words])
            k += 1
        width = min(len(row) for row in rows)
        if width < 3:
            raise CalculationError(f"{self.name}, line {start + 1}: a row has {width} numbers, not 3")
        return np.array([row[:width] for row in rows])

    def _force_rows(self, start: int) -> np.ndarray:
        rows: list[list[float]] = []
        for k in range(start, len(self.lines)):
            found = re.match(r"\s*atom\s+\d+\s+type\s+\d+\s+force\s*=\s*(.*)$", self.lines[k])
            if found:
                words = found.group(1).split()
                if len(words) != 3:  # numbers that touch: -1.00000000-2.00000000
                    words = re.findall(rf"{NUMBER}|\*+|[Nn]a[Nn]", found.group(1))
                if len(words) != 3:
                    self._unreadable(k)
                rows.append([self._number(k, word) for word in words])
            elif self.lines[k].strip():
                break
            if len(rows) == self.n_atoms:
                return np.array(rows) * (RY_EV / BOHR_ANGSTROM)
        raise CalculationError(
            f"{self.name}, line {start}: {len(rows)} of {self.n_atoms} forces are readable"
        )

    def _tell_other_forces(self, k: int, text: str, forces: np.ndarray) -> None:
        """Hold the forces against the norm below them, which leaves fixed components out."""
        printed = re.match(rf"Total force =\s*({NUMBER})", text)
        size = float(np.sqrt(np.sum(np.square(forces)))) * BOHR_ANGSTROM / RY_EV
        if printed and float(printed[1]) > size + TOTAL_FORCE * (1 + size):
            logger.warning(
                "%s, line %d: the forces above have a norm of %.6f Ry/bohr, printed is %s: damaged?",
                self.name,
                k + 1,
                size,
                printed[1],
            )

    def _number(self, k: int, word: str) -> float:
        try:
            value = float(word.replace("D", "E").replace("d", "e"))
        except ValueError:
            self._unreadable(k)
        if not math.isfinite(value):
            self._unreadable(k)
        return value

    def _unreadable(self, k: int) -> None:
        raise CalculationError(
            f"{self.name}, line {k + 1}: not a finite number: {' '.join(self.lines[k].split())!r}"
        )

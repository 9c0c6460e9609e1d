"""What pw.x wrote: read strictly, so that a run which did not finish can never become a label.

The one reader of pw.x outputs. Every ionic step of a relaxation or of a trajectory comes with its own cell,
positions, energy, forces and stress. What was seen of versions 5 to 7.5 and decides what a number means:

- the energy of a hybrid functional is that of the ``!!`` line; those of the ``!`` lines before it belong to
  the starting functional and to intermediate exchange operators;
- "convergence has been achieved" is also written with ``scf_must_converge = .false.``; the last estimated
  accuracy is therefore held against the threshold;
- versions 5 end a hybrid with a ``!`` line that has the error of the exchange below it;
- a run that continues another (``restart_mode = 'restart'``) prints the positions of its input and calculates
  those of the folder: its first energy belongs to no structure that is known;
- a run that stopped on its time limit writes JOB DONE;
- labels of species (``D``, ``H2``, ``Fe1``, ``H_1``) are free; the element is that of the pseudopotential.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from himlip_ase.errors import CalculationError, NotConvergedError
from himlip_ase.evaluation import voigt_from_matrix
from himlip_ase.files import CONTROL
from himlip_ase.pw_structure import element_of_label, set_masses
from himlip_ase.units import (
    BOHR_ANGSTROM,
    EV_PER_ANGSTROM3_GPA,
    RY_EV,
    RY_PER_BOHR3_EV_PER_ANGSTROM3,
)

_NUMBER = r"[-+]?\d+\.\d*(?:[EeDd][-+]?\d+)?"
_TIME = re.compile(r"^\s+(?:PWSCF|PHONON)\s+:\s+(.+?)\s*CPU\s+(.+?)\s*WALL", re.M)
_PRINTED = {
    "ecutwfc_ry": r"^ +kinetic-energy cutoff +=\s*([\d.]+)",
    "conv_thr_ry": r"^ +(?:scf )?convergence threshold +=\s*([\d.]+E[-+]\d+)",
    "degauss_ry": r"smearing, width \(Ry\)=\s*([\d.]+)",
}
_PSEUDO = re.compile(
    r"PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:\s+(\S+)(?:\s+MD5 check sum:\s*([0-9a-f]{32}))?"
)
_PROGRAM_ERROR = re.compile(r"Error in routine\s+(.+?):\s*\n\s*(.+)")
_MPI_ERROR = re.compile(
    r"not enough slots|orte_init failed|opal_init failed|ORTE (?:was unable|has lost)|PRTE|MPI_Init|prterun|"
    r"mpirun (?:was unable|has detected|has exited)|mpiexec|HYDU_|unable to (?:launch|start) the",
    re.IGNORECASE,
)
_STOPPED = re.compile(
    r"Maximum CPU time exceeded|Calculation stopped in|Program stopped by user request|"
    r"Calculation \(EXX\) stopped after iteration|Signal Received, stopping"
)


_DISCARDED = re.compile(r"Atomic positions (?:from file used, from input discarded|read from:)")
NEW_BASIS = 1e-3
"""eV/atom between two sets of plane waves from which it is told."""
TOTAL_FORCE = 2e-6
"""Ry/bohr; rounding of the norm of all forces that is printed below them."""
logger = logging.getLogger(__name__)


class OutOfTimeError(NotConvergedError):
    """The run stopped on its time limit or on request; repeating it with other scf settings mends nothing."""


class MpiError(CalculationError):
    """MPI could not start the program; the message is its own."""


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


@dataclass(frozen=True)
class PwOutput:
    """Results of a finished and converged pw.x run; of the last ionic step, if there are several.

    Attributes
    ----------
    energy : float
        eV; the free energy F = E − TS of the smearing, whose gradient the forces are.
    forces : ndarray (N, 3) or None
        eV/Å, as printed: constraints are not applied.
    stress : ndarray (6,) or None
        ASE's convention: Voigt xx yy zz yz xz xy, eV/Å³, positive in tension (QE prints the opposite sign).
    accuracy_ry : float
        Last estimated scf accuracy, Ry.
    n_kpoints, iterations, n_processes : int
        Irreducible k-points, scf iterations of the last scf cycle, MPI processes.
    core_seconds, wall_seconds : float
        CPU seconds over all processes; seconds on the clock.
    version : str
        Program version, e.g. "6.7MaX".
    symbols, positions, volume
        Chemical symbols, positions (N, 3) Å and volume Å³ as the program echoed them at its start.
    masses : ndarray (N,)
        amu.
    pseudopotential_md5 : dict
        {file name: MD5} as the program read them.
    exchange_correlation : str
        The functional as the program names it.
    steps : tuple of PwStep
        All ionic steps.
    printed : dict
        What the program says of its settings: ``ecutwfc_ry``, ``conv_thr_ry``, ``degauss_ry``, where it does.
    """

    energy: float
    forces: np.ndarray | None
    stress: np.ndarray | None
    accuracy_ry: float
    n_kpoints: int
    iterations: int
    n_processes: int
    core_seconds: float
    wall_seconds: float
    version: str
    symbols: tuple[str, ...]
    positions: np.ndarray
    volume: float
    pseudopotential_md5: dict[str, str] = field(default_factory=dict)
    masses: np.ndarray = field(default_factory=lambda: np.zeros(0))
    exchange_correlation: str = ""
    steps: tuple[PwStep, ...] = ()
    printed: dict[str, float] = field(default_factory=dict)

    @property
    def pressure_gpa(self) -> float:
        """Static pressure in GPa, positive in compression."""
        if self.stress is None:
            raise CalculationError("the run printed no stress; set tstress=.true.")
        return float(-self.stress[:3].mean() * EV_PER_ANGSTROM3_GPA)

    def structure(self, step: PwStep) -> Atoms:
        """The structure of an ionic step, with its masses."""
        atoms = Atoms(list(self.symbols), positions=step.positions, cell=step.cell, pbc=True)
        set_masses(atoms, self.masses)
        return atoms


def program_error(text: str) -> str | None:
    """The routine and message of a Quantum ESPRESSO error box, or None."""
    match = _PROGRAM_ERROR.search(text)
    return f"{match.group(1).strip()}: {match.group(2).strip()}" if match else None


def seconds(text: str) -> float:
    """Seconds of a Quantum ESPRESSO time: ``47.16s``, ``2m 3.10s``, ``1h 2m``, ``1d 3h 4m``."""
    parts = re.findall(r"([\d.]+)\s*([dhms])", text)
    if not parts:
        raise CalculationError(f"{text!r} is no time as Quantum ESPRESSO writes it")
    return sum(float(value) * {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}[unit] for value, unit in parts)


def check_started(text: str, name: str, program: str) -> None:
    """Refuse an output in which MPI says why it did not start the program.

    Parameters
    ----------
    text : str
    name : str
        Of the file, for messages.
    program : str
        As it names itself: PWSCF, PHONON.

    Raises
    ------
    MpiError
        With the words of MPI.
    """
    if f"Program {program} v." in text or not (said := _MPI_ERROR.search(text)):
        return
    lines = text[text.rfind("\n", 0, said.start()) + 1 :].splitlines()
    words = " ".join(" ".join(lines[:4]).split())
    raise MpiError(f"{name}: MPI did not start the program (see the prefix of the launcher): {words}")


def check_finished(text: str, name: str) -> None:
    """Refuse the output of a pw.x run that did not reach its end or its convergence threshold.

    Parameters
    ----------
    text : str
    name : str
        Of the file, for messages.

    Raises
    ------
    OutOfTimeError
        The run stopped on its time limit, or was asked to stop.
    NotConvergedError
        The scf cycle did not converge.
    MpiError
        MPI could not start the program.
    CalculationError
        The run crashed, or the output is cut short, or holds two runs.
    """
    error = program_error(text)
    if error:
        raise CalculationError(f"{name}: the program stopped with an error in {error}")
    check_started(text, name, "PWSCF")
    starts = [match.start() for match in re.finditer(r"Program PWSCF v\.", text)]
    if len(starts) > 1:
        raise CalculationError(f"{_line(text, starts[1], name)}: a second run begins; one file, one run")
    if stop := _STOPPED.search(text):
        raise OutOfTimeError(
            f"{_line(text, stop.start(), name)}: {_words(text, stop.start())}; give it more time and "
            "continue with --resume"
        )
    if (place := text.find("convergence NOT achieved")) >= 0:
        raise NotConvergedError(f"{_line(text, place, name)}: the scf cycle did not converge")
    if "JOB DONE" not in text:
        raise CalculationError(f"{name}: the output ends without JOB DONE; the run was cut short")
    if "convergence has been achieved" not in text:
        raise NotConvergedError(f"{name}: the output never says that convergence has been achieved")


def parse_pw_output(text: str, name: str = "pw.out") -> PwOutput:
    """Results in the text of a pw.x output.

    Parameters
    ----------
    text : str
    name : str
        Of the file, for messages.

    Returns
    -------
    PwOutput

    Raises
    ------
    OutOfTimeError, NotConvergedError, MpiError, CalculationError
        As `check_finished`; also for a missing, overflowing (``****``) or non-finite number, and for an scf
        accuracy above the threshold.
    """
    check_finished(text, name)

    def last(pattern: str, what: str, which: int = -1) -> str:
        found = re.findall(pattern, text, re.M)
        if not found:
            raise CalculationError(f"{name}: no readable {what}")
        return found[which]

    n_atoms = int(last(r"number of atoms/cell\s*=\s*(\d+)", "number of atoms"))
    processes = re.search(r"Number of MPI processes:\s+(\d+)", text) or re.search(
        r"running on\s+(\d+) processor", text
    )
    n_processes = int(processes.group(1)) if processes else 1
    times = _TIME.findall(text)
    if not times:
        raise CalculationError(f"{name}: no readable run time")
    symbols, masses, start = _species(text, n_atoms, name)
    steps = tuple(_Scanner(text, n_atoms, name).steps())
    if not steps and (said := _DISCARDED.search(text)):
        raise CalculationError(
            f"{_line(text, said.start(), name)}: the run continues another and does not print the positions "
            "that its energy belongs to; run it from_scratch"
        )
    if not steps:
        raise CalculationError(f"{name}: no readable total energy")
    _tell_new_basis(text, steps, name)
    final = steps[-1]
    functional = re.search(r"Exchange-correlation\s*=\s*(.*\n(?:\s*\([\d\s]*\).*\n)?)", text)
    return PwOutput(
        energy=final.energy,
        forces=final.forces,
        stress=final.stress,
        accuracy_ry=final.accuracy_ry,
        n_kpoints=int(last(r"number of k points=\s*(\d+)", "number of k-points")),
        iterations=final.iterations,
        n_processes=n_processes,
        core_seconds=seconds(times[-1][0]) * n_processes,
        wall_seconds=seconds(times[-1][1]),
        version=last(r"Program PWSCF v\.(\S+)(?: \(.*?\))? +starts", "program version"),
        symbols=symbols,
        positions=start,
        volume=float(last(rf"unit-cell volume\s+=\s*({_NUMBER})", "cell volume", 0)) * BOHR_ANGSTROM**3,
        pseudopotential_md5={os.path.basename(path): md5 for _, path, md5 in _PSEUDO.findall(text) if md5},
        masses=masses,
        exchange_correlation=" ".join(functional.group(1).split()) if functional else "",
        steps=steps,
        printed={
            key: float(found[1]) for key, line in _PRINTED.items() if (found := re.search(line, text, re.M))
        },
    )


def _tell_new_basis(text: str, steps: tuple[PwStep, ...], name: str) -> None:
    """Say how far the scf after a vc-relax is from its last step: the same cell, but a basis of its own."""
    if len(steps) < 2 or not re.search(r"inal scf calculation at the relaxed", text):
        return
    before, after = steps[-2:]
    shift = (after.energy - before.energy) / len(after.positions)
    if np.abs(after.cell - before.cell).max() < 1e-3 and abs(shift) > NEW_BASIS:
        logger.warning(
            "%s: the steps of the vc-relax have the plane waves of its first cell, the scf after it those of "
            "its last: %+.4f eV/atom at the same cell; for labels of one basis compute the structures anew",
            name,
            shift,
        )


def read_pw_output(path: str | os.PathLike) -> PwOutput:
    """`parse_pw_output` of a file.

    Raises
    ------
    CalculationError
        As `parse_pw_output`; also if the file does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise CalculationError(f"{path} does not exist: the run never started")
    text = path.read_text(encoding="utf-8", errors="replace")
    if found := CONTROL.search(text):
        line = _line(text, found.start(), str(path))
        logger.warning("%s: the character %r stands in no text: the file may be damaged", line, found[0])
    return parse_pw_output(text, str(path))


def _species(text: str, n_atoms: int, name: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Symbols, masses (amu) and positions (Å) as they were echoed at the start."""
    sites = _sites(text, n_atoms)
    if len(sites) != n_atoms:
        raise CalculationError(f"{name}: {len(sites)} of {n_atoms} atomic positions are readable")
    table = re.search(
        r"atomic species\s+valence\s+mass\s+pseudopotential\s*\n((?:\s*\S+\s+[\d.*]+.*\n)+)", text
    )
    rows = [line.split() for line in table.group(1).splitlines()] if table else []
    # a vc-relax whose steps have a basis each repeats the list with every one of them
    elements = [symbol for symbol, _, _ in _PSEUDO.findall(text)][: len(rows)]
    symbol_of: dict[str, str] = {}
    mass_of: dict[str, float] = {}
    for index, row in enumerate(rows):
        guess = element_of_label(row[0])
        found = elements[index] if len(elements) == len(rows) else guess
        symbol = found if found in atomic_numbers else guess
        if symbol is None:
            raise CalculationError(f"{name}: the species {row[0]!r} names no element")
        symbol_of[row[0]] = symbol
        try:
            mass_of[row[0]] = float(row[2])
        except (ValueError, IndexError):
            raise CalculationError(f"{name}: the mass of {row[0]} is not readable: {' '.join(row)}") from None
    for label, _ in sites:
        if label not in symbol_of:
            symbol = element_of_label(label)
            if symbol is None:
                raise CalculationError(f"{name}: the species {label!r} names no element")
            symbol_of[label], mass_of[label] = symbol, float(atomic_masses[atomic_numbers[symbol]])
    alat = _alat(text, name)
    positions = np.array([place for _, place in sites]) * alat
    labels = [label for label, _ in sites]
    return tuple(symbol_of[x] for x in labels), np.array([mass_of[x] for x in labels]), positions


def _alat(text: str, name: str) -> float:
    found = re.search(rf"celldm\(1\)=\s*({_NUMBER})", text)
    if not found:
        raise CalculationError(f"{name}: no readable celldm(1)")
    return float(found.group(1)) * BOHR_ANGSTROM


def _sites(text: str, n_atoms: int) -> list[tuple[str, list[float]]]:
    row = re.compile(
        rf"^\s+\d+\s+(\S+)\s+tau\(\s*\d+\)\s*=\s*\(\s*({_NUMBER})\s*({_NUMBER})\s*({_NUMBER})", re.M
    )
    return [(found[0], [float(x) for x in found[1:]]) for found in row.findall(text)[:n_atoms]]


_GEOMETRY = re.compile(r"(CELL_PARAMETERS|ATOMIC_POSITIONS)\s*[({]|crystal axes:|Final scf calculation")
"""Lines after which what is calculated belongs to another structure; ``ATOMIC_POSITIONS: units set to alat``
of versions 5 and 6 is a warning."""


class _Scanner:
    """Line by line through an output: geometry, then what was calculated for it."""

    def __init__(self, text: str, n_atoms: int, name: str) -> None:
        self.lines, self.n_atoms, self.name = text.splitlines(), n_atoms, name
        self.alat = _alat(text, name)
        # versions up to 6.1 print a fraction of zero for every other functional
        self.hybrid = any(float(x) > 0 for x in re.findall(rf"EXX-fraction\s+=\s*({_NUMBER})", text))
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
            elif _DISCARDED.match(text):
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
                    words = re.findall(rf"{_NUMBER}|\*+|[Nn]a[Nn]", found.group(1))
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
        printed = re.match(rf"Total force =\s*({_NUMBER})", text)
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


def check_same_crystal(atoms: Atoms, output: PwOutput, name: str, tolerance: float = 1e-3) -> None:
    """Refuse an output that belongs to another crystal than `atoms`.

    Parameters
    ----------
    atoms : Atoms
        Structure of the input.
    output : PwOutput
        What the run echoed at its start.
    name : str
        Of the file, for messages.
    tolerance : float
        Largest difference of a position in Å (lattice translations are allowed).

    Raises
    ------
    CalculationError
        Species, volume or a position differ.
    """
    if tuple(atoms.get_chemical_symbols()) != output.symbols:
        raise CalculationError(
            f"{name}: the output holds {_formula(output.symbols)}, its input {atoms.get_chemical_formula()}; "
            "they belong to different runs"
        )
    if abs(output.volume - atoms.get_volume()) > 1e-4 * atoms.get_volume():
        raise CalculationError(
            f"{name}: the output has a cell of {output.volume:.4f} Å³, its input {atoms.get_volume():.4f} Å³"
        )
    difference = atoms.cell.scaled_positions(output.positions - atoms.positions)
    distance = np.linalg.norm((difference - np.rint(difference)) @ atoms.cell.array, axis=1)
    if distance.max() > tolerance:
        raise CalculationError(
            f"{name}: atom {int(distance.argmax())} is {distance.max():.4f} Å from its place in the input; "
            "they belong to different runs"
        )


def _formula(symbols: tuple[str, ...]) -> str:
    return Atoms(list(symbols)).get_chemical_formula()


def _line(text: str, place: int, name: str) -> str:
    number = text.count("\n", 0, place) + 1
    return f"{name}, line {number}"


def _words(text: str, place: int) -> str:
    start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
    return " ".join(text[start : end if end >= 0 else None].split())

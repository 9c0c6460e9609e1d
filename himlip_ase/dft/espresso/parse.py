"""What pw.x wrote: read strictly, so that a run which did not finish can never become a label."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, NotConvergedError
from himlip_ase.evaluation import voigt_from_matrix
from himlip_ase.units import (
    BOHR_ANGSTROM,
    EV_PER_ANGSTROM3_GPA,
    RY_EV,
    RY_PER_BOHR3_EV_PER_ANGSTROM3,
)

_NUMBER = r"[-+]?\d+\.\d*(?:[EeDd][-+]?\d+)?"
_FORCE = re.compile(rf"atom\s+\d+\s+type\s+\d+\s+force\s*=\s*({_NUMBER})\s*({_NUMBER})\s*({_NUMBER})")
_SITE = re.compile(
    rf"^\s+\d+\s+(\w+)\s+tau\(\s*\d+\)\s*=\s*\(\s*({_NUMBER})\s*({_NUMBER})\s*({_NUMBER})", re.M
)
_TIME = re.compile(r"^\s+(?:PWSCF|PHONON)\s+:\s+(.+?)\s*CPU\s+(.+?)\s*WALL", re.M)
_MD5 = re.compile(
    r"PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:\s+(\S+)\s+MD5 check sum:\s*([0-9a-f]{32})"
)
_STRESS = re.compile(rf"total\s+stress\s+\(Ry/bohr\*\*3\).*\n((?:\s+{_NUMBER}.*\n){{3}})")
_PROGRAM_ERROR = re.compile(r"Error in routine\s+(.+?):\s*\n\s*(.+)")


@dataclass(frozen=True)
class PwOutput:
    """Results of a finished and converged pw.x run.

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
    pseudopotential_md5 : dict
        {file name: MD5} as the program read them.
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

    @property
    def pressure_gpa(self) -> float:
        """Static pressure in GPa, positive in compression."""
        if self.stress is None:
            raise CalculationError("the run printed no stress; set tstress=.true.")
        return float(-self.stress[:3].mean() * EV_PER_ANGSTROM3_GPA)


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


def check_finished(text: str, name: str) -> None:
    """Refuse the output of a pw.x run that did not reach its end or its convergence threshold.

    Parameters
    ----------
    text : str
    name : str
        Of the file, for messages.

    Raises
    ------
    NotConvergedError
        The scf cycle did not converge, or the run stopped on its time limit.
    CalculationError
        The run crashed, or the output is cut short.
    """
    error = program_error(text)
    if error:
        raise CalculationError(f"{name}: the program stopped with an error in {error}")
    if "convergence NOT achieved" in text:
        raise NotConvergedError(f"{name}: the scf cycle did not converge")
    if "Maximum CPU time exceeded" in text:
        raise NotConvergedError(f"{name}: the run stopped on its time limit")
    if "JOB DONE" not in text:
        raise CalculationError(f"{name}: the output ends without JOB DONE; the run was cut short")
    if "convergence has been achieved" not in text:
        raise NotConvergedError(f"{name}: the output never says that convergence has been achieved")


def parse_pw_output(text: str, name: str = "pw.out") -> PwOutput:
    """Results in the text of a pw.x output; of the last ionic step if there are several.

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
    NotConvergedError, CalculationError
        As `check_finished`; also for a missing, overflowing (``****``) or non-finite number.
    """
    check_finished(text, name)

    def last(pattern: str, what: str, which: int = -1) -> str:
        found = re.findall(pattern, text, re.M)
        if not found:
            raise CalculationError(f"{name}: no readable {what}")
        return found[which]

    n_atoms = int(last(r"number of atoms/cell\s*=\s*(\d+)", "number of atoms"))
    energy = float(last(rf"^!\s+total energy\s+=\s*({_NUMBER})\s*Ry", "total energy")) * RY_EV
    accuracy = float(last(rf"estimated scf accuracy\s+<\s*({_NUMBER})", "scf accuracy"))
    processes = re.search(r"running on\s+(\d+) processor", text)
    n_processes = int(processes.group(1)) if processes else 1
    times = _TIME.findall(text)
    if not times:
        raise CalculationError(f"{name}: no readable run time")
    alat = float(last(rf"celldm\(1\)=\s*({_NUMBER})", "celldm(1)", 0)) * BOHR_ANGSTROM
    sites = _SITE.findall(text)[:n_atoms]
    if len(sites) != n_atoms:
        raise CalculationError(f"{name}: {len(sites)} of {n_atoms} atomic positions are readable")
    output = PwOutput(
        energy=energy,
        forces=_forces(text, n_atoms, name),
        stress=_stress(text, name),
        accuracy_ry=accuracy,
        n_kpoints=int(last(r"number of k points=\s*(\d+)", "number of k-points")),
        iterations=int(last(r"convergence has been achieved in\s+(\d+) iterations", "iteration count")),
        n_processes=n_processes,
        core_seconds=seconds(times[-1][0]) * n_processes,
        wall_seconds=seconds(times[-1][1]),
        version=last(r"Program PWSCF v\.(\S+) starts", "program version"),
        symbols=tuple(re.sub(r"[\d_].*", "", site[0]).capitalize() for site in sites),
        positions=np.array([[float(x) for x in site[1:]] for site in sites]) * alat,
        volume=float(last(rf"unit-cell volume\s+=\s*({_NUMBER})", "cell volume", 0)) * BOHR_ANGSTROM**3,
        pseudopotential_md5={os.path.basename(path): md5 for _, path, md5 in _MD5.findall(text)},
    )
    numbers = [output.energy, output.accuracy_ry]
    for array in (output.forces, output.stress):
        if array is not None:
            numbers.extend(array.ravel())
    if not all(math.isfinite(number) for number in numbers):
        raise CalculationError(f"{name}: a result is not a finite number")
    return output


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
    return parse_pw_output(path.read_text(encoding="utf-8", errors="replace"), str(path))


def check_same_crystal(atoms: Atoms, output: PwOutput, name: str, tolerance: float = 1e-3) -> None:
    """Refuse an output that belongs to another crystal than `atoms`.

    Parameters
    ----------
    atoms : Atoms
        Structure of the input.
    output : PwOutput
        What the run echoed at its start.
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


def _forces(text: str, n_atoms: int, name: str) -> np.ndarray | None:
    start = text.rfind("Forces acting on atoms")
    if start < 0:
        return None
    rows = []
    for line in text[start:].splitlines()[1:]:
        if match := _FORCE.search(line):
            rows.append([float(x) for x in match.groups()])
        elif line.strip():
            break
    if len(rows) < n_atoms:
        raise CalculationError(f"{name}: {len(rows)} of {n_atoms} forces are readable")
    return np.array(rows[:n_atoms]) * (RY_EV / BOHR_ANGSTROM)


def _stress(text: str, name: str) -> np.ndarray | None:
    if "Computing stress" not in text:
        return None
    found = _STRESS.findall(text)
    if not found:
        raise CalculationError(f"{name}: the stress is not readable")
    rows = [re.findall(_NUMBER, line)[:3] for line in found[-1].splitlines()]
    tensor = -np.array([[float(x) for x in row] for row in rows]) * RY_PER_BOHR3_EV_PER_ANGSTROM3
    return voigt_from_matrix(tensor) + 0.0

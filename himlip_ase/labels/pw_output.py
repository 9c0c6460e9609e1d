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
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from himlip_ase.errors import CalculationError
from himlip_ase.files import CONTROL
from himlip_ase.labels.espresso_ends import check_finished, line_of, seconds
from himlip_ase.labels.pw_steps import DISCARDED, NUMBER, PwStep, StepScanner, alat_of
from himlip_ase.pw_structure import element_of_label, set_masses
from himlip_ase.units import BOHR_ANGSTROM, EV_PER_ANGSTROM3_GPA

_TIME = re.compile(r"^\s+(?:PWSCF|PHONON)\s+:\s+(.+?)\s*CPU\s+(.+?)\s*WALL", re.M)
_PRINTED = {
    "ecutwfc_ry": r"^ +kinetic-energy cutoff +=\s*([\d.]+)",
    "conv_thr_ry": r"^ +(?:scf )?convergence threshold +=\s*([\d.]+E[-+]\d+)",
    "degauss_ry": r"smearing, width \(Ry\)=\s*([\d.]+)",
}
_PSEUDO = re.compile(
    r"PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:\s+(\S+)(?:\s+MD5 check sum:\s*([0-9a-f]{32}))?"
)
NEW_BASIS = 1e-3
"""eV/atom between two sets of plane waves from which it is told."""
logger = logging.getLogger(__name__)


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
    steps = tuple(StepScanner(text, n_atoms, name).steps())
    if not steps and (said := DISCARDED.search(text)):
        raise CalculationError(
            f"{line_of(text, said.start(), name)}: the run continues another and does not print the "
            "positions that its energy belongs to; run it from_scratch"
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
        volume=float(last(rf"unit-cell volume\s+=\s*({NUMBER})", "cell volume", 0)) * BOHR_ANGSTROM**3,
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
        line = line_of(text, found.start(), str(path))
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
    alat = alat_of(text, name)
    positions = np.array([place for _, place in sites]) * alat
    labels = [label for label, _ in sites]
    return tuple(symbol_of[x] for x in labels), np.array([mass_of[x] for x in labels]), positions


def _sites(text: str, n_atoms: int) -> list[tuple[str, list[float]]]:
    row = re.compile(
        rf"^\s+\d+\s+(\S+)\s+tau\(\s*\d+\)\s*=\s*\(\s*({NUMBER})\s*({NUMBER})\s*({NUMBER})", re.M
    )
    return [(found[0], [float(x) for x in found[1:]]) for found in row.findall(text)[:n_atoms]]


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

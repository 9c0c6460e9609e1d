"""What ph.x wrote: complete on every q-point, or refused."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, NotConvergedError
from himlip_ase.labels.espresso_ends import OutOfTimeError, check_started, program_error, seconds
from himlip_ase.units import BOHR_ANGSTROM

logger = logging.getLogger(__name__)
_WITHIN_A_Q = re.compile(r"^\s*Representation +\d+ +\d+ modes? +-.*\bDone *$", re.MULTILINE)
"""What ph.x says of a representation that it takes from an earlier run."""
_NOT_FINITE = re.compile(r"\b(?:nan|inf|infinity)\b", re.IGNORECASE)


@dataclass(frozen=True)
class PhFiles:
    """Files of a finished ph.x run on a q-grid.

    Attributes
    ----------
    q_grid : tuple of int
    dyn : tuple of Path
        dyn0, dyn1 … dynN.
    elph : tuple of Path
        elph_dir/a2Fq2r.{50+isigma}.{iq}, isigma by isigma; empty without electron-phonon matrices.
    sigmas_ry : tuple of float
        Widths of the double-delta Gaussians, Ry.
    core_seconds : float
        CPU seconds over all processes and all restarts.
    version : str
        Program version.
    """

    q_grid: tuple[int, int, int]
    dyn: tuple[Path, ...]
    elph: tuple[Path, ...]
    sigmas_ry: tuple[float, ...]
    core_seconds: float
    version: str


def check_ph_output(text: str, name: str = "ph.out") -> None:
    """Refuse the output of a ph.x run that did not finish or converge.

    Parameters
    ----------
    text : str
    name : str
        Of the file, for messages.

    Raises
    ------
    NotConvergedError, CalculationError
        As the name says; the message tells which.
    """
    error = program_error(text)
    if error:
        raise CalculationError(f"{name}: the program stopped with an error in {error}")
    if "No convergence has been achieved" in text:
        raise NotConvergedError(f"{name}: the response to a displacement did not converge")
    if "Maximum CPU time exceeded" in text:
        raise OutOfTimeError(f"{name}: the run stopped on its time limit; continue it with --resume")
    check_started(text, name, "PHONON")
    if "JOB DONE" not in text:
        raise CalculationError(
            f"{name}: the output ends without JOB DONE; the run was cut short, continue with --resume"
        )


def check_ph_folder(folder: str | os.PathLike, atoms: Atoms) -> PhFiles:
    """Files of the ph.x run in a folder, every one of them complete.

    Parameters
    ----------
    folder : path-like
        Holds ph.in, ph.out, dyn*, elph_dir/.
    atoms : Atoms
        The crystal they must belong to.

    Returns
    -------
    PhFiles

    Raises
    ------
    NotConvergedError, CalculationError
        The run did not finish, a q-point is missing, or a file is truncated or of another crystal.
    """
    folder = Path(folder)
    for name in ("ph.in", "ph.out", "dyn0"):
        if not (folder / name).is_file():
            raise CalculationError(f"{folder / name} does not exist: ph.x has not run there")
    text = (folder / "ph.out").read_text(errors="replace")
    check_ph_output(text, str(folder / "ph.out"))
    if _WITHIN_A_Q.search(text):
        logger.warning(
            "%s went on within a q-point (recover = .true.): where ph.x had been killed, its matrices can be "
            "wrong without a word (6.7); delete the dyn file of that q-point and go on with --resume, unless "
            "max_seconds had stopped it",
            folder / "ph.out",
        )
    q_grid, n_irreducible = read_dyn0(folder / "dyn0")
    dyn = [folder / "dyn0"]
    for index in range(1, n_irreducible + 1):
        path = folder / f"dyn{index}"
        check_dyn(path, atoms)
        dyn.append(path)
    ph_in = (folder / "ph.in").read_text()
    elph: list[Path] = []
    sigmas: tuple[float, ...] = ()
    if "interpolated" in ph_in:
        n_sigma = int(_keyword(ph_in, "el_ph_nsigma", "10"))
        step = float(_keyword(ph_in, "el_ph_sigma", "0.02").lower().replace("d", "e"))
        sigmas = tuple(round(step * (i + 1), 12) for i in range(n_sigma))
        for isigma in range(1, n_sigma + 1):
            for index in range(1, n_irreducible + 1):
                path = folder / "elph_dir" / f"a2Fq2r.{50 + isigma}.{index}"
                check_a2fq2r(path, len(atoms), sigmas[isigma - 1])
                elph.append(path)
    version = re.search(r"Program PHONON v\.(\S+) starts", text)
    return PhFiles(
        q_grid,
        tuple(dyn),
        tuple(elph),
        sigmas,
        ph_core_seconds(folder),
        version.group(1) if version else "unknown",
    )


def read_dyn0(path: str | os.PathLike) -> tuple[tuple[int, int, int], int]:
    """q-grid and number of irreducible q-points in a dyn0 file."""
    lines = Path(path).read_text().splitlines()
    try:
        n1, n2, n3 = (int(word) for word in lines[0].split())
        count = int(lines[1])
        points = np.array([[float(word) for word in line.split()] for line in lines[2 : 2 + count]])
    except (ValueError, IndexError) as error:
        raise CalculationError(f"{path} is not a complete dyn0 file") from error
    if points.shape != (count, 3):
        raise CalculationError(f"{path} lists {len(points)} of {count} q-points")
    return (n1, n2, n3), count


def check_dyn(path: str | os.PathLike, atoms: Atoms) -> None:
    """Refuse a dyn file that is missing, truncated, non-finite, or of another crystal than `atoms`.

    Parameters
    ----------
    path : path-like
    atoms : Atoms
    """
    path = Path(path)
    if not path.is_file():
        raise CalculationError(
            f"{path} does not exist: ph.x has not finished this q-point, continue with --resume"
        )
    text = path.read_text(errors="replace")
    lines = text.splitlines()
    stars = [line for line in lines if line.strip().startswith("*****")]
    if len(stars) < 2 or len(re.findall(r"freq \(", text)) != 3 * len(atoms):
        raise CalculationError(f"{path} is truncated; delete it and continue with --resume")
    if _NOT_FINITE.search(text):
        raise CalculationError(f"{path} holds a number that is not finite")
    words = lines[2].split()
    if int(words[1]) != len(atoms):
        raise CalculationError(f"{path} is of a crystal with {words[1]} atoms, not {len(atoms)}")
    symbols = [
        re.sub(r"[\d_].*", "", label.strip()) for label in re.findall(r"^\s+\d+\s+'(.{1,6})'", text, re.M)
    ]
    sites = re.findall(r"^\s+\d+\s+(\d+)\s+([-\d.]+)\s+([-\d.]+)\s+([-\d.]+)\s*$", text, re.M)[: len(atoms)]
    if [symbols[int(site[0]) - 1] for site in sites] != atoms.get_chemical_symbols():
        raise CalculationError(
            f"{path} does not hold the atoms of {atoms.get_chemical_formula()}, in their order"
        )
    alat = float(words[3]) * BOHR_ANGSTROM
    difference = atoms.cell.scaled_positions(
        np.array([site[1:] for site in sites], float) * alat - atoms.positions
    )
    distance = np.linalg.norm((difference - np.rint(difference)) @ atoms.cell.array, axis=1)
    if distance.max() > 1e-3:
        raise CalculationError(
            f"{path}: an atom is {distance.max():.4f} Å away from its place in the crystal"
        )


def check_a2fq2r(path: str | os.PathLike, n_atoms: int, sigma_ry: float) -> None:
    """Refuse an a2Fq2r file that is missing, truncated, non-finite or of another broadening.

    Parameters
    ----------
    path : path-like
    n_atoms : int
    sigma_ry : float
        Width of the double-delta Gaussian, Ry.
    """
    path = Path(path)
    if not path.is_file():
        raise CalculationError(f"{path} does not exist: ph.x has not finished its electron-phonon part")
    text = path.read_text(errors="replace")
    lines = text.splitlines()
    try:
        header = [float(word) for word in lines[0].split()]
        count = int(lines[1])
    except (ValueError, IndexError) as error:
        raise CalculationError(f"{path} is truncated") from error
    if len(lines) != 2 + count * (5 + 4 * n_atoms**2):
        raise CalculationError(
            f"{path} is truncated: {len(lines)} lines for {count} matrices of {n_atoms} atoms"
        )
    if _NOT_FINITE.search(text) or "***" in text:
        raise CalculationError(f"{path} holds a number that is not finite")
    if abs(header[0] - sigma_ry) > 1e-9:
        raise CalculationError(f"{path} was made with a broadening of {header[0]} Ry, not {sigma_ry} Ry")


def ph_core_seconds(folder: str | os.PathLike) -> float:
    """CPU seconds of ph.x over all processes, summed over the restarts ph.out, ph.part1.out, and so on.

    A part that was interrupted has printed no CPU time: its lines "total cpu time" hold time on the clock
    (ph.x 6.7). That is taken, and is more where the machine was busy.
    """
    total = 0.0
    for path in sorted(Path(folder).glob("ph*.out")):
        text = path.read_text(errors="replace")
        processes = re.search(r"Number of MPI processes:\s+(\d+)", text) or re.search(
            r"running on\s+(\d+) processor", text
        )
        n_processes = int(processes.group(1)) if processes else 1
        final = re.findall(r"^\s+PHONON\s+:\s+(.+?)\s*CPU", text, re.M)
        running = re.findall(r"total cpu time :\s*([\d.]+) secs", text)
        total += n_processes * (seconds(final[-1]) if final else float(running[-1]) if running else 0.0)
    return total


def _keyword(text: str, name: str, default: str) -> str:
    match = re.search(rf"{name}\s*=\s*([^\s,]+)", text)
    return match.group(1) if match else default

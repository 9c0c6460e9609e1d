"""How far pw.x and ph.x are, from what they have printed so far."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.dft.espresso.response import RESPONSE_STEPS, response_k_points, scf_steps
from himlip_ase.dft.standing import Listener, Standing
from himlip_ase.labels.pw_output import PwOutput, read_pw_output

_ITERATION = re.compile(r"iteration #\s*(\d+)")
_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s*([\d.E+-]+)")
_THRESHOLD = re.compile(r"(?:scf )?convergence threshold\s*=\s*([\d.E+-]+)")
_SPENT = re.compile(r"total cpu time spent up to now is\s*([\d.]+) secs")
_Q_COUNT = re.compile(r"\(\s*(\d+)\s+q-points\)")
_Q_START = re.compile(r"Calculation of q =\s+(\S+)\s+(\S+)\s+(\S+)")
_K_POINTS = re.compile(r"number of k points=\s*(\d+)")
_IRREPS = re.compile(r"There are\s+(\d+)\s+irreducible representations")
_REPRESENTATION = re.compile(r"Representation #\s*(\d+) modes? #((?:\s+\d+)+)")
_RESPONSE = re.compile(r"iter #\s*(\d+) total cpu time :\s*([\d.]+) secs")


def scf_standing(text: str, task: str) -> Standing | None:
    """How far a pw.x run is; iterations left are counted from the fall of its accuracy.

    Parameters
    ----------
    text : str
        Output so far.
    task : str

    Returns
    -------
    Standing or None
        None before the first iteration.
    """
    iterations = [int(n) for n in _ITERATION.findall(text)]
    if not iterations:
        return None
    runs = iterations.count(1)  # scf cycles begun; those of a relaxation follow each other
    accuracies = [float(x) for x in _ACCURACY.findall(text)]
    threshold, spent = _THRESHOLD.search(text), _SPENT.findall(text)
    detail, fraction, left = "", None, None
    here = accuracies[-iterations[-1] + 1 :] if iterations[-1] > 1 else []
    if here and threshold:
        detail = f"accuracy {here[-1]:.0e} Ry of {float(threshold.group(1)):.0e}"
    if runs == 1 and here and threshold and spent and here[-1] > 0:
        total = _scf_iterations(here, float(threshold.group(1)))
        fraction = min(len(here) / total, 1.0)
        left = float(spent[-1]) / len(here) * max(total - len(here), 0.0)
    step = f"iteration {iterations[-1]}" if runs == 1 else f"ionic step {runs}"
    return Standing(task, step, detail, fraction, left)


FIRST_GUESS = 9.0
"""Iterations of an scf cycle of which nothing is known yet."""


def _scf_iterations(accuracies: Sequence[float], threshold: float) -> float:
    """Iterations in all, if the logarithm of the accuracy goes on falling as it did on the whole."""
    done, fall = len(accuracies), math.log(accuracies[0] / accuracies[-1]) if accuracies[-1] > 0 else 0.0
    if done < 2 or fall <= 0:
        return max(FIRST_GUESS, done + 1.0)
    return done + max(math.log(accuracies[-1] / threshold), 0.0) / (fall / (done - 1))


def ph_standing(text: str, start_q: int, k_points: Sequence[int], n_modes: int) -> Standing | None:
    """How far a ph.x run on a q-grid is.

    Work is counted in perturbations times k-points, of which each q-point has its own number.

    Parameters
    ----------
    text : str
        Output so far, of a run that began at `start_q`.
    start_q : int
        From 1.
    k_points : sequence of int
        k and k + q that each irreducible q-point needs, `himlip_ase.dft.espresso.response.response_k_points`.
    n_modes : int
        Three times the number of atoms.

    Returns
    -------
    Standing or None
        None before the first q-point.
    """
    begun = list(_Q_START.finditer(text))
    count = _Q_COUNT.search(text)
    if not begun or count is None:
        return None
    total, current = int(count.group(1)), start_q + len(begun) - 1
    here = text[begun[-1].start() :]
    place = f"q-point {current} of {total}"
    representations = list(_REPRESENTATION.finditer(here))
    irreps = _IRREPS.findall(here)
    if not representations or len(k_points) != total:
        detail = f"{irreps[-1]} representations" if irreps else "wave functions at k + q"
        return Standing("ph.x", place, detail)
    iterations = _RESPONSE.findall(here[representations[-1].start() :])
    number, modes = representations[-1].groups()
    inside = min(int(iterations[-1][0]) / RESPONSE_STEPS, 1.0) if iterations else 0.0
    modes_done = int(modes.split()[0]) - 1 + inside * len(modes.split())
    done = n_modes * sum(k_points[start_q - 1 : current - 1]) + modes_done * k_points[current - 1]
    work = n_modes * sum(k_points[start_q - 1 :])
    clock = _RESPONSE.findall(text)
    left = float(clock[-1][1]) * (work - done) / done if clock and done else None
    detail = f"representation {number} of {irreps[-1] if irreps else '?'}"
    before = n_modes * sum(k_points[: start_q - 1])
    return Standing("ph.x", place, detail, (before + done) / (before + work), left)


class HarmonicWatch:
    """Looks at the output of scf_dense, scf and ph.x and tells a listener; to be called again and again.

    Parameters
    ----------
    folder : Path
        Of the harmonic run.
    atoms : Atoms
    scf : tuple of str
        Stems of the scf runs, in order.
    k_grid, q_grid : three ints
    listener : Listener
    k_shift : bool
        Whether the k-grid is shifted by half a step.
    """

    def __init__(
        self,
        folder: Path,
        atoms: Atoms,
        scf: tuple[str, ...],
        k_grid: Sequence[int],
        q_grid: Sequence[int],
        listener: Listener,
        k_shift: bool = False,
    ) -> None:
        self.folder, self.scf, self.listener = folder, scf, listener
        self.n_modes, self._told = 3 * len(atoms), 0
        self.k_points: Callable[[], list[int]] = _once(lambda: self._k_points(atoms, k_grid, q_grid, k_shift))

    def __call__(self) -> None:
        """Look."""
        newest = max(
            (path for name in TASKS if (path := self.folder / f"{name}.out").is_file()),
            key=lambda path: path.stat().st_mtime,
            default=None,
        )
        if newest is None:
            return
        text = newest.read_text(errors="replace")
        if newest.stem == "ph":
            self._tell_finished(len(self.scf))
            standing = ph_standing(text, self._start(), self.k_points(), self.n_modes)
        else:
            self._tell_finished(self.scf.index(newest.stem))
            standing = scf_standing(text, TASKS[newest.stem])
        if standing is not None and "JOB DONE" not in text:
            self.listener.stands(standing)

    def close(self, ph_core_seconds: float) -> None:
        """All is done."""
        self._tell_finished(len(self.scf))
        self.listener.finished(TASKS["ph"], ph_core_seconds)

    def _tell_finished(self, count: int) -> None:
        """The first `count` scf runs are done."""
        for stem in self.scf[self._told : count]:
            self.listener.finished(TASKS[stem], *core_seconds(read_pw_output(self.folder / f"{stem}.out")))
        self._told = max(self._told, count)

    def _start(self) -> int:
        asked = (self.folder / "ph.in").read_text(errors="replace")
        found = re.search(r"start_q\s*=\s*(\d+)", asked)
        return int(found.group(1)) if found else 1

    def _k_points(
        self, atoms: Atoms, k_grid: Sequence[int], q_grid: Sequence[int], k_shift: bool
    ) -> list[int]:
        """In the order of ph.x, which dyn0 holds (Cartesian, 2π/alat)."""
        lines = (self.folder / "dyn0").read_text().split("\n")
        points = np.array([[float(x) for x in line.split()] for line in lines[2 : 2 + int(lines[1])]])
        alat = float(np.linalg.norm(atoms.cell[0]))
        return response_k_points(atoms, k_grid, q_grid, points / alat @ atoms.cell.array.T, k_shift)


TASKS = {"scf_dense": "scf, dense k", "scf": "scf", "ph": "ph.x"}
"""Programs of a harmonic run by the stem of their files, and what the forecast calls them."""


def _once(make: Callable[[], list[int]]) -> Callable[[], list[int]]:
    """The value, made at the first call that succeeds: dyn0 appears some time after ph.x began."""
    kept: list[int] = []

    def value() -> list[int]:
        if not kept:
            try:
                kept.extend(make())
            except (OSError, ValueError, IndexError):
                return []
        return kept

    return value


def pw_watch(folder: Path, task: str, listener: Listener) -> Callable[[], None]:
    """Looks at ``pw.out`` in a folder and tells a listener.

    Parameters
    ----------
    folder : Path
    task : str
    listener : Listener

    Returns
    -------
    callable
    """

    def look() -> None:
        path = folder / "pw.out"
        if path.is_file():
            standing = scf_standing(path.read_text(errors="replace"), task)
            if standing is not None:
                listener.stands(standing)

    return look


def core_seconds(output: PwOutput) -> tuple[float, float]:
    """CPU seconds of a run, and what they were with the usual number of scf iterations.

    Parameters
    ----------
    output : PwOutput

    Returns
    -------
    spent, typical : float
        Of a relaxation `typical` is that of one scf cycle.
    """
    iterations = sum(step.iterations for step in output.steps) or output.iterations
    typical = scf_steps(len(output.symbols), output.printed.get("conv_thr_ry", 1e-10))
    return output.core_seconds, output.core_seconds * typical / max(iterations, 1)

"""A set of single points: side by side, each once, and continued where it was stopped."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from ase import Atoms

from himlip_ase.dft.espresso.inputs import QESettings, k_grid_like, k_grid_of_spacing, pw_input
from himlip_ase.dft.espresso.parse import PwOutput
from himlip_ase.dft.espresso.runner import (
    Launcher,
    check_input_unchanged,
    finished_run,
    requested_input,
    run_pw,
    terminate_children,
)
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock
from himlip_ase.symmetry.spglib_search import spglib_search

log = logging.getLogger(__name__)

TAGS = ("amplitude", "system", "prototype", "kind")
"""Entries of `Atoms.info` that say what a structure is; they go with it into the labels."""


@dataclass(frozen=True)
class SinglePoint:
    """One pw.x run: its folder, input text and notes for its provenance file."""

    folder: Path
    text: str
    notes: Mapping[str, Any] = field(default_factory=dict)


def single_points(
    frames: Sequence[Atoms],
    folder: str | os.PathLike,
    settings: QESettings,
    *,
    reference: Atoms | None = None,
    k_spacing: float | None = None,
    nosym: bool = True,
    generator: Mapping[str, Any] | None = None,
) -> list[SinglePoint]:
    """Inputs of a set of single points, in the subfolders 000, 001 and so on.

    Parameters
    ----------
    frames : sequence of Atoms
    folder : path-like
        Folder of the set; nothing is written yet.
    settings : QESettings
        `settings.k_grid` is that of `reference`.
    reference : Atoms, optional
        Primitive cell; each frame gets the same k-density, see `k_grid_like`. None: the grid is used as is.
    k_spacing : float, optional
        Å⁻¹, 2π included; each frame gets a grid of its own (`k_grid_of_spacing`), not `settings.k_grid`.
    nosym : bool
        Do not look for symmetries: right for disordered cells. Cells that have none are always run so:
        pw.x would reduce the k-points by the symmetries of the lattice and undo that for the atoms, which
        can leave more k-points than the grid has.
    generator : mapping, optional
        How the frames were made, for provenance.

    Raises
    ------
    InputError
        A frame cannot be calculated, or there are none.
    """
    if not frames:
        raise InputError("no structures to calculate")
    jobs = []
    for index, frame in enumerate(frames):
        try:
            grid = settings.k_grid
            if k_spacing is not None:
                grid = k_grid_of_spacing(frame, k_spacing)
            elif reference is not None:
                grid = k_grid_like(reference, settings.k_grid, frame)
            text = pw_input(frame, settings.with_k_grid(grid), nosym=nosym or not has_symmetry(frame))
        except InputError as error:
            raise InputError(f"structure {index}: {error}") from error
        notes: dict[str, Any] = {"generator": dict(generator)} if generator else {}
        notes |= {tag: _plain(frame.info[tag]) for tag in TAGS if tag in frame.info}
        jobs.append(SinglePoint(Path(folder) / f"{index:03d}", text, notes))
    return jobs


def has_symmetry(atoms: Atoms, symprec: float = 1e-5) -> bool:
    """Whether a rotation other than the identity maps the crystal onto itself.

    Parameters
    ----------
    atoms : Atoms
        Periodic in three directions.
    symprec : float
        Å.
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib_search(spglib.get_symmetry, cell, symprec=symprec)
    return found is not None and len(np.unique(found["rotations"], axis=0)) > 1


def run_single_points(
    jobs: Sequence[SinglePoint],
    launcher: Launcher | None = None,
    *,
    workers: int = 1,
    executor: Executor | None = None,
    resume: bool = False,
    progress: bool = False,
) -> list[PwOutput]:
    """Run what is missing of a set of single points.

    Parameters
    ----------
    jobs : sequence of SinglePoint
        See `single_points`; their folders have one parent.
    launcher : Launcher, optional
    workers : int
        Runs side by side, by threads that each start one program.
    executor : concurrent.futures.Executor, optional
        Used instead of threads: a process pool, Dask's, any other that sees the same file system.
    resume : bool
        Whether the set may have been started before: finished runs of the same inputs are then kept.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of PwOutput
        In the order of `jobs`.

    Raises
    ------
    InputError
        The set was started before and `resume` is False, has other inputs, or is in use by another process.
    CalculationError
        Some runs failed; the others are finished and kept.
    """
    launcher = launcher or Launcher()
    launcher.command(launcher.pw, "pw.in")
    folder = jobs[0].folder.parent
    with FolderLock(folder):
        started = [job for job in jobs if requested_input(job.folder, "pw") is not None]
        if started and not resume:
            raise InputError(
                f"{folder} holds {len(started)} of these {len(jobs)} runs already; continue with --resume, "
                "or choose another folder"
            )
        results: dict[int, PwOutput] = {}
        for index, job in enumerate(jobs):
            check_input_unchanged(job.folder, job.text)
            output = finished_run(job.folder, job.text)
            if output is not None:
                results[index] = output
        missing = [index for index in range(len(jobs)) if index not in results]
        log.info("%s: %d of %d runs are finished", folder, len(results), len(jobs))
        failures: dict[int, str] = {}
        with (
            _pool(executor, workers) as pool,
            _bar(progress, folder.name, len(jobs), len(results)) as advance,
        ):
            futures: dict[Future, int] = {
                pool.submit(_run, jobs[index], launcher): index for index in missing
            }
            try:
                for future in as_completed(futures):
                    index = futures[future]
                    try:
                        results[index] = future.result()
                    except (CalculationError, InputError) as error:
                        failures[index] = str(error)
                        log.error("%s", error)
                    advance()
            except BaseException:
                for future in futures:
                    future.cancel()
                terminate_children()
                raise
    if failures:
        shown = "\n".join(
            f"  {jobs[index].folder.name}: {text}" for index, text in sorted(failures.items())[:5]
        )
        raise CalculationError(
            f"{len(failures)} of {len(jobs)} runs in {folder} failed (the {len(results)} others are kept):\n"
            f"{shown}\nTry them again with --resume"
        )
    return [results[index] for index in range(len(jobs))]


def _plain(value: Any) -> str | float:
    return value if isinstance(value, str) else float(value)


def _run(job: SinglePoint, launcher: Launcher) -> PwOutput:
    return run_pw(job.folder, job.text, launcher, notes=job.notes)


@contextlib.contextmanager
def _pool(executor: Executor | None, workers: int) -> Iterator[Executor]:
    if executor is not None:
        yield executor
        return
    if workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more")
    with ThreadPoolExecutor(workers, thread_name_prefix="dft") as pool:
        yield pool


@contextlib.contextmanager
def _bar(show: bool, title: str, total: int, done: int) -> Iterator[Any]:
    if not show:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda: bar.advance(task)

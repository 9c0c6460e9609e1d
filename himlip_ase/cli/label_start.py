"""The first second of a ``himlip label`` command: everything that is wrong, in one message, nothing made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.cli.dft_options import DFTOptions
    from himlip_ase.dft.engine import Engine
    from himlip_ase.dft.executors import JobExecutor
    from himlip_ase.dft.jobs import Job, Task

T = TypeVar("T")


class Start:
    """Gathers the faults of a command.

    Parameters
    ----------
    command : str
        For the message.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.faults: list[str] = []

    def of(self, make: Callable[[], T]) -> T | None:
        """What `make` gives; None where the input for it is wrong, which is noted."""
        from himlip_ase.errors import InputError

        try:
            return make()
        except InputError as error:
            self.faults.append(str(error))
            return None

    def check(
        self,
        dft: DFTOptions,
        engine: Engine | None,
        primitive: Atoms | None,
        out: Path,
        *,
        q_grid: Sequence[int] | None = None,
        sets: dict[str, tuple[int, Atoms]] | None = None,
        relax: bool = False,
        symmetry: bool = False,
        programs_here: bool = True,
    ) -> list[Task]:
        """Look at everything that the command needs, and stop it if something is wrong.

        Parameters
        ----------
        dft : DFTOptions
        engine : Engine or None
            None where it could not be made.
        primitive : Atoms or None
            Cell that the k-grid belongs to; None where it could not be read.
        out : Path
        q_grid : three ints, optional
            Where harmonic matrices are made.
        sets : dict, optional
            {name: (number of cells, one of them)}.
        relax : bool
        symmetry : bool
            Whether the engine has to find all operations of the crystal.
        programs_here : bool
            Whether programs run on this machine.

        Returns
        -------
        list of Task
            What the command will run; empty where that was not asked.

        Raises
        ------
        InputError
            All faults.
        """
        from himlip_ase.dft.setting_names import OPTIONS
        from himlip_ase.pipeline.preflight import disk_faults, refuse

        executor = self.of(dft.chosen_executor)
        if dft.workers < 1:
            self.faults.append(f"--workers is {dft.workers}; give 1 or more")
        if executor is not None and programs_here and not dft.dry_run:
            self.faults += executor.faults()
        self.faults += _folder_faults(out, dft.resume)
        tasks: list[Task] = []
        if engine is not None and primitive is not None:
            cell = next(iter(sets.values()))[1] if sets else primitive
            self.faults += engine.faults(
                cell, q_grid, names=OPTIONS, programs_here=programs_here, symmetry=symmetry
            )
            asked = symmetry or dft.dry_run  # sets of single points start without asking pw.x first
            if not self.faults and programs_here and asked:
                tasks = engine.forecast(primitive, q_grid, sets or {}, relax)
                self.faults += disk_faults(tasks, dft.workers, out, "--out")
        refuse(self.faults, self.command)
        return tasks


def _folder_faults(out: Path, resume: bool) -> list[str]:
    from himlip_ase.dft.engines import ENGINES

    if out.exists() and not out.is_dir():
        return [f"{out} is a file; choose another folder with --out"]
    if resume or not out.is_dir():
        return []
    inside = [path for path in out.iterdir() if path.is_dir()]
    begun = any(engine.holds_harmonic(out) or any(map(engine.holds, inside)) for engine in ENGINES)
    return [f"{out} holds runs already; continue with --resume, or choose another folder"] if begun else []


def write_inputs(out: Path, work: Callable[[JobExecutor], object]) -> None:
    """Write the inputs of what would run now into ``--out``, with the job list.

    Parameters
    ----------
    out : Path
    work : callable (JobExecutor)
        Asks for it.
    """
    from himlip_ase.dft.espresso.inputs_only import JOBS, write_job_folder
    from himlip_ase.dft.executors import here
    from himlip_ase.dft.programs import NotRun, noting

    with noting() as programs:
        try:
            work(here())
        except NotRun:
            pass
    jobs = write_job_folder(programs, out.absolute(), out.absolute())
    if jobs:
        typer.echo(
            f"wrote the inputs of {len(jobs)} jobs, listed in {out / JOBS}; when they are done, type this "
            "again with --resume"
        )
    else:
        typer.echo(f"all runs in {out} are there; nothing to write")


def note_jobs(jobs: Sequence[Job]) -> Callable[[JobExecutor], None]:
    """Ask for single points that are not finished, each by itself."""
    from himlip_ase.dft.programs import NotRun

    def work(executor: JobExecutor) -> None:
        for job in jobs:
            if job.finished() is None:
                try:
                    executor.call(job.run)
                except NotRun:
                    continue

    return work

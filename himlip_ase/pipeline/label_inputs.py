"""The labels of a run made on another machine: inputs of what can run now, and outputs brought back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from himlip_ase.dft.espresso.engine import Espresso
from himlip_ase.dft.espresso.inputs_only import ListedJob, bring_back, write_job_folder
from himlip_ase.dft.executors import here
from himlip_ase.dft.jobs import Job
from himlip_ase.dft.programs import NotRun, noting
from himlip_ase.dft.set_aside import SetAside
from himlip_ase.errors import InputError
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.make_labels import crystal_to_label, displaced_sets, rattled_sets, set_names
from himlip_ase.pipeline.preflight import preflight
from himlip_ase.pipeline.runfolder import RunFolder

logger = logging.getLogger(__name__)

INPUTS = "inputs"
"""Folder of the inputs in the run folder."""


@dataclass(frozen=True)
class WrittenInputs:
    """What was written, and what could not be yet.

    Attributes
    ----------
    folder : Path
    jobs : list of ListedJob
        What can run now; empty where all labels are there.
    waiting : list of str
        What needs the results of those jobs.
    """

    folder: Path
    jobs: list[ListedJob]
    waiting: list[str]


def write_label_inputs(config: RunConfig, folder: str | Path) -> WrittenInputs:
    """Write the inputs of every DFT job that can run now; nothing is run.

    Parameters
    ----------
    config : RunConfig
    folder : path-like
        Run folder, new or not: what is finished there is not written again.

    Returns
    -------
    WrittenInputs

    Raises
    ------
    InputError
        The run could not start, or its engine has no inputs for other machines.
    """
    if config.labels.folder is not None:
        raise InputError("labels.folder is given: the labels are there already, no inputs are needed")
    if not isinstance(config.dft, Espresso):
        raise InputError(
            f"--inputs-only writes inputs of Quantum ESPRESSO; with the engine {config.engine.name} let an "
            "executor reach the other machine (`executor: slurm`)"
        )
    preflight(config, Path(folder), programs_here=False)
    run = RunFolder(folder, resume=True)
    with run.session():
        run.write_config(config.resolved())
        stage = run.stage_folder("labels")
        with noting() as programs:
            waiting = _note_labels(config, config.dft, stage)
        jobs = write_job_folder(programs, stage / "runs", run.path / INPUTS)
    return WrittenInputs(run.path / INPUTS, jobs, waiting)


def _note_labels(config: RunConfig, engine: Espresso, stage: Path) -> list[str]:
    """Ask for all labels in order; what would run is noted. Returns what has to wait."""
    runs, executor = stage / "runs", here()
    aside = SetAside(runs, stage / "set_aside")
    atoms = crystal_to_label(config, stage)
    sets = set_names(config)
    if config.labels.relax:
        try:
            start = atoms
            atoms = aside.with_room(
                lambda: engine.relax(
                    start, config.pressure_gpa, runs / "relax", executor, resume=True, overwrite=True
                )
            ).atoms
        except NotRun:
            return ["more runs of the relaxation, perhaps", "harmonic", *sets]
    ready = True
    try:
        aside.with_room(
            lambda: engine.harmonic(atoms, config.q_grid, runs / "harmonic", executor, resume=True)
        )
        if config.labels.check_k:
            aside.with_room(lambda: engine.check_k(atoms, runs / "harmonic", executor))
    except NotRun:
        ready = (runs / "harmonic" / "dyn1").is_file()
    for name, frames in rattled_sets(config, atoms):
        _note_set(config, engine, atoms, name, frames, aside)
    if not ready:
        checks = ["k-check"] * config.labels.check_k
        return [*checks, *(name for name in sets if name not in config.labels.rattle_sets)]
    for name, frames in displaced_sets(config, atoms, read_dyn(runs / "harmonic" / "dyn0")):
        _note_set(config, engine, atoms, name, frames, aside)
    return []


def _note_set(
    config: RunConfig, engine: Espresso, atoms: Atoms, name: str, frames: list[Atoms], aside: SetAside
) -> None:
    jobs: list[Job] = list(engine.single_points(frames, aside.runs / name, primitive=atoms))
    aside.make_room(jobs)
    for job in jobs:
        if job.finished() is None:
            try:
                job.run()
            except NotRun:
                continue


def collect_into_run(folder: str | Path, run: str | Path) -> tuple[list[str], list[str]]:
    """Bring the outputs of jobs that ran elsewhere back into their run.

    Parameters
    ----------
    folder : path-like
        With the job list and the outputs: ``inputs`` of the run, or a copy.
    run : path-like
        Run folder.

    Returns
    -------
    back, missing : list of str
        Job folders that are done; jobs that are not.
    """
    opened = RunFolder.existing(run)
    with opened.session():
        back, missing = bring_back(Path(folder), opened.stage_folder("labels") / "runs")
        logger.info("%d job folders of %s are back, %d jobs are missing", len(back), folder, len(missing))
    return back, missing

"""Before a run: the crystal as it will be calculated, what would make the run fail, and what it will cost."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ase import Atoms

from himlip_ase.dft.espresso.engine import Espresso
from himlip_ase.dft.jobs import Task
from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.twin_weights import twins_beside
from himlip_ase.pipeline.closed_form import finetune_faults
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.run_sections import FinetuneSection
from himlip_ase.structures import read_structure
from himlip_ase.symmetry.standard_cell import StandardCell, standard_cell

logger = logging.getLogger(__name__)

LEARN = "learn"
"""The task of the learning loop in a plan: all its rounds."""
SAME_PRESSURE_GPA = 1.0
"""How far the pressure of finished labels may be from the one that a run names."""


@dataclass(frozen=True)
class Plan:
    """What the labels of a run will be made of.

    Attributes
    ----------
    cell : StandardCell
    tasks : tuple of Task
        In the order in which they run.
    workers : int
        Jobs side by side.
    """

    cell: StandardCell
    tasks: tuple[Task, ...]
    workers: int

    @property
    def core_hours(self) -> float | None:
        """Of all tasks; None where the engine cannot say."""
        hours = [task.core_hours for task in self.tasks]
        return None if any(hour is None for hour in hours) else float(sum(hour or 0.0 for hour in hours))

    @property
    def labels(self) -> Plan:
        """Without the learning loop, which comes after the labels and may end before its last round."""
        return replace(self, tasks=tuple(task for task in self.tasks if task.name != LEARN))

    @property
    def wall_hours(self) -> float | None:
        """With `workers` jobs side by side, each on one core."""
        if self.core_hours is None:
            return None
        return sum((task.core_hours or 0.0) / min(self.workers, task.jobs) for task in self.tasks)

    def scaled(self, factor: float) -> Plan:
        """The plan with all times multiplied, once the first runs have shown how fast this machine is."""
        tasks = [
            task if task.core_hours is None else replace(task, core_hours=task.core_hours * factor)
            for task in self.tasks
        ]
        return replace(self, tasks=tuple(tasks))

    def table(self, within: str = "a factor of 3 or so") -> str:
        """Tasks, one a line, and their sum.

        Parameters
        ----------
        within : str
            How far the times can be trusted.

        Returns
        -------
        str
        """
        return cost_table(self.tasks, self.workers, within)


def cost_table(tasks: Sequence[Task], workers: int, within: str = "a factor of 3 or so") -> str:
    """Tasks, one a line, and their sum.

    Parameters
    ----------
    tasks : sequence of Task
    workers : int
        Jobs side by side.
    within : str
        How far the times can be trusted.

    Returns
    -------
    str
    """
    head = ("", "jobs", "atoms", "k-points", "q-points", "core-hours", "MB memory", "MB disk")
    rows: list[tuple[str, ...]] = [head]
    for task in tasks:
        numbers = (task.jobs, task.atoms, task.k_points, task.q_points)
        sizes = (task.memory_mb, task.disk_mb)
        rows.append(
            (
                task.name,
                *("–" if number is None else str(number) for number in numbers),
                "–" if task.core_hours is None else f"{task.core_hours:.2g}",
                *("–" if size is None else f"{size:.0f}" for size in sizes),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        right = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *right]))
    hours = [task.core_hours for task in tasks if task.core_hours is not None]
    if len(hours) == len(tasks):
        wall = sum(hour / min(workers, task.jobs) for hour, task in zip(hours, tasks, strict=True))
        lines.append(
            f"together {sum(hours):.2g} core-hours, {wall:.2g} h of wall time with workers: {workers} "
            f"(one core each), within {within}"
        )
    else:
        lines.append("this engine says nothing of its time")
    return "\n".join(lines)


def preflight(
    config: RunConfig, folder: Path, programs_here: bool = True, starts: bool = True
) -> Plan | None:
    """Check a run and forecast its labels, without leaving anything behind.

    Parameters
    ----------
    config : RunConfig
    folder : Path
        Where the run will be; need not exist.
    programs_here : bool
        Whether DFT programs run on this machine; False: nothing is forecast.
    starts : bool
        Whether the run starts from here, which the executor has to be ready for.

    Returns
    -------
    Plan or None
        None where the labels are there already, or nothing was forecast.

    Raises
    ------
    InputError
        Everything that is wrong, in one message, each with the key that mends it.
    """
    if config.labels.folder is not None:
        if not config.labels.folder.is_dir():
            raise InputError(f"labels.folder: {config.labels.folder} does not exist")
        crystal = config.labels.folder / "crystal.extxyz"
        correcting = {
            "corrected_by": config.anharmonic.corrected_by,
            "grids_corrected_by": config.anharmonic.grids_corrected_by,
        }
        faults = [
            f"anharmonic.{key}: {path} does not exist"
            for key, names in correcting.items()
            for path in (config.labels.folder / f"{name}.extxyz" for name in names)
            if not path.is_file()
        ]
        if crystal.is_file():
            atoms = read_structure(crystal)
            faults += finetune_faults(config.finetune, atoms.get_chemical_symbols())
            faults += _pressure_faults(config, atoms.info.get("pressure_gpa"))
        refuse(faults, "this run")
        if any(correcting.values()) and not _will_have_twins(config.finetune):
            logger.warning(
                "anharmonic.corrected_by and grids_corrected_by: the potential will have no twins, and the "
                "SSCHA is not corrected without; give finetune.closed_form, finetune.twins, or a "
                "finetune.model with its twins beside it"
            )
        if config.anharmonic.grids_corrected_by and not config.further_grids:
            logger.warning(
                "anharmonic.grids_corrected_by corrects nothing: anharmonic.grids names no supercell beside "
                "that of q_grid"
            )
        return None
    assert config.structure is not None
    cell = standard_cell(read_structure(config.structure))
    engine = config.dft
    faults = engine.faults(cell.atoms, config.q_grid, programs_here=programs_here)
    faults += finetune_faults(config.finetune, cell.atoms.get_chemical_symbols())
    plan = None
    if programs_here and starts:
        faults += config.executor.faults()
    if not faults and programs_here:
        sets = sample_cells(config, cell.atoms)
        tasks = engine.forecast(cell.atoms, config.q_grid, sets, config.labels.relax)
        if config.labels.check_k and isinstance(engine, Espresso):
            tasks.append(engine.forecast_k_check(cell.atoms, config.q_grid))
        plan = Plan(cell, tuple(tasks), config.workers)
        faults = disk_faults(plan.tasks, config.workers, folder)
    refuse(faults, "this run")
    return plan


def refuse(faults: Sequence[str], what: str) -> None:
    """Raise one error for all that is wrong.

    Parameters
    ----------
    faults : sequence of str
        Sentences; nothing happens where there are none.
    what : str
        What cannot start.

    Raises
    ------
    InputError
    """
    if not faults:
        return
    listed = "\n".join(f"- {fault}" for fault in faults)
    raise InputError(f"{what} cannot start:\n{listed}" if len(faults) > 1 else faults[0])


def sample_cells(config: RunConfig, primitive: Atoms) -> dict[str, tuple[int, Atoms]]:
    """{name: (number of cells, one of them, undisplaced)} of the sets of single points that are made.

    Parameters
    ----------
    config : RunConfig
    primitive : Atoms

    Returns
    -------
    dict
        By the name of the set: number of cells, and one of them, undisplaced.
    """
    labels = config.labels
    shapes: dict[str, tuple[int, Sequence[int]]] = {}
    for name, quantum in labels.quantum_sets.items():
        shapes[name] = (quantum.number, quantum.supercell)
    for name, rattled in labels.rattle_sets.items():
        shapes[name] = (rattled.number, rattled.supercell)
    shapes["doublewell"] = (labels.double_well if len(primitive) > 1 else 0, (1, 1, 1))
    shapes["validation"] = (labels.validation, config.q_grid)
    if config.learn.enabled is not False:
        shapes[LEARN] = (config.learn.rounds * config.learn.configurations, config.q_grid)
    return {
        name: (number, primitive.repeat(tuple(shape))) for name, (number, shape) in shapes.items() if number
    }


def disk_faults(tasks: Sequence[Task], workers: int, folder: Path, option: str = "--folder") -> list[str]:
    """Whether the scratch files of the jobs that run side by side fit on the disk of a folder.

    Parameters
    ----------
    tasks : sequence of Task
    workers : int
        Jobs side by side.
    folder : Path
        Where they run.
    option : str
        That names it.

    Returns
    -------
    list of str
        What is wrong, in words; empty if nothing is.
    """
    needed = max((min(workers, task.jobs) * (task.disk_mb or 0.0) for task in tasks), default=0.0) / 1e3
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    if needed <= free:
        return []
    return [
        f"{place} has {free:.1f} GB free, the scratch files will take about {needed:.1f} GB: choose another "
        f"{option}"
    ]


def _pressure_faults(config: RunConfig, labelled: float | None) -> list[str]:
    """Of finished labels at another pressure than the run asks for; 0, the default, asks for none."""
    wanted = config.pressure_gpa
    if labelled is None or wanted == 0 or abs(wanted - labelled) <= SAME_PRESSURE_GPA:
        return []
    return [
        f"pressure_gpa is {wanted:g}, and the labels in {config.labels.folder} are of {labelled:.1f} GPa: "
        "a run from finished labels stays there. Make labels of your own (leave labels.folder out), or set "
        f"pressure_gpa: {labelled:.0f}"
    ]


def _will_have_twins(section: FinetuneSection) -> bool:
    if section.model is not None:
        return twins_beside(section.model).is_file()
    return section.closed_form is not None or section.twins > 0

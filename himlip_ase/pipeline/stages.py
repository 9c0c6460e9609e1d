"""Stages of a run: each is done once for its inputs, kept when finished, and restartable on its own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.files import write_json
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.gate import Gate
from himlip_ase.pipeline.preflight import Plan
from himlip_ase.pipeline.runfolder import Figure, RunFolder, StageRecord, hash_inputs
from himlip_ase.registry import did_you_mean

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What a stage may see: the configuration, the run folder, and what labels were expected to cost."""

    config: RunConfig
    folder: RunFolder
    plan: Plan | None = None

    def of(self, stage: str) -> Path:
        """Folder of a stage."""
        return self.folder.state / stage

    @property
    def learns(self) -> bool:
        """Whether the learning loop is part of the run.

        Where nothing is said, it is if the labels are made in the run; a run that was finished before the
        loop existed goes on without it.
        """
        asked = self.config.learn.enabled
        if asked is not None:
            return asked
        if self.config.labels.folder is not None:
            return False
        return self.of("learn").is_dir() or not (self.folder.state / "sscha.json").is_file()


@dataclass
class Outcome:
    """What a stage gives back: numbers with their uncertainty, remarks for the report, checks before a Tc."""

    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    gate: Gate | None = None

    def add(
        self,
        name: str,
        value: Any,
        unit: str,
        how: str,
        uncertainty: float | None = None,
        key: Mapping[str, Any] | None = None,
    ) -> None:
        """Quote a number under `name`; see `Figure`.

        Parameters
        ----------
        name : str
        value : float, str, list or None
        unit : str
        how : str
            How it was obtained.
        uncertainty : float, optional
        key : mapping, optional
            What the number belongs to.
        """
        self.figures[name] = Figure(value, unit, uncertainty, how, dict(key or {}))


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : str
        Also its folder ``state/<name>/``.
    run : callable (Context, Path) -> Outcome
        Does the work in the given folder. It must be able to continue in a folder that a killed run left.
    inputs : callable (Context) -> list
        JSON-like values and Paths (which stand for their content) that decide the result, besides the
        stages before it.
    keep_files : bool
        Whether the folder is handed over as it is even when the inputs changed: for work too costly to
        repeat, whose room checks each file itself.
    products : str
        Subfolder that holds what later stages read; those files are watched for changes.
    applies : callable (Context) -> bool
        Whether the run has this stage at all; where not, it is passed over and later stages do not see it.
    """

    name: str
    run: Callable[[Context, Path], Outcome]
    inputs: Callable[[Context], list[Any]]
    keep_files: bool = False
    products: str = "."
    applies: Callable[[Context], bool] = lambda context: True


def run_stages(
    context: Context,
    stages: Sequence[Stage],
    start_from: str | None = None,
    until: str | None = None,
) -> dict[str, Any]:
    """Run what is not done yet, in order.

    A stage is kept if it finished with the same inputs, after the same stages, and its files are
    what it wrote.

    Parameters
    ----------
    context : Context
    stages : sequence of Stage
    start_from : str, optional
        Do this stage and all after it again.
    until : str, optional
        Stop after this stage.

    Returns
    -------
    dict
        Content of ``results.json``.

    Raises
    ------
    InputError
        An unknown stage, or another process holds the folder.
    """
    names = [stage.name for stage in stages]
    check_stage_names(names, start_from, until)
    first_forced = names.index(start_from) if start_from else len(names)
    folder = context.folder
    with folder.session():
        folder.write_config(context.config.resolved())
        upstream = ""
        for number, stage in enumerate(stages):
            if not stage.applies(context):
                logger.info("[%d/%d] %s: not part of this run", number + 1, len(stages), stage.name)
                folder.forget(stage.name)
                if stage.name == until:
                    break
                continue
            key = upstream = stage_key(stage, upstream, context)
            label = f"[{number + 1}/{len(stages)}] {stage.name}"
            forced = number >= first_forced
            if not forced and folder.is_current(stage.name, key):
                logger.info("%s: done before, kept", label)
            else:
                logger.info("%s: started", label)
                record = _run_one(context, stage, key, forced)
                logger.info("%s: finished in %.1f s", label, record.wall_seconds)
            if stage.name == until:
                break
        return folder.write_results(context.config.name, names)


def stage_key(stage: Stage, upstream: str, context: Context) -> str:
    """What decides the result of a stage, as one word.

    Parameters
    ----------
    stage : Stage
    upstream : str
        Key of the stage before; "" for the first.
    context : Context

    Returns
    -------
    str
    """
    return hash_inputs(stage.name, upstream, stage.inputs(context))


def check_stage_names(names: Sequence[str], *asked: str | None) -> None:
    """Refuse stages that do not exist.

    Parameters
    ----------
    names : sequence of str
        Those that exist.
    *asked : str or None

    Raises
    ------
    InputError
        One is unknown.
    """
    for name in asked:
        if name is not None and name not in names:
            raise InputError(f"there is no stage '{name}'; {did_you_mean(name, list(names))}")


def _run_one(context: Context, stage: Stage, key: str, forced: bool) -> StageRecord:
    folder = context.folder
    marker = folder.state / f"{stage.name}.started"
    same = not forced and marker.exists() and marker.read_text(encoding="utf-8").strip() == key
    folder.forget(stage.name)
    path = folder.stage_folder(stage.name)
    if not same and not stage.keep_files and any(path.iterdir()):
        set_aside(path)
        path = folder.stage_folder(stage.name)
    marker.write_text(key + "\n", encoding="utf-8")
    wall, cpu = time.perf_counter(), _cpu_seconds()
    outcome = stage.run(context, path)
    record = StageRecord(
        stage=stage.name,
        input_hash=key,
        figures=outcome.figures,
        notes=outcome.notes,
        gate=None if outcome.gate is None else outcome.gate.to_record(),
        outputs=folder.hash_outputs(path / stage.products),
        wall_seconds=time.perf_counter() - wall,
        cpu_seconds=_cpu_seconds() - cpu,
    )
    folder.write_record(record)
    marker.unlink(missing_ok=True)
    return record


def set_aside(path: Path) -> None:
    """Keep what an earlier run of the stage left as ``<stage>.previous`` (one generation)."""
    import shutil

    previous = path.with_name(path.name + ".previous")
    if previous.exists():
        shutil.rmtree(previous)
    os.replace(path, previous)
    logger.info("%s: its earlier files are kept in %s", path.name, previous)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def save_data(path: Path, data: dict[str, Any]) -> None:
    """Write a stage's data as JSON, replacing what an interrupted run left.

    Parameters
    ----------
    path : Path
    data : dict
    """
    write_json(path, data, overwrite=True)

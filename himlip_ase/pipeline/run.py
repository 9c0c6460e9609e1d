"""All stages in order: from labels to the report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.preflight import preflight
from himlip_ase.pipeline.registry import STAGES
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.stages import Context, Stage, check_stage_names, run_stages, stage_key

logger = logging.getLogger(__name__)


def run_pipeline(
    config: RunConfig,
    folder: str | Path,
    resume: bool = False,
    start_from: str | None = None,
    until: str | None = None,
    stages: Sequence[Stage] | None = None,
) -> Path:
    """Run the stages in a run folder.

    Parameters
    ----------
    config : RunConfig
    folder : path-like
        See `himlip_ase.pipeline.runfolder.RunFolder`.
    resume : bool
        Continue the run in `folder`; finished stages with the same inputs are kept.
    start_from : str, optional
        Do this stage and all after it again (implies `resume`).
    until : str, optional
        Stop after this stage.
    stages : sequence of Stage, optional
        In order; None: those of `himlip_ase.pipeline.registry.STAGES`.

    Returns
    -------
    Path
        ``report.html``, or the folder if the report stage was not reached.

    Raises
    ------
    InputError
        Bad input, named; nothing is overwritten.
    CalculationError
        A stage failed; what is finished is kept.
    """
    if stages is None:
        stages = [entry.load() for entry in STAGES]
    check_stage_names([stage.name for stage in stages], start_from, until)
    plan = None
    if start_from == "labels" or not _labels_are_done(config, Path(folder), stages):
        plan = preflight(config, Path(folder))
    context = Context(config, RunFolder(folder, resume=resume or start_from is not None), plan)
    if plan is not None:
        logger.info("%s\n%s", plan.cell, plan.table())
    run_stages(context, stages, start_from=start_from, until=until)
    written = context.folder.path / "report.html"
    return written if until in (None, "report") else context.folder.path


def _labels_are_done(config: RunConfig, folder: Path, stages: Sequence[Stage]) -> bool:
    """Whether a run folder holds the labels that `config` asks for; nothing is made."""
    if not (folder / "config.yaml").is_file() or not (folder / "state" / "labels.json").is_file():
        return False
    run, upstream = RunFolder.existing(folder), ""
    for stage in stages:
        upstream = stage_key(stage, upstream, Context(config, run))
        if stage.name == "labels":
            return run.is_current(stage.name, upstream)
    return True

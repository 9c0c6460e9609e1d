"""All stages in order: from labels to the report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.registry import STAGES
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.stages import Context, Stage, run_stages

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
    context = Context(config, RunFolder(folder, resume=resume or start_from is not None))
    if stages is None:
        stages = [entry.load() for entry in STAGES]
    run_stages(context, stages, start_from=start_from, until=until)
    written = context.folder.path / "report.html"
    return written if until in (None, "report") else context.folder.path

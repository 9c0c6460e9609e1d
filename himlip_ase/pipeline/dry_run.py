"""What a run would do and cost, without doing any of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from himlip_ase.pipeline.closed_form import finetune_cost
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.estimate import FACTOR, plan_left
from himlip_ase.pipeline.labels import labels_key
from himlip_ase.pipeline.make_labels import FORECAST
from himlip_ase.pipeline.preflight import preflight
from himlip_ase.pipeline.registry import STAGES
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.stages import Context, check_stage_names, stage_key


def dry_run(config: RunConfig, folder: Path, start_from: str | None = None, until: str | None = None) -> str:
    """Check a run; say which stages and DFT jobs it would do, what they cost, and where they would run.

    Parameters
    ----------
    config : RunConfig
    folder : Path
        Of the run. Where it holds one already, only what is left of it is counted.
    start_from, until : str, optional
        As `himlip_ase.pipeline.run.run_pipeline`.

    Returns
    -------
    str
        Lines.

    Raises
    ------
    InputError
        Everything that is wrong, in one message.
    """
    check_stage_names(STAGES.names(), start_from, until)
    lines = []
    with _context(config, folder) as context:
        kept, to_do = _stages(context, start_from, until)
        if "labels" in to_do:
            plan = preflight(config, folder, starts=False)
            if plan is not None:
                left = plan_left(plan, context.of("labels") / FORECAST, labels_key(context))
                lines.append(str(plan.cell))
                waiting = [task.name for task in left.tasks]
                done = [task.name for task in plan.tasks if task.name not in waiting]
                if done:
                    lines.append(f"finished before: {', '.join(done)}; what is left, at their pace:")
                lines.append(left.table(FACTOR) if done else left.table())
    if "finetune" in to_do and config.finetune.model is None:
        lines.append(finetune_cost(config.finetune))
    if kept:
        lines.append(f"would keep {', '.join(kept)}")
    lines.append(
        f"would run {', '.join(to_do) or 'nothing'} with the engine {config.engine.name}; executor: "
        f"{config.executor.name}, workers: {config.workers}"
    )
    lines.append(config.executor.job_script(config.workers) or "nothing would be submitted to a queue")
    if (folder / "config.yaml").is_file():
        lines.append(f"{folder} holds a run: go on with it by --resume")
    return "\n".join(lines)


@contextmanager
def _context(config: RunConfig, folder: Path) -> Iterator[Context]:
    """That of the run in a folder; of one that nobody keeps where there is none yet."""
    if (folder / "config.yaml").is_file():
        yield Context(config, RunFolder.existing(folder))
        return
    with tempfile.TemporaryDirectory() as place:
        yield Context(config, RunFolder(Path(place) / "run"))


def _stages(context: Context, start_from: str | None, until: str | None) -> tuple[list[str], list[str]]:
    """Names of the stages that are finished and stay so, and of those that would run."""
    kept: list[str] = []
    to_do: list[str] = []
    upstream, again = "", False
    for entry in STAGES:
        stage = entry.load()
        if stage.applies(context):
            again = again or stage.name == start_from
            if not again:  # what comes after a stage that is done again has no inputs yet
                upstream = stage_key(stage, upstream, context)
                again = not context.folder.is_current(stage.name, upstream)
            (to_do if again else kept).append(stage.name)
        if stage.name == until:
            break
    return kept, to_do

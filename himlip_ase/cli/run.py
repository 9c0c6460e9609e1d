"""``himlip run``: every stage for one crystal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from himlip_ase.pipeline.config import RunConfig


def run(
    config: Annotated[
        Path, typer.Argument(help="YAML file of the run; examples/h3s/h3s.yaml shows the keys.")
    ],
    folder: Annotated[
        Path | None, typer.Option("--folder", "-f", help="Run folder; default: runs/NAME of the YAML file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    start_from: Annotated[
        str | None, typer.Option("--from", help="Do this stage and all after it again.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Stop after this stage.")] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the potential even if the file names a finished one.")
    ] = False,
    pressure: Annotated[float | None, typer.Option("--pressure-gpa", help="Wins over pressure_gpa.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-j", help="Jobs side by side.")] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            "--executor", help="Where jobs run: local, dask, slurm, {name: ..., key: value} or a YAML file."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, show jobs and their cost; run nothing."),
    ] = False,
    inputs_only: Annotated[
        bool,
        typer.Option(
            "--inputs-only", help="Write inputs of the DFT jobs that can run now into inputs/; run nothing."
        ),
    ] = False,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key: --set sscha.n_configurations=1000; may be repeated."),
    ] = None,
) -> None:
    """Labels, training, phonons, SSCHA, Tc and report of one crystal."""
    from himlip_ase.cli.dft_options import named
    from himlip_ase.pipeline.combinations import check_trains
    from himlip_ase.pipeline.config import load_config, parse_assignments
    from himlip_ase.pipeline.headlines import closing_lines
    from himlip_ase.pipeline.run import run_pipeline

    overrides: dict[str, Any] = parse_assignments(assign or [])
    where = None if executor is None else named(executor, "--executor")
    for key, value in (("pressure_gpa", pressure), ("workers", workers), ("executor", where)):
        if value is not None:
            overrides[key] = value
    if retrain:
        overrides |= {"finetune.model": None, "finetune.model_without_hessian": None}
    settings = load_config(config, overrides)
    check_trains(settings, overrides)
    if dry_run:
        from himlip_ase.pipeline import dry_run as trial

        typer.echo(trial.dry_run(settings, folder or Path("runs") / settings.name, start_from, until))
        return
    if inputs_only:
        _write_inputs(settings, folder or Path("runs") / settings.name)
        return
    written = run_pipeline(settings, folder or Path("runs") / settings.name, resume, start_from, until)
    typer.echo("\n".join(closing_lines(written)))


def _write_inputs(settings: RunConfig, folder: Path) -> None:
    from himlip_ase.dft.espresso.inputs_only import JOBS
    from himlip_ase.pipeline.label_inputs import write_label_inputs

    written = write_label_inputs(settings, folder)
    if not written.jobs:
        typer.echo(f"all labels of {folder} are there; go on with --resume")
        return
    typer.echo(f"wrote the inputs of {len(written.jobs)} jobs, listed in {written.folder / JOBS}")
    if written.waiting:
        typer.echo(f"these wait for their results: {', '.join(written.waiting)}")
    typer.echo(f"when they are done: himlip label collect {written.folder} --run {folder}")


def register(app: typer.Typer) -> None:
    """Add ``himlip run`` to `app`."""
    from himlip_ase.pipeline.registry import STAGES

    stages = f"The stages are {', '.join(STAGES.names())}."
    app.command("run", help=f"{run.__doc__}\n\n{stages}")(run)

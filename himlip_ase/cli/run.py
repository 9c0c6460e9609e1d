"""``himlip run``: every stage for one crystal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


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
    workers: Annotated[int | None, typer.Option("--workers", help="DFT jobs side by side.")] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key: --set sscha.n_configurations=1000; may be repeated."),
    ] = None,
) -> None:
    """Labels, training, phonons, SSCHA, Tc and report of one crystal.

    The stages are labels, finetune, phonons, sscha, tc and report.
    """
    from himlip_ase.pipeline.config import load_config, parse_assignments
    from himlip_ase.pipeline.run import run_pipeline

    overrides: dict[str, Any] = parse_assignments(assign or [])
    for key, value in (("pressure_gpa", pressure), ("workers", workers)):
        if value is not None:
            overrides[key] = value
    if retrain:
        overrides |= {"finetune.model": None, "finetune.model_without_hessian": None}
    settings = load_config(config, overrides)
    written = run_pipeline(settings, folder or Path("runs") / settings.name, resume, start_from, until)
    typer.echo(f"wrote {written}")


def register(app: typer.Typer) -> None:
    """Add ``himlip run`` to `app`."""
    app.command("run")(run)

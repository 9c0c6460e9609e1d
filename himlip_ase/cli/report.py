"""``himlip report``: the report of a run folder, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(folder: Annotated[Path, typer.Argument(help="Run folder of `himlip run`.")]) -> None:
    """Draw the pictures and write report.md and report.html again, from the finished stages."""
    from himlip_ase.pipeline.report import report_again

    typer.echo(f"wrote {report_again(folder)}")


def register(app: typer.Typer) -> None:
    """Add ``himlip report`` to `app`."""
    app.command("report")(report)

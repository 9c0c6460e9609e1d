"""``himlip report``: the report of a run folder written again, or one report of several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from himlip_ase.cli.unused_options import refuse_unused, typed_options


def report(
    context: typer.Context,
    folders: Annotated[list[Path], typer.Argument(help="Run folders of `himlip run`.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="One report of all runs: tables and figures side by side.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="With --compare: folder of that report.")] = Path(
        "comparison"
    ),
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measured", help="With --compare: YAML or CSV with compound, tc_kelvin, source, doi …"
        ),
    ] = None,
    formula: Annotated[
        str | None,
        typer.Option("--formula", help="With --compare: formula of the pictures, e.g. allen-dynes."),
    ] = None,
    note: Annotated[
        list[str] | None,
        typer.Option("--note", help="With --compare: a sentence for the report; repeatable."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --compare: replace a report in --out.")
    ] = False,
) -> None:
    """Draw the pictures and write report.md and report.html again, from the finished stages."""
    if not compare:
        own = ("out", "measured", "formula", "note", "overwrite")
        refuse_unused(typed_options(context, own), "belongs to --compare; type --compare, or leave it out")
        from himlip_ase.pipeline.report import report_again

        for folder in folders:
            typer.echo(f"wrote {report_again(folder)}")
        return
    from himlip_ase.pipeline.comparison.measured import read_measured
    from himlip_ase.pipeline.comparison.report import compare_runs

    values = [] if measured is None else read_measured(measured)
    typer.echo(f"wrote {compare_runs(folders, out, values, formula, note or (), overwrite)}")


def register(app: typer.Typer) -> None:
    """Add ``himlip report`` to `app`."""
    app.command("report")(report)

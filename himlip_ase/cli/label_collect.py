"""``himlip label collect | mean``: finished runs as sets of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from himlip_ase.cli.dft_options import PseudoOption
from himlip_ase.cli.label_options import OverwriteOption
from himlip_ase.cli.unused_options import refuse_unused

SetOption = Annotated[str, typer.Option("--set", help="Name of the set; default: the name of the folder.")]


def collect(
    folder: Annotated[
        Path, typer.Argument(help="Folder whose subfolders are single points, or a harmonic run.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Label folder to write into.")] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Instead: bring jobs of --inputs-only back into this run folder."),
    ] = None,
    set_name: SetOption = "",
    pseudo: PseudoOption = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave unfinished runs out, instead of refusing.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Large sets: keep one input, and no list of frames.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Publish finished runs as a set of labels (extxyz + provenance), refusing unfinished ones."""
    from himlip_ase.dft.publish import collect as collect_labels
    from himlip_ase.errors import InputError

    if run is not None:
        set_options = {
            "--set": set_name or None, "--pseudo": pseudo, "--partial": partial, "--compact": compact,
            "--overwrite": overwrite,
        }  # fmt: skip
        refuse_unused(set_options, "is of --out, a set of labels; with --run leave it out")
        _collect_into_run(folder, run, out)
        return
    if out is None:
        raise InputError("say where to: --out LABELS for a set of labels, or --run RUN for jobs of a run")
    path = collect_labels(
        folder,
        set_name or folder.resolve().name,
        out,
        pseudo_dir=pseudo,
        partial=partial,
        overwrite=overwrite,
        compact=compact,
    )
    typer.echo(f"wrote {path}")


def mean(
    first: Annotated[Path, typer.Argument(help="SET.extxyz of a label folder, its SET.json beside it.")],
    second: Annotated[Path, typer.Argument(help="The same structures on another k-mesh; it may hold more.")],
    out: Annotated[Path, typer.Option("--out", help="Label folder to write into.")],
    set_name: Annotated[
        str | None, typer.Option("--set", help="Name of the set; default: the name of the first.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Mean of one set of labels on a k-mesh with Γ and on the same shifted, and half their difference."""
    from himlip_ase.dft.two_meshes import mean_of_meshes

    typer.echo(str(mean_of_meshes(first, second, set_name or first.stem, out, overwrite=overwrite)))


def _collect_into_run(folder: Path, run: Path, out: Path | None) -> None:
    from himlip_ase.errors import InputError
    from himlip_ase.pipeline.label_inputs import collect_into_run

    if out is not None:
        raise InputError("give one of --out and --run")
    back, missing = collect_into_run(folder, run)
    typer.echo(f"{len(back)} job folders are back in {run}")
    if missing:
        shown = ", ".join(missing[:8]) + (" …" if len(missing) > 8 else "")
        typer.echo(f"{len(missing)} jobs are not finished (no JOB DONE in their output): {shown}")
    typer.echo(
        f"next: himlip run … --folder {run} --inputs-only writes what can run now, --resume goes on here"
    )

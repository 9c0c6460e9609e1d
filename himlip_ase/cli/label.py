"""``himlip label``: DFT labels with Quantum ESPRESSO."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PseudoOption = Annotated[
    Path | None,
    typer.Option("--pseudo", help="Folder of UPF files; default: the environment variable ESPRESSO_PSEUDO."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

label = typer.Typer(
    help="DFT labels with Quantum ESPRESSO: relax, harmonic, rattle, supercell, collect.",
    no_args_is_help=True,
)


@label.command()
def collect(
    folder: Annotated[
        Path, typer.Argument(help="Folder whose subfolders hold pw.in and pw.out, or a harmonic run.")
    ],
    out: Annotated[Path, typer.Option(help="Label folder to write into.")],
    set_name: Annotated[str, typer.Option("--set", help="Name of the set; default: the folder's.")] = "",
    pseudo: PseudoOption = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave unfinished runs out, instead of refusing.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Publish finished runs as a set of labels (extxyz + provenance), refusing unfinished ones."""
    from himlip_ase.dft.labels import collect as collect_labels

    path = collect_labels(
        folder,
        set_name or folder.resolve().name,
        out,
        pseudo_dir=pseudo,
        partial=partial,
        overwrite=overwrite,
    )
    typer.echo(f"wrote {path}")


def register(app: typer.Typer) -> None:
    """Add ``himlip label`` to `app`."""
    app.add_typer(label, name="label")

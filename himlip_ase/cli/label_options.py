"""What ``himlip label`` commands share: options, and crystals as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from himlip_ase.cli.dft_options import ACCURACY, RUNNING

if TYPE_CHECKING:
    from ase import Atoms

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
KeepCellOption = Annotated[
    bool,
    typer.Option("--keep-cell", help="Neither make the cell primitive nor turn it along its symmetry axes."),
]
InputsOnlyOption = Annotated[
    bool,
    typer.Option(
        "--inputs-only",
        help="Write inputs, pseudopotentials and jobs.tsv for another machine; run nothing.",
        rich_help_panel=RUNNING,
    ),
]
CalculatorOption = Annotated[
    str | None,
    typer.Option(
        "--calculator",
        help="Of --engine ase: MODULE:FACTORY, a calculator class or a function that returns one.",
        rich_help_panel=ACCURACY,
    ),
]


def read_all(path: Path) -> list[Atoms]:
    """All structures of a file."""
    from himlip_ase.structures import read_structures

    return read_structures(path)


def read_one(path: Path) -> Atoms:
    """The structure of a file that holds one."""
    from himlip_ase.errors import InputError

    images = read_all(path)
    if len(images) != 1:
        raise InputError(f"{path} holds {len(images)} structures; give a file with one")
    return images[0]


def read_crystal(path: Path, keep_cell: bool) -> Atoms:
    """A crystal as the engine finds all of its symmetry operations; what was done to the cell is said."""
    from himlip_ase.symmetry.standard_cell import standard_cell

    atoms = read_one(path)
    if keep_cell:
        return atoms
    cell = standard_cell(atoms)
    if cell.turned or len(cell.atoms) != len(atoms):
        typer.echo(f"{path}: {cell}; --keep-cell leaves the cell as it is")
        return cell.atoms
    return atoms

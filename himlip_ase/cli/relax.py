"""``himlip relax``: relax atoms, and the cell to a pressure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("relax", epilog="Example:  himlip relax crystal.cif --pressure 150 --out relaxed.extxyz")(
        relax
    )


def relax(
    structure: Annotated[Path, typer.Argument(help="File in any format of ASE; its last structure.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Extended XYZ file for the result.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name of a bundled model or a .safetensors file.")
    ] = None,
    pressure: Annotated[
        float | None,
        typer.Option("--pressure", "-p", help="GPa; relaxes the cell too.", show_default="fixed cell"),
    ] = None,
    fmax: Annotated[float, typer.Option("--fmax", help="Largest force in the end, eV/Å.")] = 1e-4,
    steps: Annotated[int, typer.Option("--steps", help="Most steps to take.")] = 500,
    keep_symmetry: Annotated[bool, typer.Option("--keep-symmetry", help="Impose the space group.")] = False,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """Relax the atoms of a structure, and its cell if a pressure is given."""
    from himlip_ase import relaxation
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.structures import read_structure, require_structures, with_results, write_structures

    require_structures(out, overwrite)
    atoms = read_structure(structure)
    found = relaxation.relax(
        atoms, HiMLIPCalculator(model, device=device), pressure, fmax, steps, keep_symmetry=keep_symmetry
    )
    write_structures(out, [with_results(found.atoms, found.energy, found.forces, found.stress)], overwrite)
    typer.echo(
        f"{found.steps} steps, energy {found.energy:.6f} eV, largest force {found.largest_force:.2e} eV/Å"
    )
    if found.pressure_gpa is not None:
        typer.echo(f"pressure {found.pressure_gpa:.3f} GPa, volume {abs(found.atoms.cell.volume):.4f} Å³")
    typer.echo(f"→ {out}")

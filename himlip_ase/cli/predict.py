"""``himlip predict``: energies, forces and stresses of structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("predict", epilog="Example:  himlip predict crystal.cif rattled.extxyz --out out.extxyz")(
        predict
    )


def predict(
    structures: Annotated[
        list[Path], typer.Argument(help="Files in any format of ASE; all their structures.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Extended XYZ file for the results.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name of a bundled model or a .safetensors file.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float64 or float32.")] = "float64",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """Energy (eV), forces (eV/Å) and, for crystals, stress (eV/Å³) of structures."""
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.structures import read_structures, require_structures, with_results, write_structures

    require_structures(out, overwrite)
    images = read_structures(structures)
    result = HiMLIPCalculator(model, device=device, dtype=dtype).evaluate(images)  # type: ignore[arg-type]
    rows = [with_results(atoms, *point) for atoms, point in zip(images, result, strict=True)]
    write_structures(out, rows, overwrite)
    for index, (atoms, energy) in enumerate(zip(images, result.energies, strict=True)):
        typer.echo(f"{index:5d}  {atoms.get_chemical_formula():<14}{energy:18.6f} eV")
    typer.echo(f"{len(images)} structures → {out}")

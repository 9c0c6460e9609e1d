"""``himlip hessian``: second derivatives of the energy of a structure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("hessian", epilog="Example:  himlip hessian molecule.xyz --out hessian.npz")(hessian)


def hessian(
    structure: Annotated[Path, typer.Argument(help="File in any format of ASE; its last structure.")],
    out: Annotated[Path, typer.Option("--out", "-o", help=".npz or .h5 file for the Hessian.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name of a bundled model or a .safetensors file.")
    ] = None,
    atom: Annotated[
        list[int] | None, typer.Option("--atom", help="Rows of this atom only (from 0); repeatable.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """Hessian (atom, direction, atom, direction) in eV/Å², constraints ignored."""
    import numpy as np

    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.hessian_file import StoredHessian, write_hessian
    from himlip_ase.structures import read_structure, require_new

    require_new(out, overwrite)
    atoms = read_structure(structure)
    calc = HiMLIPCalculator(model, device=device)
    rows = atom or list(range(len(atoms)))
    values = calc.get_hessian(atoms, indices=rows)
    stored = StoredHessian(atoms, values, np.array(rows), calc.parameters["model"])
    write_hessian(out, stored, overwrite)
    typer.echo(f"Hessian {stored.hessian.shape} in eV/Å² → {out}")
    if not atom:
        frequencies = stored.frequencies()
        typer.echo(
            f"frequencies at Γ: {frequencies[0]:.2f} to {frequencies[-1]:.2f} cm⁻¹ (imaginary negative)"
        )

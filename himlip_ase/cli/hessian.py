"""``himlip hessian``: second derivatives of the energy of a structure, or its softest modes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:  himlip hessian molecule.xyz --out hessian.npz   ·   "
    "himlip hessian large.extxyz --lowest 10 --out modes.npz"
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("hessian", epilog=EPILOG)(hessian)


def hessian(
    structure: Annotated[Path, typer.Argument(help="File in any format of ASE; its last structure.")],
    out: Annotated[Path, typer.Option("--out", "-o", help=".npz or .h5 file for the Hessian or the modes.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name of a bundled model or a .safetensors file.")
    ] = None,
    atom: Annotated[
        list[int] | None, typer.Option("--atom", help="Rows of this atom only (from 0); repeatable.")
    ] = None,
    symmetry: Annotated[
        bool, typer.Option("--symmetry/--no-symmetry", help="Let the point or space group save products.")
    ] = True,
    lowest: Annotated[
        int | None,
        typer.Option("--lowest", help="Only the softest modes, by products, without the Hessian."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """Hessian (atom, direction, atom, direction) in eV/Å², constraints ignored, and frequencies."""
    import numpy as np

    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.errors import InputError
    from himlip_ase.labels.hessian_file import StoredHessian, write_hessian, write_modes
    from himlip_ase.relaxation import FORCE_WARNING, largest_force
    from himlip_ase.structures import read_structure, require_new
    from himlip_ase.vibrations.lowest_modes import lowest_modes
    from himlip_ase.vibrations.normal_modes import normal_modes

    if atom and lowest:
        raise InputError("--atom wants rows of the Hessian and --lowest does without it; give one of the two")
    require_new(out, overwrite)
    atoms = read_structure(structure)
    calc = HiMLIPCalculator(model, device=device)
    if lowest is not None:
        found = lowest_modes(atoms, calc, lowest)
        write_modes(out, atoms, found, overwrite)
        typer.echo(
            f"{found.products} products (a Hessian: {3 * len(atoms)}), "
            f"{'converged' if found.converged else 'NOT converged'}"
        )
        for frequency, error in zip(found.frequencies, found.errors, strict=True):
            typer.echo(f"{frequency:12.3f} cm⁻¹ ± {error:.0e}")
        typer.echo(f"→ {out}")
        return
    rows = atom or list(range(len(atoms)))
    values = calc.get_hessian(atoms, indices=rows, symmetry=symmetry and not atom)
    write_hessian(out, StoredHessian(atoms, values, np.array(rows), calc.parameters["model"]), overwrite)
    typer.echo(f"Hessian {values.shape} in eV/Å² → {out}")
    if atom:
        return
    modes = normal_modes(atoms, values)
    kind = "vibrations" if not atoms.pbc.any() else "frequencies at Γ"
    if len(modes.frequencies):
        typer.echo(
            f"{len(modes.frequencies)} {kind}: {modes.frequencies[0]:.2f} to {modes.frequencies[-1]:.2f} "
            f"cm⁻¹ (imaginary negative), zero point {modes.zero_point_energy:.4f} eV"
        )
    largest = largest_force(atoms, calc)
    if largest > FORCE_WARNING:
        typer.echo(
            f"Not a stationary point: largest force {largest:.2g} eV/Å. Type: himlip relax {structure}"
        )

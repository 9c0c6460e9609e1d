"""``himlip irc``: the intrinsic reaction coordinate from a transition state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  himlip irc transition_state.xyz --calculator gfn2 --out coordinate"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("irc", epilog=EPILOG)(irc)


def irc(
    structure: Annotated[Path, typer.Argument(help="Transition state; it is refined first.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("irc"),
    calculator: Annotated[str, typer.Option("--calculator", "-c", help="As for himlip ts.")] = "gfn2",
    step: Annotated[float, typer.Option("--step", help="√amu Å; 0.1 is fine, 0.3 coarse.")] = 0.3,
    max_steps: Annotated[int, typer.Option("--max-steps", help="Of each direction.")] = 100,
    hessian_every: Annotated[
        int,
        typer.Option(
            "--hessian-every",
            help="Exact Hessian at every n-th point of the coordinate; the saddle search takes one at each.",
        ),
    ] = 1,
    fmax: Annotated[
        float, typer.Option("--fmax", help="eV/Å, of the saddle and of the relaxed ends.")
    ] = 0.01,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Refine a transition state, and follow the reaction coordinate to the minima on both sides."""
    from himlip_ase.errors import InputError, NotConvergedError
    from himlip_ase.pipeline.irc import write_irc_result
    from himlip_ase.reactions import (
        IrcSettings,
        SaddleSettings,
        Surface,
        bond_graph,
        calculator_by_name,
        find_saddle,
        follow_irc,
    )
    from himlip_ase.structures import read_structure, require_new

    require_new(out / "result.json", overwrite)
    settings = IrcSettings(step=step, max_steps=max_steps, hessian_every=hessian_every, fmax=fmax)
    atoms = read_structure(structure)
    surface = Surface(atoms, calculator_by_name(calculator))
    saddle = find_saddle(atoms, surface, settings=SaddleSettings(fmax=fmax))
    if not saddle.converged:
        raise NotConvergedError(
            f"no saddle near {structure}: largest force {saddle.largest_force:.3g} eV/Å after {saddle.steps} "
            "steps; start nearer, or search from both ends: himlip ts"
        )
    if not len(saddle.imaginary):
        raise InputError(f"{structure} leads to a minimum, not to a transition state; search one: himlip ts")
    typer.echo(
        f"saddle after {saddle.steps} steps, imaginary "
        f"{', '.join(f'{value:.0f}' for value in saddle.imaginary)} cm⁻¹"
    )
    found = follow_irc(saddle, surface, settings)
    write_irc_result(out, saddle, found, surface.counts, calculator, settings)
    for name, branch in (("backward", found.backward), ("forward", found.forward)):
        end = bond_graph(branch.end).formula if branch.images else "nothing"
        state = "relaxed" if branch.converged else f"NOT relaxed ({branch.reason})"
        typer.echo(
            f"{name}: {end}, {branch.energies[-1] - saddle.energy:+.4f} eV, {len(branch.images)} frames, "
            f"{state}"
        )
    change = bond_graph(found.backward.end).changes_to(bond_graph(found.forward.end))
    typer.echo(f"{change}; {surface.counts.gradients} gradients, {surface.counts.hessians} Hessians")
    typer.echo(f"→ {out / 'report.html'}")

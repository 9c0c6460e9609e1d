"""``himlip label molecules``: labels of molecules with GFN1-xTB, GFN2-xTB or ωB97X/6-31G(d)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def register(label: typer.Typer) -> None:
    """Add the command to ``himlip label``."""
    label.command("molecules")(molecules)


def molecules(
    structures: Annotated[Path, typer.Argument(help="Molecules: any file that ASE reads, all frames.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File of labels, .h5.")],
    method: Annotated[str, typer.Option(help="gfn1, gfn2 (tblite) or wb97x (PySCF, 6-31G(d)).")] = "gfn2",
    hessian: Annotated[bool, typer.Option("--hessian/--no-hessian", help="Hessians as well.")] = True,
    step: Annotated[float, typer.Option(help="gfn1, gfn2: of the differences of gradients, Å.")] = 0.0025,
    grid_level: Annotated[int, typer.Option(help="wb97x: PySCF's integration grid.")] = 3,
    density_fitting: Annotated[bool, typer.Option("--density-fitting", help="wb97x: cheaper.")] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no molecule after this time; write what is finished.")
    ] = None,
    set_name: Annotated[
        str, typer.Option("--set", help="Set of structures that name none; default: the file's name.")
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue: keep what is finished, do the others.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Energies, forces and Hessians of neutral closed-shell molecules, in one file of labels."""
    from himlip_ase.errors import InputError
    from himlip_ase.labels.molecules.labeller import Labeller
    from himlip_ase.labels.molecules.run import label_molecules, molecule_bar
    from himlip_ase.labels.molecules.wb97x import WB97X
    from himlip_ase.labels.molecules.xtb import GFN1, GFN2
    from himlip_ase.structures import read_structures

    makers: dict[str, Callable[[], Labeller]] = {
        "gfn1": lambda: GFN1(step=step),
        "gfn2": lambda: GFN2(step=step),
        "wb97x": lambda: WB97X(grid_level=grid_level, density_fitting=density_fitting),
    }
    if method not in makers:
        raise InputError(f"--method is {method!r}; choose {' or '.join(makers)}")
    frames = read_structures(structures)
    with molecule_bar(method) as advance:
        labels = label_molecules(
            frames, makers[method](), out, hessian, set_name or structures.stem,
            resume, overwrite, minutes, advance,
        )  # fmt: skip
    left_out = [f"{len(labels.failed)} failed (see the log)"] if labels.failed else []
    left_out += [f"{len(labels.missing)} not begun; continue with --resume"] if labels.missing else []
    typer.echo(
        f"wrote {len(labels.labelled)} of {len(frames)} molecules to {out}; "
        f"{'; '.join(left_out) or 'none left out'}"
    )

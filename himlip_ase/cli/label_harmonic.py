"""``himlip label harmonic``: dynamical and electron-phonon matrices, and the check of their k-mesh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from himlip_ase.cli.dft_options import ACCURACY, DFTOptions, Grid
from himlip_ase.cli.label_options import CalculatorOption, InputsOnlyOption, KeepCellOption, read_crystal
from himlip_ase.cli.label_start import Start, write_inputs

if TYPE_CHECKING:
    from himlip_ase.dft.espresso.k_check_record import KCheck
    from himlip_ase.dft.executors import JobExecutor

SIGMA, N_SIGMA = 0.005, 10
"""Of the double delta, where nothing is typed: Ry, and how many of them."""


def harmonic(
    crystal: Annotated[Path, typer.Argument(help="Relaxed primitive cell, e.g. crystal.extxyz.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    q: Annotated[Grid, typer.Option("--q", help="q-grid, e.g. --q 2 2 2.")],
    k_dense: Annotated[
        Grid | None, typer.Option("--k-dense", help="k-grid of the double delta; default: twice --k.")
    ] = None,
    sigma: Annotated[float, typer.Option("--sigma", help="Smallest broadening and step, Ry.")] = SIGMA,
    n_sigma: Annotated[int, typer.Option("--n-sigma", help="Number of broadenings.")] = N_SIGMA,
    electron_phonon: Annotated[
        bool, typer.Option("--electron-phonon/--no-electron-phonon", help="Electron-phonon matrices.")
    ] = True,
    k_shift: Annotated[
        bool,
        typer.Option(
            "--k-shift",
            help="Shift --k by half a step, away from Γ: with --no-electron-phonon.",
            rich_help_panel=ACCURACY,
        ),
    ] = False,
    keep_scratch: Annotated[bool, typer.Option("--keep-scratch", help="Keep out/ after success.")] = False,
    keep_cell: KeepCellOption = False,
    check_k: Annotated[
        bool, typer.Option("--check-k", help="Then a soft q-point and Γ on a denser k-mesh: errors of all.")
    ] = False,
    check_k_mesh: Annotated[
        Grid | None, typer.Option("--check-k-mesh", help="That mesh; default: half as dense again as --k.")
    ] = None,
    check_k_q: Annotated[
        tuple[float, float, float] | None,
        typer.Option("--check-k-q", help="That q-point, in reciprocal vectors; default: a soft one and Γ."),
    ] = None,
    calculator: CalculatorOption = None,
    inputs_only: InputsOnlyOption = False,
    *,
    dft: DFTOptions,
) -> None:
    """Dynamical matrices on a q-grid; with ph.x electron-phonon matrices as well."""
    from dataclasses import replace

    from himlip_ase.dft.espresso.engine import Espresso, Harmonic
    from himlip_ase.dft.standing import Listener
    from himlip_ase.errors import InputError

    if (check_k_mesh or check_k_q) and not check_k:
        raise InputError("--check-k-mesh and --check-k-q say how to check; add --check-k")

    start = Start("this harmonic run")
    own = {"electron_phonon": electron_phonon, "keep_scratch": keep_scratch, "k_shift": k_shift}
    engine = start.of(lambda: dft.chosen_engine(calculator, inputs_only, **own))
    if isinstance(engine, Espresso):
        espresso = engine
        chosen = start.of(lambda: Harmonic(k_dense, sigma, n_sigma))
        engine = None if chosen is None else replace(espresso, harmonic_run=chosen)
    elif engine is not None:
        start.faults += [
            f"{option} is for the engine espresso; {engine.name} has no k-mesh of its own here"
            for option, given in (("--check-k", check_k), ("--k-shift", k_shift))
            if given
        ]
    if not electron_phonon:
        doubles = {"--k-dense": k_dense, "--sigma": sigma != SIGMA, "--n-sigma": n_sigma != N_SIGMA}
        start.faults += [
            f"{option} is of electron-phonon matrices, and --no-electron-phonon leaves them out; give one"
            for option, given in doubles.items()
            if given
        ]
    atoms = start.of(lambda: read_crystal(crystal, keep_cell))
    if min(q) < 1:
        start.faults.append(f"--q is {' '.join(map(str, q))}; give three positive integers")
    tasks = start.check(
        dft, engine, atoms, out, q_grid=q, symmetry=not keep_cell, programs_here=not inputs_only
    )
    assert engine is not None and atoms is not None
    if dft.dry_run:
        grid = "×".join(map(str, q))
        dft.announce(
            f"harmonic matrices of {atoms.get_chemical_formula()} on {grid} with {engine.name}", tasks
        )
        return

    def check(executor: JobExecutor) -> KCheck:
        assert isinstance(engine, Espresso)
        meshes = [check_k_mesh] if check_k_mesh else []
        return engine.check_k(atoms, out, executor, meshes=meshes, qpoint=check_k_q)

    def work(executor: JobExecutor) -> None:
        engine.harmonic(atoms, q, out, executor, resume=dft.resume)
        if check_k:
            check(executor)

    if inputs_only:
        write_inputs(out, work)
        return
    with dft.running(engine) as executor, Listener() as listener:
        made = engine.harmonic(atoms, q, out, executor, resume=dft.resume, listener=listener)
        typer.echo(f"{made} in {out}")
        if check_k:
            verdict = check(executor).verdict()
            typer.echo(f"{verdict}; errors of all frequencies in {out / 'k_check' / 'k_check.json'}")

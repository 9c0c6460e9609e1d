"""``himlip label``: labels with a DFT engine."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from himlip_ase.cli.dft_options import ACCURACY, RUNNING, DFTOptions, Grid, PseudoOption, with_dft_options
from himlip_ase.cli.label_start import Start, note_jobs, write_inputs

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.dft.espresso.k_check_record import KCheck
    from himlip_ase.dft.executors import JobExecutor
    from himlip_ase.dft.finished_runs import RelaxResult
    from himlip_ase.dft.standing import Listener

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
SetOption = Annotated[str, typer.Option("--set", help="Name of the set; default: the name of the folder.")]
FolderOption = Annotated[Path, typer.Option("--out", help="Folder of the runs (000/, 001/, …).")]
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


def relax(
    crystal: Annotated[Path, typer.Argument(help="Structure file that ASE reads.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs; crystal.extxyz is written there.")],
    pressure: Annotated[float, typer.Option("--pressure", help="Static pressure, GPa.")],
    tolerance: Annotated[float, typer.Option("--tolerance", help="Of each stress component, GPa.")] = 0.2,
    max_runs: Annotated[
        int | None,
        typer.Option("--max-runs", help="Bound on the number of runs.", show_default="12 of pw.x, 200"),
    ] = None,
    overwrite: OverwriteOption = False,
    keep_cell: KeepCellOption = False,
    calculator: CalculatorOption = None,
    inputs_only: InputsOnlyOption = False,
    *,
    dft: DFTOptions,
) -> None:
    """Relax cell and positions to a static pressure, keeping the symmetry."""
    from himlip_ase.dft.standing import Listener

    start = Start("this relaxation")
    engine = start.of(lambda: dft.chosen_engine(calculator, inputs_only))
    atoms = start.of(lambda: _read_crystal(crystal, keep_cell))
    tasks = start.check(
        dft, engine, atoms, out, relax=True, symmetry=not keep_cell, programs_here=not inputs_only
    )
    assert engine is not None and atoms is not None

    def work(executor: JobExecutor, listener: Listener | None = None) -> RelaxResult:
        return engine.relax(
            atoms,
            pressure,
            out,
            executor,
            pressure_tolerance_gpa=tolerance,
            max_runs=max_runs,
            resume=dft.resume,
            overwrite=overwrite,
            listener=listener,
        )

    if dft.dry_run:
        what = f"a relaxation of {atoms.get_chemical_formula()} to {pressure:g} GPa with {engine.name}"
        dft.announce(what, tasks)
        return
    if inputs_only:
        write_inputs(out, work)
        return
    with dft.running(engine) as executor, Listener() as listener:
        result = work(executor, listener)
    typer.echo(
        f"{result.pressure_gpa:.2f} GPa, {result.atoms.get_volume():.4f} Å³, largest force "
        f"{result.max_force:.1e} eV/Å, {result.core_seconds / 60:.1f} core-minutes; wrote {result.crystal}"
    )


def harmonic(
    crystal: Annotated[Path, typer.Argument(help="Relaxed primitive cell, e.g. crystal.extxyz.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    q: Annotated[Grid, typer.Option("--q", help="q-grid, e.g. --q 2 2 2.")],
    k_dense: Annotated[
        Grid | None, typer.Option("--k-dense", help="k-grid of the double delta; default: twice --k.")
    ] = None,
    sigma: Annotated[float, typer.Option("--sigma", help="Smallest broadening and step, Ry.")] = 0.005,
    n_sigma: Annotated[int, typer.Option("--n-sigma", help="Number of broadenings.")] = 10,
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
    atoms = start.of(lambda: _read_crystal(crystal, keep_cell))
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


def rattle(
    crystal: Annotated[Path, typer.Argument(help="Relaxed primitive cell, e.g. crystal.extxyz.")],
    out: FolderOption,
    count: Annotated[int, typer.Option("--count", "-n", help="Number of cells.")] = 30,
    stdev: Annotated[
        float, typer.Option("--stdev", help="Standard deviation of the displacements, Å.")
    ] = 0.4,
    seed: Annotated[int, typer.Option("--seed", help="Of the random numbers.")] = 1,
    dims: Annotated[Grid, typer.Option("--dims", help="Supercell, e.g. --dims 2 1 1.")] = (1, 1, 1),
    mass_scaled: Annotated[bool, typer.Option("--mass-scaled", help="Heavy atoms move less.")] = False,
    calculator: CalculatorOption = None,
    inputs_only: InputsOnlyOption = False,
    *,
    dft: DFTOptions,
) -> None:
    """Single points of cells with Gaussian displacements, at the k-density of the primitive cell."""
    from himlip_ase.labels import displacements as displacements

    start = Start("these single points")
    primitive = start.of(lambda: _read_one(crystal))
    generator = {
        "method": "gaussian",
        "dims": list(dims),
        "stdev_angstrom": stdev,
        "seed": seed,
        "mass_scaled": mass_scaled,
    }
    frames = None
    if primitive is not None:
        base = primitive.repeat(dims)
        frames = start.of(lambda: displacements.rattle(base, count, stdev, seed, mass_scaled))
    _run(start, frames, out, dft, calculator, inputs_only, primitive=primitive, generator=generator)


def supercell(
    structures: Annotated[
        Path, typer.Argument(help="Structures to calculate: any file that ASE reads, all frames.")
    ],
    out: FolderOption,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="Primitive cell that --k belongs to, e.g. crystal.extxyz."),
    ] = None,
    k_spacing: Annotated[
        float | None,
        typer.Option(
            "--k-spacing", help="Instead of --reference and --k: Å⁻¹, 2π included.", rich_help_panel=ACCURACY
        ),
    ] = None,
    k_shift: Annotated[
        bool,
        typer.Option(
            "--k-shift", help="Shift the meshes by half a step, away from Γ.", rich_help_panel=ACCURACY
        ),
    ] = False,
    symmetry: Annotated[bool, typer.Option("--symmetry", help="Let pw.x use symmetry.")] = False,
    calculator: CalculatorOption = None,
    inputs_only: InputsOnlyOption = False,
    *,
    dft: DFTOptions,
) -> None:
    """Single points of given cells, at the k-density of a primitive cell or at a given spacing."""
    start = Start("these single points")
    generator = {"method": "given structures", "file": structures.name}
    if dft.engine == "espresso" and (reference is None) == (k_spacing is None):
        start.faults.append("say how dense the k-points are: --reference CELL with --k, or --k-spacing")
    primitive = None if reference is None else start.of(lambda: _read_one(reference))
    _run(
        start,
        start.of(lambda: _read_all(structures)),
        out,
        dft,
        calculator,
        inputs_only,
        primitive=primitive,
        generator=generator,
        nosym=not symmetry,
        k_spacing=k_spacing,
        k_shift=k_shift,
    )


def doublewell(
    crystal: Annotated[Path, typer.Argument(help="Relaxed primitive cell, e.g. crystal.extxyz.")],
    out: FolderOption,
    dyn: Annotated[Path, typer.Option("--dyn", help="Its dynamical matrices: dyn0, or the prefix dyn.")],
    amplitudes: Annotated[
        list[float] | None,
        typer.Option("--amplitude", help="Å, norm of all displacements; repeat. Default: 9 from 0 to 0.4."),
    ] = None,
    calculator: CalculatorOption = None,
    inputs_only: InputsOnlyOption = False,
    *,
    dft: DFTOptions,
) -> None:
    """Single points along the softest mode at Γ."""
    from himlip_ase.labels.displacements import displace_along, softest_gamma_mode
    from himlip_ase.phonons.qe import read_dyn

    start = Start("these single points")
    primitive = start.of(lambda: _read_one(crystal))
    softest = start.of(lambda: softest_gamma_mode(read_dyn(dyn)))
    frames, generator = None, {}
    if primitive is not None and softest is not None:
        mode, frequency = softest
        frames = displace_along(primitive, mode, amplitudes or [0.05 * i for i in range(9)])
        generator = {
            "method": "along the softest mode at Γ",
            "frequency_cm": round(frequency, 3),
            "mode": mode.tolist(),
        }
    options = {"primitive": primitive, "generator": generator, "nosym": False}
    _run(start, frames, out, dft, calculator, inputs_only, **options)


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


def register(app: typer.Typer) -> None:
    """Add ``himlip label`` to `app`."""
    from himlip_ase.cli import label_molecules

    label = typer.Typer(
        help="Labels by a DFT engine, and of molecules by GFN2-xTB and ωB97X.", no_args_is_help=True
    )
    for command in (relax, harmonic, rattle, supercell, doublewell):
        label.command(command.__name__)(with_dft_options()(command))
    label.command("collect")(collect)
    label.command("mean")(mean)
    label_molecules.register(label)
    app.add_typer(label, name="label")


def _read_all(path: Path) -> list[Atoms]:
    from himlip_ase.structures import read_structures

    return read_structures(path)


def _read_one(path: Path) -> Atoms:
    from himlip_ase.errors import InputError

    images = _read_all(path)
    if len(images) != 1:
        raise InputError(f"{path} holds {len(images)} structures; give a file with one")
    return images[0]


def _read_crystal(path: Path, keep_cell: bool) -> Atoms:
    """A crystal as the engine finds all of its symmetry operations; what was done to the cell is said."""
    from himlip_ase.symmetry.standard_cell import standard_cell

    atoms = _read_one(path)
    if keep_cell:
        return atoms
    cell = standard_cell(atoms)
    if cell.turned or len(cell.atoms) != len(atoms):
        typer.echo(f"{path}: {cell}; --keep-cell leaves the cell as it is")
        return cell.atoms
    return atoms


def _run(
    start: Start,
    frames: Sequence[Atoms] | None,
    out: Path,
    dft: DFTOptions,
    calculator: str | None,
    inputs_only: bool,
    **options: Any,
) -> None:
    """Single points of `frames`; `options` as `himlip_ase.dft.engine.Engine.single_points`."""
    from himlip_ase.dft.programs import noting
    from himlip_ase.dft.single_points import run_jobs

    engine = start.of(lambda: dft.chosen_engine(calculator, inputs_only))
    sets = {out.name or "cells": (len(frames), frames[0])} if frames else {}
    primitive = options.get("primitive") or (frames[0] if frames else None)
    tasks = start.check(dft, engine, primitive, out, sets=sets, programs_here=not inputs_only)
    assert engine is not None and frames
    with noting() if inputs_only else contextlib.nullcontext():
        jobs = engine.single_points(frames, out, **options)
    if dft.dry_run:
        dft.announce(f"{len(jobs)} single points with {engine.name} in {out}", tasks)
        return
    if inputs_only:
        write_inputs(out, note_jobs(jobs))
        return
    with dft.running(engine) as executor:
        outputs = run_jobs(jobs, executor=executor, resume=dft.resume, progress=True)
    minutes = sum(output.core_seconds for output in outputs) / 60
    typer.echo(
        f"{len(outputs)} runs finished in {out}, {minutes:.1f} core-minutes; next: himlip label collect {out}"
    )

"""``himlip label``: labels with a DFT engine."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from himlip_ase.cli.dft_options import ACCURACY, DFTOptions, Grid, with_dft_options
from himlip_ase.cli.label_collect import collect, mean
from himlip_ase.cli.label_harmonic import harmonic
from himlip_ase.cli.label_options import (
    CalculatorOption,
    InputsOnlyOption,
    KeepCellOption,
    OverwriteOption,
    read_all,
    read_crystal,
    read_one,
)
from himlip_ase.cli.label_start import Start, note_jobs, write_inputs

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.dft.executors import JobExecutor
    from himlip_ase.dft.finished_runs import RelaxResult
    from himlip_ase.dft.standing import Listener

FolderOption = Annotated[Path, typer.Option("--out", help="Folder of the runs (000/, 001/, …).")]


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
    atoms = start.of(lambda: read_crystal(crystal, keep_cell))
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
    primitive = start.of(lambda: read_one(crystal))
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
    if k_spacing is not None and "--k" in dft.given():
        start.faults.append("--k and --k-spacing both say how dense the k-points are; leave one of them out")
    primitive = None if reference is None else start.of(lambda: read_one(reference))
    _run(
        start,
        start.of(lambda: read_all(structures)),
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
    primitive = start.of(lambda: read_one(crystal))
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

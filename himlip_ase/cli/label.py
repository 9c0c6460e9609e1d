"""``himlip label``: DFT labels with Quantum ESPRESSO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from himlip_ase.cli.dft_options import (
    ACCURACY,
    DFTOptions,
    Grid,
    PseudoOption,
    WorkersOption,
    with_dft_options,
)

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.dft.espresso.inputs import QESettings
    from himlip_ase.dft.espresso.runner import Launcher

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
SetOption = Annotated[str, typer.Option("--set", help="Name of the set; default: the name of the folder.")]
FolderOption = Annotated[Path, typer.Option("--out", help="Folder of the runs (000/, 001/, …).")]

label = typer.Typer(
    help="Labels by Quantum ESPRESSO, and of molecules by GFN2-xTB and ωB97X.",
    no_args_is_help=True,
)


@label.command()
@with_dft_options()
def relax(
    crystal: Annotated[Path, typer.Argument(help="Structure file that ASE reads.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs; crystal.extxyz is written there.")],
    pressure: Annotated[float, typer.Option("--pressure", help="Static pressure, GPa.")],
    tolerance: Annotated[float, typer.Option("--tolerance", help="Of each stress component, GPa.")] = 0.2,
    max_runs: Annotated[int, typer.Option("--max-runs", help="Bound on the number of pw.x runs.")] = 12,
    overwrite: OverwriteOption = False,
    *,
    dft: DFTOptions,
) -> None:
    """Relax cell and positions to a static pressure, keeping the symmetry."""
    from himlip_ase.dft.espresso.relax import relax as relax_crystal

    result = relax_crystal(
        _read_one(crystal),
        pressure,
        dft.settings(),
        out,
        dft.launcher(),
        pressure_tolerance_gpa=tolerance,
        max_runs=max_runs,
        resume=dft.resume,
        overwrite=overwrite,
    )
    typer.echo(
        f"{result.pressure_gpa:.2f} GPa, {result.atoms.get_volume():.4f} Å³, largest force "
        f"{result.max_force:.1e} eV/Å, {result.core_seconds / 60:.1f} core-minutes; wrote {result.crystal}"
    )


@label.command()
@with_dft_options()
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
    keep_scratch: Annotated[bool, typer.Option("--keep-scratch", help="Keep out/ after success.")] = False,
    *,
    dft: DFTOptions,
) -> None:
    """Dynamical and electron-phonon matrices on a q-grid (scf on a dense grid, scf, ph.x)."""
    from himlip_ase.dft.espresso.harmonic import harmonic as run_harmonic

    files = run_harmonic(
        _read_one(crystal),
        q,
        dft.settings(),
        out,
        dft.launcher(),
        k_grid_dense=k_dense,
        sigma_ry=sigma,
        n_sigma=n_sigma,
        electron_phonon=electron_phonon,
        resume=dft.resume,
        keep_scratch=keep_scratch,
    )
    typer.echo(f"{len(files.dyn)} dyn files and {len(files.elph)} a2Fq2r files in {out}")


@label.command()
@with_dft_options()
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
    jobs: WorkersOption = 1,
    *,
    dft: DFTOptions,
) -> None:
    """Single points of cells with Gaussian displacements, at the k-density of the primitive cell."""
    from himlip_ase.labels import displacements as displacements

    primitive = _read_one(crystal)
    base = primitive.repeat(dims)
    generator = {
        "method": "gaussian",
        "dims": list(dims),
        "stdev_angstrom": stdev,
        "seed": seed,
        "mass_scaled": mass_scaled,
    }
    settings = dft.settings()
    frames = displacements.rattle(base, count, stdev, seed, mass_scaled)
    _run(frames, out, settings, primitive, generator, dft.launcher(), jobs, dft.resume)


@label.command()
@with_dft_options()
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
    symmetry: Annotated[bool, typer.Option("--symmetry", help="Let pw.x use symmetry.")] = False,
    jobs: WorkersOption = 1,
    *,
    dft: DFTOptions,
) -> None:
    """Single points of given cells, at the k-density of a primitive cell or at a given spacing."""
    from himlip_ase.errors import InputError

    settings = dft.settings()
    generator = {"method": "given structures", "file": structures.name}
    if (reference is None) == (k_spacing is None):
        raise InputError("say how dense the k-points are: --reference CELL with --k, or --k-spacing")
    primitive = None if reference is None else _read_one(reference)
    _run(
        _read_all(structures),
        out,
        settings,
        primitive,
        generator,
        dft.launcher(),
        jobs,
        dft.resume,
        nosym=not symmetry,
        k_spacing=k_spacing,
    )


@label.command()
@with_dft_options()
def doublewell(
    crystal: Annotated[Path, typer.Argument(help="Relaxed primitive cell, e.g. crystal.extxyz.")],
    out: FolderOption,
    dyn: Annotated[Path, typer.Option("--dyn", help="Its dynamical matrices: dyn0, or the prefix dyn.")],
    amplitudes: Annotated[
        list[float] | None,
        typer.Option("--amplitude", help="Å, norm of all displacements; repeat. Default: 9 from 0 to 0.4."),
    ] = None,
    jobs: WorkersOption = 1,
    *,
    dft: DFTOptions,
) -> None:
    """Single points along the softest mode at Γ."""
    from himlip_ase.labels.displacements import displace_along, softest_gamma_mode
    from himlip_ase.phonons.qe import read_dyn

    primitive = _read_one(crystal)
    mode, frequency = softest_gamma_mode(read_dyn(dyn))
    frames = displace_along(primitive, mode, amplitudes or [0.05 * i for i in range(9)])
    generator = {
        "method": "along the softest mode at Γ",
        "frequency_cm": round(frequency, 3),
        "mode": mode.tolist(),
    }
    settings = dft.settings()
    _run(frames, out, settings, primitive, generator, dft.launcher(), jobs, dft.resume, nosym=False)


@label.command()
def collect(
    folder: Annotated[
        Path, typer.Argument(help="Folder whose subfolders hold pw.in and pw.out, or a harmonic run.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Label folder to write into.")],
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
    from himlip_ase.dft.label_folder import collect as collect_labels

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


def register(app: typer.Typer) -> None:
    """Add ``himlip label`` to `app`."""
    from himlip_ase.cli import label_molecules

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


def _run(
    frames: Sequence[Atoms],
    out: Path,
    settings: QESettings,
    primitive: Atoms | None,
    generator: dict,
    launcher: Launcher,
    jobs: int,
    resume: bool,
    nosym: bool = True,
    k_spacing: float | None = None,
) -> None:
    from himlip_ase.dft.espresso.single_points import run_single_points, single_points

    points = single_points(
        frames, out, settings, reference=primitive, k_spacing=k_spacing, nosym=nosym, generator=generator
    )
    outputs = run_single_points(points, launcher, workers=jobs, resume=resume, progress=True)
    minutes = sum(output.core_seconds for output in outputs) / 60
    typer.echo(
        f"{len(outputs)} runs finished in {out}, {minutes:.1f} core-minutes; next: himlip label collect {out}"
    )

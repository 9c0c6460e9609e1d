"""``himlip sscha import | minimise | hessian``: one ensemble that is there already, no new forces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from himlip_ase.sscha.choices import ENGINES, MINIMISERS
from himlip_ase.sscha.settings import SschaSettings

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices

DEFAULT = SschaSettings()
ENSEMBLE = "ensemble.npz"

Imported = Annotated[Path, typer.Argument(help="Folder that `himlip sscha import` wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def add_to(group: typer.Typer) -> None:
    """Add the commands to the group ``himlip sscha``."""
    group.command("import")(import_ensemble)
    group.command("minimise")(minimise)
    group.command("hessian")(hessian)


def import_ensemble(
    folder: Annotated[Path, typer.Argument(help="Folder that python-sscha's save_bin or save wrote.")],
    out: Out,
    population: Annotated[int, typer.Option("--population", help="Number of the population.")] = 1,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", "-T", help="Kelvin; python-sscha does not keep it, so it is tested."),
    ] = None,
    dyn: Annotated[
        Path | None, typer.Option("--dyn", help="Prefix of the dyn files that generated it, if elsewhere.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """An ensemble of python-sscha: what it says of its matrices, its configurations as labels."""
    from himlip_ase.phonons.qe import write_dyn
    from himlip_ase.sscha.ensembles.consistency import measure_widths
    from himlip_ase.sscha.ensembles.ensemble_files import save_ensemble
    from himlip_ase.sscha.exchange.extxyz import write_extxyz
    from himlip_ase.sscha.exchange.python_sscha import read_python_sscha
    from himlip_ase.sscha.results.summary import describe_ensemble

    ensemble = read_python_sscha(folder, population, temperature, dyn)
    save_ensemble(out / ENSEMBLE, ensemble, overwrite)
    write_extxyz(out / "ensemble.extxyz", ensemble, overwrite)
    write_dyn(ensemble.drawn_from.dynamical, out / "auxiliary.dyn", overwrite)
    for line in describe_ensemble(ensemble):
        typer.echo(line)
    typer.echo(f"widths         {measure_widths(ensemble).sentence()}")
    typer.echo(f"wrote {out / ENSEMBLE}, {out / 'ensemble.extxyz'} and {out / 'auxiliary.dyn'}*")


def minimise(
    ensemble: Imported,
    out: Out,
    engine: Annotated[
        str, typer.Option("--engine", help=f"What minimises: {ENGINES.described()}.")
    ] = DEFAULT.engine,
    minimiser: Annotated[
        str, typer.Option("--minimiser", help=f"Of the native engine: {MINIMISERS.described()}.")
    ] = DEFAULT.minimiser,
    kong_liu: Annotated[
        float, typer.Option("--kong-liu", help="Kong-Liu ratio at which the ensemble is used up.")
    ] = DEFAULT.kong_liu,
    meaningful_factor: Annotated[
        float, typer.Option("--meaningful-factor", help="Gradient over its error at which to stop.")
    ] = DEFAULT.meaningful_factor,
    fixed_structure: Annotated[
        bool, typer.Option("--fixed-structure", help="Leave the centroids where they are.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Minimise the free energy on one imported ensemble; status 1 if it ends before the minimum."""
    from himlip_ase.sscha.ensembles.ensemble_files import load_ensemble
    from himlip_ase.sscha.run.one_ensemble import (
        describe_minimum,
        minimise_ensemble,
        settings_for,
        write_minimum,
    )

    loaded = load_ensemble(_ensemble_file(ensemble))
    settings = settings_for(
        loaded,
        engine=engine,
        minimiser=minimiser,
        kong_liu=kong_liu,
        meaningful_factor=meaningful_factor,
        minimise_structure=not fixed_structure,
    )
    found = minimise_ensemble(loaded, settings)
    write_minimum(found, out, overwrite)
    for line in describe_minimum(found):
        typer.echo(line)
    if not found.complete:
        raise typer.Exit(1)


def hessian(
    ensemble: Imported,
    out: Out,
    auxiliary: Annotated[
        Path | None,
        typer.Option(
            "--auxiliary",
            help="Folder that `himlip sscha minimise` wrote, or prefix of dyn files; "
            "default: the matrices that the ensemble was drawn from.",
        ),
    ] = None,
    third_only: Annotated[bool, typer.Option("--third-only", help="No fourth-order term.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Free-energy Hessian on one imported ensemble; status 1 if the ensemble does not carry it."""
    from himlip_ase.sscha.ensembles.ensemble_files import load_ensemble
    from himlip_ase.sscha.run.one_ensemble import describe_hessian, hessian_of_ensemble, write_hessian

    loaded = load_ensemble(_ensemble_file(ensemble))
    found = hessian_of_ensemble(
        loaded,
        None if auxiliary is None else _auxiliary(auxiliary),
        "third" if third_only else "third+fourth",
    )
    write_hessian(found, out, overwrite)
    for line in describe_hessian(found):
        typer.echo(line)
    if not found.carried:
        raise typer.Exit(1)


def _ensemble_file(folder: Path) -> Path:
    from himlip_ase.errors import InputError

    path = folder / ENSEMBLE
    if not path.exists():
        raise InputError(
            f"{folder} holds no {ENSEMBLE}; type `himlip sscha import FOLDER --out {folder}` first, with the "
            "FOLDER that python-sscha wrote"
        )
    return path


def _auxiliary(place: Path) -> DynamicalMatrices:
    from himlip_ase.phonons.qe import read_dyn
    from himlip_ase.sscha.run.one_ensemble import load_minimum

    return load_minimum(place) if (place / "minimum.npz").exists() else read_dyn(place)

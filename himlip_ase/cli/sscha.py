"""``himlip sscha``: anharmonic phonons and the free-energy Hessian, new or begun from a finished run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from himlip_ase.sscha.choices import ENGINES, MINIMISERS, PRECISIONS, SAMPLINGS
from himlip_ase.sscha.settings import SschaSettings

if TYPE_CHECKING:
    from himlip_ase.sscha.results.result import SschaResult

DEFAULT = SschaSettings()
ANOTHER = ("sscha_tools", "sscha_ensembles", "sscha_learn")
"""Modules of this package whose ``add_to(group)`` adds subcommands."""

Model = Annotated[str, typer.Option("--model", "-m", help="Name or path of a model.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Run folder.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
Workers = Annotated[int, typer.Option("--workers", help="Processes that evaluate the forces.")]
WatchLabels = Annotated[
    list[Path] | None,
    typer.Option(
        "--labels", "-l", help="What the model was trained on: says when the run leaves it; repeatable."
    ),
]
Committee = Annotated[
    list[str] | None,
    typer.Option("--committee", help="Further model, for the spread of the forces; repeatable."),
]


class RunByDefault(TyperGroup):
    """``himlip sscha --dyn …`` is ``himlip sscha run --dyn …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``himlip sscha FILE`` means ``himlip sscha run FILE``."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the group to `app`."""
    group = typer.Typer(cls=RunByDefault, no_args_is_help=True, add_completion=False)

    @group.callback(
        epilog="`himlip sscha --dyn ... --model ... --out ...` is `himlip sscha run ...`, "
        "whose choices `himlip sscha run --help` lists."
    )
    def _about() -> None:
        """Anharmonic phonons and the free-energy Hessian."""

    group.command("run")(sscha)
    group.command("from")(from_run)
    group.command("pack")(pack)
    group.command("unpack")(unpack)
    for name in ANOTHER:
        if importlib.util.find_spec(f"himlip_ase.cli.{name}") is not None:
            importlib.import_module(f"himlip_ase.cli.{name}").add_to(group)
    app.add_typer(group, name="sscha")


def sscha(
    dyn: Annotated[
        Path, typer.Option("--dyn", help="Prefix of the QE dyn files to start from: harmonic or auxiliary.")
    ],
    model: Model,
    out: Out,
    resume: Resume = False,
    n: Annotated[int, typer.Option("--n", help="Configurations of a population.")] = DEFAULT.n_configurations,
    n_hessian: Annotated[
        int, typer.Option("--n-hessian", help="Configurations for the free-energy Hessian; 0: none.")
    ] = DEFAULT.n_hessian_configurations,
    max_populations: Annotated[
        int, typer.Option("--max-populations", help="Populations after which to stop.")
    ] = DEFAULT.max_populations,
    temperature: Annotated[
        float, typer.Option("--temperature", "-T", help="Kelvin.")
    ] = DEFAULT.temperature_k,
    pressure: Annotated[
        float | None,
        typer.Option("--pressure", help="Relax the cell to this pressure of the quantum crystal, GPa."),
    ] = None,
    frequency_error: Annotated[
        float | None,
        typer.Option("--frequency-error", help="Let populations grow until no error bar exceeds this, cm⁻¹."),
    ] = None,
    third_only: Annotated[
        bool, typer.Option("--third-only", help="No fourth-order term in the free-energy Hessian.")
    ] = False,
    sampling: Annotated[
        str, typer.Option("--sampling", help=f"How to draw: {SAMPLINGS.described()}.")
    ] = DEFAULT.sampling,
    precision: Annotated[
        str, typer.Option("--precision", help=f"Of the potential's forces: {PRECISIONS.described()}.")
    ] = DEFAULT.precision,
    engine: Annotated[
        str, typer.Option("--engine", help=f"What minimises: {ENGINES.described()}.")
    ] = DEFAULT.engine,
    minimiser: Annotated[
        str, typer.Option("--minimiser", help=f"Of the native engine: {MINIMISERS.described()}.")
    ] = DEFAULT.minimiser,
    step: Annotated[float, typer.Option("--step", help="First step of the line search.")] = DEFAULT.step,
    kong_liu: Annotated[
        float, typer.Option("--kong-liu", help="Kong-Liu ratio below which to draw again.")
    ] = DEFAULT.kong_liu,
    meaningful_factor: Annotated[
        float, typer.Option("--meaningful-factor", help="Gradient over its error at which to stop.")
    ] = DEFAULT.meaningful_factor,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all ensembles.")] = DEFAULT.seed,
    fixed_structure: Annotated[
        bool, typer.Option("--fixed-structure", help="Leave the centroids where they are.")
    ] = False,
    workers: Workers = 1,
    labels: WatchLabels = None,
    committee: Committee = None,
) -> None:
    """Minimise the SSCHA free energy, then compute the free-energy Hessian, with error bars."""
    from himlip_ase.phonons.qe import read_dyn
    from himlip_ase.sscha.ensembles.workers import potential_forces
    from himlip_ase.sscha.run.loop import run_sscha
    from himlip_ase.sscha.watch.watch_inputs import build_watch

    chosen: dict[str, Any] = {
        "n_configurations": n,
        "n_hessian_configurations": n_hessian,
        "max_populations": max_populations,
        "temperature_k": temperature,
        "pressure_gpa": pressure,
        "frequency_error_cm": frequency_error,
        "hessian_order": "third" if third_only else "third+fourth",
        "sampling": sampling,
        "precision": precision,
        "engine": engine,
        "minimiser": minimiser,
        "step": step,
        "kong_liu": kong_liu,
        "meaningful_factor": meaningful_factor,
        "seed": seed,
        "minimise_structure": not fixed_structure,
    }
    settings = SschaSettings(**chosen)
    initial = read_dyn(dyn)
    with potential_forces(model, workers) as forces:
        result = run_sscha(
            initial, forces, settings, out, resume=resume, progress=True, watch=build_watch(labels, committee)
        )
    _report(result, out)


def from_run(
    source: Annotated[Path, typer.Argument(help="Folder of a finished run of the same crystal.")],
    model: Model,
    out: Out,
    mass: Annotated[
        list[str] | None,
        typer.Option("--mass", help="ELEMENT=AMU, e.g. H=2.014; may be repeated.", show_default=False),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", "-T", help="Kelvin; default: that of the finished run.")
    ] = None,
    resume: Resume = False,
    workers: Workers = 1,
    labels: WatchLabels = None,
    committee: Committee = None,
) -> None:
    """Another isotope or temperature, begun where a finished run ended, with its settings."""
    from himlip_ase.cli.masses import parse_masses
    from himlip_ase.sscha.ensembles.workers import potential_forces
    from himlip_ase.sscha.run.continuation import continue_run
    from himlip_ase.sscha.watch.watch_inputs import build_watch

    with potential_forces(model, workers) as forces:
        result = continue_run(
            source,
            forces,
            out,
            masses=parse_masses(mass) if mass else None,
            temperature_k=temperature,
            resume=resume,
            progress=True,
            watch=build_watch(labels, committee),
        )
    _report(result, out)


def pack(
    folder: Annotated[Path, typer.Argument(help="Run folder.")],
    file: Annotated[Path, typer.Argument(help="New zip file.")],
) -> None:
    """One file of a whole run: state, results and log."""
    from himlip_ase.sscha.run.checkpoints import pack_run

    pack_run(folder, file)
    typer.echo(f"wrote {file}")


def unpack(
    file: Annotated[Path, typer.Argument(help="Written by `himlip sscha pack`.")],
    folder: Annotated[Path, typer.Argument(help="New run folder.")],
) -> None:
    """The run folder of a packed run, which can be continued."""
    from himlip_ase.sscha.run.checkpoints import unpack_run

    unpack_run(file, folder)
    typer.echo(f"wrote {folder}")


def _report(result: SschaResult, out: Path) -> None:
    """Pictures, a summary, and status 1 for a run that did not converge."""
    from himlip_ase.phonons.irreps import describe_gamma_modes, write_gamma_modes
    from himlip_ase.sscha.results.gamma_tables import gamma_tables
    from himlip_ase.sscha.results.plots import write_figures
    from himlip_ase.sscha.results.summary import describe, describe_watch
    from himlip_ase.sscha.watch.watch import read_watch

    write_figures(result, out / "figures", overwrite=True)
    for line in [*describe(result), *describe_watch(read_watch(out))]:
        typer.echo(line)
    tables = gamma_tables(result)
    write_gamma_modes(tables, out / "gamma_modes.json", overwrite=True)
    for name, table in tables.items():
        first, *rows = describe_gamma_modes(table)
        typer.echo("\n".join([f"{name}: {first}", *rows]))
    if result.force_calls_saved:
        typer.echo(
            f"force calls    {result.force_calls}; {result.force_calls_saved} more were taken over from the "
            "neighbouring run"
        )
    if not result.converged:
        raise typer.Exit(1)

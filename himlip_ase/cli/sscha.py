"""``himlip sscha``: anharmonic phonons and the free-energy Hessian."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from himlip_ase.sscha.settings import SschaSettings

DEFAULT = SschaSettings()


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("sscha")(sscha)


def sscha(
    dyn: Annotated[
        Path, typer.Option("--dyn", help="Prefix of the QE dyn files to start from: harmonic or auxiliary.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Name or path of a model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
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
) -> None:
    """Minimise the SSCHA free energy, then compute the free-energy Hessian, with error bars."""
    from functools import partial

    from himlip_ase.phonons.qe import read_dyn
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.evaluate import evaluate
    from himlip_ase.sscha.loop import run_sscha
    from himlip_ase.sscha.plots import write_figures
    from himlip_ase.sscha.summary import describe

    settings = SschaSettings(
        n_configurations=n,
        n_hessian_configurations=n_hessian,
        max_populations=max_populations,
        temperature_k=temperature,
        step=step,
        kong_liu=kong_liu,
        meaningful_factor=meaningful_factor,
        seed=seed,
        minimise_structure=not fixed_structure,
    )
    initial = read_dyn(dyn)
    forces = partial(evaluate, load_model(model))
    result = run_sscha(initial, forces, settings, out, resume=resume, progress=True)
    write_figures(result, out / "figures", overwrite=True)
    for line in describe(result):
        typer.echo(line)
    if not result.converged:
        raise typer.Exit(1)

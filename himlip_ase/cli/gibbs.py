"""``himlip gibbs``: Gibbs energies of molecules, reactions and transition states."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from himlip_ase.cli.ts import CALCULATOR_HELP

EPILOG = (
    "Examples:  himlip gibbs reaction --temperature 400   (a folder of himlip ts; nothing is calculated "
    "again)   ·   himlip gibbs a.xyz b.xyz --ts ts.xyz --product c.xyz --calculator gfn2"
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("gibbs", epilog=EPILOG)(gibbs)


def gibbs(
    what: Annotated[
        list[Path], typer.Argument(help="Folder of himlip ts; or the reactants, a file each.", metavar="WHAT")
    ],
    ts: Annotated[Path | None, typer.Option("--ts", help="Transition state.")] = None,
    product: Annotated[list[Path] | None, typer.Option("--product", help="Product; repeatable.")] = None,
    calculator: Annotated[str, typer.Option("--calculator", "-c", help=CALCULATOR_HELP)] = "gfn2",
    temperature: Annotated[float, typer.Option("--temperature", "-t", help="K.")] = 298.15,
    pressure: Annotated[float | None, typer.Option("--pressure", help="Pa. [default: 101325]")] = None,
    concentration: Annotated[
        float | None, typer.Option("--concentration", help="mol/L, instead of a pressure; 1 for solutes.")
    ] = None,
    entropy: Annotated[str, typer.Option("--entropy", help="grimme, truhlar or rrho.")] = "grimme",
    cutoff: Annotated[float, typer.Option("--cutoff", help="ω₀ of the entropy model, cm⁻¹.")] = 100.0,
    tunnelling: Annotated[str, typer.Option("--tunnelling", help="wigner or none.")] = "wigner",
    scale: Annotated[float, typer.Option("--scale", help="Factor of all frequencies.")] = 1.0,
    multiplicity: Annotated[int, typer.Option("--multiplicity", help="2S + 1 of every species.")] = 1,
    isotope: Annotated[
        list[str] | None,
        typer.Option("--isotope", help="H=2.014 for an element, 3=2.014 for an atom (from 0); repeatable."),
    ] = None,
    fmax: Annotated[float, typer.Option("--fmax", help="eV/Å; structures are relaxed to this first.")] = 0.01,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for the numbers.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """ΔG‡ and ΔG in kcal/mol, kJ/mol and eV with every convention named, and the rate constant."""
    from himlip_ase.errors import InputError
    from himlip_ase.files import write_json
    from himlip_ase.pipeline.ts import TEMPERATURES, species_of_file
    from himlip_ase.reactions.calculators import calculator_by_name
    from himlip_ase.reactions.free_energies import ReactionGibbs
    from himlip_ase.reactions.reaction_files import read_species
    from himlip_ase.structures import require_new
    from himlip_ase.vibrations.gibbs import Conventions

    conventions = Conventions(
        temperature, pressure, concentration, entropy, cutoff, multiplicity, scale=scale,
        isotopes=_isotopes(isotope),
    )  # fmt: skip
    if out is not None:
        require_new(out, overwrite)
    if any(path.is_dir() for path in what):
        if len(what) > 1 or ts is not None or product:
            raise InputError(
                "a folder of himlip ts has its reactant, product and transition state; name it alone"
            )
        known = read_species(what[0])
        found = ReactionGibbs(
            conventions, (known["reactant"],), (known["product"],), known["transition_state"], tunnelling
        )
    else:
        engine = calculator_by_name(calculator)
        reactants = [species_of_file(path, engine, fmax) for path in what]
        products = [species_of_file(path, engine, fmax) for path in product or []]
        state = None if ts is None else species_of_file(ts, engine, fmax, saddle=1)
        found = ReactionGibbs(conventions, tuple(reactants), tuple(products), state, tunnelling)
    numbers = found.as_dict(TEMPERATURES)
    _print(numbers)
    if out is not None:
        write_json(out, numbers, overwrite)
        typer.echo(f"→ {out}")


def _print(numbers: dict[str, Any]) -> None:
    """Species, differences, rate, conventions."""
    typer.echo(f"{'species':<22}{'E (eV)':>14}{'ZPE':>9}{'H':>14}{'TS':>9}{'G (eV)':>14}   σ  left out")
    for name, one in numbers["species"].items():
        heat = numbers["temperature_k"] * sum(one["entropy_ev_per_k"].values())
        left = ", ".join(f"{value:.1f} cm⁻¹" for value in one["imaginary_left_out_cm"])
        typer.echo(
            f"{name:<22}{one['electronic_ev']:>14.4f}{one['zero_point_ev']:>9.4f}{one['enthalpy_ev']:>14.4f}"
            f"{heat:>9.4f}{one['gibbs_ev']:>14.4f}{one['symmetry_number']:>4}  {left}"
        )
        if one["imaginary_taken_as_real_cm"]:
            listed = ", ".join(f"{value:.1f}" for value in one["imaginary_taken_as_real_cm"])
            typer.echo(f"  {name}: weak imaginary frequencies taken as real ones: {listed} cm⁻¹")
    for name, key in (
        ("ΔG‡", "activation"),
        ("ΔH‡", "activation_enthalpy"),
        ("ΔG", "reaction"),
        ("ΔH", "reaction_enthalpy"),
    ):
        value = numbers[key]
        if value is not None:
            typer.echo(
                f"{name:<4}{value['kcal_per_mol']:>10.2f} kcal/mol{value['kj_per_mol']:>10.2f} kJ/mol"
                f"{value['ev']:>10.4f} eV"
            )
    if numbers["rate"] is not None:
        typer.echo(
            f"rate constant {numbers['rate']:.3e} {numbers['rate_unit']} (Eyring; tunnelling "
            f"{numbers['tunnelling']}, κ = {numbers['transmission']:.3f})"
        )
    for line in numbers["conventions"]:
        typer.echo(f"  {line}")


def _isotopes(texts: list[str] | None) -> dict[int | str, float]:
    from himlip_ase.errors import InputError

    found: dict[int | str, float] = {}
    for text in texts or []:
        key, _, mass = text.partition("=")
        try:
            found[int(key) if key.isdigit() else key] = float(mass)
        except ValueError as error:
            raise InputError(
                f"--isotope {text}: type ELEMENT=MASS or ATOM=MASS, as --isotope H=2.014"
            ) from error
    return found

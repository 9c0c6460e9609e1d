"""``himlip gibbs``: Gibbs energies of molecules, reactions and transition states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from himlip_ase.cli.ts import CALCULATOR_HELP
from himlip_ase.cli.unused_options import refuse_unused, typed_options

EPILOG = (
    "Examples:  himlip gibbs reaction --temperature 400   (a folder of himlip ts; nothing is calculated "
    "again)   ·   himlip gibbs a.xyz b.xyz --ts ts.xyz --product c.xyz --calculator gfn2"
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("gibbs", epilog=EPILOG)(gibbs)


def gibbs(
    context: typer.Context,
    what: Annotated[
        list[Path], typer.Argument(help="Folder of himlip ts; or the reactants, a file each.", metavar="WHAT")
    ],
    ts: Annotated[Path | None, typer.Option("--ts", help="Transition state.")] = None,
    product: Annotated[list[Path] | None, typer.Option("--product", help="Product; repeatable.")] = None,
    calculator: Annotated[
        str | None,
        typer.Option(
            "--calculator",
            "-c",
            help=f"{CALCULATOR_HELP} [default: gfn2; of a folder, the one that found it]",
        ),
    ] = None,
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
    fmax: Annotated[
        float, typer.Option("--fmax", help="eV/Å; structures in files are relaxed to this first.")
    ] = 0.01,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for the numbers.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """ΔG‡ and ΔG in kcal/mol, kJ/mol and eV with every convention named, and the rate constant."""
    from himlip_ase.errors import InputError
    from himlip_ase.files import write_json
    from himlip_ase.pipeline.ts import gibbs_as_dict, species_of_file
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
        refuse_unused(
            typed_options(context, ["fmax"]),
            f"relaxes structures, and those of {what[0]} are taken as they are; leave it out",
        )
        known = read_species(what[0])
        calculator = calculator or _calculator_of(what[0])
        found = ReactionGibbs(
            conventions, (known["reactant"],), (known["product"],), known["transition_state"], tunnelling
        )
        engine, missing = _for_uncertainties(calculator)
    else:
        calculator, missing = calculator or "gfn2", ""
        engine = calculator_by_name(calculator)
        reactants = [species_of_file(path, engine, fmax) for path in what]
        products = [species_of_file(path, engine, fmax) for path in product or []]
        state = None if ts is None else species_of_file(ts, engine, fmax, saddle=1)
        found = ReactionGibbs(conventions, tuple(reactants), tuple(products), state, tunnelling)
    numbers = gibbs_as_dict(found, engine, calculator)
    numbers["uncertainty_missing"] = missing or numbers["uncertainty_missing"]
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
        value, spread = numbers[key], (numbers["uncertainty"] or {}).get(key)
        if value is not None:
            typer.echo(name.ljust(4) + " ".join(_in_units(value, spread)))
    if numbers["uncertainty"] is None:
        typer.echo(f"no uncertainties: {numbers['uncertainty_missing']}")
    if numbers["rate"] is not None:
        typer.echo(
            f"rate constant {numbers['rate']:.3e} {numbers['rate_unit']} (Eyring; tunnelling "
            f"{numbers['tunnelling']}, κ = {numbers['transmission']:.3f})"
        )
    for line in numbers["conventions"]:
        typer.echo(f"  {line}")


def _in_units(value: dict[str, float], spread: dict[str, float] | None) -> Iterator[str]:
    """An energy in three units, with its standard deviation if the potential gives one."""
    for key, unit, digits in (("kcal_per_mol", "kcal/mol", 2), ("kj_per_mol", "kJ/mol", 2), ("ev", "eV", 4)):
        text = f"{value[key]:>10.{digits}f}"
        if spread is not None:
            text += f" ± {spread['total'] * _per_ev(key):.{digits}f}"
        yield f"{text} {unit}"


def _per_ev(key: str) -> float:
    from himlip_ase.reactions.free_energies import EV_KCAL_PER_MOL, EV_KJ_PER_MOL

    return {"kcal_per_mol": EV_KCAL_PER_MOL, "kj_per_mol": EV_KJ_PER_MOL, "ev": 1.0}[key]


def _calculator_of(folder: Path) -> str:
    """Name of the calculator with which a reaction was found."""
    from himlip_ase.files import read_mapping

    path = folder / "result.json"
    return str(read_mapping(path).get("calculator", "")) if path.is_file() else ""


def _for_uncertainties(name: str) -> tuple[Any, str]:
    """The calculator of a finished reaction, from which uncertainties come, and why there is none."""
    from himlip_ase.errors import InputError
    from himlip_ase.reactions.calculators import CALCULATORS, calculator_by_name

    if not name:
        return None, "result.json does not name the calculator"
    if name in CALCULATORS or ":" in name:
        return None, ""  # none of these has a posterior
    try:
        return calculator_by_name(name), ""
    except InputError as error:
        return None, f"the potential of this reaction cannot be read ({error}); name it with --calculator"


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

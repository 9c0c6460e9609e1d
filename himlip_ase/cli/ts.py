"""``himlip ts``: from reactant and product to a verified transition state and its Gibbs energy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from himlip_ase.cli.unused_options import refuse_unused

EPILOG = (
    "Examples:  himlip ts reactant.xyz product.xyz --calculator gfn2 --out reaction   ·   "
    "himlip ts reactant.xyz --break 0-4 --form 3-4 --out reaction   ·   himlip ts reactions.yaml --out many"
)

CALCULATOR_HELP = (
    "gfn2, wb97x, a bundled model, a .safetensors file, mace:PATH, alphanet:PATH, module:factory."
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("ts", epilog=EPILOG)(ts)


def ts(
    what: Annotated[
        Path,
        typer.Argument(help="Reactant; or a YAML file, or a folder, of many reactions.", metavar="REACTANT"),
    ],
    product: Annotated[
        Path | None, typer.Argument(help="Product, its atoms in the reactant's order.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("reaction"),
    calculator: Annotated[
        str | None, typer.Option("--calculator", "-c", help=f"{CALCULATOR_HELP} [default: gfn2]")
    ] = None,
    form: Annotated[
        list[str] | None, typer.Option("--form", help="Bond that forms, as 3-4 (atoms from 0); repeatable.")
    ] = None,
    break_: Annotated[
        list[str] | None, typer.Option("--break", help="Bond that breaks, as 0-4; repeatable.")
    ] = None,
    reorder: Annotated[
        bool | None,
        typer.Option(
            "--reorder/--keep-order", help="Match the product's atoms to the reactant's. [default: keep]"
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", "-t", help="K. [default: 298.15]")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", help="Saddle search: rs-p-rfo or rs-i-rfo. [default: rs-p-rfo]")
    ] = None,
    hessian_every: Annotated[
        int | None,
        typer.Option(
            "--hessian-every",
            help="Saddle search: exact Hessian at every n-th point; the coordinate has its own, `irc: "
            "{hessian_every: n}` in a YAML file. [default: 1]",
        ),
    ] = None,
    irc_step: Annotated[
        float | None, typer.Option("--irc-step", help="√amu Å; 0.1 is fine, 0.3 coarse. [default: 0.3]")
    ] = None,
    gibbs: Annotated[
        bool | None, typer.Option("--gibbs/--no-gibbs", help="Free energies. [default: gibbs]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep finished reactions, do the others.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Path, saddle, reaction coordinate, verdict and free energies of one reaction or of many."""
    from dataclasses import replace

    from himlip_ase.errors import InputError
    from himlip_ase.pipeline.ts import estimated_cost, search_reactions
    from himlip_ase.pipeline.ts_config import Pair, ReactionsConfig, checked, load_reactions, pairs_of_folder
    from himlip_ase.reactions.calculators import calculator_by_name
    from himlip_ase.structures import read_structure

    config, many = ReactionsConfig(), what.is_dir() or what.suffix in (".yaml", ".yml")
    if many and (product is not None or form or break_):
        raise InputError(f"{what} names its own reactions; leave out the product, --form and --break")
    if what.is_dir():
        pairs = pairs_of_folder(what)
    elif many:
        config, pairs = load_reactions(what)
    else:
        end = None if product is None else read_structure(product)
        bonds = (_bonds(form, "--form"), _bonds(break_, "--break"))
        pairs = checked([Pair(what.stem, read_structure(what), end, *bonds)])
    if not pairs:
        raise InputError(f"{what} names no reactions")
    if all(pair.product is None for pair in pairs):
        order = {"--keep-order" if reorder is False else "--reorder": reorder is not None}
        refuse_unused(order, "is of a product that was given; one made from bonds has the reactant's order")
    changes: dict[str, Any] = {
        "calculator": calculator, "gibbs": gibbs, "reorder": reorder,
        "conventions": None if temperature is None else replace(config.conventions, temperature=temperature),
        "irc": None if irc_step is None else replace(config.irc, step=irc_step),
    }  # fmt: skip
    search: dict[str, Any] = {
        key: value for key, value in (("step", step), ("hessian_every", hessian_every)) if value is not None
    }
    changes["saddle"] = replace(config.saddle, **search) if search else None
    config = config.model_copy(update={key: value for key, value in changes.items() if value is not None})
    if not config.gibbs:
        refuse_unused(
            {"--temperature": temperature},
            "is of free energies, which are switched off; type --gibbs, or leave it out",
        )
    engine = calculator_by_name(config.calculator)
    typer.echo(f"{estimated_cost(pairs, engine)}; calculator {config.calculator}")
    if dry_run:
        return
    with _bar(len(pairs)) as advance:
        results = search_reactions(pairs, engine, out, config, resume, overwrite, advance)
    for result in results:
        typer.echo(_line(result))
    typer.echo(f"→ {out / 'report.html'}")


def _bonds(texts: list[str] | None, option: str) -> list[tuple[int, int]]:
    from himlip_ase.errors import InputError

    found = []
    for text in texts or []:
        parts = text.split("-")
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            raise InputError(f"{option} {text}: type two atoms that count from 0, as {option} 3-4")
        found.append((int(parts[0]), int(parts[1])))
    return found


def _line(result: dict) -> str:
    """A result in a line."""
    parts = [f"{result['name']}: {result['verdict']}"]
    if result["barrier_ev"] is not None:
        parts.append(f"barrier {result['barrier_ev']:.3f} eV")
    if result["imaginary_frequency_cm"] is not None:
        parts.append(f"imaginary mode {result['imaginary_frequency_cm']:.0f} cm⁻¹")
    if result["gibbs"] is not None:
        parts.append(
            f"ΔG‡ {_kcal(result['gibbs'], 'activation')} and ΔG {_kcal(result['gibbs'], 'reaction')} kcal/mol"
        )
    parts.append(f"{result['gradients']} gradients, {result['hessians']} Hessians")
    if result["verdict"] != "intended":
        parts.append(result["reason"])
    return "; ".join(parts)


def _kcal(gibbs: dict, key: str) -> str:
    """A free energy in kcal/mol with its standard deviation, if the potential gives one."""
    from himlip_ase.reactions.free_energies import EV_KCAL_PER_MOL

    spread = (gibbs.get("uncertainty") or {}).get(key)
    text = f"{gibbs[key]['kcal_per_mol']:.2f}"
    return text if spread is None else f"{text} ± {spread['total'] * EV_KCAL_PER_MOL:.2f}"


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[str, str, int], None]]:
    """Progress on standard error: reactions finished, and the part that runs."""
    from himlip_ase.progress import ProgressBar

    with ProgressBar("reactions") as bar:
        bar.begin(total=total)
        yield lambda name, part, done: bar.update(done, note=f"{name}: {part}")
        bar.update(total)

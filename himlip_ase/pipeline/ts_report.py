"""Report of a reaction: tables and pictures as one HTML file and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from himlip_ase.figure_style import PANEL, new_figure, save, styled, with_mev
from himlip_ase.files import atomic_write
from himlip_ase.pipeline.document import Document, Files, Heading, Link, Notice, Paragraph, Picture, Table
from himlip_ase.reactions.free_energies import EV_KCAL_PER_MOL, EV_KJ_PER_MOL, ReactionGibbs
from himlip_ase.reactions.plots import plot_mode, plot_path, plot_profile, plot_rates
from himlip_ase.reactions.search import Reaction
from himlip_ase.reactions.verdict import MEANING, Verdict

NAMES = {"reactant": "reactant", "transition_state": "transition state", "product": "product"}
DASH = "–"


def write_reaction_report(
    folder: Path, result: dict[str, Any], reaction: Reaction, gibbs: ReactionGibbs | None
) -> None:
    """Write ``report.html``, ``report.md`` and ``figures/`` of one reaction.

    Parameters
    ----------
    folder : Path
    result : dict
        As in ``result.json``.
    reaction : Reaction
    gibbs : ReactionGibbs or None
    """
    document = Document(f"Reaction {result['name']}")
    document.add(verdict_notice(result))
    if gibbs is None and result["gibbs_missing"]:
        document.add(Paragraph(f"No free energies: {result['gibbs_missing']}."))
    document.add(Heading("Energies"), energies(result))
    if gibbs is not None:
        document.add(Heading("Free energies"), free_energies(result["gibbs"]))
        document.add(Paragraph("Conventions: " + "; ".join(result["gibbs"]["conventions"]) + "."))
        document.add(Paragraph(_rate_sentence(result["gibbs"])), Paragraph(_uncertainty(result["gibbs"])))
    document.add(Heading("Pictures"), *_pictures(folder, reaction, result))
    document.add(Heading("The ends of the reaction coordinate"), _ends(result))
    document.add(Heading("What it took"), costs(result))
    document.add(Heading("Reaction and calculation"), facts(result, reaction))
    there = ["result.json", *(name for name in BESIDE if (folder / name).exists())]
    beside = [(Link(name, name), BESIDE[name]) for name in dict.fromkeys(there)]
    document.add(Paragraph("These files lie beside this page:"), Files(beside))
    write_document(folder, document)


BESIDE = {
    "result.json": "every number, settings and versions",
    "transition_state.extxyz": "the saddle point, with its softest mode",
    "mode.extxyz": "that mode as a film (ase gui mode.extxyz)",
    "ends.extxyz": "relaxed reactant and product",
    "path.extxyz": "the growing string",
    "irc.extxyz": "the reaction coordinate",
    "figures": "every picture as PNG and PDF",
}
"""What the report leads to, where it is there; result.json is written last."""

LEVELS: dict[Verdict, Literal["ok", "marked", "withheld"]] = {
    Verdict.INTENDED: "ok",
    Verdict.CONFORMER: "marked",
    Verdict.ONE_END: "marked",
}
"""How far a transition state may be taken for that of the reaction; without an entry: not at all."""


def verdict_notice(result: dict[str, Any]) -> Notice:
    """The first lines: what was found, and whether it is the transition state that was asked for.

    Parameters
    ----------
    result : dict
        As in ``result.json``.

    Returns
    -------
    Notice
    """
    verdict = Verdict(result["verdict"])
    level = LEVELS.get(verdict, "withheld")
    title = {
        "ok": "The transition state of this reaction.",
        "marked": f"A transition state of another change: {verdict.value}.",
        "withheld": f"No transition state of this reaction: {verdict.value}.",
    }[level]
    words = [_sentence(text) for text in dict.fromkeys((result["reason"], MEANING[verdict]))]
    if level == "ok":
        words.append(f"Barrier {_with_kcal(result['barrier_ev'])}.")
        gibbs = result["gibbs"]
        if gibbs is not None and gibbs["activation"] is not None:
            spread = ((gibbs["uncertainty"] or {}).get("activation") or {}).get("total")
            words.append(
                f"ΔG‡({gibbs['temperature_k']:g} K) {_with_kcal(gibbs['activation']['ev'], spread)}."
            )
    return Notice(level, title, " ".join(words))


def facts(result: dict[str, Any], reaction: Reaction) -> Table:
    """What was calculated, with what, and when.

    Parameters
    ----------
    result : dict
        As in ``result.json``.
    reaction : Reaction

    Returns
    -------
    Table
    """
    known = next((x for x in (reaction.reactant, reaction.saddle, reaction.product) if x is not None), None)
    versions = result["versions"]
    settings = ", ".join(f"{name} {value}" for name, value in result["calculator_settings"].items())
    rows = [
        ("atoms", "" if known is None else known.atoms.get_chemical_formula("hill")),
        ("calculator", f"{result['calculator']}{f' ({settings})' if settings else ''}"),
        ("CPU time", f"{result['cpu_seconds']:.1f} s"),
        ("versions", ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)),
        ("date", result["written"][:10]),
    ]
    return Table(("", ""), [row for row in rows if row[1]])


SHOWN = (
    "himlip-ase",
    "python",
    "ase",
    "torch",
    "numpy",
    "scipy",
    "tblite",
    "pyscf",
    "mace-torch",
    "msc-alphanet",
)
"""Versions that the report shows."""


def write_overview(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write ``report.html``, ``report.md`` and ``table.csv`` of many reactions.

    Parameters
    ----------
    folder : Path
    results : sequence of dict
        ``result.json`` of each.
    """
    counts = {verdict: sum(r["verdict"] == verdict.value for r in results) for verdict in Verdict}
    document = Document(f"{len(results)} reactions")
    document.add(
        Table(
            ("verdict", "reactions", "meaning"),
            [(v.value, str(n), MEANING[v]) for v, n in counts.items() if n],
            numbers=(1,),
        ),
        Heading("Reactions"),
        Table(COLUMNS, [overview_row(result) for result in results], numbers=range(2, len(COLUMNS))),
    )
    write_document(folder, document)
    with atomic_write(folder / "table.csv", overwrite=True) as stream:
        for row in (COLUMNS, *(overview_row(result) for result in results)):
            stream.write(",".join(cell.replace(",", ";") for cell in row) + "\n")


COLUMNS = (
    "reaction", "verdict", "barrier (eV)", "ΔE (eV)", "imaginary (cm⁻¹)", "ΔG‡ (kcal/mol)", "ΔG (kcal/mol)",
    "gradients", "Hessians", "CPU s",
)  # fmt: skip


def overview_row(result: dict[str, Any]) -> tuple[str, ...]:
    """A reaction as a row of `COLUMNS`."""
    gibbs = result["gibbs"] or {}
    return (
        result["name"],
        result["verdict"],
        _fixed(result["barrier_ev"]),
        _fixed(result["reaction_energy_ev"]),
        _fixed(result["imaginary_frequency_cm"], 0),
        _fixed((gibbs.get("activation") or {}).get("kcal_per_mol"), 2),
        _fixed((gibbs.get("reaction") or {}).get("kcal_per_mol"), 2),
        str(result["gradients"]),
        str(result["hessians"]),
        f"{result['cpu_seconds']:.1f}",
    )


def energies(result: dict[str, Any]) -> Table:
    """Potential energies of a result in three units."""
    rows = [("barrier (forward)", "barrier_ev"), ("barrier (backward)", "reverse_barrier_ev")]
    rows.append(("reaction energy", "reaction_energy_ev"))
    table = [(name, *_units(result[key])) for name, key in rows]
    listed = ", ".join(f"{value:.0f}" for value in result["imaginary_frequencies_cm"]) or DASH
    table.append(("imaginary frequency (cm⁻¹)", listed, "", ""))
    return Table(("", "eV", "kJ/mol", "kcal/mol"), table, numbers=(1, 2, 3))


def free_energies(gibbs: dict[str, Any]) -> Table:
    """ΔG‡, ΔG and enthalpies in three units."""
    rows = (
        ("ΔG‡", "activation"), ("ΔH‡", "activation_enthalpy"), ("ΔG", "reaction"), ("ΔH",
        "reaction_enthalpy"),
    )  # fmt: skip
    spread = gibbs["uncertainty"] or {}
    table = []
    for name, key in rows:
        sigma = (spread.get(key) or {}).get("total")
        table.append((name, *_units(gibbs[key]["ev"] if gibbs[key] is not None else None, sigma)))
    return Table(("", "eV", "kJ/mol", "kcal/mol"), table, numbers=(1, 2, 3))


def costs(result: dict[str, Any]) -> Table:
    """Gradients and Hessians of each part."""
    rows = [
        (part, str(c["gradients"]), str(c["hessians"]), str(c["difference_gradients"]))
        for part, c in result["costs"].items()
    ]
    rows.append(
        ("all", str(result["gradients"]), str(result["hessians"]), str(result["difference_gradients"]))
    )
    columns = ("part", "gradients", "Hessians", "gradients inside Hessians")
    return Table(columns, rows, numbers=(1, 2, 3))


def _ends(result: dict[str, Any]) -> Table:
    rows = []
    for side, end in result["ends"].items():
        if end is not None:
            rmsd = DASH if end["rmsd"] is None else f"{end['rmsd']:.3f}"
            rows.append((side, end["formula"], end["matches"] or "neither", rmsd, end["changes"]))
    columns = ("end", "molecules", "bonds are those of the", "RMSD to it (Å)", "differences")
    return Table(columns, rows or [(DASH,) * 5], numbers=(3,))


def _pictures(folder: Path, reaction: Reaction, result: dict[str, Any]) -> list[Picture]:
    """Draw what there is."""
    found = []
    if reaction.irc is not None and reaction.reactant is not None:
        irc, zero = reaction.irc, reaction.reactant.energy
        path = drawn(folder, "energy_profile", lambda ax: plot_profile(ax, irc, zero))
        found.append(Picture(path, "Energy along the intrinsic reaction coordinate, reactant on the left."))
    if reaction.saddle is not None:
        saddle = reaction.saddle
        roots = saddle.atoms.get_masses()[:, None] ** 0.5
        path = drawn(folder, "mode", lambda ax: plot_mode(ax, saddle.atoms, saddle.modes[0] / roots), 4.5)
        softest = float(saddle.frequencies[0])
        caption = f"Softest mode of the stationary point, {softest:.0f} cm⁻¹ ({with_mev(softest)})."
        found.append(Picture(path, caption))
    if reaction.path is not None:
        string = reaction.path
        height = reaction.saddle.energy if reaction.saddle is not None else None
        path = drawn(folder, "string", lambda ax: plot_path(ax, string, height))
        found.append(Picture(path, "The growing string, and the image from which the saddle was searched."))
    curve = (result["gibbs"] or {}).get("curve") or []
    if curve:
        unit = result["gibbs"]["rate_unit"]
        path = drawn(folder, "rates", lambda ax: plot_rates(ax, curve, unit))
        found.append(Picture(path, "Rate constant by Eyring's equation."))
    return found


def drawn(folder: Path, name: str, draw: Callable[[Any], Any], height: float = PANEL[1]) -> Path:
    """Draw a picture into ``figures/`` of a folder.

    Parameters
    ----------
    folder : Path
    name : str
        Without suffix.
    draw : callable
        Given the Axes.
    height : float
        Inches.

    Returns
    -------
    Path
    """
    with styled():
        figure, (ax,) = new_figure(height=height)
        draw(ax)
    return save(figure, folder / "figures", name)


def write_document(folder: Path, document: Document) -> None:
    """Write ``report.md`` and ``report.html``, replacing what is there.

    Parameters
    ----------
    folder : Path
    document : Document
    """
    with atomic_write(folder / "report.md", overwrite=True) as stream:
        stream.write(document.markdown(folder))
    with atomic_write(folder / "report.html", overwrite=True) as stream:
        stream.write(document.html())


def _rate_sentence(gibbs: dict[str, Any]) -> str:
    rate = f"{gibbs['rate']:.3g} {gibbs['rate_unit']}"
    tunnelling = f"tunnelling {gibbs['tunnelling']}: κ = {gibbs['transmission']:.2f}"
    return f"Rate constant at {gibbs['temperature_k']:g} K: {rate} (Eyring, {tunnelling})."


def _uncertainty(gibbs: dict[str, Any]) -> str:
    """Where the standard deviations come from, or why there are none."""
    spread = gibbs["uncertainty"]
    if spread is None:
        return f"No uncertainties: {gibbs['uncertainty_missing']}."
    parts = [
        f"{name} {value['total']:.3f} eV ({value['coefficients']:.3f} eV of the coefficients alone)"
        for name, key in (("barrier", "barrier"), ("ΔG‡", "activation"), ("ΔE", "reaction_energy"),
                          ("ΔG", "reaction"))
        if (value := spread[key]) is not None
    ]  # fmt: skip
    return (
        f"Standard deviations from the potential's posterior: {', '.join(parts)}. To first order, with the "
        "correlation between the structures; those of enthalpies are not given."
    )


def _with_kcal(value: float, sigma: float | None = None) -> str:
    """An energy in eV and kcal/mol."""
    ev, _, kcal = _units(value, sigma)
    return f"{ev} eV ({kcal} kcal/mol)"


def _units(value: float | None, sigma: float | None = None) -> tuple[str, str, str]:
    """A number in eV, kJ/mol and kcal/mol, with its standard deviation if there is one."""
    if value is None:
        return DASH, DASH, DASH
    found = []
    for factor, digits in ((1.0, 3), (EV_KJ_PER_MOL, 1), (EV_KCAL_PER_MOL, 2)):
        text = _fixed(value * factor, digits)
        found.append(text if sigma is None else f"{text} ± {_fixed(sigma * factor, digits)}")
    return found[0], found[1], found[2]


def _fixed(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."

"""One report of several runs: what is known of each, Tc beside measured values, pictures, costs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, write_json
from himlip_ase.pipeline.comparison import figures, tables
from himlip_ase.pipeline.comparison.compounds import Compound, read_compounds
from himlip_ase.pipeline.comparison.measured import Measured
from himlip_ase.pipeline.document import Document, Files, Heading, Link, Notice, Paragraph, Picture, number
from himlip_ase.pipeline.known import leading_method
from himlip_ase.pipeline.tc_cases import NAMES
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, mu_star_text

SCHEMA = "himlip-comparison-1"
LIMITS = (
    "These error bars do not hold: the Coulomb interaction, which enters as a number μ* alone; the average "
    "over the Fermi surface; G(q) of the undisplaced crystal (linear coupling), which underestimates Tc "
    "where light atoms move far, as in PdH; and the functional. Pressures of a calculation are static unless "
    "said otherwise."
)


def compare_runs(
    folders: Sequence[str | Path],
    out: str | Path,
    measured: Sequence[Measured] = (),
    method: str | None = None,
    notes: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write tables and figures of several finished runs together.

    Parameters
    ----------
    folders : sequence of path-like
        Run folders of `himlip run`.
    out : path-like
        Folder for ``report.html``, ``report.md``, ``results.json``, ``tc.csv`` and ``figures/``.
    measured : sequence of Measured
        Values to stand beside those of the runs.
    method : str, optional
        Formula of the pictures; None: Migdal–Eliashberg, else Allen–Dynes, else the first.
    notes : sequence of str
        Sentences for the report.
    overwrite : bool
        Whether a comparison in `out` may be replaced.

    Returns
    -------
    Path
        ``report.html``.

    Raises
    ------
    InputError
        No run, a run twice, an unknown formula, or `out` holds something that may not be replaced.
    """
    place = Path(out)
    if (place / "config.yaml").exists():
        raise InputError(f"{place} is a run folder; choose another --out")
    if (place / "report.html").exists() and not overwrite:
        raise InputError(f"{place} holds a report already; type --overwrite, or choose another --out")
    compounds = read_compounds(folders)
    if not compounds:
        raise InputError("no run to compare; give the folders of finished runs")
    methods = tables.methods_of(compounds)
    if method is not None and method not in methods:
        raise InputError(f"no run has a Tc by '{method}'; there are: {', '.join(methods) or 'none'}")
    leading = method or (leading_method(methods) if methods else "")
    pictures = place / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    document = Document(" · ".join(compound.name for compound in compounds))
    mu_stars = tables.mu_stars_of(compounds)
    middle = mu_stars[len(mu_stars) // 2] if mu_stars else 0.0
    document.add(*(_notice(compound, leading, middle) for compound in compounds))
    for note in notes:
        document.add(Paragraph(note))
    _tc(document, compounds, measured, methods, mu_stars)
    _pictures(document, compounds, measured, leading, middle, pictures)
    document.add(Heading("What each run was made of"), tables.facts_table(compounds))
    _costs(document, compounds, pictures)
    written = {
        "results.json": "every Tc of every compound with unit, ± or reason",
        "tc.csv": "the same as a table",
        "figures": "every picture as PNG and PDF, and the bands as text",
    }
    document.add(
        Heading("Files"),
        Paragraph("These lie beside this page:"),
        Files([(Link(name, name), what) for name, what in written.items()]),
    )
    rows = _records(compounds, measured)
    write_json(place / "results.json", {"schema": SCHEMA, "tc": rows}, overwrite=True)
    texts = {"tc.csv": _csv(rows), "report.md": document.markdown(place), "report.html": document.html()}
    for name, text in texts.items():
        with atomic_write(place / name, overwrite=True) as stream:
            stream.write(text)
    return place / "report.html"


def _notice(compound: Compound, method: str, mu_star: float) -> Notice:
    """What is known of one compound, and whether it may be quoted."""
    entry = figures.tc_of(compound, compound.kind, method, mu_star) if compound.kind else None
    if entry is None:
        reason = compound.refusal
        if compound.cases:
            case = compound.cases.get(compound.kind)
            reason = tables.case_refusal(case) if case is not None else "no anharmonic phonons"
        return Notice(
            "withheld", f"{compound.name}: no Tc.", f"{reason[:1].upper()}{reason[1:].rstrip('.')}."
        )
    value = number(entry.kelvin, entry.uncertainty_kelvin)
    how = f"{label_of(method)}, μ* = {mu_star_text(mu_star)}, {NAMES[compound.kind]}"
    title = f"{compound.name}: Tc = {value} K ({how})."
    gate = compound.gate
    if gate is None:
        return Notice("marked", title, "The checks before a Tc were not made in this run.")
    if gate.verdict == "ok":
        return Notice("ok", title, f"May be quoted: all {len(gate.checks)} checks passed.")
    return Notice("marked", title, f"Quote it only with its reservations: {gate.mark or gate.refusal}.")


def _tc(
    document: Document,
    compounds: Sequence[Compound],
    measured: Sequence[Measured],
    methods: Sequence[str],
    mu_stars: Sequence[float],
) -> None:
    document.add(Heading("Tc"))
    for mu in mu_stars or [0.0]:
        document.add(tables.tc_table(compounds, measured, methods, mu))
    for table in (
        tables.reasons_table(compounds),
        tables.measured_table(compounds, measured),
        tables.isotope_table(compounds),
    ):
        if table is not None:
            document.add(table)
    document.add(
        Paragraph("± is one standard error. λ in brackets is of the stable modes alone."), Paragraph(LIMITS)
    )


def _pictures(
    document: Document,
    compounds: Sequence[Compound],
    measured: Sequence[Measured],
    method: str,
    mu_star: float,
    place: Path,
) -> None:
    if method:
        document.add(Heading("Tc in pictures"))
        words = f"{label_of(method)}, μ* = {mu_star_text(mu_star)}"
        path = figures.parity(place, compounds, measured, method, mu_star)
        if path is not None:
            text = f"Tc computed ({words}) against measured, with the ± of both where it is known."
            document.add(Picture(path, f"{text} Open: harmonic; full: anharmonic."))
        elif measured:
            document.add(Paragraph("No parity picture: no compound has both a computed and a measured Tc."))
        path = figures.tc_against_mu_star(place, compounds, method)
        if path is not None:
            text = f"Tc against μ*, {label_of(method)}, anharmonic phonons, with all sources of its ±."
            document.add(Picture(path, text))
        path = figures.gaps(place, compounds)
        if path is not None:
            text = "Gap from the non-linear Migdal–Eliashberg equations at the first μ*. The bar at the foot "
            document.add(Picture(path, text + "is ± of Tc; Δ has the same relative error."))
    document.add(Heading("Phonons"))
    drawn = figures.phonons(place, compounds)
    for compound in compounds:
        kind = NAMES[compound.kind] if compound.kind else "no SSCHA in this run"
        text = f"{compound.name}: harmonic (DFT, dashed, without ±) and {kind} (full). Marks: points of the "
        text += "q-grid with ±1σ; lines between them are interpolated."
        document.add(Picture(drawn[compound.name], text))
    document.add(
        Files([(Link("phonons.pdf", "figures/phonons.pdf"), "all of them as one figure")]),
        tables.band_gap_table(compounds),
    )
    path = figures.band_gaps(place, compounds)
    if path is not None:
        text = "Gap between acoustic and optical bands on the points of the q-grid, against the mass of the "
        text += "lightest atom; below zero bands overlap. Open: harmonic, without ±; full: anharmonic, ±1σ."
        document.add(Picture(path, text))


def _costs(document: Document, compounds: Sequence[Compound], place: Path) -> None:
    document.add(Heading("Cost"), tables.cost_table(compounds))
    path = figures.costs(place, compounds)
    if path is not None:
        text = "Core-minutes spent, and those of the same SSCHA on DFT forces, from the time of one "
        document.add(Picture(path, text + "verification supercell; an estimate without a ±."))


def _records(compounds: Sequence[Compound], measured: Sequence[Measured]) -> list[dict[str, object]]:
    """Every Tc with its error or its reason, and what was measured."""
    rows: list[dict[str, object]] = []
    for compound in compounds:
        values = compound.measured_in(measured)
        head = {"compound": compound.name, "formula": compound.formula, "run": compound.run.name}
        tail = {
            "measured_kelvin": [v.tc_kelvin for v in values],
            "sources": [v.doi or v.source for v in values],
        }
        if not compound.cases:
            rows.append({**head, **_record(None, None, compound.refusal), **tail})
        for kind, case in compound.cases.items():
            if case.table is None:
                rows.append({**head, **_record(kind, None, case.refusal), **tail})
                continue
            rows += [{**head, **_record(kind, entry), **tail} for entry in case.table.results]
    return rows


def _record(kind: str | None, entry: Tc | NoTc | None, reason: str = "") -> dict[str, object]:
    """One Tc, or why there is none."""
    if isinstance(entry, NoTc):
        reason = entry.reason
    good = entry if isinstance(entry, Tc) else None
    return {
        "phonons": kind,
        "method": None if entry is None else entry.method,
        "mu_star": None if entry is None else entry.mu_star,
        "value": None if good is None else good.kelvin,
        "uncertainty": None if good is None else good.uncertainty_kelvin,
        "unit": "K",
        "reason": reason,
    }


def _csv(rows: Sequence[dict[str, object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(list(rows[0]) if rows else [])
    for row in rows:
        cells = [
            "; ".join(map(str, v)) if isinstance(v, list) else "" if v is None else v for v in row.values()
        ]
        writer.writerow(cells)
    return stream.getvalue()

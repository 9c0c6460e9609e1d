"""What the report says of superconductivity: tables of λ and Tc, what they are uncertain by, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from himlip_ase.pipeline import figures
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.document import Document, Heading, Paragraph, Picture, Table, number
from himlip_ase.pipeline.known import brief
from himlip_ase.pipeline.runfolder import Figure
from himlip_ase.pipeline.tc_cases import BY_INTEREST, NAMES, CaseResult, Phonons, TcResults
from himlip_ase.superconductivity.cell_strain import NOT_RECALCULATED
from himlip_ase.superconductivity.gap import GapCurve
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.q_mesh import QMeshRow
from himlip_ase.superconductivity.tables import budget_rows
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, TcTable, mu_star_text
from himlip_ase.superconductivity.uncertainty import size_of
from himlip_ase.units import EV_KELVIN

Quoted = Mapping[str, Figure]
Row = tuple[str, Callable[[CaseResult], str]]
"""A row of the table of λ and Tc: its label, and its cell for one set of phonons."""


def _of_table(quantity: Callable[[TcTable], str]) -> Callable[[CaseResult], str]:
    return lambda case: "–" if case.table is None else quantity(case.table)


def _tc_cell(method: str, mu_star: float) -> Callable[[CaseResult], str]:
    def cell(table: TcTable) -> str:
        entry = table.get(method, mu_star)
        return f"{number(entry.kelvin, entry.uncertainty_kelvin)} K" if isinstance(entry, Tc) else "no Tc"

    return _of_table(cell)


def _dos_cell(mu_star: float) -> Callable[[CaseResult], str]:
    def cell(case: CaseResult) -> str:
        if case.analysis is None or mu_star not in case.analysis.full_bandwidth:
            return ""
        value = case.analysis.full_bandwidth[mu_star]
        return "no Tc" if case.refusal or isinstance(value, str) else f"{number(value)} K"

    return cell


def _gap_cell(case: CaseResult) -> str:
    gap = None if case.analysis is None else case.analysis.gap
    return "" if gap is None or case.refusal else number(gap.ratio)


def _strain_cell(case: CaseResult) -> str:
    strain = None if case.analysis is None else case.analysis.strain
    return "" if strain is None else f"{100 * strain.largest:.2f} % (volume {100 * strain.volume:+.2f} %)"


def headline_rows(cases: Sequence[CaseResult]) -> list[Row]:
    """Rows of the table of λ and Tc; a further quantity is one further row here.

    Parameters
    ----------
    cases : sequence of CaseResult
        The columns; their formulas and values of μ* decide the rows.

    Returns
    -------
    list of (label, function of one case)
        A row whose cells are all empty is left out.
    """
    tables = [case.table for case in cases if case.table is not None]
    methods = dict.fromkeys(method for table in tables for method in table.methods)
    values = dict.fromkeys(mu for table in tables for mu in table.mu_stars)
    rows: list[Row] = [
        ("λ", _of_table(_lambda_cell)),
        ("ω_log", _of_table(lambda table: _quoted(table.omega_log_k, None, "K"))),
        ("ω_log, as energy", _of_table(lambda table: _energy(table.omega_log_k))),
    ]
    for method in methods:
        for mu in values:
            rows.append((f"Tc, {label_of(method)}, μ* = {mu_star_text(mu)}", _tc_cell(method, mu)))
    for mu in values:
        rows.append((f"Tc, Migdal–Eliashberg with N(ε), μ* = {mu_star_text(mu)}", _dos_cell(mu)))
    rows.append(("2Δ/kTc", _gap_cell))
    rows.append(("strain of the cell against that of G(q)", _strain_cell))
    return rows


def _quoted(value: float, uncertainty: float | None, unit: str = "") -> str:
    return f"{number(value, uncertainty)} {unit}".strip() if np.isfinite(value) else "–"


def _lambda_cell(table: TcTable) -> str:
    text = _quoted(table.lambda_total, table.lambda_uncertainty)
    return f"({text})" if table.stable_modes_only else text


def _energy(kelvin: float) -> str:
    return f"{1e3 * kelvin / EV_KELVIN:.1f} meV" if np.isfinite(kelvin) else "–"


def headline(document: Document, config: RunConfig, results: TcResults) -> None:
    """λ, ω_log and Tc of each set of phonons; isotopes; published values; why some have no Tc.

    Parameters
    ----------
    document : Document
        Receives the tables.
    config : RunConfig
        For the published values.
    results : TcResults
    """
    for isotope, grid in results.variants():
        columns = {
            NAMES[kind]: results.cases[phonons]
            for kind in NAMES
            if (phonons := Phonons(kind, isotope, grid)) in results.cases
        }
        rows = [
            [label, *(cell(case) for case in columns.values())]
            for label, cell in headline_rows(list(columns.values()))
        ]
        title = isotope or config.name
        title = title if grid is None else f"SSCHA grid {'×'.join(map(str, grid))}"
        rows = _without_rows_of_nothing([row for row in rows if any(row[1:])])
        document.add(Table(["phonons", *columns], rows, range(1, 1 + len(columns)), title))
    _isotope_rows(document, results)
    if config.tc.published:
        rows = [[item.what, item.value, item.source] for item in config.tc.published]
        document.add(Table(["published or measured", "value", "source"], rows, [1]))
    reasons: dict[str, list[str]] = {}
    for phonons, case in results.cases.items():
        for reason in dict.fromkeys(_reasons(case)):
            reasons.setdefault(brief(reason), []).append(phonons.label)
    if reasons:
        listed = [
            ["all phonons" if 1 < len(labels) == len(results.cases) else "; ".join(labels), reason]
            for reason, labels in reasons.items()
        ]
        document.add(Table(["phonons", "reason"], listed, caption="Where there is no Tc"))
    if any(case.table is not None and case.table.stable_modes_only for case in results.cases.values()):
        document.add(
            Paragraph("With imaginary modes, λ (in brackets) and ω_log are of the stable modes alone.")
        )
    _without_error(document, results)
    _strains(document, results)


def _without_rows_of_nothing(rows: list[list[str]]) -> list[list[str]]:
    """One row instead of a row for each formula and μ* where no phonons have a Tc by any."""
    of_tc = [row for row in rows if row[0].startswith("Tc, ")]
    if any(cell not in ("no Tc", "–", "") for row in of_tc for cell in row[1:]) or len(of_tc) < 2:
        return rows
    first = rows.index(of_tc[0])
    return [
        *rows[:first],
        ["Tc, by every formula and μ*", *of_tc[0][1:]],
        *(row for row in rows[first:] if row not in of_tc),
    ]


def _reasons(case: CaseResult) -> list[str]:
    """Why there is no Tc, where there is none."""
    if case.analysis is None or case.table is None:
        return [case.refusal]
    found = [entry.reason for entry in case.table.results if isinstance(entry, NoTc)]
    if not case.refusal:
        found += [value for value in case.analysis.full_bandwidth.values() if isinstance(value, str)]
    return found


def _without_error(document: Document, results: TcResults) -> None:
    """Why some of the numbers carry no ±."""
    open_ones = {
        f"{phonons.label}, {label_of(entry.method)}: {entry.uncertainty_source}": None
        for phonons, case in results.cases.items()
        if case.table is not None
        for entry in case.table.results
        if isinstance(entry, Tc) and entry.uncertainty_kelvin is None
    }
    words = "ω_log and 2Δ/kTc carry no ±: their errors follow those of λ and Tc"
    if any(case.analysis is not None and case.analysis.full_bandwidth for case in results.cases.values()):
        words += "; that of Migdal–Eliashberg with N(ε) is the one of a constant N(ε)"
    if any(case.has_tc for case in results.cases.values()):
        listed = "".join(f" {text}." for text in open_ones)
        document.add(Paragraph(f"{words}.{' No ± either:' + listed if listed else ''}"))


def _strains(document: Document, results: TcResults) -> None:
    """How far the relaxed cells lie from that of G(q), and what was not recalculated for them."""
    strained = {
        phonons.label: case.analysis.strain
        for phonons, case in results.cases.items()
        if case.analysis is not None and case.analysis.strain is not None
    }
    if strained:
        listed = "; ".join(f"{label}: {strain}" for label, strain in strained.items())
        document.add(
            Paragraph(
                f"The SSCHA relaxed the cell. Its phonons were joined to G(q) by fractional coordinates. "
                f"{listed}. "
                f"Not recalculated in the relaxed cell: {', '.join(NOT_RECALCULATED)}. What the strain "
                f"changes in "
                "them is in no error bar; labels of the relaxed cell would tell."
            )
        )


def _isotope_rows(document: Document, results: TcResults) -> None:
    found = results.isotope_coefficients()
    methods = dict.fromkeys(item.method for item in found)
    cells = {(i.isotope, i.kind, i.mu_star, i.method): number(i.value, i.uncertainty) for i in found}
    rows = [
        [
            f"{isotope}, {NAMES[kind]}, μ* = {mu_star_text(mu)}",
            *(cells.get((isotope, kind, mu, method), "") for method in methods),
        ]
        for isotope, kind, mu in dict.fromkeys((i.isotope, i.kind, i.mu_star) for i in found)
    ]
    if rows:
        columns = ["isotope coefficient", *(label_of(method) for method in methods)]
        document.add(Table(columns, rows, range(1, len(columns))))


def uncertainty(document: Document, results: TcResults, quoted: Quoted, place: Path) -> None:
    """One table and one figure of what makes λ and Tc uncertain, for the phonons of interest.

    Parameters
    ----------
    document : Document
        Receives them.
    results : TcResults
    quoted : mapping of str to Figure
        Of all stages; the pressures are taken from it.
    place : Path
        Folder of the pictures.
    """
    chosen = results.of_interest()
    if chosen is None:
        return
    case = results.cases[chosen]
    found, table = case.analysis, case.table
    assert found is not None and table is not None
    middle = table.middle_mu_star
    rows = [
        [name, "" if size is None else number(size), *("" if k is None else number(k) for k in kelvins)]
        for name, size, kelvins in budget_rows(table)
    ]
    columns = ["source", "λ", *(f"{label_of(m)} (K)" for m in table.methods)]
    document.add(
        Heading(f"What makes Tc uncertain ({chosen.label}, μ* = {middle:g})"),
        Table(columns, rows, range(1, len(columns))),
    )
    if found.q_mesh:
        leading = "allen-dynes" if "allen-dynes" in table.methods else table.methods[0]
        label = f"Tc, {label_of(leading)}, μ* = {middle:g} (K)"
        columns = ["q-grid of G", "sum over", "λ", "ω_log (K)", label]
        document.add(Table(columns, [_mesh_row(row) for row in found.q_mesh], range(2, 5)))
    plateaus = {
        phonons: other.analysis.plateau
        for phonons, other in results.cases.items()
        if phonons.plain and other.analysis is not None and other.analysis.plateau is not None
    }
    partial = [p.label for p in plateaus if (t := results.cases[p].table) and t.stable_modes_only]
    if plateaus:
        path = figures.plateaus(place, plateaus, found.sigma_ry, partial)
        caption = "λ against the broadening for each set of phonons; shaded: its plateau and the spread over "
        document.add(Picture(path, caption + "it, which is the ± from σ. One σ serves all."))
    if found.q_mesh:
        caption = "λ against the q-mesh, for each q-grid of G (open: the plain sum; full: interpolated). The "
        caption += "± from the grid is half the step between the two finest."
        document.add(Picture(figures.q_mesh(place, found.q_mesh), caption))
    document.add(Picture(figures.budget(place, table), "Sources of the uncertainty of Tc."))
    document.add(Paragraph(limits(found, quoted)))


def _mesh_row(row: QMeshRow) -> list[str]:
    grid, mesh = ("×".join(map(str, dims)) for dims in (row.elph_dims, row.mesh))
    tc = number(row.kelvin) if np.isfinite(row.kelvin) else "no Tc"
    how = f"{mesh}, interpolated" if row.interpolated else "the grid itself"
    return [grid, how, number(row.lambda_total), number(row.omega_log_k), tc]


def _k_mesh(found: TcAnalysis) -> str:
    """What is left of the k-mesh that no error bar holds."""
    if size_of(found.table.lambda_parts, "k-grid") > 0:
        return "the k-mesh of G(q) beyond the densest of its runs and beyond the q-points that they share"
    return "the k-mesh of G(q), of the double delta beyond its σ-plateau"


def limits(found: TcAnalysis, quoted: Quoted) -> str:
    """What the error bars do not hold, and what limits a comparison with measurements.

    Parameters
    ----------
    found : TcAnalysis
        Of the phonons of interest.
    quoted : mapping of str to Figure

    Returns
    -------
    str
    """
    pressures = [quoted[name] for name in ("pressure", "pressure_quantum") if name in quoted]
    pressure = "a static lattice pressure, which zero-point motion raises"
    if found.strain is not None:
        pressure = (
            f"the strain of the relaxed cell ({100 * found.strain.largest:.2f} %), for which "
            "G(q) and N(E_F) were not recalculated"
        )
    elif len(pressures) == 2:
        static, quantum = (number(p.value, p.uncertainty) for p in pressures)
        pressure = (
            f"a crystal of {static} GPa static pressure, which zero-point motion raises to {quantum} GPa"
        )
    text = (
        f"These error bars do not hold: {_k_mesh(found)}; the Coulomb "
        "interaction, which enters as a number μ* alone; the average over the Fermi surface (isotropic "
        f"equations); {pressure}; G(q) of the undisplaced crystal (linear coupling); and the functional. "
    )
    if len({row.elph_dims for row in found.q_mesh}) > 1:
        text += (
            "Half the change from the coarser to the finer q-grid stands for what is left beyond the finer. "
        )
    else:
        text += "There is a single q-grid, whose error is bounded from below only, by the weight of Γ. "
    if found.plateau is not None and not found.plateau.found:
        text += "There is no plateau in σ, so that the spread over the flattest window is a lower bound. "
    return text.strip()


def pictures(document: Document, results: TcResults, place: Path) -> None:
    """α²F, Tc against μ*, Δ(T).

    Parameters
    ----------
    document : Document
        Receives them.
    results : TcResults
    place : Path
        Folder of the pictures.
    """
    found = {phonons: case.analysis for phonons, case in results.cases.items() if case.analysis is not None}
    spectra = {
        phonons: analysis.spectrum
        for phonons, analysis in found.items()
        if analysis.spectrum is not None and len(analysis.spectrum.energies_ev)
    }
    if not spectra:
        return
    document.add(Heading("Electron-phonon coupling"))
    for variant in dict.fromkeys(phonons.variant for phonons in spectra):
        mine = {phonons: spectrum for phonons, spectrum in spectra.items() if phonons.variant == variant}
        first = next(iter(mine))
        name, caption = "alpha2f", "α²F (filled) and λ summed up to ω (dotted)"
        if not first.plain:
            name += "_" + first.name.partition(".")[2]
            caption += f", {first.variant_label}"
        errors = {p.label: t.lambda_uncertainty for p in mine if (t := results.cases[p].table) is not None}
        caption += (
            ". ± of λ: all sources of the table; the curve is that of the σ in use, without a ± of its own"
        )
        document.add(Picture(figures.alpha2f(place, mine, errors, name), f"{caption}."))
    drawn = set()
    for phonons, case in sorted(results.cases.items(), key=lambda item: BY_INTEREST.index(item[0].kind)):
        name = "tc_mu_star" if phonons.plain else f"tc_mu_star_{phonons.name.partition('.')[2]}"
        if phonons.kind.startswith("auxiliary") or case.table is None or not case.has_tc or name in drawn:
            continue
        drawn.add(name)
        caption = (
            f"Tc against μ*, {phonons.label}, with all sources of its ±. μ* is meant at the highest phonon."
        )
        document.add(Picture(figures.tc_mu_star(place, case.table, phonons.label, name), caption))
    gaps = {
        phonons.label: analysis.gap
        for phonons, analysis in found.items()
        if analysis.gap is not None and not results.cases[phonons].refusal and phonons.kind != "auxiliary"
    }
    if gaps:
        caption = (
            "Gap from the non-linear Migdal–Eliashberg equations at the first μ*: edge on the real axis by "
            "Padé (marks), at the first Matsubara frequency (dotted). The bar at the foot is ± of Tc; Δ has "
            "the same relative error."
        )
        document.add(Picture(figures.gap(place, gaps, _gap_errors(results, gaps)), caption))


def _gap_errors(results: TcResults, gaps: Mapping[str, GapCurve]) -> dict[str, float | None]:
    """± of the Migdal–Eliashberg Tc at the first μ*, by label."""
    found: dict[str, float | None] = {}
    for phonons, case in results.cases.items():
        if phonons.label in gaps and case.table is not None and "eliashberg" in case.table.methods:
            entry = case.table.get("eliashberg", case.table.mu_stars[0])
            found[phonons.label] = entry.uncertainty_kelvin if isinstance(entry, Tc) else None
    return found

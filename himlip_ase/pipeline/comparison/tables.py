"""Tables of several compounds together."""

from __future__ import annotations

from collections.abc import Sequence

from himlip_ase.errors import InputError
from himlip_ase.figure_style import with_mev
from himlip_ase.pipeline.comparison.band_gap import acoustic_optical_gap
from himlip_ase.pipeline.comparison.compounds import Compound
from himlip_ase.pipeline.comparison.figures import spent, tc_of
from himlip_ase.pipeline.comparison.measured import Measured
from himlip_ase.pipeline.document import Cell, Link, Table, number
from himlip_ase.pipeline.known import brief, case_refusal
from himlip_ase.pipeline.tc_cases import (
    NAMES,
    CaseResult,
    IsotopeCoefficient,
    Phonons,
    coefficients_between,
)
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.tc_entries import NoTc, mu_star_text

FACTS = (
    ("crystal", "crystal"),
    ("space group", "space_group"),
    ("cell", "cell"),
    ("pressure", "pressure"),
    ("labels by", "engine"),
    ("cutoffs", "cutoffs"),
    ("smearing", "smearing"),
    ("k-grids", "k_grids"),
    ("q-grids", "q_grids"),
    ("pseudopotentials", "pseudopotentials"),
    ("versions", "versions"),
    ("date", "date"),
)
PARTS = {
    "labels": "labels (DFT)",
    "finetune": "training",
    "phonons": "phonons",
    "sscha": "SSCHA",
    "tc": "Tc",
}
"""Parts of the cost of a run."""


def facts_table(compounds: Sequence[Compound]) -> Table:
    """Crystal, cell, cutoffs, grids, pseudopotentials, date: a column for each run.

    Parameters
    ----------
    compounds : sequence of Compound

    Returns
    -------
    Table
    """
    runs = {compound.run: compound for compound in reversed(compounds)}
    chosen = [compound for compound in compounds if runs[compound.run] is compound]
    rows = [[label, *(getattr(c.facts, name) or "–" for c in chosen)] for label, name in FACTS]
    rows = [row for row in rows if any(cell != "–" for cell in row[1:])]
    return Table(["", *(c.name for c in chosen)], rows, caption="What each run was made of")


def methods_of(compounds: Sequence[Compound]) -> list[str]:
    """Formulas that any of the compounds has, in order."""
    tables = [case.table for c in compounds for case in c.cases.values() if case.table is not None]
    return list(dict.fromkeys(method for table in tables for method in table.methods))


def mu_stars_of(compounds: Sequence[Compound]) -> list[float]:
    """Values of μ* that any of the compounds has, ascending."""
    tables = [case.table for c in compounds for case in c.cases.values() if case.table is not None]
    return sorted({mu for table in tables for mu in table.mu_stars})


def tc_table(
    compounds: Sequence[Compound], measured: Sequence[Measured], methods: Sequence[str], mu_star: float
) -> Table:
    """Tc by every formula at one μ*, each compound harmonic and anharmonic, beside what was measured.

    Parameters
    ----------
    compounds : sequence of Compound
    measured : sequence of Measured
    methods : sequence of str
    mu_star : float

    Returns
    -------
    Table
        A cell says "no Tc" where there is none; `reasons_table` says why.
    """
    rows: list[list[Cell]] = []
    for compound in compounds:
        values = compound.measured_in(measured)
        known = ", ".join(map(measured_text, values))
        kinds = [kind for kind in NAMES if kind in compound.cases] or ["harmonic"]
        for kind in kinds:
            case = compound.cases.get(kind)
            cells = [_tc_cell(compound, case, kind, method, mu_star) for method in methods] or ["no Tc"]
            rows.append([f"{compound.name}, {NAMES[kind]}", _lambda(case), *cells, known])
    columns = ["phonons", "λ", *([f"{label_of(m)} (K)" for m in methods] or ["Tc"]), "measured (K)"]
    places = range(1, len(columns))
    return Table(columns, rows, places, f"Tc at μ* = {mu_star_text(mu_star)}" if methods else "Tc")


def measured_text(value: Measured) -> str:
    """A measured Tc with as many digits as were given, or as its error leaves."""
    error = value.uncertainty_kelvin
    return number(value.tc_kelvin, error) if error else f"{value.tc_kelvin:g}"


def _lambda(case: CaseResult | None) -> str:
    if case is None or case.table is None or not case.table.lambda_total == case.table.lambda_total:
        return "–"
    text = number(case.table.lambda_total, case.table.lambda_uncertainty)
    return f"({text})" if case.table.stable_modes_only else text


def _tc_cell(compound: Compound, case: CaseResult | None, kind: str, method: str, mu_star: float) -> str:
    table = None if case is None else case.table
    if table is not None and (method not in table.methods or mu_star not in table.mu_stars):
        return "not asked"
    entry = tc_of(compound, kind, method, mu_star)
    return "no Tc" if entry is None else number(entry.kelvin, entry.uncertainty_kelvin)


def reasons_table(compounds: Sequence[Compound]) -> Table | None:
    """Why some phonons have no Tc; None where all have one.

    Parameters
    ----------
    compounds : sequence of Compound

    Returns
    -------
    Table or None
    """
    rows: list[list[Cell]] = []
    for compound in compounds:
        if not compound.cases:
            rows.append([compound.name, "all phonons", compound.refusal])
        for kind, case in compound.cases.items():
            reasons = [case_refusal(case)]
            if case.table is not None and not case.refusal:
                reasons += [e.reason for e in case.table.results if isinstance(e, NoTc)]
            rows += [[compound.name, NAMES[kind], brief(r)] for r in dict.fromkeys(reasons) if r]
    return Table(["compound", "phonons", "reason"], rows, caption="Where there is no Tc") if rows else None


def measured_table(compounds: Sequence[Compound], measured: Sequence[Measured]) -> Table | None:
    """Measured values with their sources; those of no compound here are named as such.

    Parameters
    ----------
    compounds : sequence of Compound
    measured : sequence of Measured

    Returns
    -------
    Table or None
        None where there are none.
    """
    rows: list[list[Cell]] = []
    for value in measured:
        of = [c.name for c in compounds if value in c.measured_in(measured)]
        source = f"{value.source}, doi:{value.doi}" if value.doi else value.source
        link = Link(source, f"https://doi.org/{value.doi}") if value.doi else source
        rows.append(
            [
                value.compound,
                measured_text(value) + ("" if value.uncertainty_kelvin else " (no ± given)"),
                "–" if value.pressure_gpa is None else f"{value.pressure_gpa:g}",
                ", ".join(of) or "no compound here",
                link,
            ]
        )
    columns = ["measured", "Tc (K)", "pressure (GPa)", "stands beside", "source"]
    return Table(columns, rows, [1, 2], "Measured values") if rows else None


def band_gap_table(compounds: Sequence[Compound]) -> Table:
    """Gap between acoustic and optical bands on the q-grid.

    Parameters
    ----------
    compounds : sequence of Compound

    Returns
    -------
    Table
    """
    rows: list[list[Cell]] = []
    for compound in compounds:
        for kind, (matrices, sigma) in compound.phonons().items():
            try:
                gap = acoustic_optical_gap(matrices, sigma)
            except InputError as error:
                text = str(error)
            else:
                value = f"{number(gap.size_cm, gap.error_cm)} cm⁻¹ ({with_mev(gap.size_cm, gap.error_cm)})"
                text = value if gap.size_cm >= 0 else f"{value}: bands overlap"
            grid = "×".join(map(str, matrices.dims))
            rows.append([f"{compound.name}, {NAMES[kind]}", f"{compound.lightest_amu:.3f}", grid, text])
    columns = ["phonons", "lightest atom (amu)", "q-grid", "acoustic to optical"]
    return Table(columns, rows, [1], "Gap between acoustic and optical bands, on the points of the q-grid")


def isotope_coefficients(compounds: Sequence[Compound]) -> list[tuple[str, IsotopeCoefficient]]:
    """α of every isotopologue against the lightest form of its crystal, anharmonic phonons.

    Parameters
    ----------
    compounds : sequence of Compound

    Returns
    -------
    list of (name of the lightest, IsotopeCoefficient of the heavier)
    """
    found = []
    for heavy in compounds:
        family = [c for c in compounds if heavy.isotopologue_of(c) and c.lightest_amu < heavy.lightest_amu]
        if not family:
            continue
        light = min(family, key=lambda c: c.lightest_amu)
        for kind in ("hessian", "auxiliary"):
            if kind in light.cases and kind in heavy.cases:
                pair = light.cases[kind], heavy.cases[kind]
                found += [
                    (light.name, item) for item in coefficients_between(Phonons(kind, heavy.name), *pair)
                ]
    return found


def isotope_table(compounds: Sequence[Compound]) -> Table | None:
    """Isotope coefficients with their ±, or why there is none.

    Parameters
    ----------
    compounds : sequence of Compound

    Returns
    -------
    Table or None
        None without isotopologues.
    """
    found = isotope_coefficients(compounds)
    methods = list(dict.fromkeys(item.method for _, item in found))
    keys = dict.fromkeys((light, item.isotope, item.kind, item.mu_star) for light, item in found)
    cells = {
        (light, item.isotope, item.kind, item.mu_star, item.method): (
            "no Tc" if item.value is None else number(item.value, item.uncertainty)
        )
        for light, item in found
    }
    rows: list[list[Cell]] = [
        [
            f"{light} → {heavy}, {NAMES[kind]}, μ* = {mu_star_text(mu)}",
            *(cells.get((light, heavy, kind, mu, method), "") for method in methods),
        ]
        for light, heavy, kind, mu in keys
    ]
    columns = ["isotopes", *map(label_of, methods)]
    caption = "Isotope coefficient −ln(Tc'/Tc)/ln(M'/M); ±: sampling of both ensembles"
    return Table(columns, rows, range(1, len(columns)), caption) if rows else None


def cost_table(compounds: Sequence[Compound]) -> Table:
    """Core-minutes that each run took, against what the SSCHA on DFT forces would have needed.

    Parameters
    ----------
    compounds : sequence of Compound

    Returns
    -------
    Table
    """
    rows: list[list[Cell]] = []
    for compound in (c for c in compounds if c.costs):
        total, dft = spent(compound), compound.costs.get("dft_sscha")
        parts = [number(compound.costs[key]) if key in compound.costs else "–" for key in PARTS]
        ratio = f"{dft / total:.0f}" if dft and total else "–"
        rows.append([compound.name, *parts, number(total), "–" if dft is None else number(dft), ratio])
    columns = ["run", *PARTS.values(), "together", "SSCHA on DFT forces (estimated)", "times"]
    caption = "Core-minutes actually spent; isotopes are in their run"
    return Table(columns, rows, range(1, len(columns)), caption)

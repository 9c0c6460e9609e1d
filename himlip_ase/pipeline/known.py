"""The first lines of a report: what is known, and whether it may be quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from himlip_ase.figure_style import with_mev
from himlip_ase.files import read_mapping
from himlip_ase.pipeline.document import Cell, Document, Notice, Table, number
from himlip_ase.pipeline.runfolder import Figure, RunFolder
from himlip_ase.pipeline.tc_cases import NAMES, CaseResult, TcResults
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, mu_star_text

Quoted = Mapping[str, Figure]
Kind = Literal["ok", "marked", "withheld"]
WORDS: dict[str, Kind] = {"ok": "ok", "marked": "marked", "withheld": "withheld"}
LEADING = ("eliashberg", "allen-dynes")
"""Formulas of which the first that a table holds stands in the first line."""
_STEADY_CM = -1.0
"""cm⁻¹; a frequency above it is not imaginary."""


def read_gate(folder: RunFolder) -> dict[str, Any] | None:
    """The checks before every Tc as the ``tc`` stage recorded them; None in folders of older versions."""
    for path in (folder.state / "tc.json", folder.path / "results.json"):
        gate = read_mapping(path).get("gate") if path.is_file() else None
        if isinstance(gate, Mapping) and gate.get("checks"):
            return dict(gate)
    return None


def first_lines(
    document: Document, quoted: Quoted, results: TcResults, gate: Mapping[str, Any] | None
) -> None:
    """Add what is known and whether it may be quoted: Tc, stability, convergence, and the checks.

    Parameters
    ----------
    document : Document
    quoted : mapping of str to Figure
        Of all stages.
    results : TcResults
    gate : mapping or None
        Of `read_gate`.
    """
    document.add(tc_notice(quoted, results, gate), *stability(quoted), *convergence(quoted))
    if gate is not None:
        document.add(checks_table(gate["checks"]))


def leading_method(methods: Sequence[str]) -> str:
    """The formula that stands for all where one number is wanted."""
    return next((method for method in LEADING if method in methods), methods[0])


def tc_notice(quoted: Quoted, results: TcResults, gate: Mapping[str, Any] | None) -> Notice:
    """Tc of the phonons of interest with the verdict on it, or why there is none.

    Parameters
    ----------
    quoted : mapping of str to Figure
    results : TcResults
    gate : mapping or None

    Returns
    -------
    Notice
    """
    chosen = results.of_interest()
    if chosen is None:
        found = quoted.get("tc")
        reasons = [case_refusal(case) for case in results.cases.values()]
        reason = found.how if found is not None else "; ".join(dict.fromkeys(filter(None, reasons)))
        return Notice("withheld", "No Tc.", _sentence(reason or "the run did not reach the tc stage"))
    table = results.cases[chosen].table
    assert table is not None
    entry = table.get(leading_method(table.methods), table.middle_mu_star)
    if isinstance(entry, NoTc):
        return Notice("withheld", "No Tc.", _sentence(entry.reason))
    value = f"{number(entry.kelvin, entry.uncertainty_kelvin)} K"
    what = f"{label_of(entry.method)}, μ* = {mu_star_text(entry.mu_star)}, {NAMES[chosen.kind]}"
    title = f"Tc = {value} ({what})."
    if gate is None:
        text = "The checks before a Tc were not made in this run; do `himlip run … --resume --from tc`."
        return Notice("marked", title, text)
    verdict = WORDS.get(str(gate.get("verdict")), "marked")
    passed = sum(check.get("verdict") == "ok" for check in gate["checks"])
    counted = f"{passed} of {len(gate['checks'])} checks passed"
    if verdict == "ok":
        return Notice("ok", title, f"May be quoted: {counted}.")
    reasons = [str(c.get("why", "")) for c in gate["checks"] if c.get("verdict") == verdict]
    words = "Quote it only with its reservations" if verdict == "marked" else "Not to be quoted"
    return Notice(verdict, title, f"{words}; {counted}. {_sentence('; '.join(filter(None, reasons)))}")


def case_refusal(case: CaseResult) -> str:
    """Why one set of phonons has no Tc; "" where it has one."""
    if case.refusal or case.table is None:
        return case.refusal
    if any(isinstance(entry, Tc) for entry in case.table.results):
        return ""
    return next((entry.reason for entry in case.table.results if isinstance(entry, NoTc)), "")


def stability(quoted: Quoted) -> list[Notice]:
    """Whether the crystal is stable: by the free-energy Hessian, and harmonically.

    Parameters
    ----------
    quoted : mapping of str to Figure

    Returns
    -------
    list of Notice
    """
    found = []
    lowest = quoted.get("hessian_lowest")
    if lowest is not None and lowest.value is not None:
        value, error = float(lowest.value), lowest.uncertainty or 0.0
        words = f"{_wavenumber(lowest)}: {lowest.how}"
        if value - 2 * error > _STEADY_CM:
            found.append(Notice("ok", "Dynamically stable on the grid of the SSCHA.", _sentence(words)))
        elif value + 2 * error < 0:
            found.append(Notice("withheld", "Dynamically unstable.", _sentence(words)))
        else:
            text = f"{_sentence(words)} Zero lies within two standard errors."
            found.append(Notice("marked", "Stability not decided.", text))
    elif "free_energy" in quoted:
        text = "The run made no free-energy Hessian; the auxiliary phonons are positive by construction."
        found.append(Notice("marked", "Stability not known.", text))
    harmonic = quoted.get("gamma_optical_lowest.dft")
    if harmonic is not None and harmonic.value is not None and harmonic.value < _STEADY_CM:
        text = f"Lowest optical mode at Γ {_wavenumber(harmonic)} (imaginary shown negative)."
        found.append(Notice("marked", "Harmonically unstable.", text))
    return found


def convergence(quoted: Quoted) -> list[Notice]:
    """Whether SSCHA and k-mesh are converged.

    Parameters
    ----------
    quoted : mapping of str to Figure

    Returns
    -------
    list of Notice
    """
    found = []
    for name, figure in quoted.items():
        if name.partition(".")[0] == "sscha_converged" and figure.value is False:
            run = name.partition(".")[2]
            title = f"The SSCHA{' ' + run if run else ''} did not converge."
            found.append(Notice("withheld", title, _sentence(figure.how)))
    check = quoted.get("k_check.shift")
    if check is not None and check.value is None:
        text = f"Frequencies may be those of the mesh: {check.how}."
        found.append(Notice("marked", "The k-mesh of the labels was not checked.", text))
    return found


def checks_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    """The checks before a Tc, the worst first.

    Parameters
    ----------
    checks : sequence of mapping
        name, value, limit, unit, verdict, why, what_to_do.

    Returns
    -------
    Table
    """
    worst = sorted(checks, key=lambda check: list(WORDS).index(str(check.get("verdict", "ok"))), reverse=True)
    rows: list[list[Cell]] = []
    for check in worst:
        unit = f" {check['unit']}" if check.get("unit") else ""
        value, limit = check.get("value"), check.get("limit")
        rows.append(
            [
                str(check.get("title") or check.get("name", "")).replace("_", " "),
                str(check.get("verdict", "")),
                "not measured" if value is None else f"{value:.3g}{unit}",
                "" if limit is None else f"{limit:g}{unit}",
                _sentence(str(check.get("why", ""))),
                _sentence(str(check.get("what_to_do", ""))),
            ]
        )
    columns = ["check", "verdict", "value", "limit", "what it is", "what to do"]
    return Table(columns, rows, [2, 3], "Checks before a Tc")


def _wavenumber(figure: Figure) -> str:
    value = number(figure.value, figure.uncertainty)
    return f"{value} cm⁻¹ ({with_mev(float(figure.value), figure.uncertainty)})"


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""

"""The first lines of a report: what is known, and whether it may be quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from himlip_ase.figure_style import with_mev
from himlip_ase.pipeline.document import Document, Notice, Table, number
from himlip_ase.pipeline.gate import VERDICTS, Gate
from himlip_ase.pipeline.runfolder import Figure, RunFolder
from himlip_ase.pipeline.tc_cases import NAMES, CaseResult, Phonons, TcResults
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, mu_star_text

Quoted = Mapping[str, Figure]
LEADING = ("eliashberg", "allen-dynes")
"""Formulas of which the first that a table holds stands in the first line."""
_STEADY_CM = -1.0
"""cm⁻¹; a frequency above it is not imaginary."""


def read_gate(folder: RunFolder) -> Gate | None:
    """The checks before every Tc as the ``tc`` stage recorded them; None in folders of older versions."""
    record = folder.read_record("tc")
    return None if record is None or record.gate is None else Gate.from_record(record.gate)


def first_lines(document: Document, quoted: Quoted, results: TcResults, gate: Gate | None) -> None:
    """Add what is known and whether it may be quoted: Tc, stability, convergence, and the checks.

    Parameters
    ----------
    document : Document
    quoted : mapping of str to Figure
        Of all stages.
    results : TcResults
    gate : Gate or None
        Of `read_gate`.
    """
    document.add(tc_notice(quoted, results, gate), *stability(quoted), *convergence(quoted, gate))
    if gate is not None and gate.checks:
        document.add(checks_table(gate))


def leading_method(methods: Sequence[str]) -> str:
    """The formula that stands for all where one number is wanted."""
    return next((method for method in LEADING if method in methods), methods[0])


def tc_notice(quoted: Quoted, results: TcResults, gate: Gate | None) -> Notice:
    """Tc of the phonons of interest with the verdict on it, or why there is none.

    Parameters
    ----------
    quoted : mapping of str to Figure
    results : TcResults
    gate : Gate or None

    Returns
    -------
    Notice
    """
    chosen = results.of_interest()
    if chosen is None:
        found = quoted.get("tc")
        # what all cases share stands in each of them, before its own reason
        reasons = [part for case in results.cases.values() for part in case_refusal(case).split("; ") if part]
        reason = found.how if found is not None else "; ".join(dict.fromkeys(reasons))
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
    counted = f"{len(gate.of('ok'))} of {len(gate.checks)} checks passed"
    beside = on_further_grids(results, chosen)
    if gate.verdict == "ok":
        return Notice("ok", title, f"{beside}May be quoted: {counted}.")
    if gate.verdict == "marked":
        text = f"{beside}Quote it only with its reservations ({counted}): {gate.mark}."
        return Notice("marked", title, text)
    return Notice("withheld", title, f"Not to be quoted ({counted}): {gate.refusal}.")


def on_further_grids(results: TcResults, chosen: Phonons) -> str:
    """Tc of the same kind of phonons by the SSCHA on each further grid, in sentences; "" where there is none.

    Parameters
    ----------
    results : TcResults
    chosen : Phonons
        Of the main run.

    Returns
    -------
    str
    """
    said = ""
    for phonons, case in results.cases.items():
        if phonons.grid is None or phonons != replace(chosen, grid=phonons.grid) or case.table is None:
            continue
        entry = case.table.get(leading_method(case.table.methods), case.table.middle_mu_star)
        if isinstance(entry, Tc):
            grid = "×".join(map(str, phonons.grid))
            said += f"By the SSCHA on {grid} itself: {number(entry.kelvin, entry.uncertainty_kelvin)} K. "
    return said


def case_refusal(case: CaseResult) -> str:
    """Why one set of phonons has no Tc; "" where it has one."""
    if case.refusal or case.table is None:
        return case.refusal
    if any(isinstance(entry, Tc) for entry in case.table.results):
        return ""
    return next((entry.reason for entry in case.table.results if isinstance(entry, NoTc)), "")


def brief(reason: str, parts: int = 3) -> str:
    """A reason that lists many modes, cut after the first few.

    Parameters
    ----------
    reason : str
        Its parts are set apart by semicolons.
    parts : int
        How many are kept.

    Returns
    -------
    str
    """
    listed = reason.split("; ")
    return reason if len(listed) <= parts else f"{'; '.join(listed[:parts])} …"


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


def convergence(quoted: Quoted, gate: Gate | None) -> list[Notice]:
    """Whether SSCHA and, where no check before a Tc says so, k-mesh are converged.

    Parameters
    ----------
    quoted : mapping of str to Figure
    gate : Gate or None

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
    if gate is None and check is not None and check.value is None:
        text = f"Frequencies may be those of the mesh: {check.how}."
        found.append(Notice("marked", "The k-mesh of the labels was not checked.", text))
    return found


def checks_table(gate: Gate) -> Table:
    """The checks before a Tc, the worst first.

    Parameters
    ----------
    gate : Gate

    Returns
    -------
    Table
    """
    rows = []
    for check in (check for verdict in reversed(VERDICTS) for check in gate.of(verdict)):
        unit = f" {check.unit}".rstrip()
        rows.append(
            [
                check.title,
                check.verdict,
                "not measured" if check.value is None else f"{check.value:.3g}{unit}",
                "" if check.limit is None else f"{check.limit:g}{unit}",
                _sentence(check.why),
                check.what_to_do,
            ]
        )
    columns = ["check", "verdict", "value", "limit", "what it is", "what to do"]
    return Table(columns, rows, [2, 3], "Checks before a Tc")


def _wavenumber(figure: Figure) -> str:
    value = number(figure.value, figure.uncertainty)
    return f"{value} cm⁻¹ ({with_mev(float(figure.value), figure.uncertainty)})"


def _sentence(text: str) -> str:
    text = text.strip()
    first = text[:1].upper() if text[:1].isascii() else text[:1]  # λ stays λ
    return f"{first}{text[1:].rstrip('.')}." if text else ""

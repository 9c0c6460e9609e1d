"""The α²F files of other programs: what each says of unit and columns, and how it shows that it is whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from himlip_ase.errors import InputError
from himlip_ase.registry import Registry
from himlip_ase.superconductivity.number_rows import NumberRows, fortran_number


@dataclass(frozen=True)
class Column:
    """One α²F of a file.

    Attributes
    ----------
    number : int
        Counted from 1, the frequency being the first.
    label : str
        What distinguishes it, "" where it is the only one.
    width : float or None
        Its broadening, in the unit of `Layout.width_unit`.
    """

    number: int
    label: str = ""
    width: float | None = None


@dataclass(frozen=True)
class Layout:
    """What a format says of a file.

    Attributes
    ----------
    unit : str or None
        Of the frequencies; None where it does not say.
    columns : tuple of Column
        The α²F.
    width_unit : str
        "Ry" for broadenings of the double delta over which λ may have a plateau; "" otherwise.
    printed_lambda : tuple of float
        λ that the file itself quotes for each of the columns, to compare with; empty where it quotes none.
    choice : str
        Why one of several columns must be chosen; "" where there is a natural choice.
    """

    unit: str | None
    columns: tuple[Column, ...]
    width_unit: str = ""
    printed_lambda: tuple[float, ...] = ()
    choice: str = ""


@dataclass(frozen=True)
class CurveFormat:
    """How one program writes α²F.

    Attributes
    ----------
    name, summary : str
    recognises : callable (NumberRows) -> bool
    layout : callable (NumberRows) -> Layout
        InputError where the file is not whole.
    """

    name: str
    summary: str
    recognises: Callable[[NumberRows], bool]
    layout: Callable[[NumberRows], Layout]


def _columns(rows: NumberRows) -> int:
    return rows.blocks[0].numbers.shape[1]


def _unfinished(rows: NumberRows, missing: str) -> InputError:
    return InputError(
        f"{rows.path} has no {missing} at its end: it is truncated; copy it again or rerun the program"
    )


def _announced(rows: NumberRows, count: int) -> None:
    last = rows.blocks[-1]
    found = min(len(block.lines) for block in rows.blocks)
    if found < count:
        raise InputError(
            f"{rows.path} announces {count} rows and holds {found}, the last in line {last.lines[-1]}: it "
            f"is truncated"
        )


def _own(rows: NumberRows) -> Layout:
    return Layout("cm-1", (Column(2),))


def _matdyn(rows: NumberRows) -> Layout:
    found = re.search(r"lambda\s*=\s*(\S+)", rows.tail)
    printed = fortran_number(found.group(1)) if found else None
    if printed is None:
        raise _unfinished(rows, "line 'lambda = … Delta = …' of matdyn.x")
    modes = (Column(place + 1, f"mode {place - 1}") for place in range(2, _columns(rows)))
    return Layout("Ry", (Column(2, "total"), *modes), printed_lambda=(printed,))


def _broadenings(rows: NumberRows) -> list[float]:
    """The numbers that stand behind E(THz) in the header of lambda.x; empty where these are not numbers."""
    line = next((line for line in rows.header if "E(THz)" in line), "")
    values = [fortran_number(word) for word in line.partition("E(THz)")[2].split()]
    return [value for value in values if value is not None] if None not in values else []


def _lambda_x(rows: NumberRows) -> Layout:
    sigmas = _broadenings(rows)
    if len(sigmas) != _columns(rows) - 1:
        raise InputError(
            f"{rows.path} names {len(sigmas)} broadenings in its header and holds {_columns(rows) - 1} "
            "columns of α²F"
        )
    columns = (Column(place, f"σ = {sigma:g} Ry", sigma) for place, sigma in enumerate(sigmas, start=2))
    return Layout("THz", tuple(columns), width_unit="Ry")


def _epw(rows: NumberRows) -> Layout:
    # the header's number of smearings is not that of the columns in recent versions: half of them are α²F
    integrated = "integrated" in rows.head
    count = (_columns(rows) - 1) // 2 if integrated else 1
    if not integrated:
        return Layout("meV", (Column(2),))
    if "Integrated el-ph coupling" not in rows.tail:
        raise _unfinished(rows, "line 'Integrated el-ph coupling' of EPW")
    numbers = re.search(r"Phonon smearing \(meV\)\s*\n\s*#\s*(.*)", rows.tail)
    given = [fortran_number(word) for word in numbers.group(1).split()] if numbers else []
    widths = [value for value in given if value is not None]
    printed = rows.blocks[-1].numbers[-1, 1 + count :]
    if len(widths) != count:
        return Layout(
            "meV", tuple(Column(2 + i) for i in range(count)), printed_lambda=tuple(map(float, printed))
        )
    columns = (Column(2 + i, f"phonon smearing {w:g} meV", w) for i, w in enumerate(widths))
    return Layout("meV", tuple(columns), printed_lambda=tuple(map(float, printed)))


def _abinit(rows: NumberRows) -> Layout:
    found = re.search(r"number of energy points\s*:\s*(\d+)", rows.head)
    if found:
        _announced(rows, int(found.group(1)))
    if len(rows.blocks) == 1:
        return Layout("Ha", (Column(2),))
    columns = tuple(
        Column(2 + place, f"spin {place + 1} ({block.where})") for place, block in enumerate(rows.blocks)
    )
    listed = ", ".join(f"--alpha2f-column {column.number} is {column.label}" for column in columns)
    return Layout(
        "Ha",
        columns,
        choice=f"α²F of {len(columns)} spins, one after the other, of which none is the whole: {listed}",
    )


def _alpha2f_x(rows: NumberRows) -> Layout:
    _announced(rows, rows.counts[0])
    return Layout("Ry", (Column(2),))


def _elk(rows: NumberRows) -> Layout:
    return Layout("Ha", (Column(2),))


_UNITS = {
    "meV": r"meV",
    "eV": r"eV",
    "cm-1": r"cm\^?\{?-1\}?|cm⁻¹|1/cm|invcm",
    "THz": r"THz",
    "Ry": r"Ry|Ryd|Rydbergs?",
    "Ha": r"Ha|Hartrees?",
    "K": r"(?<=[\[(])K(?=[\])])",
}


def stated_unit(rows: NumberRows) -> str | None:
    """The one unit of energy that a header names; None for none or several.

    Parameters
    ----------
    rows : NumberRows

    Returns
    -------
    str or None
    """
    return _unit_of(rows.head)


def _unit_of(text: str) -> str | None:
    found = [
        unit
        for unit, pattern in _UNITS.items()
        if re.search(rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z])", text, re.IGNORECASE if unit != "K" else 0)
    ]
    return found[0] if len(found) == 1 else None


_ALPHA2F = re.compile(r"a2f|alpha\^?_?2\^?_?\(?f|α²f|eliashberg", re.IGNORECASE)
_OTHER = re.compile(r"int|cum|lambda|λ|_tr|trans", re.IGNORECASE)
"""Integrals, and the transport function."""
_FOREIGN = re.compile(
    r"rad|(?:2\s*\*?\s*)(?:pi|π)|^[kMGP]?Hz$|k(?:J|cal)/mol|^(?:1/[fp]?s|[fp]?s\^?-1)$", re.IGNORECASE
)


def _names(rows: NumberRows) -> list[str]:
    """What the last line of the header calls the columns; empty where that are not as many words."""
    line = rows.header[-1].lstrip(" #!@%\ufeff") if rows.header else ""
    words = re.split(r"[\s,;]+", re.sub(r"\s+(?=[\[(])|(?<=[\[(])\s+|\s+(?=[\])])", "", line.strip()))
    return words if len(words) == _columns(rows) else []


def _check_known_unit(rows: NumberRows) -> None:
    """Refuse a frequency whose unit stands in brackets and is none of ours, such as one of angles."""
    line = rows.header[-1] if rows.header else ""
    found = re.search(r"[\[(]([^\])]*)[\])]", line)
    if found and _FOREIGN.search(found[1].strip()):
        raise InputError(
            f"{rows.path}: its frequencies are in {found[1].strip()}, as its header says; convert them to "
            f"one of {', '.join(_UNITS)}, and name that in the header or with --alpha2f-unit"
        )


def _plain(rows: NumberRows) -> Layout:
    if rows.counts and len(rows.counts) == 1:
        _announced(rows, rows.counts[0])
    _check_known_unit(rows)
    names = _names(rows)
    unit = stated_unit(rows) or (_unit_of(names[0]) if names else None)
    named = [
        (number, name)
        for number, name in enumerate(names, start=1)
        if number > 1 and _ALPHA2F.search(name) and not _OTHER.search(name)
    ]
    if not names and len(_ALPHA2F.findall(rows.header[-1] if rows.header else "")) > 1:
        named = [(number, "named in the header") for number in range(2, _columns(rows) + 1)]
    named = [found for found in named if "tot" in found[1].lower()] or named
    if not named:
        return Layout(unit, (Column(2),))
    if len(named) == 1:
        return Layout(unit, (Column(named[0][0]),))
    listed = ", ".join(f"--alpha2f-column {number} is {name}" for number, name in named)
    choice = f"{len(named)} α²F; choose one, or write their sum into a file if they are of spins: {listed}"
    return Layout(unit, tuple(Column(number, name) for number, name in named), choice=choice)


FORMATS = Registry[CurveFormat](
    "α²F format",
    CurveFormat(
        "himlip",
        "alpha2f_*.dat and alpha2f_*.txt of this package",
        lambda r: "omega (cm-1), alpha2F" in r.head,
        _own,
    ),
    CurveFormat(
        "matdyn", "a2F.dosN of matdyn.x (Ry)", lambda r: "Eliashberg function a2F" in r.head, _matdyn
    ),
    CurveFormat(
        "lambda",
        "alpha2F.dat of lambda.x (THz), a column for each σ",
        lambda r: bool(_broadenings(r)),
        _lambda_x,
    ),
    CurveFormat("epw", "prefix.a2f of EPW (meV)", lambda r: "w[meV]" in r.head and "a2f" in r.head, _epw),
    CurveFormat(
        "abinit", "*_A2F of abinit (Ha), a block for each spin", lambda r: "ABINIT" in r.head, _abinit
    ),
    CurveFormat(
        "alpha2f",
        "a2F.dat of alpha2f.x (Ry)",
        lambda r: len(r.counts) == 1 and _columns(r) >= 4 and r.path.name.startswith("a2F"),
        _alpha2f_x,
    ),
    CurveFormat(
        "elk",
        "ALPHA2F.OUT of Elk (Ha)",
        lambda r: r.path.name.startswith("ALPHA2F") and ".OUT" in r.path.name,
        _elk,
    ),
    CurveFormat(
        "plain",
        "columns of numbers, or csv; the unit from its header or --alpha2f-unit",
        lambda r: True,
        _plain,
    ),
)
"""Every format, in the order in which they are tried; the last takes what no other recognises."""


def format_of(rows: NumberRows) -> CurveFormat:
    """The first format that recognises a file.

    Parameters
    ----------
    rows : NumberRows

    Returns
    -------
    CurveFormat
    """
    return next(entry for entry in FORMATS if entry.recognises(rows))

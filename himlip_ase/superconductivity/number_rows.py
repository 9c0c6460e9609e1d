"""Columns of numbers in a text file of another program, read strictly.

Only what stands before the first and after the last row of numbers is skipped. A row that is cut off, an
overflow (``****``), NaN, or words between the rows end the reading with the number of the line: a curve with
a hole is a wrong curve.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.relations import broken_by_few

logger = logging.getLogger(__name__)

_COMMENT = "#!@%"
_FORTRAN = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))(?:[eEdDqQ]([-+]?\d+)|([-+]\d{3}))?")
_SPLIT = re.compile(r"[\s,;]+")
_DECIMAL_COMMA = re.compile(r"\d,\d.*(?:;|\t|\d\s+[-+]?\d)|(?:;|\t|\d\s+[-+]?\d).*\d,\d")
_BROKEN = re.compile(r"[-+]?(\*+|nan|inf(inity)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """Rows of numbers without anything between them.

    Attributes
    ----------
    numbers : ndarray, shape (n, columns)
    lines : ndarray of int, shape (n,)
        Their lines in the file, counted from 1.
    """

    numbers: np.ndarray
    lines: np.ndarray

    @property
    def where(self) -> str:
        """Its lines in words."""
        return f"lines {self.lines[0]} to {self.lines[-1]}"


@dataclass(frozen=True)
class NumberRows:
    """What stands in such a file.

    Attributes
    ----------
    path : Path
    header, trailer : tuple of str
        Lines before and after the numbers, comment signs included.
    blocks : tuple of Block
        More than one where comments or empty lines part the rows.
    counts : tuple of int
        Single integers that stand alone in a line before the rows, as a program announces their number.
    open_end : bool
        Whether the text stops within a line of numbers, as that of a program that was stopped.
    cut : bool
        Whether that line is also shorter than the one before it: 0.1234 cut to 0. would be another number.
    """

    path: Path
    header: tuple[str, ...]
    blocks: tuple[Block, ...]
    trailer: tuple[str, ...]
    counts: tuple[int, ...] = ()
    open_end: bool = False
    cut: bool = False

    @property
    def head(self) -> str:
        """The header as one text."""
        return "\n".join(self.header)

    @property
    def tail(self) -> str:
        """The trailer as one text."""
        return "\n".join(self.trailer)


def fortran_number(word: str) -> float | None:
    """A number as Fortran or C writes it (1.0D-3, 1.0-101 too); None for another word."""
    found = _FORTRAN.fullmatch(word)
    if found is None:
        return None
    mantissa, exponent, bare = found.groups()
    return float(f"{mantissa}e{exponent or bare or 0}")


def read_rows(path: Path, text: str) -> NumberRows:
    """Header, blocks of numbers and trailer of a text.

    Parameters
    ----------
    path : Path
        What messages name.
    text : str
        Columns parted by blanks, commas or semicolons; comments may follow a row after # or !.

    Returns
    -------
    NumberRows

    Raises
    ------
    InputError
        No rows of at least two numbers; an overflow or NaN; words between the rows; rows of unequal length.
        The message names the line.
    """
    header: list[str] = []
    trailer: list[str] = []
    counts: list[int] = []
    blocks: list[tuple[list[list[float]], list[int]]] = []
    opened, ended = False, 0
    for line_number, line in enumerate(text.split("\n"), start=1):
        bare = line.strip()
        words = [] if not bare or bare[0] in _COMMENT else _words(bare)
        values = [fortran_number(word) for word in words]
        if words and values[0] is not None and _DECIMAL_COMMA.search(bare):
            raise InputError(
                f"{path}, line {line_number}: {bare!r} has decimal commas; write the numbers with points"
            )
        if words and all(
            value is None and _BROKEN.fullmatch(word) for word, value in zip(words, values, strict=True)
        ):
            raise _broken(path, line_number, bare)
        if words and values[0] is not None and None in values:
            if any(_BROKEN.fullmatch(word) for word in words):
                raise _broken(path, line_number, bare)
            if blocks:
                raise InputError(
                    f"{path}, line {line_number}: {bare!r} is no row of numbers; mend or remove it"
                )
            header.append(line)
            continue
        if not words or None in values:
            opened = False
            (trailer if blocks else header).append(line)
            if words and blocks:
                ended = ended or line_number
            continue
        row = [float(value) for value in values if value is not None]
        if len(row) == 1 and not blocks:
            if row[0] == int(row[0]):
                counts.append(int(row[0]))
            header.append(line)
            continue
        if ended:
            raise InputError(
                f"{path}, line {ended}: words between the rows of numbers, which go on in line "
                f"{line_number}; "
                "the file is damaged, or two files were joined"
            )
        if not opened:
            blocks.append(([], []))
            opened = True
        blocks[-1][0].append(row)
        blocks[-1][1].append(line_number)
        trailer.clear()
    if not blocks:
        raise InputError(f"{path} holds no rows of at least two numbers")
    open_end = blocks[-1][1][-1] == text.count("\n") + 1
    last, lines = blocks[-1][1], text.split("\n")
    cut = open_end and len(last) > 1 and len(lines[last[-1] - 1].rstrip()) < len(lines[last[-2] - 1].rstrip())
    return NumberRows(
        path,
        tuple(header),
        tuple(_block(path, rows, lines) for rows, lines in blocks),
        tuple(trailer),
        tuple(counts),
        open_end,
        cut,
    )


def _words(text: str) -> list[str]:
    for sign in _COMMENT[:2]:
        text = text.partition(sign)[0]
    return [word for word in _SPLIT.split(text.strip()) if word]


def _broken(path: Path, line_number: int, text: str) -> InputError:
    return InputError(
        f"{path}, line {line_number}: {text!r} holds a number that overflowed its field or is none; write "
        f"the file "
        "again with a wider format, or with another broadening"
    )


def _unwrapped(rows: list[list[float]], lines: list[int]) -> tuple[list[list[float]], list[int]]:
    """Rows that a program wrote over several lines each (their lengths repeat), put together."""
    lengths = [len(row) for row in rows]
    for period in range(2, len(rows) // 3 + 1):
        if len(rows) % period == 0 and lengths == lengths[:period] * (len(rows) // period):
            if len(set(lengths[:period])) > 1:
                starts = range(0, len(rows), period)
                joined = [[x for row in rows[i : i + period] for x in row] for i in starts]
                return joined, [lines[i] for i in starts]
    return rows, lines


def _block(path: Path, rows: list[list[float]], lines: list[int]) -> Block:
    rows, lines = _unwrapped(rows, lines)
    wanted = max(len(row) for row in rows)
    short = next((i for i, row in enumerate(rows) if len(row) != wanted), None)
    if short is not None:
        raise InputError(
            f"{path}, line {lines[short]}: {len(rows[short])} numbers where other rows hold {wanted}; the "
            f"row is "
            "cut off, or the file was stopped while it was written"
        )
    return Block(np.array(rows, dtype=float), np.array(lines))


def check_steps(path: Path, block: Block, unit: str) -> float | None:
    """Refuse a first column that goes back, or one of a uniform grid in which rows are missing.

    Parameters
    ----------
    path : Path
        What messages name.
    block : Block
    unit : str
        Of the first column.

    Returns
    -------
    float or None
        The step of the grid; None where it is not uniform.

    Raises
    ------
    InputError
        The lines are named.
    """
    first = block.numbers[:, 0]
    steps = np.diff(first)
    if (steps <= 0).any():
        line = int(block.lines[int((steps <= 0).argmax()) + 1])
        raise InputError(f"{path}, line {line}: the first column must ascend, and goes back here")
    middle = float(np.median(steps)) if len(steps) else 0.0
    regular = np.abs(steps - middle) < 0.02 * middle
    if len(steps) < 8 or regular.mean() <= 0.9:
        return None
    if (steps > 1.5 * middle).any():
        place = int((steps > 1.5 * middle).argmax())
        missing = round(float(steps[place]) / middle) - 1
        raise InputError(
            f"{path}: {missing} rows are missing between line {block.lines[place]} ({first[place]:g} "
            f"{unit}) and "
            f"line {block.lines[place + 1]} ({first[place + 1]:g} {unit}), where the first column steps by "
            f"{middle:g}"
        )
    if off := broken_by_few(np.where(regular, steps - middle, 0.0), middle):
        place = int(np.abs(np.where(regular, steps - middle, 0.0)).argmax()) + 1
        logger.warning(
            "%s, line %d: %g %s does not lie on the even grid of the other rows, by %.3g: the file may be "
            "damaged",
            path,
            block.lines[place],
            first[place],
            unit,
            off,
        )
    return middle

"""A small document of headings, paragraphs, tables and pictures, written as Markdown and as one HTML file."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from himlip_ase.errors import InputError


@dataclass(frozen=True)
class Heading:
    """A heading of level 1, 2 and so on."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Columns and rows of text; cells of the columns named in `numbers` are set flush right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()


@dataclass(frozen=True)
class Picture:
    """A PNG file and its caption."""

    path: Path
    caption: str


Block = Heading | Paragraph | Table | Picture


@dataclass
class Document:
    """Blocks in order."""

    title: str
    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        """Append blocks."""
        self.blocks.extend(blocks)

    def markdown(self, folder: Path) -> str:
        """The document as Markdown; pictures are linked relative to `folder`."""
        parts = [f"# {self.title}"]
        for block in self.blocks:
            if isinstance(block, Heading):
                parts.append(f"{'#' * block.level} {block.text}")
            elif isinstance(block, Paragraph):
                parts.append(block.text)
            elif isinstance(block, Picture):
                parts.append(
                    f"![{block.caption}]({block.path.relative_to(folder).as_posix()})\n\n*{block.caption}*"
                )
            else:
                rows = [
                    block.columns,
                    ["---:" if i in block.numbers else "---" for i in range(len(block.columns))],
                ]
                cells = [*rows, *block.rows]
                parts.append("\n".join("| " + " | ".join(_cell(c) for c in row) + " |" for row in cells))
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """The document as one HTML file with the pictures inside."""
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        for block in self.blocks:
            if isinstance(block, Heading):
                parts.append(f"<h{block.level}>{html.escape(block.text)}</h{block.level}>")
            elif isinstance(block, Paragraph):
                parts.append(f"<p>{html.escape(block.text)}</p>")
            elif isinstance(block, Picture):
                data = base64.b64encode(block.path.read_bytes()).decode()
                caption = html.escape(block.caption)
                parts.append(
                    f'<figure><img alt="{html.escape(block.caption, quote=True)}" '
                    f'src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
                )
            else:
                head = "".join(f"<th>{html.escape(c)}</th>" for c in block.columns)
                body = "".join(
                    "<tr>"
                    + "".join(
                        f"<td{' class=number' if i in block.numbers else ''}>{html.escape(c)}</td>"
                        for i, c in enumerate(row)
                    )
                    + "</tr>"
                    for row in block.rows
                )
                parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        template = files("himlip_ase.pipeline").joinpath("templates/report.html").read_text(encoding="utf-8")
        return Template(template).substitute(title=html.escape(self.title), body="\n".join(parts))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def number(value: Any, uncertainty: float | None = None) -> str:
    """A value as printed: two digits of its uncertainty, else four significant ones; None is a dash.

    Parameters
    ----------
    value : float, int, str or None
    uncertainty : float, optional
        Standard error, in the same unit.

    Returns
    -------
    str

    >>> number(123.456, 0.789)
    '123.46 ± 0.79'
    >>> number(None)
    '–'
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, list | tuple):
        return ", ".join(number(item) for item in value)
    value = float(value)
    if not math.isfinite(value):
        raise InputError(f"{value} cannot be quoted; a figure without a value is None with its reason")
    if uncertainty is not None and uncertainty > 0 and math.isfinite(uncertainty):
        digits = max(0, 1 - math.floor(math.log10(uncertainty)))
        return f"{value:.{digits}f} ± {uncertainty:.{digits}f}"
    if value == 0:
        return "0"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}" if digits < 8 else f"{value:.3e}"

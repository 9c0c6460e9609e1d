"""A small document of headings, paragraphs, tables and pictures, written as Markdown and as one HTML file."""

from __future__ import annotations

import base64
import html
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal

from himlip_ase.errors import InputError
from himlip_ase.figure_style import PANEL


@dataclass(frozen=True)
class Heading:
    """A heading of level 2, 3 and so on; the title of the document is that of level 1."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Notice:
    """What must not be overlooked: a few words in bold, then a sentence."""

    kind: Literal["ok", "marked", "withheld"]
    title: str
    text: str = ""


@dataclass(frozen=True)
class Link:
    """Text that leads to a page or to a file beside the document."""

    text: str
    target: str


Cell = str | Link


@dataclass(frozen=True)
class Table:
    """Columns and rows of text; cells of the columns named in `numbers` are set flush right.

    On a narrow screen a table of many columns, or of long sentences, is turned: each row becomes a block of
    lines "column: cell".
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: Sequence[int] = ()
    caption: str = ""

    @cached_property  # asked for in every cell
    def turned(self) -> bool:
        """Whether it is too wide for a phone."""
        widths = [max(map(len, _pieces(name)), default=0) for name in self.columns]
        for row in self.rows:
            for place, cell in enumerate(row):
                pieces = [_words(cell)] if place in self.numbers and place else _pieces(_words(cell))
                widths[place] = max([widths[place], *map(len, pieces)])
        long = any(len(_words(cell)) > 90 for row in self.rows for cell in row[1:])
        return len(self.columns) > 2 and (long or sum(widths) + 2 * len(widths) > _PHONE)


_PHONE = 46
"""Letters in a line on a phone."""


def _pieces(text: str) -> list[str]:
    """What is not broken over two lines: words, and their parts at dashes."""
    return re.split(r"\s+|(?<=[–-])", text)


@dataclass(frozen=True)
class Picture:
    """A PNG file, its caption, and what it shows for those who cannot see it (default: the caption)."""

    path: Path
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Files:
    """Links to files beside the document, each with what it is."""

    items: Sequence[tuple[Link, str]]


Block = Heading | Paragraph | Notice | Table | Picture | Files


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
        parts = [f"# {self.title}", *(_markdown(block, folder) for block in self.blocks)]
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """The document as one HTML file with the pictures inside."""
        names = _anchors(self.blocks)
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        parts += list(_grouped(self.blocks, names))
        contents = "".join(
            f'<li><a href="#{name}">{html.escape(block.text)}</a></li>'
            for block, name in ((self.blocks[k], name) for k, name in names.items())
            if isinstance(block, Heading) and block.level == 2
        )
        if contents:
            first = next((k for k, part in enumerate(parts) if part.startswith("<h2")), 1)
            parts.insert(first, f'<nav aria-label="Contents"><ul>{contents}</ul></nav>')
        template = files("himlip_ase.pipeline").joinpath("templates/report.html").read_text(encoding="utf-8")
        return Template(template).substitute(title=html.escape(self.title), body="\n".join(parts))


def _words(cell: Cell) -> str:
    return cell.text if isinstance(cell, Link) else cell


# --- Markdown ----------------------------------------------------------------------------------------------


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return block.text
    if isinstance(block, Notice):
        return f"> **{block.title}** {block.text}".rstrip()
    if isinstance(block, Picture):
        path = block.path.relative_to(folder).as_posix()
        return f"![{block.alt or block.caption}]({path})\n\n*{block.caption}*"
    if isinstance(block, Files):
        return "\n".join(f"- [{link.text}]({link.target}): {what}" for link, what in block.items)
    rule = ["---:" if i in block.numbers else "---" for i in range(len(block.columns))]
    rows = [block.columns, rule, *block.rows]
    lines = "\n".join("| " + " | ".join(_cell(c) for c in row) + " |" for row in rows)
    return f"{block.caption}:\n\n{lines}" if block.caption else lines


def _cell(cell: Cell) -> str:
    text = _words(cell).replace("|", "\\|").replace("\n", " ")
    return f"[{text}]({cell.target})" if isinstance(cell, Link) else text


# --- HTML --------------------------------------------------------------------------------------------------


def _anchors(blocks: Sequence[Block]) -> dict[int, str]:
    """Place of each heading among the blocks, and a name of its own for links to it."""
    names: dict[int, str] = {}
    for place, block in enumerate(blocks):
        if isinstance(block, Heading):
            stem = re.sub(r"[^\w]+", "-", block.text.lower()).strip("-") or "part"
            taken, name = set(names.values()), stem
            while name in taken:
                name = f"{stem}-{len(names)}"
            names[place] = name
    return names


def _grouped(blocks: Sequence[Block], names: dict[int, str]) -> Iterator[str]:
    """HTML of the blocks; pictures that follow one another stand side by side where there is room."""
    row: list[str] = []
    for place, block in enumerate(blocks):
        if isinstance(block, Picture):
            row.append(_figure(block))
            continue
        if row:
            yield f'<div class="figures">{"".join(row)}</div>'
            row = []
        if isinstance(block, Heading):
            yield f'<h{block.level} id="{names[place]}">{html.escape(block.text)}</h{block.level}>'
        elif isinstance(block, Paragraph):
            yield f"<p>{_html_text(block.text)}</p>"
        elif isinstance(block, Notice):
            title, text = html.escape(block.title), _html_text(block.text)
            yield f'<p class="notice {block.kind}"><strong>{title}</strong> {text}</p>'
        elif isinstance(block, Files):
            items = (f"<li>{_html_cell(link)}: {_html_text(what)}</li>" for link, what in block.items)
            yield f"<ul>{''.join(items)}</ul>"
        elif isinstance(block, Table):
            yield _html_table(block)
    if row:
        yield f'<div class="figures">{"".join(row)}</div>'


def _figure(picture: Picture) -> str:
    data = picture.path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])  # of the IHDR chunk, which comes first
    shown = round(_PANEL_PIXELS * width / (PANEL[0] * 160))
    alt = html.escape(picture.alt or picture.caption, quote=True)
    encoded = base64.b64encode(data).decode()
    return (
        f'<figure style="max-width:{shown}px"><img alt="{alt}" width="{shown}" '
        f'height="{round(shown * height / width)}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{_html_text(picture.caption)}</figcaption></figure>"
    )


_PANEL_PIXELS = 504
"""Width of one panel on a screen that has room for two."""


def _html_cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f'<a href="{html.escape(cell.target, quote=True)}">{html.escape(cell.text)}</a>'
    return _html_text(cell)


def _html_text(text: str) -> str:
    """Text in which what stands between backticks is to be typed."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _html_table(table: Table) -> str:
    """A table in a box of its own that scrolls; roles are written out where styles take them away."""

    def role(name: str) -> str:
        return f' role="{name}"' if table.turned else ""

    head = "".join(
        f'<th{role("columnheader")} scope="col"{" class=number" if i in table.numbers else ""}>'
        f"{html.escape(c)}</th>"
        if c
        else f"<td{role('cell')}></td>"
        for i, c in enumerate(table.columns)
    )
    body = []
    for row in table.rows:
        cells = [f'<th{role("rowheader")} scope="row">{_html_cell(row[0])}</th>']
        for i, cell in enumerate(row[1:], start=1):
            label = html.escape(table.columns[i], quote=True)
            named = f' data-label="{label}"' if table.turned and label else ""
            number_class = " class=number" if i in table.numbers else ""
            cells.append(f"<td{role('cell')}{number_class}{named}>{_html_cell(cell)}</td>")
        body.append(f"<tr{role('row')}>{''.join(cells)}</tr>")
    label = html.escape(table.caption or next((c for c in table.columns if c), "figures"), quote=True)
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    kind = ' class="turned" role="table"' if table.turned else ""
    return (
        f'<div class="box" role="region" tabindex="0" aria-label="Table: {label}"><table{kind}>{caption}'
        + ("" if not any(table.columns) else f"<thead{role('rowgroup')}><tr{role('row')}>{head}</tr></thead>")
        + f"<tbody{role('rowgroup')}>{''.join(body)}</tbody></table></div>"
    )


# --- numbers -----------------------------------------------------------------------------------------------


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

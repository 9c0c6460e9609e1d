"""Results of a benchmark as JSON and as a page of tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from himlip_ase.files import atomic_write, read_mapping, write_json

FOLDER = Path(__file__).parents[1] / "results"

Rows = tuple[Sequence[str], Sequence[Sequence[Any]]]


def earlier_results(name: str) -> dict[str, Any]:
    """Numbers of an earlier run of a benchmark; empty where there are none."""
    path = FOLDER / f"{name}.json"
    return dict(read_mapping(path)) if path.is_file() else {}


def write_results(
    name: str, title: str, command: str, tables: Sequence[Rows], text: Sequence[str], numbers: Any
) -> None:
    """Write ``results/NAME.json`` and ``results/NAME.md``."""
    parts = [f"# {title}", f"`{command}`", *text[:2]]
    for number, (columns, rows) in enumerate(tables):
        lines = [columns, ["---"] * len(columns), *rows]
        parts.append("\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines))
        if number == 0:
            parts += text[2:]
    write_json(FOLDER / f"{name}.json", numbers, overwrite=True)
    with atomic_write(FOLDER / f"{name}.md", overwrite=True) as stream:
        stream.write("\n\n".join(parts) + "\n")

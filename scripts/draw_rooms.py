"""Draw the rooms of the package: floors from pyproject.toml, arrows from the imports of the files.

    python scripts/draw_rooms.py                # docs/_static/rooms.png
    python scripts/draw_rooms.py --words        # the same in words, nothing drawn

An arrow runs from a room to one that it imports from, as wide as there are imports. One that a way through
other rooms implies is left out, and so are those to the four lowest floors, which serve all rooms; with
``--words`` every one is listed. Imports for type checkers do not count.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import grimp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "himlip_ase"
GROUND_FLOORS = 4
MIDDLE = 1.6
COLUMNS = {
    "cli": 0.0,
    "pipeline": 0.0,
    "superconductivity": -5.2,
    "reactions": 7.2,
    "sscha": -1.0,
    "hint": 3.6,
    "dft": 0.4,
    "labels": 5.4,
    "torch_sim": 6.9,
    "testing": 10.4,
    "conformance": 10.4,
    "calculator": -1.2,
    "vibrations": 3.0,
    "phonons": -3.4,
    "symmetry": -3.4,
    "potential": 1.6,
}
"""Places from left to right that keep arrows from crossing rooms."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B8860B", "#6A51A3", "#7F7F7F")


@dataclass(frozen=True)
class House:
    """Rooms by floor, from the roof down, and what they import from each other."""

    floors: list[list[str]]
    files: dict[str, int]
    lines: dict[str, int]
    arrows: Counter[tuple[str, str]]


def read_house() -> House:
    """The floors that pyproject.toml asks for, and the imports that the files have."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "floors")
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    there = {child.removeprefix(f"{PACKAGE}.") for child in graph.find_children(PACKAGE)}
    floors = [[room for room in re.findall(r"\w+", layer) if room in there] for layer in layers]
    arrows: Counter[tuple[str, str]] = Counter()
    for module in graph.modules - {PACKAGE}:
        for imported in graph.find_modules_directly_imported_by(module) - {PACKAGE}:
            pair = module.split(".")[1], imported.split(".")[1]
            if pair[0] != pair[1]:
                arrows[pair] += 1
    files: dict[str, int] = {}
    lines: dict[str, int] = {}
    for room in there:
        path = ROOT / PACKAGE / room
        sources = [*path.rglob("*.py")] if path.is_dir() else [path.with_suffix(".py")]
        files[room] = len(sources)
        lines[room] = sum(len(source.read_text(encoding="utf-8").splitlines()) for source in sources)
    return House([floor for floor in floors if floor], files, lines, arrows)


def in_words(house: House) -> str:
    """Floors, rooms and arrows, one room a line."""
    text = []
    for number, floor in zip(range(len(house.floors) - 1, -1, -1), house.floors, strict=True):
        for room in floor:
            below = ", ".join(f"{to} ({n})" for (of, to), n in sorted(house.arrows.items()) if of == room)
            size = f"{house.files[room]:3} files {house.lines[room]:6} lines"
            text.append(f"floor {number:2}  {room:18} {size}  -> {below}")
    return "\n".join(text)


def direct(house: House) -> dict[tuple[str, str], int]:
    """Arrows above the ground floors that no way through other rooms implies."""
    ground = {room for floor in house.floors[-GROUND_FLOORS:] for room in floor}
    order = [room for floor in house.floors for room in floor if room not in ground]
    reached: dict[str, set[str]] = {}
    for room in reversed(order):
        below = {to for of, to in house.arrows if of == room and to in reached}
        reached[room] = below.union(*(reached[to] for to in below))
    return {
        (of, to): count
        for (of, to), count in house.arrows.items()
        if of in reached
        and to in reached[of]
        and not any(to in reached[by] for by in reached[of] if (of, by) in house.arrows)
    }


def places(house: House) -> dict[str, tuple[float, float]]:
    """Centre of each room: floors above each other, columns as in COLUMNS, others spread about the middle."""
    found = {}
    for level, floor in enumerate(house.floors):
        for index, room in enumerate(floor):
            spread = MIDDLE + 3.4 * (index - (len(floor) - 1) / 2)
            found[room] = (COLUMNS.get(room, spread), float(len(house.floors) - level))
    return found


def draw(house: House, ax: Axes) -> None:
    """Draw floors, rooms and arrows."""
    at = places(house)
    width, tall = 3.0, 0.62
    height = len(house.floors)
    for level in range(height):
        ground = level >= height - GROUND_FLOORS
        shade = "#e8e6df" if ground else ("#f4f4f0" if level % 2 else "#fbfbf8")
        ax.axhspan(height - level - 0.5, height - level + 0.5, color=shade, zorder=0)
    rooms = [room for floor in house.floors for room in floor]
    colours = {room: COLOURS[index % len(COLOURS)] for index, room in enumerate(rooms)}
    for (of, to), count in direct(house).items():
        (x, y), (u, v) = at[of], at[to]
        ax.add_patch(
            FancyArrowPatch(
                (x, y - tall / 2),
                (u, v + tall / 2),
                arrowstyle="-|>",
                mutation_scale=14,
                linewidth=0.9 + 0.45 * count**0.5,
                color=colours[of],
                alpha=0.85,
                zorder=2,
            )
        )
    for room, (x, y) in at.items():
        ax.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - tall / 2),
                width,
                tall,
                boxstyle="round,pad=0.02,rounding_size=0.1",
                facecolor="white",
                edgecolor=colours[room],
                linewidth=1.8,
                zorder=3,
            )
        )
        ax.text(x, y + 0.1, room, ha="center", va="center", fontsize=11, weight="bold", zorder=4)
        size = f"{house.files[room]} files, {house.lines[room]} lines" if house.files[room] > 1 else "1 file"
        ax.text(x, y - 0.16, size, ha="center", va="center", fontsize=8, color="#555555", zorder=4)
    edges = [x for x, _ in at.values()]
    ax.set_xlim(min(edges) - 1.8, max(edges) + 1.8)
    ax.set_ylim(0.5, height + 0.5)
    ax.set_axis_off()


def main() -> None:
    """Draw, or say it in words."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--words", action="store_true", help="print the rooms and arrows instead")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "_static" / "rooms.png")
    arguments = parser.parse_args()
    house = read_house()
    if arguments.words:
        print(in_words(house))
        return
    figure, ax = plt.subplots(figsize=(13, 12))
    draw(house, ax)
    figure.savefig(arguments.out, dpi=90, bbox_inches="tight", metadata={"Software": None})


if __name__ == "__main__":
    main()

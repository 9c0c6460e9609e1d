"""What becomes of damaged inputs: refused, read right, changed silently, or a traceback; by kind and damage.

    python -m benchmarks.fuzz --make inputs            # valid inputs of every kind
    python -m benchmarks.fuzz --read inputs --count 20 --label "this version"

Truncation, corrupted bytes, flipped bits, lost lines and zeroed blocks, seeded by names and numbers only, so
that two builds see the same damage. Another build reads the same inputs with ``python -P -m benchmarks.fuzz``
under ``PYTHONPATH=FOLDER:.``, where FOLDER holds its himlip_ase alone; ``--names names.json`` says what it
calls the readers. "Changed silently" are files whose values changed and nothing was said, such as a digit of
a text file that holds it once; "told" is a warning that the undamaged input does not cause. Counts are added
to benchmarks/results/fuzz.json, and the table beside it is written again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from himlip_ase.files import write_json
from tests.fuzz.damage import DAMAGES
from tests.fuzz.inputs import KINDS
from tests.fuzz.outcomes import CHANGED, REFUSED, SAME, TOLD, TRACEBACK, trials

RESULTS = Path(__file__).parent / "results" / "fuzz"
OUTCOMES = (REFUSED, TOLD, SAME, CHANGED, TRACEBACK)
SLOW = 0.25
"""Kinds that are slow to read get this share of the trials."""


def make_all(folder: Path) -> None:
    """Write valid inputs of every kind, each into a folder of its number."""
    for number, kind in enumerate(KINDS):
        place = folder / f"{number:02d}"
        place.mkdir(parents=True)
        kind.make(place)


def read_all(folder: Path, count: int, names: dict[str, str], only: str | None) -> dict[str, Any]:
    """Outcomes of every kind by way of damage, and the first traceback."""

    def named(name: str) -> Any:
        module, _, thing = names.get(name, name).rpartition(".")
        return getattr(importlib.import_module(f"himlip_ase.{module}"), thing)

    found: dict[str, Any] = {}
    for number, kind in enumerate(KINDS):
        if only and only not in kind.name:
            continue
        share = SLOW if kind.slow else 1.0
        start = time.time()
        try:
            made = list(trials(kind, folder / f"{number:02d}", max(int(count * share), 1), named))
        except Exception as error:
            print(f"{kind.name}: cannot be read undamaged ({type(error).__name__}: {error})", flush=True)
            continue
        by_damage = {d: Counter(t.outcome for t in made if t.damage == d) for d in DAMAGES}
        first = next((t for t in made if t.outcome == TRACEBACK), None)
        found[kind.name] = {
            "damages": {damage: dict(counter) for damage, counter in by_damage.items()},
            "first_traceback": first.message[:200] if first else None,
        }
        total = Counter(trial.outcome for trial in made)
        print(f"{kind.name}: {dict(total)} in {time.time() - start:.0f} s", flush=True)
    return found


def counts(total: Counter[str]) -> str:
    """Counts of one cell, in the order of `OUTCOMES`."""
    *others, last = (str(total[outcome]) for outcome in OUTCOMES)
    return " / ".join([*others, f"**{last}**"])


def table(data: dict[str, Any]) -> str:
    """Markdown: a row for each kind, a column for each build."""
    builds = list(data["builds"])
    lines = [
        "# Damaged inputs",
        "",
        f"`python -m benchmarks.fuzz --make INPUTS`, `python -m benchmarks.fuzz --read INPUTS --count "
        f"{data['count']}`: each input is truncated, corrupted (up to 64 bytes), gets a bit flipped, loses "
        "up to three lines, or has up to 512 bytes zeroed. Counts are refused / changed and told / same "
        "value / changed silently / **traceback**; a quarter of the trials where reading is slow. Warnings "
        "were not counted before 2026-11-28, and the force constants of q2r.x had no symmetry then.",
        "",
        "| kind | " + " | ".join(builds) + " |",
        "|---|" + "---|" * len(builds),
    ]

    def cell(kinds: list[str], build: str) -> str:
        total: Counter[str] = Counter()
        for kind in kinds:
            for counter in data["builds"][build].get(kind, {"damages": {}})["damages"].values():
                total.update(counter)
        if not total:
            return "–"
        return counts(total)

    for kind in KINDS:
        lines.append(f"| {kind.name} | " + " | ".join(cell([kind.name], build) for build in builds) + " |")
    shared = [k.name for k in KINDS if all(k.name in data["builds"][build] for build in builds)]
    lines.append(
        "| all that every build reads | " + " | ".join(cell(shared, build) for build in builds) + " |"
    )
    by_damage = ["", "By damage, over the kinds that every build reads:", ""]
    by_damage += ["| damage | " + " | ".join(builds) + " |", "|---|" + "---|" * len(builds)]
    for damage in DAMAGES:
        cells = []
        for build in builds:
            total = Counter()
            for kind_name in shared:
                total.update(data["builds"][build][kind_name]["damages"].get(damage, {}))
            cells.append(counts(total))
        by_damage.append(f"| {damage} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, *by_damage]) + "\n"


def main() -> None:
    """Make inputs, or read them damaged and write the table."""
    parser = argparse.ArgumentParser(description="What becomes of damaged inputs.")
    parser.add_argument("--make", type=Path, help="folder for valid inputs; must be new")
    parser.add_argument("--read", type=Path, help="folder that --make wrote")
    parser.add_argument("--count", type=int, default=20, help="of each damage and kind")
    parser.add_argument("--label", default="this version", help="column of the table")
    parser.add_argument("--names", type=Path, help="JSON: names of the readers in another build")
    parser.add_argument("--only", help="kinds whose name contains this")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.make:
        make_all(arguments.make)
    if arguments.read:
        names = json.loads(arguments.names.read_text()) if arguments.names else {}
        found = read_all(arguments.read, arguments.count, names, arguments.only)
        path = RESULTS.with_suffix(".json")
        data = json.loads(path.read_text()) if path.is_file() else {"builds": {}}
        data["count"] = arguments.count
        data["builds"].setdefault(arguments.label, {}).update(found)
        write_json(path, data, overwrite=True)
        RESULTS.with_suffix(".md").write_text(table(data), encoding="utf-8")


if __name__ == "__main__":
    main()

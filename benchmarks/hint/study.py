"""Rows of a study on disk: written as they come, so that a run that was cut goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from himlip_ase.files import write_json


class Study:
    """Results of a study so far.

    Parameters
    ----------
    path : Path
        JSON file.
    settings : dict
        What the rows were made with; rows of other settings are refused.
    keys : sequence of str
        Columns that tell one run from another.
    """

    def __init__(self, path: Path, settings: dict[str, Any], keys: Sequence[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        self.settings = json.loads(json.dumps(settings))
        self.rows: list[dict[str, Any]] = []
        self.extra: dict[str, Any] = {}
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["settings"] != self.settings:
                raise SystemExit(f"{path} was made with {found['settings']}; delete it to start again")
            self.rows, self.extra = found["rows"], found.get("extra", {})

    def has(self, *values: object) -> bool:
        """Whether there are rows of this run."""
        return any(tuple(row[k] for k in self.keys) == values for row in self.rows)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append the rows of a run and write all."""
        self.rows += rows
        content = {"settings": self.settings, "extra": self.extra, "rows": self.rows}
        write_json(self.path, content, overwrite=True)

    def chosen(self, **wanted: object) -> list[dict[str, Any]]:
        """Rows with these values."""
        return [row for row in self.rows if all(row[k] == v for k, v in wanted.items())]

    def values(self, column: str) -> list[Any]:
        """Distinct values of a column, as they first came."""
        return list(dict.fromkeys(row[column] for row in self.rows))


def parse_study(description: str | None, parts: Iterable[str], default: str) -> argparse.Namespace:
    """Command line of a study that is run part by part and seed by seed, one thread, its log on."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("himlip_ase").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--part", choices=list(parts), default=default)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds; begin no run later")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    return arguments


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Mean ± standard deviation over the seeds."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def verdict(ratios: Sequence[float] | np.ndarray) -> str:
    """Whether something is smaller, by its ratios to something else, one for each seed."""
    return "held" if max(ratios) < 1 else "did not hold" if min(ratios) >= 1 else "undecided"


def by_seed(rows: Sequence[dict[str, Any]], column: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Rows of each seed, in the order of a column."""
    for seed in sorted({row["seed"] for row in rows}):
        yield seed, sorted((row for row in rows if row["seed"] == seed), key=lambda row: row[column])


def at(rows: Sequence[dict[str, Any]], column: str, place: float, value: str) -> float:
    """A value of one run at a place along a column, interpolated in both logarithms.

    The first value holds before it was measured; NaN beyond the end.
    """
    x = np.array([row[column] for row in rows], dtype=float)
    y = np.array([row[value] for row in rows], dtype=float)
    if not len(x) or place > x.max() * 1.02:
        return float("nan")
    return float(np.exp(np.interp(np.log(place), np.log(x), np.log(y))))

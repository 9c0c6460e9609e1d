"""SSCHA of H3S on 4×4×4 (256 atoms) against an earlier build: CPU seconds of its parts, and peak memory.

    git worktree add FOLDER 06090d2
    python -m benchmarks.sscha.cpu_seconds --before FOLDER --folder runs/cpu_seconds

A converged run of this build (`benchmarks/sscha/end_to_end.py`; read if the folder holds it) gives the
auxiliary and the final ensemble of 2000 configurations.  Both builds then do, in turns, each time in a
process of its own with one thread: one population of 500 from that auxiliary (draw, forces, minimiser,
files) and the free-energy Hessian of that ensemble with third and fourth order and error bars.  The run is
the first force calls of a process, which load what is compiled, four populations, 2001 force calls at the
cost of a population's, and the Hessian; nothing else is scaled.  Frequencies of both Hessians are compared,
and memory is the largest of a process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pages import page_head
from benchmarks.sscha.end_to_end import MODEL, run
from himlip_ase.files import atomic_write, write_json
from himlip_ase.sscha.settings import SschaSettings

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "benchmarks" / "results" / "sscha_cpu_seconds"
WORKER = ROOT / "benchmarks" / "sscha" / "cpu_worker.py"
DIMS = (4, 4, 4)
SETTINGS = SschaSettings(max_populations=4)
"""Those of `benchmarks/results/sscha_end_to_end.md`: four populations of 500, 2000 for the Hessian."""

WANTED_RATIO, WANTED_GB = 3.0, 3.0


def measured(build: Path, *task: str | Path) -> dict[str, Any]:
    """What a build says of a task."""
    environment = os.environ | {"PYTHONPATH": str(build), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-P", str(WORKER), *map(str, task)],
        cwd=build, env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(found.stdout.splitlines()[-1])


def report_of(parts: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """CPU seconds of the whole run by build, their ratio, and how far the Hessians are apart."""
    totals: dict[str, list[float]] = {}
    for build, found in parts.items():
        rounds = zip(found["population"], found["hessian"], strict=True)
        totals[build] = [
            one["once"]
            + SETTINGS.max_populations * one["seconds"]
            + (SETTINGS.n_hessian_configurations + 1) * one["forces"] / one["calls"]
            + other["seconds"]
            for one, other in rounds
        ]
    before, after = (np.array(parts[build]["hessian"][0]["frequencies"]) for build in ("before", "after"))
    return {
        "cpu": platform.processor() or platform.machine(),
        "parts": parts,
        "totals": totals,
        "ratios": (np.array(totals["before"]) / np.array(totals["after"])).tolist(),
        "largest_difference_cm": float(np.abs(before - after).max()),
    }


def row(name: str, before: list[float], after: list[float], digits: int = 0) -> str:
    """Of a table, with medians."""
    ratio = np.median(np.array(before) / np.array(after))
    return f"| {name} | {np.median(before):.{digits}f} | {np.median(after):.{digits}f} | {ratio:.2f} |"


def markdown(report: dict[str, Any]) -> str:
    """The page."""
    parts, totals = report["parts"], report["totals"]

    def each(build: str, part: str, key: str) -> list[float]:
        return [float(found[key]) for found in parts[build][part]]

    def call(build: str) -> list[float]:
        seconds, calls = each(build, "population", "forces"), each(build, "population", "calls")
        return [1e3 * one / other for one, other in zip(seconds, calls, strict=True)]

    def both(part: str, key: str) -> tuple[list[float], list[float]]:
        return each("before", part, key), each("after", part, key)

    count, ratio = len(report["ratios"]), float(np.median(report["ratios"]))
    largest = {part: [max(values) for values in both(part, "peak_gb")] for part in ("population", "hessian")}
    memory = max(largest[part][1] for part in largest)
    rounding = parts["after"]["population"][0]["rounding"]
    held = ["held" if good else "did not hold" for good in (ratio >= WANTED_RATIO, memory <= WANTED_GB)]
    lines = [
        *page_head("CPU seconds of an SSCHA of 256 atoms", __doc__),
        f"{count} round{'s' if count > 1 else ''}, {report['cpu']}, beside other work: ratios hold, seconds",
        "do not.", "",
        "| | 06090d2 | this build | ratio |", "|---|---|---|---|",
        row("first force calls, once, CPU s", *both("population", "once"), digits=1),
        row("a force call, CPU ms", call("before"), call("after")),
        row("population of 500, CPU s", *both("population", "seconds")),
        row("free-energy Hessian of 2000, CPU s", *both("hessian", "seconds")),
        row("the run: 4 populations, 2001 calls, Hessian; CPU s", totals["before"], totals["after"]),
        *(
            f"| peak memory of the {part}, GB | {before:.1f} | {after:.1f} | |"
            for part, (before, after) in largest.items()
        ), "",
        "| asked for | | measured | |", "|---|---|---|---|",
        f"| CPU seconds, earlier / this | ≥ {WANTED_RATIO:g} | {ratio:.2f} | {held[0]} |",
        f"| peak memory | ≤ {WANTED_GB:g} GB | {memory:.1f} GB | {held[1]} |", "",
        f"Frequencies of the two Hessians differ by {report['largest_difference_cm']:.1e} cm⁻¹ at most.",
        "Forces are of single precision where that may shift averages by no more than a tenth of",
        f"a standard error: here by {rounding:.2g}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prepare, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="checkout of the earlier build")
    parser.add_argument("--folder", type=Path, default=Path("runs/cpu_seconds"))
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    run(DIMS, given.folder, 1, SETTINGS)
    place = (given.folder / "x".join(map(str, DIMS))).resolve()
    (ensemble,) = (place / "state").glob(f"hessian_*_{SETTINGS.n_hessian_configurations}_ensemble.npz")
    tasks = {
        "population": (place / "auxiliary.dyn0", MODEL, str(SETTINGS.n_configurations)),
        "hessian": (place / "auxiliary.dyn0", ensemble),
    }
    builds = {"before": given.before.resolve(), "after": ROOT}
    parts: dict[str, dict[str, list[dict[str, Any]]]] = {
        build: {task: [] for task in tasks} for build in builds
    }
    for _ in range(given.rounds):
        for task, arguments in tasks.items():
            for build, folder in builds.items():
                parts[build][task].append(measured(folder, task, *arguments))
                shown = {name: value for name, value in parts[build][task][-1].items() if np.isscalar(value)}
                print(build, task, shown, flush=True)
    report = report_of(parts)
    write_json(OUT.with_suffix(".json"), report, overwrite=True)
    with atomic_write(OUT.with_suffix(".md"), overwrite=True) as stream:
        stream.write(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()

"""What this build gains over an earlier one: forces, products, Hessians, growth with size; in turns.

    git worktree add FOLDER 06090d2
    python -m benchmarks.engine_page --before FOLDER

H3S, himlip-h3s-1, neighbour lists included. Each build runs in a process of its own; they take turns task by
task, so that whatever else the machine does falls on both. Process CPU seconds of one thread ("threads": wall
seconds of two); ratios are those of one round, their median and the middle 68 % of all rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.files import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
TASKS = {
    "forces 8": "force call, 8 atoms",
    "forces 32": "force call, 32 atoms",
    "forces 128": "force call, 128 atoms",
    "forces 512": "force call, 512 atoms",
    "forces 4096": "force call, 4096 atoms",
    "threads 512": "force call, 512 atoms, two threads (wall)",
    "single 32": "force call, 32 atoms, float32",
    "graph 32": "neighbour list and graph, 32 atoms",
    "products 32": "eight Hessian-vector products, 32 atoms",
    "hessian 32": "dense Hessian, 32 atoms",
    "differences 32": "dense Hessian by differences, 32 atoms (a sixteenth of them, times 16)",
    "training 32": "gradient of a force loss by the weights, 32 atoms",
}
WANTED = (
    ("force call, 32 atoms: earlier build / this", "before", "forces 32", "after", "forces 32", 2.8),
    ("the same in float32: earlier float64 / this float32", "before", "forces 32", "after", "single 32", 4.5),
    ("force call / neighbour list and graph", "after", "forces 32", "after", "graph 32", 10.0),
    ("dense Hessian: differences / this", "after", "differences 32", "after", "hessian 32", 2.5),
    ("dense Hessian: earlier build / this", "before", "hessian 32", "after", "hessian 32", 5.0),
    ("training: earlier build / this", "before", "training 32", "after", "training 32", 2.0),
)  # fmt: skip
"""What, numerator, denominator, smallest ratio that was asked for (issue 16)."""
PEERS = {"pypolymlp": "pypolymlp", "MACE": "mace"}


class Build:
    """A process that times tasks of one build."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "engine_worker.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder,
        )  # fmt: skip
        self._answer()

    def seconds(self, task: str) -> float:
        """What one task takes."""
        assert self._process.stdin is not None
        self._process.stdin.write(task + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a build's process ended early; its error stands above")
        return line


def measure(
    before: Path, rounds: int, seconds: float, tasks: list[str], out: Path
) -> dict[str, dict[str, list[float]]]:
    """Times of both builds, by task; no new round begins after so many seconds once there are five."""
    builds = {"before": Build(before), "after": Build(ROOT)}
    found: dict[str, dict[str, list[float]]] = {name: {task: [] for task in tasks} for name in builds}
    for task in tasks:  # warm: compiled passes, caches
        if not task.startswith("differences"):
            for build in builds.values():
                build.seconds(task)
    start = time.monotonic()
    for number in range(rounds):
        if number >= 5 and time.monotonic() - start > seconds:
            break
        for task in tasks:
            for name, build in builds.items():
                found[name][task].append(build.seconds(task))
        write(found, out)
        print(f"round {number + 1}", flush=True)
    for build in builds.values():
        build.close()
    return found


def ratio(above: list[float], below: list[float]) -> list[float]:
    """Median and the middle 68 % of the rounds' ratios: lower, median, upper."""
    return np.percentile(np.array(above) / np.array(below), [16, 50, 84]).round(3).tolist()


def markdown(report: dict[str, Any]) -> str:
    """Tables of the page."""
    times, about = report["seconds"], report["about"]
    _, commands, text = (__doc__ or "").split("\n\n")
    lines = [
        "# Engine", "",
        "```bash", *(line.strip() for line in commands.splitlines()), "```", "",
        text.strip(), "",
        f"{about['rounds']} rounds, {about['cpu']}, torch {about['torch']}. Other work ran beside: ratios "
        "hold, milliseconds do not.", "",
        "| task | earlier, ms | this, ms | earlier / this (68 %) |", "|---|---|---|---|",
    ]  # fmt: skip
    for task, title in TASKS.items():
        if task in times["after"]:
            before, after = (1e3 * float(np.median(times[side][task])) for side in ("before", "after"))
            low, middle, high = ratio(times["before"][task], times["after"][task])
            lines.append(f"| {title} | {before:.1f} | {after:.1f} | {middle:.2f} ({low:.2f}–{high:.2f}) |")
    lines += ["", "| asked for | at least | measured (68 %) | |", "|---|---|---|---|"]
    for row in report["wanted"]:
        low, middle, high = row["ratio"]
        verdict = "held" if middle >= row["wanted"] else "did not hold"
        lines.append(f"| {row['what']} | {row['wanted']} | {middle:.2f} ({low:.2f}–{high:.2f}) | {verdict} |")
    lines += [""] + [f"{name} is left out: {reason}." for name, reason in report["left_out"].items()]
    return "\n".join(lines) + "\n"


def write(seconds: dict[str, dict[str, list[float]]], out: Path) -> None:
    """The page and its numbers, as far as they are."""
    import torch

    wanted = [
        {"what": what, "wanted": least, "ratio": ratio(seconds[one][above], seconds[other][below])}
        for what, one, above, other, below, least in WANTED
        if above in seconds[one] and below in seconds[other]
    ]
    about = {
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "rounds": len(seconds["after"]["forces 32"]),
    }
    left_out = {
        name: "not installed here"
        if importlib.util.find_spec(module) is None
        else "not measured by this page"
        for name, module in PEERS.items()
    }
    report = {"about": about, "seconds": seconds, "wanted": wanted, "left_out": left_out}
    write_json(out.with_suffix(".json"), report, overwrite=True)
    with atomic_write(out.with_suffix(".md"), overwrite=True) as stream:
        stream.write(markdown(report))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="checkout of the earlier build")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="no new round after these, once there are 5"
    )
    parser.add_argument("--largest", type=int, default=512, help="most atoms of a force call")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "engine_page")
    arguments = parser.parse_args()
    tasks = [task for task in TASKS if int(task.split()[1]) <= arguments.largest]
    measure(arguments.before.resolve(), arguments.rounds, arguments.seconds, tasks, arguments.out)
    print(arguments.out.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

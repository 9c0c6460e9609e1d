"""What this build gains over an earlier one: forces, products, Hessians, growth with size; in turns.

    git worktree add FOLDER 06090d2
    python -m benchmarks.engine_page --before FOLDER [--polynomial-python ENVIRONMENT/bin/python]
        [--mace-python ENVIRONMENT/bin/python]

H3S, himlip-h3s-1, neighbour lists included. Each build runs in a process of its own; they take turns task
by task, so that whatever else the machine does falls on both. Process CPU seconds of one thread ("threads":
wall seconds of two); ratios are those of one round, their median and the middle 68 % of all rounds. The
arithmetic of a force call is that of its matrix products, at the rate of a product of two matrices 512 ×
512. Memory is by how much one training step raises the largest that a process of its own has had. pypolymlp
has learnt the energies, forces and stresses of the labels of H3S, and those that himlip-h3s-1 gives for 100
more cells, since it cannot take the Hessians that himlip-h3s-1 has learnt; errors are rms of the components
of forces on the validation frames. MACE has random weights, which cost the same as any: it has no error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pages import page_head
from himlip_ase.files import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
WORKER = f"{ROOT}/benchmarks/engine_worker.py"
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
MEMORY = "memory 512"
ARITHMETIC = "arithmetic 32"
WANTED = (
    ("force call, 32 atoms: earlier build / this", "before", "forces 32", "after", "forces 32", 2.8),
    ("the same in float32: earlier float64 / this float32", "before", "forces 32", "after", "single 32", 4.5),
    ("force call / neighbour list and graph", "after", "forces 32", "after", "graph 32", 10.0),
    ("dense Hessian: differences / this", "after", "differences 32", "after", "hessian 32", 2.5),
    ("dense Hessian: earlier build / this", "before", "hessian 32", "after", "hessian 32", 5.0),
    ("1.8 force calls / a Hessian-vector product", "allowed", "products 32", "after", "products 32", 1.0),
    ("training: earlier build / this", "before", "training 32", "after", "training 32", 2.0),
    ("0.7 · memory of training: earlier build / this", "allowed", MEMORY, "after", MEMORY, 1.0),
    ("pypolymlp of equal or lower error / force call", "peer", "forces 32", "after", "forces 32", 1.0),
)  # fmt: skip
"""What, numerator, denominator, smallest ratio that was asked for (issue 16)."""
CALLS = 8
"""Products of the task that takes several."""


class Worker:
    """A process that times tasks: of one build, or of a peer."""

    def __init__(self, folder: Path, command: Sequence[str] = (sys.executable, WORKER)) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment["OMP_WAIT_POLICY"] = "passive"  # as the command sets it
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )
        self.first = self._answer()

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


@dataclass
class Measured:
    """Times by side and task, and what is beside them."""

    seconds: dict[str, dict[str, list[float]]]
    error: float
    polynomials: list[dict[str, Any]]
    maces: list[dict[str, Any]]


def measure(given: argparse.Namespace, tasks: list[str]) -> Measured:
    """Times of both builds and of the peer; no new round begins after `--seconds` once there are five."""
    before = given.before.resolve()
    builds = {"before": Worker(before), "after": Worker(ROOT)}
    peer, polynomials = None, []
    if given.polynomial_python is not None:
        with tempfile.TemporaryDirectory() as folder:
            builds["after"].seconds(f"teach {folder}/taught.extxyz")
            module = "benchmarks.engine_polynomial"
            peer = Worker(ROOT, [given.polynomial_python, "-m", module, f"{folder}/taught.extxyz"])
            polynomials = json.loads(peer.first)
    network, maces = None, []
    if given.mace_python is not None:
        network = Worker(ROOT, [given.mace_python, "-m", "benchmarks.engine_mace"])
        maces = json.loads(network.first)
    found: dict[str, dict[str, list[float]]] = {name: {task: [] for task in tasks} for name in builds}
    found["after"][ARITHMETIC] = []
    measured = Measured(found, builds["after"].seconds("error"), polynomials, maces)
    for name, folder in (("before", before), ("after", ROOT)):
        found[name][MEMORY] = []
        for _ in range(3):
            alone = Worker(folder)
            found[name][MEMORY].append(alone.seconds(MEMORY))
            alone.close()
    for row in [*polynomials, *maces]:
        row["seconds"] = []
    if network is not None:
        for index in range(len(maces)):
            network.seconds(str(index))
    for task in tasks:  # warm: compiled passes, caches
        if not task.startswith("differences"):
            for build in builds.values():
                build.seconds(task)
    start = time.monotonic()
    for number in range(given.rounds):
        if number >= 5 and time.monotonic() - start > given.seconds:
            break
        for task in tasks:
            for name, build in builds.items():
                found[name][task].append(build.seconds(task))
            if task == "forces 32":
                for worker, rows in ((peer, polynomials), (network, maces)):
                    for index, row in enumerate(rows):
                        assert worker is not None
                        row["seconds"].append(worker.seconds(str(index)))
        found["after"][ARITHMETIC].append(builds["after"].seconds(ARITHMETIC))
        write(measured, given.out)
        print(f"round {number + 1}", flush=True)
    for worker in [*builds.values(), peer, network]:
        if worker is not None:
            worker.close()
    return measured


def sides(measured: Measured) -> dict[str, dict[str, list[float]]]:
    """Times by side, with what the requirements allow and the polynomial that they compare with."""
    seconds = measured.seconds
    after = seconds["after"]
    allowed = {MEMORY: [0.7 * value for value in seconds["before"][MEMORY]]}
    if "products 32" in after:
        allowed["products 32"] = [1.8 * CALLS * value for value in after["forces 32"]]
    found = {**seconds, "allowed": allowed, "peer": {}}
    good = [row for row in measured.polynomials if row["rmse_mev_a"] <= measured.error]
    if good:
        cheapest = min(good, key=lambda row: float(np.median(row["seconds"])))
        found["peer"]["forces 32"] = cheapest["seconds"]
    return found


def ratio(above: list[float], below: list[float]) -> list[float]:
    """Median and the middle 68 % of the rounds' ratios: lower, median, upper."""
    return np.percentile(np.array(above) / np.array(below), [16, 50, 84]).round(3).tolist()


def markdown(report: dict[str, Any]) -> str:
    """Tables of the page."""
    times, about = report["seconds"], report["about"]
    lines = [
        *page_head("Engine", __doc__),
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
    after = times["after"]
    share = ratio(after[ARITHMETIC], after["forces 32"])
    lines += ["", f"Arithmetic: {_range(share, 100, 0)} % of the time of a force call of 32 atoms."]
    if "products 32" in after:
        product = ratio(after["products 32"], after["forces 32"])
        lines += ["", f"A Hessian-vector product: {_range(product, 1 / CALLS, 2)} force calls."]
    one, other = (float(np.median(times[side][MEMORY])) / 1e6 for side in ("before", "after"))
    lines += ["", f"A training step on 512 atoms: {one:.0f} MB in the earlier build, {other:.0f} MB in this."]
    others = [*report["polynomials"], *report["maces"]]
    if others:
        own = 1e3 * float(np.median(after["forces 32"]))
        lines += ["", "| potential | error, meV/Å | call, ms | that / this (68 %) |", "|---|---|---|---|"]
        lines.append(f"| himlip-h3s-1 | {report['error']:.0f} | {own:.1f} | |")
        for row in others:
            middle = 1e3 * float(np.median(row["seconds"]))
            times_this = _range(ratio(row["seconds"], after["forces 32"]), 1, 2)
            error = f"{row['rmse_mev_a']:.0f}" if "rmse_mev_a" in row else "random"
            lines.append(f"| {row['name']} | {error} | {middle:.1f} | {times_this} |")
        errors = [row["rmse_mev_a"] for row in report["polynomials"]]
        if errors and min(errors) > report["error"]:
            lines += ["", "No polynomial reaches the force error of himlip-h3s-1."]
    lines += [""] + [f"{name} is left out: {reason}." for name, reason in report["left_out"].items()]
    return "\n".join(lines).rstrip() + "\n"


def _range(values: list[float], factor: float, digits: int) -> str:
    low, middle, high = (f"{factor * value:.{digits}f}" for value in values)
    return f"{middle} ({low}–{high})"


def write(measured: Measured, out: Path) -> None:
    """The page and its numbers, as far as they are."""
    import torch

    seconds = sides(measured)
    wanted = [
        {"what": what, "wanted": least, "ratio": ratio(seconds[one][above], seconds[other][below])}
        for what, one, above, other, below, least in WANTED
        if above in seconds[one] and below in seconds[other]
    ]
    about = {
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "rounds": len(measured.seconds["after"]["forces 32"]),
    }
    left_out = {}
    if not measured.maces:
        left_out["MACE"] = "no --mace-python was given; `benchmarks/force_calls.py` compares with it"
    if not measured.polynomials:
        left_out["pypolymlp"] = "no --polynomial-python was given"
    report = {
        "about": about, "seconds": measured.seconds, "wanted": wanted, "error": measured.error,
        "polynomials": measured.polynomials, "maces": measured.maces, "left_out": left_out,
    }  # fmt: skip
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
    parser.add_argument("--polynomial-python", help="interpreter of an environment with pypolymlp and ase")
    parser.add_argument("--mace-python", help="interpreter of an environment with mace-torch")
    parser.add_argument("--largest", type=int, default=512, help="most atoms of a force call")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "engine_page")
    arguments = parser.parse_args()
    tasks = [task for task in TASKS if int(task.split()[1]) <= arguments.largest]
    measure(arguments, tasks)
    print(arguments.out.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

"""Training of the base model himlip-hydride-1 against an earlier build: CPU seconds, and the test error.

    git worktree add FOLDER 06090d2
    python -m benchmarks.hint.training_cost --before FOLDER

`workflows/hydride_base.py` of each build with the same labels, seeds and settings (those of
`examples/hydrides/base.yaml`, but for the number of epochs, `--epochs`); both at the same time, one thread
each.  An epoch more costs what lies between the two lengths; the whole training of 50 epochs is the shorter
one, with labels read and checked, and 49 more.  Errors are those of the cells that the workflow puts aside,
which neither build has seen, after the same number of steps.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "benchmarks" / "results" / "hint_training_cost"
WHOLE = 50
"""Epochs of the model that is in the package."""
WANTED = 2.0


def side(build: Path, epochs: int, seed: int) -> dict[str, Any]:
    """Train with the build that PYTHONPATH names; what it took, and the errors on cells put aside."""
    import torch

    torch.set_num_threads(1)
    place = importlib.util.spec_from_file_location("workflow", build / "workflows" / "hydride_base.py")
    assert place is not None and place.loader is not None
    workflow: Any = importlib.util.module_from_spec(place)
    place.loader.exec_module(workflow)
    settings, network = workflow.read_training_config(workflow.HYDRIDES / "base.yaml")
    training, test = [], []
    for name in workflow.SETS:
        kept, aside = workflow.split(workflow.read_set(name))
        training, test = training + kept, test + aside
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, epochs):
            begun = time.process_time()
            trained = workflow.pretrain(
                training, workflow.hessians(), replace(settings, epochs=count, seed=seed),
                Path(folder) / str(count), network,
            )  # fmt: skip
            seconds.append(time.process_time() - begun)
    errors = workflow.evaluate_labels(trained.model, test).to_dict()
    return {
        "one": seconds[0],
        "seconds": seconds[1],
        "steps": trained.report["training"]["steps"],
        "errors": errors,
    }


def figures(errors: dict[str, Any]) -> dict[str, float]:
    """Errors of all cells put aside, by quantity."""
    found: dict[str, float] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                walk(below, f"{name} {key}".strip())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)

    walk(errors, "")
    return found


def main() -> None:
    """Measure, write."""
    if sys.argv[1:2] == ["side"]:
        build, epochs, seed = sys.argv[2:]
        print(json.dumps(side(Path(build), int(epochs), int(seed))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="checkout of the earlier build")
    parser.add_argument("--epochs", type=int, default=WHOLE)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    for seed in range(given.seeds):
        running = {}
        for name, build in (("before", given.before.resolve()), ("after", ROOT)):
            environment = os.environ | {"PYTHONPATH": str(build), "OMP_NUM_THREADS": "1"}
            task = [sys.executable, "-P", __file__, "side", str(build), str(given.epochs), str(seed)]
            running[name] = subprocess.Popen(
                task, cwd=build, env=environment, stdout=subprocess.PIPE, text=True
            )
        for name, process in running.items():
            answer, _ = process.communicate()
            if process.returncode:
                raise SystemExit(f"the training of {name} ended early; its error stands above")
            rows[name].append(json.loads(answer.splitlines()[-1]))
            print(name, seed, rows[name][-1]["seconds"], rows[name][-1]["steps"], flush=True)
        write(rows, given.epochs)


def change(before: list[float], after: list[float]) -> str:
    """Geometric mean over the seeds of the ratio of the errors, with its standard error."""
    logs = np.log(np.array(after) / np.array(before))
    mean = np.exp(logs.mean())
    spread = f" ± {mean * logs.std(ddof=1) / np.sqrt(len(logs)):.2f}" if len(logs) > 1 else ""
    return f"{mean:.2f}{spread}"


def write(rows: dict[str, list[dict[str, Any]]], epochs: int) -> None:
    """The page and its numbers."""
    from benchmarks.pages import page_head  # the earlier build, which runs this file as well, has none
    from himlip_ase.files import atomic_write, write_json

    def each(name: str, key: str) -> np.ndarray:
        return np.array([row[key] for row in rows[name]])

    seconds = {name: each(name, "seconds") for name in rows}
    more = {name: (each(name, "seconds") - each(name, "one")) / (epochs - 1) for name in rows}
    whole = {name: each(name, "one") + (WHOLE - 1) * more[name] for name in rows}
    ratio = float(np.median(whole["before"] / whole["after"]))
    report = {
        "cpu": platform.processor() or platform.machine(), "epochs": epochs, "rows": rows,
        "ratio_of_the_whole": ratio,
    }  # fmt: skip
    lines = [
        *page_head("What training the base model costs", __doc__),
        f"{epochs} epochs of {rows['after'][0]['steps']} steps in all, {len(rows['after'])} seeds, "
        f"{report['cpu']}, beside other work: ratios hold, seconds do not.", "",
        "| | 06090d2 | this build | ratio |", "|---|---|---|---|",
        *(
            f"| {name} | {np.median(values['before']):.1f} | {np.median(values['after']):.1f} "
            f"| {np.median(values['before'] / values['after']):.2f} |"
            for name, values in (
                ("CPU s, one epoch and what comes before and after", {n: each(n, "one") for n in rows}),
                (f"the same, {epochs} epochs", seconds),
                ("an epoch more", more),
                *([(f"the whole, {WHOLE} epochs", whole)] if epochs != WHOLE else []),
            )
        ), "",
        f"Asked for: at most half of the time, a ratio of {WANTED:g}; "
        f"{'held' if ratio >= WANTED else 'did not hold'}.", "",
        "| error on cells put aside, seed by seed | 06090d2 | this build | ratio |", "|---|---|---|---|",
    ]  # fmt: skip
    every = {name: [figures(row["errors"]) for row in found] for name, found in rows.items()}
    for name in (name for name in every["after"][0] if name.endswith(" rmse") and "relative" not in name):
        pair = [[one[name] for one in every[build]] for build in ("before", "after")]
        cells = [" / ".join(f"{value:.5g}" for value in values) for values in pair]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {change(*pair)} |")
    write_json(OUT.with_suffix(".json"), report, overwrite=True)
    with atomic_write(OUT.with_suffix(".md"), overwrite=True) as stream:
        stream.write("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""What a network from scratch gains from statistics of its inputs taken anew, and from SOAP.

    python -m benchmarks.hint.growing_network --seeds 3        # about ten CPU-minutes

The base model's network learns the hydride cells for 500 steps: with Adam and the input statistics of the
random network only, with Adam and statistics taken anew during the training, and with SOAP in Adam's place.
Judged on every tenth cell, put aside, and on supercells of H3S by a finer DFT. Adam has the rate that the
base was trained with before, 0.003; SOAP did better with 0.01 than with 0.003 and 0.03 on the H3S cells put
aside. Table and numbers go to benchmarks/results/hint_growing_network.*.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from himlip_ase.files import write_json
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.training import input_statistics
from himlip_ase.hint.training.config import read_training_config
from himlip_ase.hint.training.pretrain import pretrain
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.readers import read_labels
from workflows.hydride_base import HYDRIDES, SETS, hessians, read_set, split

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "hint_growing_network"
STEPS = 500
ADAM: dict[str, Any] = {"optimizer": "adam", "learning_rate": 3e-3}
SOAP: dict[str, Any] = {"optimizer": "soap", "learning_rate": 1e-2}
WAYS = {
    "Adam, statistics of the random network": (ADAM, ()),
    "Adam, statistics taken anew": (ADAM, input_statistics.MARKS),
    "SOAP, statistics taken anew": (SOAP, input_statistics.MARKS),
}


@dataclass(frozen=True)
class Row:
    """One training; forces in meV/Å."""

    way: str
    seed: int
    cells_learnt: float
    cells_put_aside: float
    supercells: float
    cpu_seconds: float


def trained(way: str, training: list[LabelledFrame], judges: list[LabelledFrame], seed: int) -> Row:
    """Train in one way."""
    settings, network = read_training_config(HYDRIDES / "base.yaml")
    epochs = round(STEPS / -(-len(training) // settings.batch_size))
    changes, input_statistics.MARKS = WAYS[way]
    start = time.process_time()
    settings = replace(settings, epochs=epochs, seed=seed, **changes)
    model = pretrain(training, hessians(), settings, network=network).model
    seconds = time.process_time() - start
    errors = evaluate_labels(model, [replace(f, set="learnt") for f in training] + judges).sets
    found = [errors[name].forces for name in ("learnt", "aside", "validation")]
    learnt, aside, supercells = (1e3 * forces.rmse for forces in found if forces is not None)
    return Row(way, seed, learnt, aside, supercells, seconds)


def write(rows: list[Row]) -> None:
    """Table and numbers."""
    lines = [
        f"`python -m benchmarks.hint.growing_network`: force RMSE (meV/Å) after {STEPS} steps, every seed.",
        "",
        "| optimiser, input statistics | cells learnt | cells put aside | supercells of H3S | CPU s |",
        "|---|---|---|---|---|",
    ]
    for way in WAYS:
        own = [row for row in rows if row.way == way]
        names = ("cells_learnt", "cells_put_aside", "supercells", "cpu_seconds")
        columns = [", ".join(f"{getattr(row, name):.0f}" for row in own) for name in names]
        lines.append(f"| {way} | " + " | ".join(columns) + " |")
    write_json(RESULTS.with_suffix(".json"), [asdict(row) for row in rows], overwrite=True)
    RESULTS.with_suffix(".md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def main() -> None:
    """Run, rewriting the table after each training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training, judges = [], read_labels(ROOT / "examples" / "h3s" / "labels_k12" / "validation.extxyz")
    for name in SETS:
        kept, aside = split(read_set(name))
        training += kept
        judges += [replace(frame, set="aside") for frame in aside]
    rows: list[Row] = []
    for seed in range(arguments.seeds):
        for way in WAYS:
            rows.append(trained(way, training, judges, seed))
            print(rows[-1], flush=True)
            write(rows)


if __name__ == "__main__":
    main()

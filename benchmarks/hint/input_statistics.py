"""What it is worth to take the statistics of a growing network's inputs anew.

    python benchmarks/hint/input_statistics.py --seeds 3        # about seven CPU-minutes

The base model's network learns the hydride cells for 500 steps, with statistics of the random network only,
and with statistics taken anew during the training; judged on every tenth cell, put aside, and on supercells
of H3S by a finer DFT. Table and numbers go to benchmarks/results/hint_input_statistics.*.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflows"))
from hydride_base import HYDRIDES, SETS, hessians, read_set, split

from himlip_ase.files import write_json
from himlip_ase.hint import input_statistics
from himlip_ase.hint.config import read_training_config
from himlip_ase.hint.evaluate import evaluate_labels
from himlip_ase.hint.labels import LabelledFrame, read_labels
from himlip_ase.hint.pretrain import pretrain

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "hint_input_statistics"
STEPS = 500
WAYS = {"of the random network": (), "taken anew": input_statistics.MARKS}


@dataclass(frozen=True)
class Row:
    """One training; forces in meV/Å."""

    statistics: str
    seed: int
    cells_put_aside: float
    supercells: float


def trained(way: str, training: list[LabelledFrame], judges: list[LabelledFrame], seed: int) -> Row:
    """Train with one kind of statistics."""
    settings, network = read_training_config(HYDRIDES / "base.yaml")
    epochs = round(STEPS / -(-len(training) // settings.batch_size))
    input_statistics.MARKS = WAYS[way]
    model = pretrain(training, hessians(), replace(settings, epochs=epochs, seed=seed), network=network).model
    errors = evaluate_labels(model, judges).sets
    aside, supercells = (errors[name].forces for name in ("aside", "validation"))
    assert aside is not None and supercells is not None
    return Row(way, seed, 1e3 * aside.rmse, 1e3 * supercells.rmse)


def write(rows: list[Row]) -> None:
    """Table and numbers."""
    lines = [
        "`python benchmarks/hint/input_statistics.py`: force RMSE (meV/Å) after 500 steps, every seed.",
        "",
        "| statistics of the inputs | cells put aside | supercells of H3S |",
        "|---|---|---|",
    ]
    for way in WAYS:
        own = [row for row in rows if row.statistics == way]
        columns = [[r.cells_put_aside for r in own], [r.supercells for r in own]]
        lines.append(f"| {way} | " + " | ".join(", ".join(f"{x:.0f}" for x in c) for c in columns) + " |")
    write_json(RESULTS.with_suffix(".json"), [asdict(row) for row in rows], overwrite=True)
    RESULTS.with_suffix(".md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def main() -> None:
    """Run, rewriting the table after each training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training, judges = [], read_labels(ROOT / "examples" / "h3s" / "labels" / "validation.extxyz")
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

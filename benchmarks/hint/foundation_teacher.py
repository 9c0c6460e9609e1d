"""Does a foundation model tuned on a few DFT cells teach better than coarse DFT, at the same cost.

    python -m benchmarks.hint.foundation_teacher --seeds 2 --folder runs/foundation_teacher

PdH at 0 GPa and H3S near 150 GPa. Every fast network (that of `examples/hydrides/base.yaml`, from scratch)
is pre-trained on cheap labels, then fine-tuned on the same four accurate cells, in the same numbers of
steps. What differs is who made the cheap labels, for how many core-minutes: coarse DFT (the cells of
`examples/hydrides/labels`), SevenNet 0.13.0 as its wheel brings it (7net-0), or SevenNet tuned on the four
cells (all weights, forces and stresses). Both teachers label the same disordered supercells of
`zero_point.py`, which no DFT saw. Core-minutes are CPU time: of pw.x as the labels record it, of a
teacher's tuning and labels on one thread. The judges are the validation cells of each crystal, which nobody
learns; steps and rate of the tuning were chosen on learnt cells of PdH beyond the four. Needs SevenNet
(`benchmarks.hint.sevennet_teacher` says how).
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.hint.sevennet_teacher import sevennet, tune
from benchmarks.hint.study import Study, spread
from benchmarks.pages import page_head
from himlip_ase.dft.ase_calculator.engine import AseCalculator
from himlip_ase.dft.executors import Local
from himlip_ase.dft.publish import collect
from himlip_ase.dft.single_points import run_jobs
from himlip_ase.files import atomic_write, read_mapping, write_json
from himlip_ase.hint.training.config import read_training_config
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.readers import read_labels
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.widening import restricted_to
from himlip_ase.structures import read_structures

ROOT = Path(__file__).parents[2]
EXAMPLES, HYDRIDES = ROOT / "examples", ROOT / "examples" / "hydrides"
RESULTS = ROOT / "benchmarks" / "results" / "hint_foundation_teacher"
TEACHER = "benchmarks.hint.sevennet_teacher:sevennet"
BASE = "himlip-hydride-1"
ACCURATE, CELLS = 4, 60
"""Accurate cells that all learn; cells that a teacher labels."""
STEPS, FINE_STEPS = 300, 200
"""Of pre-training, in batches of eight; of fine-tuning, in batches of four."""


@dataclass(frozen=True)
class Crystal:
    """One crystal of the comparison.

    Attributes
    ----------
    name : str
        Of its folder in `examples`.
    elements : tuple of str
    learn : str
        The set whose first cells are learnt.
    judges : tuple of str
    coarse : tuple of str
        Sets of coarse labels.
    system, prototype : str
        Of its cells there.
    epochs, rate : int, float
        Of tuning the teacher.
    """

    name: str
    elements: tuple[str, ...]
    learn: str
    judges: tuple[str, ...]
    coarse: tuple[str, ...]
    system: str
    prototype: str
    epochs: int
    rate: float

    def labels(self, *names: str) -> list[LabelledFrame]:
        """Sets of its label folder."""
        return read_labels([EXAMPLES / self.name / "labels" / f"{name}.extxyz" for name in names])


CRYSTALS = {
    "pdh": Crystal(
        "pdh", ("H", "Pd"), "learn_second", ("validation",), ("coarse",), "Pd-H", "PdH-rocksalt", 20, 1e-3,
    ),
    "h3s": Crystal(
        "h3s", ("H", "S"), "learn", ("validation_first", "validation_second"), ("h3s_zero_point",), "H-S",
        "H3S-Im-3m", 10, 1e-3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cheap:
    """Cheap labels, and the core-minutes that they took beyond the accurate cells."""

    frames: list[LabelledFrame]
    core_minutes: float


def coarse(crystal: Crystal, core_minutes: float) -> Cheap:
    """The first coarse labels of a crystal's elements, for so many core-minutes."""
    found: list[LabelledFrame] = []
    spent = 0.0
    for name in crystal.coarse:
        path = HYDRIDES / "labels" / f"{name}.extxyz"
        for frame, atoms in zip(read_labels(path), read_structures([path]), strict=True):
            minutes = float(atoms.info["core_seconds"]) / 60
            if atoms.info["system"] == crystal.system and spent + minutes <= core_minutes:
                found.append(frame)
                spent += minutes
    return Cheap(found, spent)


def taught(crystal: Crystal, folder: Path, tuned: bool) -> Cheap:
    """Labels of the teacher, as `himlip label supercell --engine ase` and `himlip label collect` do."""
    folder = folder / crystal.name
    folder.mkdir(parents=True, exist_ok=True)
    name = "tuned" if tuned else "untuned"
    minutes, arguments = 0.0, {}
    if tuned:
        weights, record = folder / "tuned.safetensors", folder / "tuned.json"
        if not record.is_file():
            four = crystal.labels(crystal.learn)[:ACCURATE]
            write_json(record, {"seconds": tune(four, weights, crystal.epochs, crystal.rate)})
        minutes, arguments = read_mapping(record)["seconds"] / 60, {"weights": str(weights.absolute())}
    drawn = folder / "cells.extxyz"
    if not drawn.is_file():
        words = [str(drawn), "--count", str(CELLS), "--seed", "11", "--only", crystal.prototype]
        subprocess.run([sys.executable, str(HYDRIDES / "zero_point.py"), *words], check=True)
    labels = folder / "labels" / f"{name}.extxyz"
    if not labels.is_file():
        jobs = AseCalculator(TEACHER, arguments).single_points(read_structures([drawn]), folder / name)
        with Local().opened(1, programs=False) as executor:
            run_jobs(jobs, executor=executor, resume=True)
        collect(folder / name, name, folder / "labels", compact=True)
    minutes += read_mapping(labels.with_suffix(".json"))["core_seconds"] / 60
    return Cheap(read_labels(labels), minutes)


def pretrained(crystal: Crystal, frames: Sequence[LabelledFrame], seed: int) -> Potential:
    """A network from scratch after `STEPS` steps on cheap labels."""
    settings, network = read_training_config(HYDRIDES / "base.yaml")
    assert network is not None
    batch = min(settings.batch_size, len(frames))
    epochs = -(-STEPS // -(-len(frames) // batch))
    settings = replace(settings, epochs=epochs, batch_size=batch, seed=seed)
    return finetune(frames, settings=settings, network=replace(network, elements=crystal.elements)).model


def finetuned(base: Potential, frames: Sequence[LabelledFrame], seed: int) -> Potential:
    """The base after `FINE_STEPS` steps on the accurate cells; energies are of another zero and left out."""
    settings, _ = read_training_config(HYDRIDES / "second.yaml")
    settings = replace(settings, epochs=FINE_STEPS, batch_size=ACCURATE, seed=seed)
    return finetune([replace(frame, energy=None) for frame in frames], (), base, settings).model


def judged(forces: Sequence[np.ndarray], frames: Sequence[LabelledFrame]) -> dict[str, float]:
    """Errors of all forces, of hydrogen's and of the other element's, meV/Å rms."""
    errors = np.concatenate([ours - frame.forces for ours, frame in zip(forces, frames, strict=True)])
    hydrogen = np.concatenate([frame.atoms.numbers == 1 for frame in frames])
    parts = {"all": errors, "hydrogen": errors[hydrogen], "other": errors[~hydrogen]}
    return {name: 1e3 * float(np.sqrt(np.mean(part**2))) for name, part in parts.items()}


def by_network(model: Potential, frames: Sequence[LabelledFrame]) -> dict[str, float]:
    """What a network misses."""
    return judged(list(evaluate(model, [frame.atoms for frame in frames]).force_array), frames)


def by_teacher(weights: Path | None, frames: Sequence[LabelledFrame]) -> dict[str, float]:
    """What a teacher itself misses."""
    calculator = sevennet(None if weights is None else str(weights.absolute()))
    copies = [frame.atoms.copy() for frame in frames]
    for atoms in copies:
        atoms.calc = calculator
    return judged([atoms.get_forces() for atoms in copies], frames)


def ways(crystal: Crystal, folder: Path, study: Study, seeds: int, most: int) -> None:
    """All ways of one crystal, row by row; those that are there already are not done again."""
    four = crystal.labels(crystal.learn)[:ACCURATE]
    judges = crystal.labels(*crystal.judges)

    def add(way: str, seed: int, cheap: Cheap | None, errors: dict[str, float], seconds: float) -> None:
        row = {"crystal": crystal.name, "way": way, "seed": seed, **errors, "train_seconds": seconds}
        row |= {"cheap_cells": len(cheap.frames) if cheap else 0}
        row |= {"cheap_core_minutes": cheap.core_minutes if cheap else 0.0}
        study.add([row])
        print(row, flush=True)

    tuned = taught(crystal, folder, True)
    made = {
        "SevenNet tuned on the four": tuned,
        "coarse DFT, at the tuned teacher's cost": coarse(crystal, tuned.core_minutes),
        "four accurate cells alone": None,
        BASE: None,
        "SevenNet as it comes": taught(crystal, folder, False) if most > 4 else None,
        "coarse DFT, all": coarse(crystal, np.inf),
    }
    sizes = judged([np.zeros_like(frame.forces) for frame in judges], judges)
    about = {"judges": len(judges), "forces": sizes, "accurate_core_minutes": cost(crystal)}
    study.extra[crystal.name] = about
    if not study.has(crystal.name, "SevenNet itself, as it comes", 0):
        add("SevenNet itself, as it comes", 0, None, by_teacher(None, judges), 0.0)
        weights = folder / crystal.name / "tuned.safetensors"
        add("SevenNet itself, tuned", 0, None, by_teacher(weights, judges), 0.0)
    for seed in range(seeds):
        for way in list(made)[:most]:
            if study.has(crystal.name, way, seed):
                continue
            begun, cheap = time.process_time(), made[way]
            if way == BASE:
                base = restricted_to(load_model(BASE), list(crystal.elements))
            else:
                base = pretrained(crystal, cheap.frames if cheap else four, seed)
            before = by_network(base, judges)["all"]
            model = finetuned(base, four, seed)
            errors = by_network(model, judges) | {"before_fine_tuning": before}
            add(way, seed, cheap, errors, time.process_time() - begun)


def cost(crystal: Crystal) -> float:
    """Core-minutes of the accurate cells."""
    path = EXAMPLES / crystal.name / "labels" / f"{crystal.learn}.extxyz"
    return sum(float(atoms.info["core_seconds"]) for atoms in read_structures([path])[:ACCURATE]) / 60


def main() -> None:
    """Rows as they come, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(CRYSTALS), default=list(CRYSTALS))
    folder = Path("runs/foundation_teacher")
    parser.add_argument("--folder", type=Path, default=folder, help="teachers and labels")
    parser.add_argument("--most", type=int, default=6, help="so many ways of each crystal, the first")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    settings = {"accurate": ACCURATE, "cells": CELLS, "steps": STEPS, "fine_steps": FINE_STEPS}
    study = Study(RESULTS.with_suffix(".json"), settings, ("crystal", "way", "seed"))
    for name in given.only:
        ways(CRYSTALS[name], given.folder, study, given.seeds, given.most)
    with atomic_write(RESULTS.with_suffix(".md"), overwrite=True) as stream:
        stream.write(table(study))


def table(study: Study) -> str:
    """The result as Markdown."""
    lines = page_head("A tuned foundation model as a teacher, beside coarse DFT at its cost", __doc__)
    lines += [
        f"{STEPS} steps of pre-training and {FINE_STEPS} of fine-tuning each. Force errors on the judges,",
        "meV/Å rms (± over seeds, where there are several); core-minutes beyond the four accurate cells.",
    ]
    for name, about in study.extra.items():
        sizes = about["forces"]
        lines += [
            "",
            f"## {name}: {about['judges']} judges, forces of {sizes['all']:.0f} meV/Å; the four cells took "
            f"{about['accurate_core_minutes']:.0f} core-minutes",
            "",
            "| cheap labels | cells | core-minutes | before fine-tuning | all | hydrogen | other | seeds |",
            "|---|---|---|---|---|---|---|---|",
        ]
        rows = study.chosen(crystal=name)
        for way in dict.fromkeys(row["way"] for row in rows):
            own = [row for row in rows if row["way"] == way]
            before = [row["before_fine_tuning"] for row in own if "before_fine_tuning" in row]
            digits = 1 if len(own) > 1 else 0
            errors = [_mean([row[key] for row in own], digits) for key in ("all", "hydrogen", "other")]
            cells, minutes = own[0]["cheap_cells"], own[0]["cheap_core_minutes"]
            first = [way, *([str(cells), f"{minutes:.1f}"] if cells else ["–", "–"])]
            first.append(_mean(before, 0) if before else "–")
            lines.append(f"| {' | '.join([*first, *errors, str(len(own))])} |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float], digits: int) -> str:
    return spread(values, digits) if len(values) > 1 else f"{values[0]:.0f}"


if __name__ == "__main__":
    main()

"""Study B: which projections of Hessians a network learns from best, at equal products and equal time.

    python benchmarks/hint/probes.py                # rattled cells, exact Hessians of the shipped potential
    python benchmarks/hint/probes.py --part crystal # the harmonic Hessian of the 2×2×2 supercell (DFT)

"cells": a network of half the width learns energies, forces, stresses and Hessians of rattled cells of eight
atoms (2×1×1 H3S) that the shipped potential himlip-h3s-1 labels exactly, and is judged on cells it has not
seen. "crystal": unit cells of the DFT labels and the Hessian of 32 atoms, not folded, so that nothing but the
network knows the symmetry; judged on the whole Hessian, its frequencies and the validation supercells.

All runs have the same weights, batches, learning rate (constant) and averaged weights; errors are those of
the averaged weights along one run. Times are CPU seconds of one core, without the measuring. Products are
Hessian-vector products taken in training. Results go to benchmarks/results/hint_probes_*; a run that is cut
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from h3s_teacher import STUDENT, TEACHER, Teacher, crystal, errors, rattled
from h3s_training import LABELS, ROOT
from study import Study, at, by_seed, spread

from himlip_ase.hint.curriculum import Curriculum
from himlip_ase.hint.evaluate import evaluate_labels
from himlip_ase.hint.finetune import start_model
from himlip_ase.hint.labels import HessianLabel, LabelledFrame, read_hessian, read_labels
from himlip_ase.hint.losses import LossWeights
from himlip_ase.hint.progress import Progress
from himlip_ase.hint.settings import TrainingSettings
from himlip_ase.hint.training import Trainer
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.network import HiMLIP

RESULTS = ROOT / "benchmarks" / "results"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """How Hessians are projected, and for what share of the steps."""

    probe: str
    probes: int = 1
    share: float = 1.0


CELL_WAYS = {
    "no Hessian": Way("rademacher", 0),
    "one-hot": Way("one-hot"),
    "fixed random": Way("fixed"),
    "Gaussian": Way("gaussian"),
    "Rademacher": Way("rademacher"),
    "2 Rademacher": Way("rademacher", 2),
    "4 Rademacher": Way("rademacher", 4, 0.6),
    "full Hessian": Way("full", 24, 0.15),
}
CRYSTAL_WAYS = {
    "no Hessian": Way("rademacher", 0),
    "one-hot": Way("one-hot"),
    "fixed random": Way("fixed"),
    "Rademacher": Way("rademacher"),
    "4 Rademacher": Way("rademacher", 4, 0.5),
}
FRACTIONS = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Of a run's steps, after which it is measured."""


@dataclass(frozen=True)
class Part:
    """One half of the study."""

    ways: dict[str, Way]
    error: str
    title: str
    settings: dict[str, Any]
    labels: Callable[
        [int], tuple[list[LabelledFrame], list[HessianLabel], Callable[[HiMLIP], dict[str, float]]]
    ]


def cell_labels(seed: int) -> tuple[list[LabelledFrame], list[HessianLabel], Callable]:
    """Rattled cells with exact labels, and errors on unseen ones."""
    teacher = Teacher()
    training = teacher.frames(rattled(crystal(), CELLS["cells"], CELLS["stdev"], seed), "training")
    unseen = teacher.frames(rattled(crystal(), CELLS["unseen"], CELLS["stdev"], 1000), "unseen")
    return training, [f.hessian for f in training if f.hessian], lambda model: asdict(errors(model, unseen))


def crystal_labels(_: int) -> tuple[list[LabelledFrame], list[HessianLabel], Callable]:
    """Unit cells, the Hessian of the supercell, and errors on it and on supercells."""
    training = read_labels([LABELS / f"{name}.extxyz" for name in CRYSTAL["sets"]])
    validation, label = read_labels(LABELS / "validation.extxyz"), read_hessian(LABELS / "harmonic")

    def judge(model: HiMLIP) -> dict[str, float]:
        with frozen(model):
            found = evaluate_labels(model, validation, [label])
        harmonic, forces = next(iter(found.hessians.values())), found.sets["validation"].forces
        assert harmonic.frequencies is not None and forces is not None
        return {
            "force_rmse_mev_per_angstrom": 1e3 * forces.rmse,
            "hessian_rmse": harmonic.hessian.rmse,
            "eigenvalue_mae": harmonic.eigenvalues.mae,
            "frequency_rmse_cm": harmonic.frequencies.rmse,
        }

    return training, [label], judge


CELLS = {"teacher": TEACHER, "cells": 12, "unseen": 4, "stdev": 0.13, "batch": 3, "steps": 160}
CRYSTAL = {"sets": ["rattle040", "rattle013"], "batch": 4, "steps": 100}
PARTS = {
    "cells": Part(CELL_WAYS, "hessian_rmse", "unseen cells of 8 atoms", CELLS, cell_labels),
    "crystal": Part(CRYSTAL_WAYS, "hessian_rmse", "2×2×2 Hessian of 32 atoms", CRYSTAL, crystal_labels),
}


def run(part: Part, name: str, seed: int) -> list[dict[str, Any]]:
    """Train in one way with one seed; a row for each time it was measured."""
    way = part.ways[name]
    training, hessians, judge = part.labels(seed)
    per_epoch = -(-len(training) // part.settings["batch"])
    epochs = max(len(FRACTIONS), round(way.share * part.settings["steps"] / per_epoch))
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=part.settings["batch"],
        hessian_batch=min(part.settings["batch"], len(hessians)),
        probe=way.probe,  # type: ignore[arg-type]
        probes=max(way.probes, 1),
        schedule="constant",
        ema=0.98,
        validation_fraction=0.0,
        validate_every=10**6,
        device="cpu",
        seed=seed,
        loss=LossWeights(hessian=100.0 if way.probes else 0.0),
        curriculum=Curriculum("constant"),
    )
    model, _ = start_model(training, hessians, None, STUDENT, settings)
    trainer = Trainer(model, training, hessians if way.probes else [], settings)
    planned = {max(1, round(f * epochs)) for f in FRACTIONS}
    products = settings.hessian_batch * way.probes * per_epoch
    rows: list[dict[str, Any]] = []
    spent, begun = 0.0, time.process_time()

    def measure(progress: Progress) -> None:
        nonlocal spent, begun
        if progress.epoch not in planned:
            return
        spent += time.process_time() - begun
        with trainer.averaged_weights():
            found = judge(trainer.model)
        row = {"way": name, "seed": seed, "steps": progress.step, "products": products * progress.epoch}
        rows.append(row | {"cpu_seconds": spent} | found)
        logger.info("%s", rows[-1])
        begun = time.process_time()

    trainer.on_epoch = measure
    trainer.run()
    return rows


def comparisons(study: Study, part: Part) -> tuple[dict[str, list[str]], dict[str, list[float]]]:
    """Cells of the table, and errors per seed at the time of one Rademacher run."""
    ways = [name for name in part.ways if study.chosen(way=name)]
    one = dict(by_seed(study.chosen(way="Rademacher"), "steps"))
    cells: dict[str, list[str]] = {}
    at_time: dict[str, list[float]] = {}
    for name in ways:
        own = dict(by_seed(study.chosen(way=name), "steps"))
        last = [rows[-1] for rows in own.values()]
        whole, at_time[name], at_products = [], [], []
        for seed, rows in own.items():
            if seed not in one:
                continue
            whole.append(rows[-1]["cpu_seconds"] / rows[-1]["steps"])
            at_time[name].append(at(rows, "cpu_seconds", 0.95 * one[seed][-1]["cpu_seconds"], part.error))
            if part.ways[name].probes:
                least = min(rows[-1]["products"], one[seed][-1]["products"])
                at_products.append(at(rows, "products", least, part.error))
        cells[name] = [
            f"{1e3 * np.mean(whole):.0f}",
            f"{last[0]['steps']}",
            f"{last[0]['products']}",
            f"{np.mean([r['cpu_seconds'] for r in last]):.0f}",
            spread([r[part.error] for r in last], 3),
            spread([r["eigenvalue_mae"] for r in last], 3),
            spread([r["force_rmse_mev_per_angstrom"] for r in last]),
            spread(at_time[name], 3) if np.isfinite(at_time[name]).all() else "–",
            spread(at_products, 3) if at_products and np.isfinite(at_products).all() else "–",
        ]
        if "frequency_rmse_cm" in last[0]:
            cells[name].insert(6, spread([r["frequency_rmse_cm"] for r in last], 1))
    return cells, at_time


def claims(study: Study, part: Part) -> list[str]:
    """Whether the claims held."""
    _, errors_at = comparisons(study, part)

    def compare(text: str, first: str, second: str) -> str:
        ratio = np.array(errors_at[first]) / np.array(errors_at[second])
        if not np.isfinite(ratio).all():
            return f"- {text}: not comparable at equal time"
        word = "held" if (ratio < 1).all() else "did not hold" if (ratio >= 1).all() else "undecided"
        change = f"{np.mean(ratio):.2f} ± {np.std(ratio):.2f} times"
        return f"- {text}: **{word}**; Hessian RMSE {change} at equal time"

    lines = [compare("a random probe beats one column (the paper, PHL)", "Rademacher", "one-hot")]
    lines.append(compare("a fixed random probe beats a fresh column", "fixed random", "one-hot"))
    if "full Hessian" in errors_at and study.chosen(way="full Hessian"):

        def step(name: str) -> float:
            ends = [rows[-1] for _, rows in by_seed(study.chosen(way=name), "steps")]
            return float(np.mean([r["cpu_seconds"] / r["steps"] for r in ends]))

        ratio = step("full Hessian") / step("Rademacher")
        added = (step("full Hessian") - step("no Hessian")) / (step("Rademacher") - step("no Hessian"))
        verdict = "held" if ratio >= 24 else "did not hold here"
        lines.append(
            f"- a probe is 24 times cheaper than the full Hessian (PHL): **{verdict}** for whole steps of "
            f"cells with 24 columns, which are {ratio:.1f} times cheaper; what Hessians add to the "
            f"energy-force step is {added:.0f} times cheaper. The factor grows with the number of columns, 3N"
        )
        lines.append(compare("one probe beats the full Hessian at equal time", "Rademacher", "full Hessian"))
    for more in ("2 Rademacher", "4 Rademacher"):
        if more in errors_at:
            lines.append(
                compare(f"one probe, more steps beats {more} probes, fewer steps", "Rademacher", more)
            )
    lines.append(compare("Hessians pay for their time (against none, longer)", "Rademacher", "no Hessian"))
    return lines


def markdown(study: Study, part: Part) -> str:
    """The table of the results page."""
    header = [
        "probe",
        "ms/step",
        "steps",
        "products",
        "CPU s",
        "Hessian RMSE (eV/Å²)",
        "eigenvalue MAE (eV/Å²)",
    ]
    header += ["forces (meV/Å)", "Hessian RMSE at equal time", "at equal products"]
    cells, _ = comparisons(study, part)
    if len(next(iter(cells.values()))) == len(header):
        header.insert(7, "frequencies (cm⁻¹)")
    seeds = sorted(study.values("seed"))
    lines = [
        f"# Probes of Hessians: {part.title}",
        "",
        *(line for line in (__doc__ or "").splitlines() if "--part" in line or line.endswith("potential")),
        "",
        f"{study.settings}; seeds {seeds}, mean ± spread. Equal time: when one Rademacher probe has nearly "
        "finished. Equal products: where the shorter of the two runs ends.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join([name, *values]) + " |" for name, values in cells.items()),
        "",
        "Claims:",
        "",
        *claims(study, part),
    ]
    return "\n".join(lines) + "\n"


def figure(study: Study, part: Part, path: Path) -> None:
    """Error against time and against products, mean over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, both = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained", sharey=True)
    for axes, column, label in zip(
        both, ("cpu_seconds", "products"), ("CPU seconds of training", "Hessian-vector products"), strict=True
    ):
        for place, name in enumerate(part.ways):
            runs = [rows for _, rows in by_seed(study.chosen(way=name), "steps")]
            if not runs or not runs[0][-1][column]:
                continue
            x = np.mean([[r[column] for r in rows] for rows in runs], axis=0)
            y = np.array([[r[part.error] for r in rows] for rows in runs])
            axes.plot(x, y.mean(0), "o-", ms=3, color=f"C{place}", label=name)
            axes.fill_between(x, y.min(0), y.max(0), color=f"C{place}", alpha=0.15, lw=0)
        axes.set(xscale="log", yscale="log", xlabel=label)
    both[0].set_ylabel(f"Hessian RMSE, {part.title} (eV/Å²)")
    both[0].legend(frameon=False, fontsize=8)
    both[0].figure.savefig(path, dpi=150)


def main() -> None:
    """Run what is missing and write table and figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("himlip_ase").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=PARTS, default="cells")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    part = PARTS[arguments.part]
    stem = RESULTS / f"hint_probes_{arguments.part}"
    study = Study(stem.with_suffix(".json"), part.settings, ("way", "seed"))
    for seed in range(arguments.seeds):
        for name in part.ways:
            if not study.has(name, seed):
                study.add(run(part, name, seed))
        write(study, part, stem)


def write(study: Study, part: Part, stem: Path) -> None:
    """Table and figure of what there is."""
    stem.with_suffix(".md").write_text(markdown(study, part), encoding="utf-8")
    figure(study, part, stem.with_suffix(".png"))


if __name__ == "__main__":
    main()

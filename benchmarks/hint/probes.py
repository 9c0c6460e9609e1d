"""Study B: which projections of Hessians a network learns from best, at equal products and equal time.

    python benchmarks/hint/probes.py                # rattled cells
    python benchmarks/hint/probes.py --part crystal # the Hessian of a 2×2×2 supercell

The truth is a neighbour of the shipped potential of H3S, which labels exactly, and fine-tuning starts from
the shipped potential (see h3s_teacher.py). "cells": energies, forces, stresses and Hessians of rattled cells
of eight atoms, judged on cells that were not trained on. "crystal": unit cells, and the Hessian of the ideal
32-atom supercell, not folded except in one row, so that nothing but the network knows its symmetry; judged on
all of that Hessian.

All runs of a seed have the same batches, learning rate (constant) and averaging of the weights, and are
measured along the way. Times are the numbers of steps times what a step costs, in CPU seconds of one core,
the least of interleaved repetitions. Products are Hessian-vector products taken in training. Results go to
benchmarks/results/hint_probes_*; a run that is cut goes on where it stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from h3s_teacher import BASE, CHANGE, Teacher, crystal, errors, rattled
from h3s_training import LABELS, ROOT
from study import Study, at, by_seed, parse_study, spread

from himlip_ase.hint.curriculum import Curriculum
from himlip_ase.hint.evaluate import hessian_errors
from himlip_ase.hint.finetune import start_model
from himlip_ase.hint.folding import fold_hessian
from himlip_ase.hint.labels import HessianLabel, LabelledFrame, read_hessian
from himlip_ase.hint.losses import LossWeights
from himlip_ase.hint.products import HessianProducts
from himlip_ase.hint.progress import Progress
from himlip_ase.hint.settings import TrainingSettings
from himlip_ase.hint.training import Trainer
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.evaluate import frozen

RESULTS = ROOT / "benchmarks" / "results"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """How Hessians are projected, and for what share of the steps."""

    probe: str
    probes: int = 1
    share: float = 1.0
    folded: bool = False


CELL_WAYS = {
    "no Hessian": Way("rademacher", 0, 1.6),
    "one-hot": Way("one-hot"),
    "fixed column": Way("fixed column"),
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
    "Rademacher, folded": Way("rademacher", folded=True),
}
RATE = 3e-4
HESSIAN_WEIGHT = 20.0
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""Of a run's steps, after which it is measured."""


Labels = tuple[list[LabelledFrame], list[HessianLabel], Callable[[Any], dict[str, float]]]
"""What is trained on, and what measures a model."""


@dataclass(frozen=True)
class Part:
    """One half of the study."""

    ways: dict[str, Way]
    error: str
    title: str
    settings: dict[str, Any]
    labels: Callable[[int], Labels]


def cell_labels(seed: int) -> Labels:
    """Rattled cells with exact labels, and errors on unseen ones."""
    teacher = Teacher()
    training = teacher.frames(rattled(crystal(), CELLS["cells"], CELLS["stdev"], seed), "training")
    unseen = teacher.frames(rattled(crystal(), CELLS["unseen"], CELLS["stdev"], 1000), "unseen")
    return training, [f.hessian for f in training if f.hessian], lambda model: asdict(errors(model, unseen))


def crystal_labels(seed: int) -> Labels:
    """Rattled unit cells, the Hessian of the supercell, and errors on it."""
    teacher = Teacher()
    images = rattled(crystal((1, 1, 1)), CRYSTAL["cells"], CRYSTAL["stdev"], seed)
    training = teacher.frames(images, "training", with_hessians=False)
    label = read_hessian(LABELS / "harmonic")
    constants = label.force_constants
    assert constants is not None
    stride = len(label.atoms) // len(constants.primitive)
    with frozen(teacher.model):
        rows = hessian(teacher.model, label.atoms, indices=range(0, len(label.atoms), stride)).numpy()
    exact = type(constants)(constants.primitive, constants.dims, rows.transpose(0, 2, 1, 3))
    label = replace(label, matrix=exact.hessian(), force_constants=exact)

    def judge(model: Any) -> dict[str, float]:
        with frozen(model):
            found = hessian_errors(model, label)
        assert found.frequencies is not None
        return {
            "hessian_rmse": found.hessian.rmse,
            "eigenvalue_mae": found.eigenvalues.mae,
            "frequency_rmse_cm": found.frequencies.rmse,
        }

    return training, [label], judge


CELLS: dict[str, Any] = {"change": CHANGE, "cells": 18, "unseen": 3, "stdev": 0.1, "batch": 3, "steps": 72}
CRYSTAL: dict[str, Any] = {"change": CHANGE, "cells": 16, "stdev": 0.1, "batch": 4, "steps": 60}
PARTS = {
    "cells": Part(CELL_WAYS, "hessian_rmse", "unseen cells of 8 atoms", CELLS, cell_labels),
    "crystal": Part(CRYSTAL_WAYS, "hessian_rmse", "2×2×2 Hessian of 32 atoms", CRYSTAL, crystal_labels),
}


def one_column(label: HessianLabel, seed: int) -> HessianProducts:
    """One column of a Hessian, drawn once and for all."""
    atom, axis = divmod(int(np.random.default_rng(seed).integers(3 * len(label.atoms))), 3)
    return HessianProducts.of_columns(label.atoms, [(atom, axis)], label.matrix[:, :, atom, axis][None])


def trainer(part: Part, way: Way, labels: Labels, seed: int) -> Trainer:
    """What trains in one way with one seed."""
    training: list[LabelledFrame] = labels[0]
    hessians: list[Any] = labels[1]
    if way.probe == "fixed column":
        hessians = [one_column(label, k + 100 * seed) for k, label in enumerate(hessians)]
    if way.folded:
        hessians = [cell for label in hessians for cell in fold_hessian(label)]
    per_epoch = -(-len(training) // part.settings["batch"])
    settings = TrainingSettings(
        epochs=max(1, round(way.share * part.settings["steps"] / per_epoch)),
        batch_size=part.settings["batch"],
        hessian_batch=part.settings["batch"] if len(training) == len(hessians) else 1,
        probe="fixed" if way.probe == "fixed column" else way.probe,  # type: ignore[arg-type]
        probes=max(way.probes, 1),
        learning_rate=RATE,
        schedule="constant",
        warmup_steps=10,
        ema=0.95,
        validation_fraction=0.0,
        validate_every=10**6,
        device="cpu",
        seed=seed,
        loss=LossWeights(hessian=HESSIAN_WEIGHT if way.probes else 0.0),
        curriculum=Curriculum("constant"),
    )
    model, _ = start_model(training, hessians, BASE, None, settings)
    return Trainer(model, training, hessians if way.probes else [], settings)


def run(part: Part, name: str, labels: Labels, seed: int) -> list[dict[str, Any]]:
    """Train in one way with one seed; a row for each time it was measured."""
    way, own = part.ways[name], trainer(part, part.ways[name], labels, seed)
    assert own.settings.epochs is not None
    epochs, judge = own.settings.epochs, labels[2]
    products = own.settings.hessian_batch * way.probes * -(-len(own.store) // own.settings.batch_size)
    planned = {max(1, round(f * epochs)) for f in FRACTIONS}
    rows: list[dict[str, Any]] = []
    spent, begun = 0.0, time.process_time()

    def measure(progress: Progress) -> None:
        nonlocal spent, begun
        if progress.epoch not in planned:
            return
        spent += time.process_time() - begun
        with own.averaged_weights():
            found = judge(own.model)
        row = {"way": name, "seed": seed, "steps": progress.step, "products": products * progress.epoch}
        rows.append(row | {"cpu_seconds": spent} | found)
        logger.info("%s", rows[-1])
        begun = time.process_time()

    own.on_epoch = measure
    own.run()
    return rows


def step_costs(part: Part, labels: Labels, rounds: int = 3) -> dict[str, float]:
    """CPU seconds of a step in every way, the least of interleaved repetitions."""
    steps = {name: trainer(part, way, labels, 0) for name, way in part.ways.items()}
    best = dict.fromkeys(steps, float("inf"))
    chunk = list(range(part.settings["batch"]))
    for _ in range(rounds):
        for name, own in steps.items():
            start = time.process_time()
            own._step(chunk, 0.5)
            best[name] = min(best[name], time.process_time() - start)
    return best


def comparisons(study: Study, part: Part) -> tuple[dict[str, list[str]], dict[str, dict[int, float]]]:
    """Cells of the table, and errors per seed at the time of one Rademacher run."""
    ways = [name for name in part.ways if study.chosen(way=name)]
    one = dict(by_seed(study.chosen(way="Rademacher"), "steps"))
    cells: dict[str, list[str]] = {}
    at_time: dict[str, dict[int, float]] = {}
    for name in ways:
        own = dict(by_seed(study.chosen(way=name), "steps"))
        last = [rows[-1] for rows in own.values()]
        whole, at_time[name], at_products = [], {}, []
        for seed, rows in own.items():
            if seed not in one:
                continue
            whole.append(rows[-1]["seconds"] / rows[-1]["steps"])
            at_time[name][seed] = at(rows, "seconds", 0.95 * one[seed][-1]["seconds"], part.error)
            if part.ways[name].probes:
                least = min(rows[-1]["products"], one[seed][-1]["products"])
                at_products.append(at(rows, "products", least, part.error))
        cells[name] = [
            f"{1e3 * np.mean(whole):.0f}",
            f"{last[0]['steps']}",
            f"{last[0]['products']}",
            f"{np.mean([r['seconds'] for r in last]):.0f}",
            spread([r[part.error] for r in last], 3),
            spread([r["eigenvalue_mae"] for r in last], 3),
            shown(list(at_time[name].values())),
            shown(at_products),
        ]
        third = "frequency_rmse_cm" if "frequency_rmse_cm" in last[0] else "force_rmse_mev_per_angstrom"
        cells[name].insert(6, spread([r[third] for r in last], 1))
    return cells, at_time


def shown(values: list[float]) -> str:
    """Mean and spread, or a dash where a run does not reach."""
    return spread(values, 3) if values and np.isfinite(values).all() else "–"


def claims(study: Study, part: Part) -> list[str]:
    """Whether the claims held."""
    _, errors_at = comparisons(study, part)

    def compare(text: str, first: str, second: str) -> str:
        seeds = sorted(set(errors_at[first]) & set(errors_at[second]))
        ratio = np.array([errors_at[first][k] / errors_at[second][k] for k in seeds])
        if not np.isfinite(ratio).all():
            return f"- {text}: not comparable at equal time"
        word = "held" if (ratio < 1).all() else "did not hold" if (ratio >= 1).all() else "undecided"
        change = f"{np.mean(ratio):.2f} ± {np.std(ratio):.2f} times"
        return f"- {text}: **{word}**; Hessian RMSE {change} at equal time"

    lines = [compare("a random probe beats one column (the paper, PHL)", "Rademacher", "one-hot")]
    if study.chosen(way="fixed column"):
        lines.append(
            compare("a fixed random probe beats a fixed column (PHL)", "fixed random", "fixed column")
        )
    lines.append(compare("a fixed random probe beats a fresh column", "fixed random", "one-hot"))
    if "full Hessian" in errors_at and study.chosen(way="full Hessian"):

        def step(name: str) -> float:
            ends = [rows[-1] for _, rows in by_seed(study.chosen(way=name), "steps")]
            return float(np.mean([r["seconds"] / r["steps"] for r in ends]))

        ratio = step("full Hessian") / step("Rademacher")
        added = (step("full Hessian") - step("no Hessian")) / (step("Rademacher") - step("no Hessian"))
        verdict = "held" if ratio >= 24 else "did not hold here"
        lines.append(
            f"- a probe is 24 times cheaper than the full Hessian (PHL): **{verdict}** for whole steps of "
            f"cells with 24 columns, which are {ratio:.1f} times cheaper; what Hessians add to the "
            f"energy-force step is {added:.0f} times cheaper. The factor grows with the number of columns, 3N"
        )
        text = "one probe beats the full Hessian (taken after its first pass, which ends later)"
        lines.append(compare(text, "Rademacher", "full Hessian"))
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
    crystal_too = "frequency_rmse_cm" in study.rows[0]
    header += ["frequencies (cm⁻¹)" if crystal_too else "forces (meV/Å)"]
    header += ["Hessian RMSE at equal time", "at equal products"]
    cells, _ = comparisons(study, part)
    seeds = sorted(study.values("seed"))
    lines = [
        f"# Probes of Hessians: {part.title}",
        "",
        f"`python benchmarks/hint/probes.py --part {next(k for k, v in PARTS.items() if v is part)}`",
        "",
        *(__doc__ or "").split("\n\n")[2].splitlines(),
        "",
        f"{study.settings}; seeds {seeds}, mean ± spread. Equal time: when one Rademacher probe has nearly "
        "finished. Equal products: where the shorter of the two runs ends.",
        "",
        "The fixed random vector is the same for all cells, the fixed column another one for each.",
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
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    _, both = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained", sharey=True)
    for axes, column, label in zip(
        both, ("seconds", "products"), ("CPU seconds of training", "Hessian-vector products"), strict=True
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
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
    both[0].set_ylabel(f"Hessian RMSE, {part.title} (eV/Å²)")
    both[0].legend(frameon=False, fontsize=8)
    both[0].figure.savefig(path, dpi=150)


def main() -> None:
    """Run what is missing and write table and figure."""
    arguments = parse_study(__doc__, PARTS, "cells")
    part, begun = PARTS[arguments.part], time.monotonic()
    stem = RESULTS / f"hint_probes_{arguments.part}"
    study = Study(stem.with_suffix(".json"), part.settings, ("way", "seed"))
    for seed in range(arguments.seeds):
        missing = [name for name in part.ways if not study.has(name, seed)]
        labels = part.labels(seed) if missing else None
        for name in missing:
            if time.monotonic() - begun > arguments.stop_after:
                return
            assert labels is not None
            if name not in study.extra.get("step_seconds", {}):
                study.extra["step_seconds"] = step_costs(part, labels)
            study.add(run(part, name, labels, seed))
        write(study, part, stem)


def write(study: Study, part: Part, stem: Path) -> None:
    """Table and figure of what there is; times are steps times what a step costs."""
    for row in study.rows:
        row["seconds"] = row["steps"] * study.extra["step_seconds"][row["way"]]
    stem.with_suffix(".md").write_text(markdown(study, part), encoding="utf-8")
    figure(study, part, stem.with_suffix(".png"))


if __name__ == "__main__":
    main()

"""Study B: which projections of Hessians a network learns from best, at equal time and equal products.

    python -m benchmarks.hint.probes                # rattled cells
    python -m benchmarks.hint.probes --part crystal # the Hessian of a 2×2×2 supercell

A network learns the shipped potential of H3S from scratch (see h3s_teacher.py). "cells": energies, forces,
stresses and Hessians of rattled cells of eight atoms, judged on cells that were not trained on. "crystal":
energies, forces and stresses of rattled unit cells, and the Hessian of the ideal 32-atom supercell, not
folded except in one row, so that nothing but the network knows its symmetry; judged on all of that Hessian.

Every way of a seed starts from the same network and gets the same CPU time, that of a number of steps with
one Rademacher probe, over which its learning rate falls; ways that take more products in this time also half
of it, in trainings of their own, to be compared at equal products. Times are numbers of steps times what a
step costs on one core, the least of interleaved repetitions. Products are Hessian-vector products taken in
training. Learning rate and weight of the Hessian are the same for all ways, tuned to none.

Results go to benchmarks/results/hint_probes_*; a run that is cut goes on where it stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.h3s_training import LABELS, ROOT
from benchmarks.hint.columns import one_column
from benchmarks.hint.from_scratch import step_seconds, trainer_from_scratch
from benchmarks.hint.h3s_teacher import Teacher, crystal, errors
from benchmarks.hint.study import Study, at, by_seed, parse_study, spread, verdict
from himlip_ase.hint.evaluation.hessian_errors import hessian_errors
from himlip_ase.hint.training.curriculum import Curriculum
from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels.displacements import rattle
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.readers import read_hessian
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.evaluate import frozen

RESULTS = ROOT / "benchmarks" / "results"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """How Hessians are projected; of how many cells in a step, if not of all in the batch."""

    probe: str
    probes: int = 1
    folded: bool = False
    cells: int | None = None

    @property
    def budgets(self) -> tuple[float, ...]:
        """CPU times of trainings, relative to that of all the steps with one Rademacher probe."""
        return (1.0, 0.5) if self.probes > 1 or self.folded else (1.0,)


CELL_WAYS = {
    "no Hessian": Way("rademacher", 0),
    "one-hot": Way("one-hot"),
    "fixed column": Way("fixed column"),
    "fixed random": Way("fixed"),
    "Gaussian": Way("gaussian"),
    "Rademacher": Way("rademacher"),
    "2 Rademacher": Way("rademacher", 2),
    "4 Rademacher": Way("rademacher", 4),
    "full Hessian": Way("full", 24),
    "full, of one cell": Way("full", 24, cells=1),
}
CRYSTAL_WAYS = {
    "no Hessian": Way("rademacher", 0),
    "one-hot": Way("one-hot"),
    "fixed column": Way("fixed column"),
    "fixed random": Way("fixed"),
    "Rademacher": Way("rademacher"),
    "Rademacher, folded": Way("rademacher", folded=True),
}
EQUAL = {"seconds": 1.0, "products": 0.95}
"""Where ways are compared, relative to where one Rademacher probe ends: trainings end with whole epochs."""

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

    def frames(name: str, seed: int) -> list[LabelledFrame]:
        return teacher.frames(rattle(crystal(), CELLS[name], CELLS["stdev"], seed, mass_scaled=True), name)

    training, unseen = frames("cells", seed), frames("unseen", 1000)
    return training, [f.hessian for f in training if f.hessian], lambda model: asdict(errors(model, unseen))


def crystal_labels(seed: int) -> Labels:
    """Rattled unit cells, the Hessian of the supercell, and errors on it."""
    teacher = Teacher()
    images = rattle(crystal((1, 1, 1)), CRYSTAL["cells"], CRYSTAL["stdev"], seed, mass_scaled=True)
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


COMMON = {"batch": 2, "rate": 3e-3, "weight": 30.0}
CELLS: dict[str, Any] = {"cells": 24, "unseen": 4, "stdev": 0.1, "steps": 300, **COMMON}
CRYSTAL: dict[str, Any] = {"cells": 16, "stdev": 0.1, "steps": 128, **COMMON}
PARTS = {
    "cells": Part(CELL_WAYS, "hessian_rmse", "unseen cells of 8 atoms", CELLS, cell_labels),
    "crystal": Part(CRYSTAL_WAYS, "hessian_rmse", "2×2×2 Hessian of 32 atoms", CRYSTAL, crystal_labels),
}


def trainer(part: Part, way: Way, labels: Labels, seed: int, steps: float = 1.0) -> Trainer:
    """What trains in one way with one seed, for at least so many steps."""
    s, training = part.settings, labels[0]
    hessians: list[Any] = labels[1]
    if way.probe == "fixed column":
        hessians = [one_column(label, k + 100 * seed) for k, label in enumerate(hessians)]
    if way.folded:
        hessians = [cell for label in hessians for cell in fold_hessian(label)]
    settings = TrainingSettings(
        epochs=math.ceil(steps / math.ceil(len(training) / s["batch"])),
        batch_size=s["batch"],
        hessian_batch=way.cells or (s["batch"] if len(training) == len(hessians) else 1),
        probe="fixed" if way.probe == "fixed column" else way.probe,  # type: ignore[arg-type]
        probes=max(way.probes, 1),
        learning_rate=s["rate"],
        warmup_steps=10,
        ema=0.98,
        validation_fraction=0.0,
        validate_every=10**6,
        device="cpu",
        seed=seed,
        loss=LossWeights(hessian=s["weight"] if way.probes else 0.0),
        curriculum=Curriculum("constant"),
    )
    return trainer_from_scratch(training, hessians if way.probes else [], settings)


def run(part: Part, study: Study, key: tuple[str, int, float], labels: Labels) -> dict[str, Any]:
    """Train in one way with one seed for a share of the time; its row."""
    name, seed, budget = key
    costs = study.extra["step_seconds"]
    own = trainer(
        part,
        part.ways[name],
        labels,
        seed,
        budget * part.settings["steps"] * costs["Rademacher"] / costs[name],
    )
    begun = time.process_time()
    own.run()
    seconds, steps = time.process_time() - begun, own.progress.step
    products = own.settings.hessian_batch * part.ways[name].probes * steps
    row = {"way": name, "seed": seed, "budget": budget, "steps": steps, "products": products}
    row |= {"seconds": steps * costs[name], "cpu_seconds": seconds} | labels[2](own.model)
    logger.info("%s", row)
    return row


def compared(study: Study, part: Part, name: str, column: str, error: str = "") -> dict[int, float]:
    """An error per seed, where one Rademacher probe ends along a column; NaN where no training is near."""
    ends = {k: rows[-1][column] for k, rows in by_seed(study.chosen(way="Rademacher"), "steps")}
    found = {}
    for seed, rows in by_seed(study.chosen(way=name), "steps"):
        if seed in ends:
            place = EQUAL[column] * ends[seed]
            near = rows[0][column] < 1.15 * place
            found[seed] = at(rows, column, place, error or part.error) if near else math.nan
    return found


def cells(study: Study, part: Part, name: str) -> list[str]:
    """One line of the table."""
    last = next(rows[-1] for _, rows in by_seed(study.chosen(way=name), "steps"))
    other, digits = (
        ("frequency_rmse_cm", 1) if "frequency_rmse_cm" in last else ("force_rmse_mev_per_angstrom", 0)
    )
    return [
        f"{1e3 * study.extra['step_seconds'][name]:.0f}",
        f"{last['steps']}",
        f"{last['products']}",
        shown(compared(study, part, name, "seconds"), 3),
        shown(compared(study, part, name, "products"), 3) if last["products"] else "–",
        shown(compared(study, part, name, "seconds", "eigenvalue_mae"), 3),
        shown(compared(study, part, name, "seconds", other), digits),
    ]


def shown(values: dict[int, float], digits: int) -> str:
    """Mean and spread, or a dash where a run does not reach."""
    found = list(values.values())
    return spread(found, digits) if found and np.isfinite(found).all() else "–"


def claims(study: Study, part: Part) -> list[str]:
    """Whether the claims held."""
    pairs = [
        ("a random probe beats one column (the paper, PHL)", "Rademacher", "one-hot"),
        ("a fixed random probe beats a fixed column (PHL)", "fixed random", "fixed column"),
        ("a fixed random probe beats fresh columns", "fixed random", "one-hot"),
        ("one probe, more steps beats 2 probes, fewer steps", "Rademacher", "2 Rademacher"),
        ("one probe, more steps beats 4 probes, fewer steps", "Rademacher", "4 Rademacher"),
        ("one probe beats the full Hessian", "Rademacher", "full Hessian"),
        ("one probe beats the full Hessian of one cell of the batch", "Rademacher", "full, of one cell"),
        ("folded cells beat the supercell", "Rademacher, folded", "Rademacher"),
        ("Hessians pay for their time (against none, more steps)", "Rademacher", "no Hessian"),
    ]
    lines = []
    for text, first, second in pairs:
        if not (study.chosen(way=first) and study.chosen(way=second)):
            continue
        one, two = (compared(study, part, name, "seconds") for name in (first, second))
        ratio = np.array([one[k] / two[k] for k in sorted(set(one) & set(two))])
        if not np.isfinite(ratio).all():
            continue
        change = f"{np.mean(ratio):.2f} ± {np.std(ratio):.2f} times"
        lines.append(f"- {text}: **{verdict(ratio)}**; Hessian RMSE {change} at equal time")
    costs = study.extra["step_seconds"]
    if "full Hessian" in costs:
        ratio = costs["full Hessian"] / costs["Rademacher"]
        rest = costs["no Hessian"]
        added = (costs["full Hessian"] - rest) / (costs["Rademacher"] - rest)
        word = "held" if ratio >= 24 else "did not hold here"
        lines.append(
            f"- a probe is 24 times cheaper than the full Hessian (PHL): **{word}** for whole steps of "
            f"cells with 24 columns, which are {ratio:.1f} times cheaper; what Hessians add to the "
            f"energy-force step is {added:.0f} times cheaper. The factor grows with the number of columns, 3N"
        )
    return lines


def markdown(study: Study, part: Part) -> str:
    """The results page."""
    third = "frequencies (cm⁻¹)" if "frequency_rmse_cm" in study.rows[0] else "forces (meV/Å)"
    header = ["probe", "ms/step", "steps", "products", "Hessian RMSE (eV/Å²) at equal time"]
    header += ["at equal products", "eigenvalue MAE (eV/Å²)", third]
    described = (__doc__ or "").split("\n\n")
    seconds = np.mean([r["seconds"] for r in study.chosen(way="Rademacher", budget=1.0)])
    lines = [
        f"# Probes of Hessians: {part.title}",
        "",
        f"`python -m benchmarks.hint.probes --part {next(k for k, v in PARTS.items() if v is part)} "
        f"--seeds {len(study.values('seed'))}`",
        "",
        *described[2].splitlines(),
        "",
        *described[3].splitlines(),
        "",
        f"{study.settings}; seeds {sorted(study.values('seed'))}, mean ± spread. Equal time: {seconds:.0f} "
        f"CPU seconds. Equal products: {EQUAL['products']:.0%} of what one Rademacher probe takes. Both "
        "are interpolated where trainings are longer; steps and products are those of the longest, the last "
        "two columns at equal time.",
        "",
        "The fixed random vector is the same for all cells, the fixed column another one for each.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join([name, *cells(study, part, name)]) + " |"
          for name in part.ways if study.chosen(way=name)),
        "",
        "Claims (held: with every seed):",
        "",
        *claims(study, part),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def figure(study: Study, part: Part, path: Path) -> None:
    """Error of every way at equal time and at equal products: every seed, and their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    names = [name for name in part.ways if study.chosen(way=name)]
    _, both = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained", sharex=True, sharey=True)
    for axes, column, title in zip(
        both, EQUAL, ("equal CPU time (bar: mean)", "equal products"), strict=True
    ):
        for place, name in enumerate(names):
            values = np.array(list(compared(study, part, name, column).values()))
            if np.isfinite(values).all() and (column == "seconds" or part.ways[name].probes):
                colour = "C1" if name == "Rademacher" else "C0"
                axes.plot(values, [place] * len(values), "o", ms=4, color=colour, alpha=0.5, mew=0)
                axes.plot(values.mean(), place, "|", ms=16, mew=2.5, color=colour)
        axes.set(xscale="log", title=title, xlabel="Hessian RMSE (eV/Å²)")
        axes.grid(axis="x", which="both", color="0.92")
        axes.set_axisbelow(True)
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 12 * low else (1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    both[0].set_yticks(range(len(names)), names)
    both[0].set_ylim(len(names) - 0.5, -0.5)
    both[0].figure.suptitle(f"Learnt from scratch: error on {part.title}")
    both[0].figure.savefig(path, dpi=150)


def main() -> None:
    """Run what is missing and write table and figure."""
    arguments = parse_study(__doc__, PARTS, "cells")
    part, begun = PARTS[arguments.part], time.monotonic()
    stem = RESULTS / f"hint_probes_{arguments.part}"
    study = Study(stem.with_suffix(".json"), part.settings, ("way", "seed", "budget"))
    planned = [
        (name, seed, budget)
        for budget in (1.0, 0.5)
        for seed, (name, way) in product(range(arguments.seeds), part.ways.items())
        if budget in way.budgets and not study.has(name, seed, budget)
    ]
    labels = {seed: part.labels(seed) for seed in sorted({seed for _, seed, _ in planned})}
    if "step_seconds" not in study.extra:
        steps = {name: trainer(part, way, labels[0], 0) for name, way in part.ways.items()}
        study.extra["step_seconds"] = step_seconds(steps)
        study.add([])
    for key in planned:
        if time.monotonic() - begun > arguments.stop_after:
            break
        study.add([run(part, study, key, labels[key[1]])])
    if study.chosen(way="Rademacher"):
        stem.with_suffix(".md").write_text(markdown(study, part), encoding="utf-8")
        figure(study, part, stem.with_suffix(".png"))


if __name__ == "__main__":
    main()

"""Study E: learnt near minima and saddle points, tested far away, with and without Hessians.

    python -m benchmarks.hint.extrapolation             # exact labels of a potential
    python -m benchmarks.hint.extrapolation --part dft  # the DFT labels of H3S

A network learns from scratch. "teacher": the truth is the shipped potential of H3S (see h3s_teacher.py), the
training cells, of eight atoms, lie within a few hundredths of an ångström of the saddle point (the ideal
crystal) and of a minimum beside it; judged on displacements along single normal modes of growing amplitude
(of the atom that moves most) from either. "dft": DFT unit cells of small amplitude, with or without the
harmonic Hessian; judged on the other DFT sets, the double wells by their amplitude.

Equal labels: the same cells. Equal time: as many more steps without Hessians as fill the CPU time of those
with them. Equal label cost: in that time again, without Hessians, but forces at as many cells as central
differences of all the Hessians would take. Times are numbers of steps times what a step costs on one core,
the least of interleaved repetitions. Results go to benchmarks/results/hint_extrapolation_*, and a run that is
cut goes on where it stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from benchmarks.h3s_training import LABELS, ROOT
from benchmarks.hint.from_scratch import step_seconds, trainer_from_scratch
from benchmarks.hint.h3s_teacher import Teacher, crystal, errors
from benchmarks.hint.study import Study, parse_study, spread, verdict
from himlip_ase.hint.evaluation.mode_overlap import internal_modes
from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels.displacements import rattle
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.potential.evaluate import evaluate, frozen

RESULTS = ROOT / "benchmarks" / "results"
PART_SETTINGS: dict[str, dict[str, Any]] = {
    "teacher": {
        "cells": 12,
        "stdev": 0.03,
        "amplitudes": [0.03, 0.06, 0.12, 0.2, 0.35],
        "batch": 2,
        "steps": 300,
        "rate": 3e-3,
        "weight": 30.0,
    },
    "dft": {
        "sets": ["equilibrium", "rattle013", "quantum4", "softmode"],
        "judges": ["rattle040", "quantum8", "cells8", "quantum16", "validation", "doublewell"],
        "batch": 6,
        "steps": 300,
        "rate": 3e-3,
        "weight": 30.0,
    },
}
WAYS = {
    "teacher": ("E, F", "E, F, equal time", "E, F, equal label cost", "E, F, H"),
    "dft": ("E, F", "E, F, equal time", "E, F, H"),
}
HESSIAN_CELLS = (0, 30)
"""Which of the displaced cells of an amplitude have their Hessians compared."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is learnt, and how it is judged."""

    training: list[LabelledFrame]
    hessians: list[HessianLabel]
    more: Callable[[], list[LabelledFrame]]
    judge: Callable[[Any], dict[str, float]]


def stationary_points(teacher: Teacher) -> tuple[Atoms, Atoms]:
    """The ideal crystal, a saddle point, and a minimum beside it."""
    from ase.optimize import BFGS

    from himlip_ase.calculator import HiMLIPCalculator

    saddle = crystal()
    (frame,) = teacher.frames([saddle], "saddle")
    assert frame.hessian is not None
    _, modes = internal_modes(saddle, frame.hessian.matrix)
    minimum = displaced(saddle, modes[:, 0], 0.1)
    minimum.calc = HiMLIPCalculator(teacher.model)
    BFGS(minimum, logfile=None).run(fmax=0.002, steps=200)
    minimum.calc = None
    return saddle, minimum


def displaced(base: Atoms, mode: np.ndarray, amplitude: float) -> Atoms:
    """Along a mass-weighted mode, so that the atom that moves most moves by `amplitude` Å."""
    vector = mode.reshape(-1, 3) / base.get_masses()[:, None] ** 0.5
    atoms = base.copy()
    atoms.positions += amplitude * vector / np.linalg.norm(vector, axis=1).max()
    return atoms


def teacher_task(seed: int) -> Task:
    """Cells near the saddle and the minimum; single modes as judges."""
    s = PART_SETTINGS["teacher"]
    teacher = Teacher()
    points = stationary_points(teacher)

    def near(count: int, offset: int) -> list[Atoms]:
        halves = [
            rattle(p, count // 2, s["stdev"], 100 * seed + offset + k, mass_scaled=True)
            for k, p in enumerate(points)
        ]
        return [atoms for half in halves for atoms in half]

    training = teacher.frames(near(s["cells"], 0), "near")
    per_hessian = 2 * 3 * len(points[0])

    def more() -> list[LabelledFrame]:
        return training + teacher.frames(near(s["cells"] * per_hessian, 10), "more", with_hessians=False)

    judges = {a: [] for a in s["amplitudes"]}  # type: dict[float, list[Atoms]]
    for point in points:
        (frame,) = teacher.frames([point], "point")
        assert frame.hessian is not None
        _, modes = internal_modes(point, frame.hessian.matrix)
        for amplitude in judges:
            signs = np.where(np.arange(modes.shape[1]) % 2, -1, 1)
            judges[amplitude] += [
                displaced(point, m, sign * amplitude) for m, sign in zip(modes.T, signs, strict=True)
            ]
    labels = {a: teacher.frames(images, f"{a}", with_hessians=False) for a, images in judges.items()}
    some = {a: teacher.frames([images[k] for k in HESSIAN_CELLS], f"{a}") for a, images in judges.items()}

    def judge(model: Any) -> dict[str, float]:
        found = {}
        for a, frames in labels.items():
            found[f"forces {a}"] = force_rmse(model, frames)
            found[f"labels {a}"] = label_rms(frames)
            found[f"hessian {a}"] = errors(model, some[a]).hessian_rmse
        return found

    return Task(training, [f.hessian for f in training if f.hessian], more, judge)


def dft_task(_: int) -> Task:
    """The small amplitudes among the DFT labels; the other sets as judges."""
    s = PART_SETTINGS["dft"]
    training = read_labels([LABELS / f"{name}.extxyz" for name in s["sets"]])
    judges = {name: read_labels(LABELS / f"{name}.extxyz") for name in s["judges"]}
    ideal = crystal((1, 1, 1)).positions
    well = judges.pop("doublewell")

    def judge(model: Any) -> dict[str, float]:
        found = {}
        for name, frames in judges.items():
            found[f"forces {name}"] = force_rmse(model, frames)
            found[f"labels {name}"] = label_rms(frames)
        energies = evaluate(model, [f.atoms for f in well]).energies
        for frame, energy in zip(well[1:], energies[1:], strict=True):
            assert frame.energy is not None and well[0].energy is not None
            shift = np.linalg.norm(frame.atoms.positions - ideal, axis=1).max()
            found[f"well {shift:.3f}"] = 1e3 * float(energy - energies[0] - frame.energy + well[0].energy)
        return found

    hessians = fold_hessian(read_hessian(LABELS / "harmonic"))
    return Task(training, hessians, list, judge)


def force_rmse(model: Any, frames: Sequence[LabelledFrame]) -> float:
    """meV/Å."""
    with frozen(model):
        forces = evaluate(model, [f.atoms for f in frames]).forces
    wanted = np.concatenate([f.forces for f in frames if f.forces is not None])
    miss = np.concatenate(forces) - wanted
    return 1e3 * float(np.sqrt(np.mean(miss**2)))


def label_rms(frames: Sequence[LabelledFrame]) -> float:
    """meV/Å."""
    return 1e3 * float(
        np.sqrt(np.mean(np.concatenate([f.forces for f in frames if f.forces is not None]) ** 2))
    )


TASKS = {"teacher": teacher_task, "dft": dft_task}


def trainer(part: str, way: str, task: Task, seed: int, steps: float = 1.0) -> Trainer:
    """What trains in one way with one seed, for at least so many steps."""
    s, with_hessians = PART_SETTINGS[part], way.endswith("H")
    frames = task.more() if "label cost" in way else task.training
    settings = TrainingSettings(
        epochs=math.ceil(steps / math.ceil(len(frames) / s["batch"])),
        batch_size=s["batch"],
        hessian_batch=s["batch"] if part == "teacher" else 1,
        validation_fraction=0.0,
        validate_every=10**6,
        device="cpu",
        seed=seed,
        ema=0.98,
        warmup_steps=10,
        learning_rate=s["rate"],
        loss=LossWeights(hessian=s["weight"] if with_hessians else 0.0),
    )
    return trainer_from_scratch(frames, task.hessians if with_hessians else [], settings)


def run(part: str, way: str, task: Task, seed: int, costs: dict[str, float]) -> dict[str, Any]:
    """Train in one way with one seed and judge."""
    cost = costs["E, F, H" if way.endswith("H") else "E, F"]
    longer = costs["E, F, H"] / cost if "equal" in way else 1.0
    own = trainer(part, way, task, seed, longer * PART_SETTINGS[part]["steps"])
    own.run()
    row = {"way": way, "seed": seed, "steps": own.progress.step, "frames": len(own.store)}
    row |= {"seconds": own.progress.step * cost} | task.judge(own.model)
    logger.info("%s", row)
    return row


def columns(study: Study, kind: str) -> list[str]:
    """Columns of results of one kind."""
    return [key for key in study.rows[0] if key.startswith(f"{kind} ")]


def table(study: Study, kind: str, digits: int, ways: Sequence[str]) -> list[str]:
    """Markdown table of one kind of error."""
    names = columns(study, kind)
    lines = ["| | " + " | ".join(name.split(" ", 1)[1] for name in names) + " |"]
    lines.append("|" + "---|" * (len(names) + 1))
    if kind == "forces":
        scale = [np.mean([r[n.replace("forces", "labels")] for r in study.rows]) for n in names]
        lines.append("| (rms of the labels) | " + " | ".join(f"{v:.0f}" for v in scale) + " |")
    for way in ways:
        rows = study.chosen(way=way)
        if rows:
            cells = [spread([r[name] for r in rows], digits) for name in names]
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


def well_rmse(study: Study, way: str) -> dict[int, float]:
    """Rms error of the energy along the double well, meV, by seed."""
    names = columns(study, "well")
    return {r["seed"]: float(np.sqrt(np.mean([r[n] ** 2 for n in names]))) for r in study.chosen(way=way)}


def claims(study: Study, part: str) -> list[str]:
    """Whether Hessians helped, by distance."""
    lines = []
    for way in WAYS[part][:-1]:
        for kind in ("forces", "hessian"):
            ratios = []
            for name in columns(study, kind):
                pairs = [
                    (a[name], b[name])
                    for a in study.chosen(way="E, F, H")
                    for b in study.chosen(way=way)
                    if a["seed"] == b["seed"]
                ]
                ratio = np.array([a / b for a, b in pairs])
                if not len(ratio):
                    continue
                ratios.append(f"{name.split(' ', 1)[1]}: {np.mean(ratio):.2f} ({verdict(ratio)})")
            if ratios:
                what = "forces" if kind == "forces" else "Hessian"
                lines.append(
                    f"- error of the {what} with Hessians over that of “{way}”: " + ", ".join(ratios)
                )
        wells = [well_rmse(study, name) for name in ("E, F, H", way)] if columns(study, "well") else []
        if wells:
            first, second = (spread(list(values.values()), 1) for values in wells)
            ratio = np.array([wells[0][k] / wells[1][k] for k in sorted(set(wells[0]) & set(wells[1]))])
            lines.append(
                f"- rms error along the double well with Hessians {first} meV, “{way}” {second} meV "
                f"({verdict(ratio)})"
            )
    return lines


def markdown(study: Study, part: str) -> str:
    """The table of the results page."""
    ways = WAYS[part]
    where = "amplitude of the normal mode in Å" if part == "teacher" else "set of DFT labels"
    lines = [
        f"# Far from where it learnt: {part}",
        "",
        f"`python -m benchmarks.hint.extrapolation --part {part}`: {study.settings}; seeds "
        f"{sorted(study.values('seed'))}, mean ± spread.",
        "",
        "| | steps | frames | CPU s |",
        "|---|---|---|---|",
    ]
    for way in ways:
        rows = study.chosen(way=way)
        if rows:
            lines.append(f"| {way} | {rows[0]['steps']} | {rows[0]['frames']} | {rows[0]['seconds']:.0f} |")
    lines += ["", f"Force RMSE in meV/Å by {where}:", "", *table(study, "forces", 0, ways)]
    if columns(study, "hessian"):
        lines += ["", f"Hessian RMSE in eV/Å² by {where}:", "", *table(study, "hessian", 2, ways)]
    if columns(study, "well"):
        lines += [
            "",
            "Error of the energy along the double well in meV a cell, by the displacement in Å:",
            "",
            *table(study, "well", 1, ways),
        ]
    lines += ["", "With Hessians against without (held: smaller with every seed):", "", *claims(study, part)]
    return "\n".join(lines) + "\n"


def figure(study: Study, part: str, path: Path) -> None:
    """Errors against amplitude, or by set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    kinds = ("forces", "hessian" if part == "teacher" else "well")
    _, both = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
    for axes, kind in zip(both, kinds, strict=True):
        names = columns(study, kind)
        ticks = [name.split(" ", 1)[1] for name in names]
        sets = part == "dft" and kind == "forces"
        x = np.arange(len(names)) if sets else np.array([float(t) for t in ticks])
        for place, way in enumerate(WAYS[part]):
            values = np.array([[r[n] for n in names] for r in study.chosen(way=way)])
            if len(values):
                at = x + 0.15 * (place - 1) if sets else x
                axes.plot(at, values.mean(0), "o" if sets else "o-", ms=4, color=f"C{place}", label=way)
                axes.vlines(at, values.min(0), values.max(0), color=f"C{place}", lw=1.5, alpha=0.5)
        if sets:
            axes.set_xticks(x, ticks, rotation=25)
        else:
            axes.set_xlabel("displacement of the atom that moves most (Å)")
        if kind == "forces":
            scale = [np.mean([r[n.replace("forces", "labels")] for r in study.rows]) for n in names]
            axes.plot(x, scale, "k_" if sets else "k:", ms=20, label="rms of the labels")
        if kind != "well":
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
        if part == "teacher":
            learnt = 2 * PART_SETTINGS[part]["stdev"]
            axes.axvspan(0, learnt, color="0.92", zorder=0)
            axes.text(0.05, 0.97, "learnt", transform=axes.transAxes, va="top", color="0.4")
            axes.set_xlim(0, None)
    both[0].set_ylabel("force RMSE (meV/Å)")
    both[1].set_ylabel("Hessian RMSE (eV/Å²)" if part == "teacher" else "error of the energy (meV/cell)")
    both[0].legend(frameon=False, fontsize=8)
    both[0].figure.savefig(path, dpi=150)


def main() -> None:
    """Run what is missing and write table and figure."""
    arguments = parse_study(__doc__, TASKS, "teacher")
    part, begun = arguments.part, time.monotonic()
    stem = RESULTS / f"hint_extrapolation_{part}"
    study = Study(stem.with_suffix(".json"), PART_SETTINGS[part], ("way", "seed"))
    for seed in range(arguments.seeds):
        missing = [way for way in WAYS[part] if not study.has(way, seed)]
        task = TASKS[part](seed) if missing else None
        if task is not None and "step_seconds" not in study.extra:
            study.extra["step_seconds"] = step_seconds(
                {way: trainer(part, way, task, seed) for way in ("E, F", "E, F, H")}
            )
            study.add([])
        for way in missing:
            if time.monotonic() - begun > arguments.stop_after:
                return
            assert task is not None
            study.add([run(part, way, task, seed, study.extra["step_seconds"])])
        stem.with_suffix(".md").write_text(markdown(study, part), encoding="utf-8")
        figure(study, part, stem.with_suffix(".png"))


if __name__ == "__main__":
    main()

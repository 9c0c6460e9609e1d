"""Study A: H3S fine-tuned from the base model against from scratch, by number of labelled cells.

    python -m benchmarks.hint.base_model --seeds 3            # about an hour of CPU; --resume goes on

Each case learns from 0 … 60 unit cells (of which a seed draws the first 30 among those with displacements of
0.4 Å), with or without the 2×2×2 Hessian, and once with ten cells of 8 and 16 atoms more. It is judged on the
32-atom validation supercells, on the Hessian, on the 56 q-points of the 4×4×4 grid outside the Hessian's, and
on the depth of the T1u double well at the labels' k-grid. From the base, its wide head is fitted in closed
form, with 100 of the H3S cells of its own data in the fit ("base"), also after 700 further steps of SOAP on
the same labels and all of those cells ("base, gradients"); from scratch, 600 steps of Adam come first (SOAP,
set in examples/h3s/h3s.yaml, gave 218 meV/Å with one seed, and 140 with ten larger cells).
Numbers, table and figure go to benchmarks/results/hint_base_model.*; times are CPU seconds of one core.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.h3s_training import ELEMENTS, LABELS, ROOT, h3s_network, h3s_settings
from himlip_ase import HiMLIPCalculator
from himlip_ase.files import write_json
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.last_layer.closed_form import (
    ClosedFormSettings,
    collect_rows,
    fit_closed_form,
    head_of_least_error,
)
from himlip_ase.hint.last_layer.features import HeadFeatures
from himlip_ase.hint.last_layer.posterior import Noise
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.phonons.exact import exact_force_constants
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline.labels import LabelFolder
from himlip_ase.pipeline.phonons import dft_well, model_well
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.network import HiMLIP
from himlip_ase.potential.widening import restricted_to

RESULTS = ROOT / "benchmarks" / "results" / "hint_base_model"
HYDRIDES = ROOT / "examples" / "hydrides" / "labels"
OTHER_UNIT_CELLS = ("quantum4", "rattle013", "softmode")
LARGER = ("cells8", "quantum8", "cells16")
N_LARGER = 10
FURTHER = TrainingSettings(
    optimizer="soap", learning_rate=0.01, batch_size=8, validation_fraction=0.0,
    loss=LossWeights(hessian=5.0, force_scale=3.0),
)  # fmt: skip
FURTHER_STEPS = 700
REPLAYED = ("zero_point", "h3s_zero_point", "h3s_zero_point_8")
N_FITTED = 100
"""Of the base's own frames, those that take part in the closed form, which costs most."""
NOISE = Noise(energy=0.01, forces=0.1, stress=0.01, hessian=0.02)
"""eV/atom, eV/Å, eV/Å³, eV/Å²: about what the k-points of the base's labels leave. Widths two to five times
smaller or larger were seen to change the forces by less than 7 meV/Å."""
CLOSED_FORM = ClosedFormSettings(head="wide", noise=NOISE)
STARTS = ("base", "base, gradients", "scratch")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """What a potential starts from and learns from."""

    start: str
    hessian: bool
    cells: int
    larger: int = 0

    @property
    def labels(self) -> str:
        """In words."""
        parts = [f"{self.cells} cells"] if self.cells or not self.hessian else []
        parts += [f"{self.larger} of 8–16 atoms"] if self.larger else []
        return " + ".join(parts + (["Hessian"] if self.hessian else []))


@dataclass(frozen=True)
class Row:
    """One case with one seed; units in the names."""

    case: Case
    seed: int
    cpu_seconds: float
    validation_force_rmse_mev_per_angstrom: float
    frequency_rmse_cm: float
    frequency_largest_error_cm: float
    off_grid_rmse_cm: float
    well_depth_mev: float
    well_position_angstrom: float


def cases() -> list[Case]:
    """Those of the study, the most important first."""
    numbers = (30, 0, 10, 60, 5)
    base = [Case("base", hessian, cells) for cells in numbers for hessian in (True, False)]
    further = [Case("base, gradients", True, 30), Case("base, gradients", True, 30, N_LARGER)]
    scratch = [Case("scratch", hessian, cells) for cells in (30, 60, 10) for hessian in (True, False)]
    larger = [Case(start, True, 30, N_LARGER) for start in ("base", "scratch")]
    return [*base, *further, *larger, *scratch]


class Labels:
    """What is drawn from, and what judges."""

    def __init__(self) -> None:
        self.rattled = read_labels(LABELS / "rattle040.extxyz")
        self.others = read_labels([LABELS / f"{name}.extxyz" for name in OTHER_UNIT_CELLS])
        self.larger = read_labels([LABELS / f"{name}.extxyz" for name in LARGER])
        self.validation = read_labels(LABELS / "validation.extxyz")
        self.hessian = read_hessian(LABELS / "harmonic")
        replay = read_labels([HYDRIDES / f"{name}.extxyz" for name in REPLAYED])
        self.replay = [replace(f, energy=None) for f in replay if set(f.atoms.symbols) == set(ELEMENTS)]
        self.fitted = self.replay[:: -(-len(self.replay) // N_FITTED)]
        self.folder = LabelFolder(LABELS)
        fine = read_dyn(LABELS / "harmonic444" / "dyn").force_constants()
        self.fine = fine.symmetrized()
        qpoints = fine.dynamical_matrices().qpoints
        outside = np.any(np.abs(2 * qpoints - np.rint(2 * qpoints)) > 1e-6, axis=1)
        self.off_grid = qpoints[outside]

    def drawn(self, case: Case, seed: int) -> list[LabelledFrame]:
        """The cells of a case."""
        rng = np.random.default_rng(seed)

        def shuffled(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
            return [frames[k] for k in rng.permutation(len(frames))]

        unit_cells = shuffled(self.rattled) + shuffled(self.others)
        return unit_cells[: case.cells] + shuffled(self.larger)[: case.larger]


class Base:
    """Fits the wide head of the base in closed form; what all cases share is summed once.

    The base is restricted to H and S. H3S frames of its own training take part in every fit, with forces and
    stresses but without energies, which belong to other k-points.
    """

    def __init__(self, model: HiMLIP, labels: Labels) -> None:
        start = time.process_time()
        self.model = restricted_to(model, ELEMENTS)
        self.features = HeadFeatures(self.model, "wide")
        self.replayed = collect_rows(self.features, labels.fitted, [], CLOSED_FORM)
        self.replay_seconds = time.process_time() - start
        start = time.process_time()
        self.hessian = collect_rows(self.features, [], [labels.hessian], CLOSED_FORM)
        self.hessian_seconds = time.process_time() - start

    def fitted(self, case: Case, frames: Sequence[LabelledFrame]) -> tuple[HiMLIP, float]:
        """The potential of a case, and CPU seconds, shared sums included."""
        if not frames and not case.hessian:
            return self.model, 0.0
        start = time.process_time()
        own = collect_rows(self.features, frames, [], CLOSED_FORM)
        sums = {kind: own[kind] + self.replayed[kind] for kind in own}
        if case.hessian:
            sums = {kind: sums[kind] + self.hessian[kind] for kind in sums}
        model = head_of_least_error(self.features, sums, NOISE)
        shared = self.replay_seconds + (self.hessian_seconds if case.hessian else 0.0)
        return model, time.process_time() - start + shared


def further_trained(
    base: Base, frames: Sequence[LabelledFrame], labels: Labels, seed: int
) -> tuple[HiMLIP, float]:
    """The base trained further by gradients on its labels and the case's together, then the closed form."""
    start = time.process_time()
    every, hessians = [*frames, *labels.replay], [labels.hessian]
    epochs = round(FURTHER_STEPS / -(-len(every) // FURTHER.batch_size))
    settings = replace(FURTHER, epochs=epochs, seed=seed)
    model = finetune(every, hessians, base=copy.deepcopy(base.model), settings=settings).model
    fit = fit_closed_form(model, [*frames, *labels.fitted], hessians, CLOSED_FORM)
    return fit.model, time.process_time() - start


def from_scratch(
    case: Case, frames: Sequence[LabelledFrame], labels: Labels, steps: int, seed: int
) -> tuple[HiMLIP, float]:
    """Gradients, then the wide head in closed form: the best way without a base (study D)."""
    start = time.process_time()
    hessians = [labels.hessian] if case.hessian else []
    model = finetune(
        frames, hessians, settings=h3s_settings(len(frames), steps, seed), network=h3s_network()
    ).model
    fit = fit_closed_form(model, frames, hessians, CLOSED_FORM)
    return fit.model, time.process_time() - start


def measure(case: Case, seed: int, seconds: float, model: HiMLIP, labels: Labels) -> Row:
    """What the potential of a case is worth."""
    errors = evaluate_labels(model, labels.validation, [labels.hessian])
    forces = errors.sets["validation"].forces
    harmonic = next(iter(errors.hessians.values()))
    assert forces is not None and harmonic.frequencies is not None
    crystal = labels.folder.crystal
    own, _ = exact_force_constants(crystal, labels.fine.dims, HiMLIPCalculator(model).hessian_vector_product)
    off_grid = own.frequencies(labels.off_grid) - labels.fine.frequencies(labels.off_grid)
    reference = dft_well(labels.folder)
    assert reference is not None
    well = model_well(model, crystal, reference[0], float(reference[1].amplitudes.max()))
    return Row(
        case, seed, seconds, 1e3 * forces.rmse, harmonic.frequencies.rmse, harmonic.frequencies.largest,
        float(np.sqrt(np.mean(off_grid**2))), 1e3 * well.depth, well.position,
    )  # fmt: skip


SPREAD = "± is the standard deviation over seeds; of 30 hot unit cells a seed has none to leave out."
QUANTITIES = {
    "validation_force_rmse_mev_per_angstrom": ("validation forces (meV/Å)", 0),
    "frequency_rmse_cm": ("frequencies RMSE (cm⁻¹)", 1),
    "frequency_largest_error_cm": ("largest (cm⁻¹)", 1),
    "off_grid_rmse_cm": ("off the grid (cm⁻¹)", 0),
    "well_depth_mev": ("well depth (meV)", 1),
    "well_position_angstrom": ("at (Å)", 3),
    "cpu_seconds": ("CPU s", 0),
}


def table(rows: Sequence[Row]) -> str:
    """Markdown table: mean ± standard deviation over the seeds."""
    heads = ["start", "labels", "seeds", *(head for head, _ in QUANTITIES.values())]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    order = sorted({r.case for r in rows}, key=lambda c: (c.start, not c.hessian, c.cells, c.larger))
    for case in order:
        own = [row for row in rows if row.case == case]
        cells = [case.start, case.labels, str(len(own))]
        for name, (_, digits) in QUANTITIES.items():
            values = [getattr(row, name) for row in own]
            cells.append(f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=len(own) > 1):.{digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    reference = dft_well(LabelFolder(LABELS))
    assert reference is not None
    depth, position = 1e3 * reference[1].depth, reference[1].position
    well = f"DFT's double well at the labels' k-grid: {depth:.1f} meV at {position:.3f} Å."
    return "\n".join([*lines, "", well, SPREAD, "", *claims(rows), ""])


def mean(rows: Sequence[Row], case: Case, name: str) -> float:
    """Of one quantity over the seeds of a case; NaN before it was run."""
    values = [getattr(row, name) for row in rows if row.case == case]
    return float(np.mean(values)) if values else float("nan")


def claims(rows: Sequence[Row]) -> list[str]:
    """What was asked for and what the study shows."""
    forces, frequencies = "validation_force_rmse_mev_per_angstrom", "frequency_rmse_cm"
    asked = {forces: (60, "meV/Å", 0), frequencies: (3, "cm⁻¹", 1), "cpu_seconds": (180, "CPU s", 0)}
    lines = ["Asked for, with 30 cells and the Hessian: ≤ 60 meV/Å, ≤ 3 cm⁻¹, ≤ 3 minutes on two cores.", ""]
    for start in STARTS:
        parts = []
        for name, (limit, unit, digits) in asked.items():
            value = mean(rows, Case(start, True, 30), name)
            parts.append(f"{value:.{digits}f} {unit} ({'reached' if value <= limit else 'missed'})")
        lines.append(f"- {start}: {', '.join(parts)}")
    base, scratch = Case("base", True, 30), Case("scratch", True, 30)
    further = Case("base, gradients", True, 30)
    pairs = {
        "pre-training closes most of the gap that unit cells alone leave": (
            replace(base, hessian=False), replace(scratch, hessian=False)
        ),
        "with the Hessian, the base still helps": (base, scratch),
        "training the base further before the closed form helps": (further, base),
        "unit cells at 0.4 Å add to base and Hessian": (base, replace(base, cells=0)),
        "ten cells of 8 to 16 atoms add to that": (replace(further, larger=N_LARGER), further),
    }  # fmt: skip
    for text, (better, worse) in pairs.items():
        a, b = mean(rows, better, forces), mean(rows, worse, forces)
        lines.append(f"- {text}: **{'held' if a < b else 'did not hold'}**; {a:.0f} against {b:.0f} meV/Å")
    return lines


def figure(rows: Sequence[Row], path: Path) -> None:
    """Force and frequency errors against the number of cells, mean and range over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {
        "validation_force_rmse_mev_per_angstrom": "force RMSE on 32-atom supercells (meV/Å)",
        "frequency_rmse_cm": "frequency RMSE on 2×2×2 q (cm⁻¹)",
    }
    drawn, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    for start, colour in zip(STARTS, ("C0", "C2", "C1"), strict=True):
        for hessian, style in ((True, "o-"), (False, "s--")):
            own = [r for r in rows if (r.case.start, r.case.hessian, r.case.larger) == (start, hessian, 0)]
            counts = sorted({r.case.cells for r in own})
            if not counts:
                continue
            label = f"{start}, {'with' if hessian else 'without'} Hessian"
            for axis, name in zip(axes, panels, strict=True):
                values = [[getattr(r, name) for r in own if r.case.cells == n] for n in counts]
                means = np.array([np.mean(v) for v in values])
                spread = [means - [min(v) for v in values], [max(v) for v in values] - means]
                axis.errorbar(counts, means, spread, fmt=style, color=colour, capsize=3, label=label)
    for axis, title, asked in zip(axes, panels.values(), (60, 3), strict=True):
        axis.axhline(asked, color="0.6", lw=0.8, ls=":")
        axis.annotate("asked for", (1, asked), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      color="0.4", fontsize=8)  # fmt: skip
        axis.set(xlabel="labelled unit cells", ylabel=title)
    axes[0].set_ylim(0, None)
    axes[1].set_yscale("log")
    axes[0].legend(frameon=False, fontsize=8, ncols=2)
    axes[0].set_ylim(0, 1.3 * axes[0].get_ylim()[1])
    drawn.savefig(path, dpi=150)
    plt.close(drawn)


def write(rows: Sequence[Row], model: str, steps: int) -> None:
    """Numbers, table and figure."""
    report = {"model": model, "steps": steps, "rows": [asdict(row) for row in rows]}
    write_json(RESULTS.with_suffix(".json"), report, overwrite=True)
    command = f"`python -m benchmarks.hint.base_model --model {model} --steps {steps}`\n\n"
    RESULTS.with_suffix(".md").write_text(command + table(rows), encoding="utf-8")
    figure(rows, RESULTS.with_suffix(".png"))


def earlier(model: str, steps: int) -> list[Row]:
    """Rows of an earlier run of the same base and number of steps."""
    path = RESULTS.with_suffix(".json")
    found = json.loads(path.read_text()) if path.is_file() else {}
    if (found.get("model"), found.get("steps")) != (model, steps):
        return []
    return [Row(**{**values, "case": Case(**values["case"])}) for values in found["rows"]]


def missing(rows: Iterable[Row], seeds: int) -> list[tuple[int, Case]]:
    """Seeds and cases that are still to be run."""
    done = {(row.seed, row.case) for row in rows}
    return [(seed, case) for seed in range(seeds) for case in cases() if (seed, case) not in done]


def main() -> None:
    """Run the study, rewriting the table after each case."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="himlip-hydride-1", help="the base")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--resume", action="store_true", help="keep the cases that are done")
    parser.add_argument("--start", nargs="+", choices=STARTS, default=STARTS, help="only these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    labels = Labels()
    base = Base(load_model(arguments.model), labels)
    rows = earlier(arguments.model, arguments.steps) if arguments.resume else []
    for seed, case in missing(rows, arguments.seeds):
        if case.start not in arguments.start:
            continue
        frames = labels.drawn(case, seed)
        if case.start == "base":
            model, seconds = base.fitted(case, frames)
        elif case.start == "scratch":
            model, seconds = from_scratch(case, frames, labels, arguments.steps, seed)
        else:
            model, seconds = further_trained(base, frames, labels, seed)
        others = earlier(arguments.model, arguments.steps) if arguments.resume else rows
        rows = [*others, measure(case, seed, seconds, model, labels)]
        logger.info("%s", rows[-1])
        write(rows, arguments.model, arguments.steps)


if __name__ == "__main__":
    main()

"""Study D: the closed-form head against training by gradients, and both in turn, on the H3S labels.

    python -m benchmarks.hint.closed_form --steps 150 --seeds 3

Each method learns from the harmonic Hessian and 74 unit cells and small supercells, from scratch, and is
judged on the 32-atom validation supercells. The widths of the closed-form heads are recalibrated by one
factor on the four `cells8` cells, which nothing is trained on here. Table, figure and numbers go to
benchmarks/results/hint_closed_form.*; times are CPU seconds of one core. With --add-seed, one seed is added
to those of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.h3s_training import LABELS, ROOT, h3s_network, h3s_settings
from himlip_ase.files import write_json
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.last_layer.calibration import EXPECTED, Calibration, calibration, errors_and_deviations
from himlip_ase.hint.last_layer.closed_form import (
    ClosedFormResult,
    ClosedFormSettings,
    calibrate,
    fit_closed_form,
)
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.start import start_model
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.potential.network import HiMLIP

SETS = ("equilibrium", "rattle040", "rattle013", "quantum4", "softmode", "quantum8", "cells16", "quantum16")
CALIBRATION_SET = "cells8"
RESULTS = ROOT / "benchmarks" / "results" / "hint_closed_form"
MEASURES = {
    "validation_force_rmse_mev_per_angstrom": "meV/Å",
    "frequency_rmse_cm": "cm⁻¹",
    "cpu_seconds": "s",
}
TITLE = (
    "# The closed-form head on H3S",
    "",
    "`python -m benchmarks.hint.closed_form --steps 150 --seeds 3`: harmonic Hessian, 74 unit cells and",
    "small supercells, from scratch; judged on the 32-atom validation supercells, which choose nothing: the",
    "floor of the noise comes from cross-validation over the training frames. CPU seconds of one core of a",
    "busy machine.",
    "",
)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One method with one seed; units in the names."""

    method: str
    seed: int
    cpu_seconds: float
    validation_force_rmse_mev_per_angstrom: float
    frequency_rmse_cm: float
    lowest_mode_cm: float
    raw: Calibration | None = None
    recalibrated: Calibration | None = None
    factor: float | None = None


class Labels:
    """What is learnt from, what calibrates, and what judges."""

    def __init__(self) -> None:
        self.training = read_labels([LABELS / f"{name}.extxyz" for name in SETS])
        self.calibration = read_labels(LABELS / f"{CALIBRATION_SET}.extxyz")
        self.validation = read_labels(LABELS / "validation.extxyz")
        self.hessian = read_hessian(LABELS / "harmonic")


def measure(
    method: str, seed: int, seconds: float, model: HiMLIP, labels: Labels, fit: ClosedFormResult | None = None
) -> Row:
    """Errors on the validation set and, of a closed-form fit, the calibration of its widths."""
    errors = evaluate_labels(model, labels.validation, [labels.hessian])
    forces = errors.sets["validation"].forces
    harmonic = next(iter(errors.hessians.values()))
    assert forces is not None and harmonic.frequencies is not None and harmonic.lowest is not None
    row = Row(method, seed, seconds, 1e3 * forces.rmse, harmonic.frequencies.rmse, harmonic.lowest[1])
    if fit is not None:
        error, width = errors_and_deviations(model, fit.posterior, labels.validation)["forces"]
        factor = calibrate(fit, labels.calibration).factors["forces"]
        row = replace(
            row, raw=calibration(error, width), recalibrated=calibration(error, factor * width), factor=factor
        )
    logger.info("%s", row)
    return row


def closed(model: HiMLIP, labels: Labels, head: str) -> tuple[ClosedFormResult, float]:
    """A closed-form fit and its CPU seconds."""
    start = time.process_time()
    fit = fit_closed_form(model, labels.training, [labels.hessian], ClosedFormSettings(head=head))  # type: ignore[arg-type]
    return fit, time.process_time() - start


def trained(
    base: HiMLIP | None, frames: Sequence[LabelledFrame], labels: Labels, steps: int, seed: int
) -> tuple[HiMLIP, float]:
    """A network trained by gradients and its CPU seconds."""
    start = time.process_time()
    settings = h3s_settings(len(frames), steps, seed)
    network = None if base is not None else h3s_network()
    model = finetune(frames, [labels.hessian], base=base, settings=settings, network=network).model
    return model, time.process_time() - start


def random_network(labels: Labels, steps: int, seed: int) -> tuple[HiMLIP, float]:
    """A network that has not been trained, and its CPU seconds."""
    settings = h3s_settings(len(labels.training), steps, seed)
    start = time.process_time()
    random, _ = start_model(labels.training, [labels.hessian], None, h3s_network(), settings)
    assert isinstance(random, HiMLIP)
    return random, time.process_time() - start


def readout_alone(labels: Labels, steps: int, seed: int) -> Iterator[Row]:
    """The closed form of the readout on random features."""
    random, setup = random_network(labels, steps, seed)
    fit, seconds = closed(random, labels, "readout")
    yield measure("closed form, readout", seed, setup + seconds, fit.model, labels, fit)


def wide_alone(labels: Labels, steps: int, seed: int) -> Iterator[Row]:
    """The closed form of the wide head on random features."""
    random, setup = random_network(labels, steps, seed)
    fit, seconds = closed(random, labels, "wide")
    yield measure("closed form, wide", seed, setup + seconds, fit.model, labels, fit)


def wide_then_gradients(labels: Labels, steps: int, seed: int) -> Iterator[Row]:
    """The same, and gradients from there."""
    random, setup = random_network(labels, steps, seed)
    fit, seconds = closed(random, labels, "wide")
    model, more = trained(fit.model, labels.training, labels, steps, seed)
    yield measure("closed form, then gradients", seed, setup + seconds + more, model, labels)


def from_gradients(labels: Labels, steps: int, seed: int) -> Iterator[Row]:
    """Training by gradients, and the closed form after it."""
    model, seconds = trained(None, labels.training, labels, steps, seed)
    yield measure("gradients", seed, seconds, model, labels)
    fit, more = closed(model, labels, "wide")
    yield measure("gradients, then closed form (wide)", seed, seconds + more, fit.model, labels, fit)


def earlier(steps: int) -> list[Row]:
    """Rows of an earlier run with as many steps."""
    path = RESULTS.with_suffix(".json")
    found = json.loads(path.read_text()) if path.is_file() else {"steps": steps, "rows": []}
    if found["steps"] != steps:
        raise SystemExit(f"{path} was made with --steps {found['steps']}; repeat all seeds with {steps}")

    def row(values: dict) -> Row:
        widths = {k: Calibration(**values[k]) for k in ("raw", "recalibrated") if values[k]}
        return Row(**{**values, **widths})

    return [row(values) for values in found["rows"]]


PARTS = {
    "gradients": from_gradients,
    "wide": wide_alone,
    "readout": readout_alone,
    "wide-gradients": wide_then_gradients,
}


def summary(rows: Sequence[Row]) -> str:
    """Markdown table: mean ± spread over the seeds."""
    header = [
        "method",
        "seeds",
        "CPU s",
        "validation forces (meV/Å)",
        "frequencies RMSE (cm⁻¹)",
        "lowest mode (cm⁻¹)",
    ]
    header += ["within 1σ, 2σ (%)", "recalibrated: within 1σ, 2σ (%)", "factor", "rank correlation"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]

        def spread(name: str, digits: int, own: list[Row] = own) -> str:
            values = [getattr(row, name) for row in own]
            return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"

        cells = [method, str(len(own)), spread("cpu_seconds", 0)]
        cells.append(spread("validation_force_rmse_mev_per_angstrom", 0))
        cells += [spread("frequency_rmse_cm", 1), spread("lowest_mode_cm", 0)]
        if own[0].raw is None:
            cells += ["", "", "", ""]
        else:
            for kind in ("raw", "recalibrated"):
                one = np.mean([getattr(row, kind).within_one for row in own])
                two = np.mean([getattr(row, kind).within_two for row in own])
                cells.append(f"{100 * one:.0f}, {100 * two:.0f}")
            cells.append(f"{np.mean([row.factor for row in own]):.2f}")  # type: ignore[misc]
            cells.append(f"{np.mean([row.raw.correlation for row in own]):.2f}")  # type: ignore[union-attr]
        lines.append("| " + " | ".join(cells) + " |")
    one, two = (100 * share for share in EXPECTED)
    expected = f"Of Gaussian errors {one:.0f} and {two:.0f} % lie within 1σ and 2σ."
    return "\n".join([*TITLE, *lines, "", expected, "", "Claims:", "", *claims(rows), ""])


def claims(rows: Sequence[Row]) -> list[str]:
    """Which of the expectations held."""

    def both(first: str, second: str, name: str) -> list[tuple[float, float]]:
        found = {(row.method, row.seed): getattr(row, name) for row in rows}
        return [(found[first, s], found[second, s]) for s in sorted({r.seed for r in rows})
                if (first, s) in found and (second, s) in found]  # fmt: skip

    def line(text: str, first: str, second: str) -> str:
        parts, verdicts = [], []
        for name, unit in MEASURES.items():
            pairs = both(first, second, name)
            if not pairs:
                return f"- {text}: not measured"
            verdicts += [a < b for a, b in pairs if name != "cpu_seconds"]
            a, b = np.mean(pairs, axis=0)
            parts.append(f"{a:.3g} against {b:.3g} {unit}")
        word = "held" if all(verdicts) else "did not hold" if not any(verdicts) else "held in part"
        return f"- {text}: **{word}**; " + ", ".join(parts)

    wide, after = "closed form, wide", "gradients, then closed form (wide)"
    found = [
        line("the wide head in closed form beats training by gradients", wide, "gradients"),
        line("gradients after the closed form improve on it", "closed form, then gradients", wide),
        line("the closed form after gradients improves on them", after, "gradients"),
        line("the wide head beats the readout alone", wide, "closed form, readout"),
    ]
    kinds = {
        "as the posterior says": "raw",
        f"after one factor from the {CALIBRATION_SET} cells": "recalibrated",
    }
    widths = {text: [getattr(r, kind) for r in rows if getattr(r, kind)] for text, kind in kinds.items()}
    if all(widths.values()):
        shares = [
            f"{text} {limits(c.within_one for c in own)} and {limits(c.within_two for c in own)} %"
            for text, own in widths.items()
        ]
        known = [c.correlation for own in widths.values() for c in own]
        found.append(
            f"- calibration of the uncertainty of forces, within 1σ and 2σ: {'; '.join(shares)}. Which atoms "
            f"are wrong it knows in part (rank correlation {min(known):.2f} to {max(known):.2f})"
        )
    return found


def limits(shares: Iterable[float]) -> str:
    """Least and largest of shares, in per cent."""
    percent = [100 * share for share in shares]
    return f"{min(percent):.0f} to {max(percent):.0f}"


def figure(rows: Sequence[Row], path: Path) -> None:
    """Error against cost, every seed a point."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        axes.plot(
            [row.cpu_seconds for row in own],
            [row.validation_force_rmse_mev_per_angstrom for row in own],
            "o",
            label=method,
        )
    axes.set(
        xscale="log", xlabel="CPU seconds", ylabel="force RMSE on 32-atom supercells (meV/Å)", ylim=(0, None)
    )
    axes.legend(frameon=False, fontsize=8)
    axes.figure.savefig(path, dpi=150)  # type: ignore[union-attr]


def write(rows: Sequence[Row], steps: int) -> None:
    """Numbers, table and figure."""
    report = {"steps": steps, "sets": SETS, "calibrated_on": CALIBRATION_SET}
    write_json(RESULTS.with_suffix(".json"), report | {"rows": [asdict(r) for r in rows]}, overwrite=True)
    RESULTS.with_suffix(".md").write_text(summary(rows), encoding="utf-8")
    figure(rows, RESULTS.with_suffix(".png"))


def main() -> None:
    """Run the study, rewriting the table after each seed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=150, help="of training by gradients")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--add-seed", type=int, help="this seed only, beside those in the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    labels = Labels()
    rows = [] if arguments.add_seed is None else earlier(arguments.steps)
    seeds = range(arguments.seeds) if arguments.add_seed is None else [arguments.add_seed]
    for seed in seeds:
        for part in arguments.part:
            for row in PARTS[part](labels, arguments.steps, seed):
                rows = [old for old in rows if (old.method, old.seed) != (row.method, row.seed)] + [row]
                write(rows, arguments.steps)


if __name__ == "__main__":
    main()

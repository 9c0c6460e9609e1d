"""Calibration of the uncertainty of Hessians and phonons, on q-points of H3S that nothing was trained on.

    python -m benchmarks.hint.hessian_calibration --seeds 0 1 2

A closed-form head is fitted to the 2×2×2 Hessian and to 60 of the 74 frames of study D, chosen by the seed,
on the frozen features of himlip-h3s-1 or of an untrained network. Its standard deviations of ω² (e†De, mode
by mode) and of Hessian elements are held against ph.x on 4×4×4 (labels/harmonic444): 3 stars of q that were
learnt, 5 that were not; and against pw.x on two frozen phonons at (0, 0, ¼). One factor recalibrates them:
from the learnt stars, or from the other stars that were not learnt (leaving one out at a time). Table, figure
and numbers go to benchmarks/results/hint_hessian_calibration.*, seed by seed; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import read

from benchmarks.h3s_training import LABELS, ROOT, h3s_network, h3s_settings
from himlip_ase.files import write_json
from himlip_ase.hint.last_layer.calibration import EXPECTED, calibration, errors_and_deviations, phonon_errors
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings, fit_closed_form
from himlip_ase.hint.last_layer.posterior import Posterior
from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.hint.training.start import start_model
from himlip_ase.labels.frames import HessianLabel
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.derivatives import hessian_vector_product
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP
from himlip_ase.units import signed_frequencies_cm

SETS = ("equilibrium", "rattle040", "rattle013", "quantum4", "softmode", "quantum8", "cells16", "quantum16")
CASES = (("himlip-h3s-1", "readout"), ("himlip-h3s-1", "wide"), ("untrained", "wide"))
FRAMES = 60
RESULTS = ROOT / "benchmarks" / "results" / "hint_hessian_calibration"
FROZEN = LABELS.parent / "frozen_phonons" / "frozen_phonons.extxyz"
logger = logging.getLogger(__name__)


class Labels:
    """What is learnt from and what judges."""

    def __init__(self) -> None:
        self.frames = read_labels([LABELS / f"{name}.extxyz" for name in SETS])
        self.hessian = read_hessian(LABELS / "harmonic")
        self.fine = read_dyn(LABELS / "harmonic444" / "dyn").force_constants().with_acoustic_sum_rule()
        whole = HessianLabel(self.fine.supercell, self.fine.hessian(), "4x4x4", force_constants=self.fine)
        self.cells = [cell for cell in fold_hessian(whole) if len(cell.atoms) > 2 * len(self.fine.primitive)]

    def chosen(self, seed: int) -> list:
        """Frames of one seed."""
        return [self.frames[k] for k in np.random.default_rng(seed).permutation(len(self.frames))[:FRAMES]]


def learnt(q: np.ndarray) -> bool:
    """Whether a q-point is on the 2×2×2 grid."""
    return bool(np.abs(2 * q - np.rint(2 * q)).max() < 1e-6)


def frozen(model: HiMLIP, posterior: Posterior, primitive: Atoms) -> list[dict[str, float]]:
    """ω² along the frozen patterns: of pw.x, of the potential, and its standard deviation, eV/(Å² amu)."""
    ideal = primitive.repeat((1, 1, 4))
    graph = build_graph(ideal, model.elements, model.cutoff)
    found = []
    for image in read(FROZEN, ":"):
        moved = image.positions - ideal.positions
        moved -= np.rint(moved @ np.linalg.inv(ideal.cell.array)) @ ideal.cell.array
        unit = moved / np.sqrt((image.get_masses()[:, None] * moved**2).sum())
        scale = np.linalg.norm(unit) / np.linalg.norm(moved)
        product = hessian_vector_product(model, graph, torch.as_tensor(unit))
        found.append(
            {
                "pw": float(-(unit * image.arrays["REF_forces"]).sum() * scale),
                "potential": float((product.numpy() * unit).sum()),
                "deviation": float(posterior.form_uncertainty(model, ideal, unit[None], unit[None])[0]),
            }
        )
    return found


def measure(base: str, head: str, seed: int, labels: Labels) -> dict[str, Any]:
    """One fit and everything that is said of it; lists go to JSON as they are."""
    start = time.process_time()
    frames = labels.chosen(seed)
    if base == "untrained":
        settings = h3s_settings(len(frames), 1, seed)
        model: Any = start_model(frames, [labels.hessian], None, h3s_network(), settings)[0]
    else:
        model = load_model(base)
    settings = ClosedFormSettings(head, prior="zero", seed=seed)  # type: ignore[arg-type]
    fit = fit_closed_form(model, frames, [labels.hessian], settings)
    fitted = time.process_time() - start
    raw = replace(fit.posterior, factors={})
    found = phonon_errors(fit.model, raw, labels.fine)
    elements = errors_and_deviations(fit.model, raw, [], labels.cells)["hessian"]
    row = {
        "base": base,
        "head": head,
        "seed": seed,
        "fit_cpu_s": fitted,
        "uncertainty_cpu_s": time.process_time() - start - fitted,
        "noise_hessian_row": fit.noise.hessian,
        "effective_parameters": fit.effective_parameters,
        "learnt": [learnt(found.qpoints[k]) for k in found.places],
        "star": found.places.tolist(),
        "error": found.errors.tolist(),
        "deviation": found.deviations.tolist(),
        "label": found.labels.tolist(),
        "element_error": elements[0].tolist(),
        "element_deviation": elements[1].tolist(),
        "frozen": frozen(fit.model, raw, labels.fine.primitive),
    }
    logger.info("%s %s %d: %.0f s", base, head, seed, time.process_time() - start)
    return row


# -- the table ----------------------------------------------------------------------------------------------


def leave_one_out(row: dict[str, Any], scale: Callable[[np.ndarray], float]) -> np.ndarray:
    """Factor of each mode that was not learnt, from error/σ of the other stars that were not learnt."""
    star, z = np.array(row["star"]), np.array(row["error"]) / np.array(row["deviation"])
    new = ~np.array(row["learnt"])
    return np.array([scale(z[new & (star != s)]) for s in star[new]])


def rms(z: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(z**2)))


def typical(z: np.ndarray) -> float:
    """The width of a Gaussian with the same median of |z|."""
    return float(np.median(np.abs(z)) / 0.6745)


def shares(error: np.ndarray, deviation: np.ndarray) -> tuple[float, float, float, float]:
    """Within 1σ and 2σ (%), rms of error/σ, rank correlation."""
    found = calibration(error, deviation)
    return 100 * found.within_one, 100 * found.within_two, found.rms_ratio, found.correlation


def figures(row: dict[str, Any]) -> dict[str, tuple[float, float, float, float]]:
    """{what is judged: shares} of one fit."""
    error, width, known = (np.array(row[k]) for k in ("error", "deviation", "learnt"))
    factor = rms(error[known] / width[known])
    elements = np.array(row["element_error"]), np.array(row["element_deviation"])
    return {
        "learnt q": shares(error[known], width[known]),
        "other q, as it is": shares(error[~known], width[~known]),
        "other q, factor from learnt q": shares(error[~known], factor * width[~known]),
        "other q, rms factor of the other stars": shares(
            error[~known], leave_one_out(row, rms) * width[~known]
        ),
        "other q, median factor of the other stars": shares(
            error[~known], leave_one_out(row, typical) * width[~known]
        ),
        "elements, as they are": shares(*elements),
    }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: mean ± spread over the seeds."""
    lines = [
        "# Calibration of the uncertainty of phonons and Hessians",
        "",
        "`python -m benchmarks.hint.hessian_calibration`: ω² = e†De of H3S, by mode, against ph.x (4×4×4).",
        "",
        "| features, head | judged on | within 1σ (%) | within 2σ (%) | rms of error/σ | rank correlation |",
        "|---|---|---|---|---|---|",
    ]
    for base, head in CASES:
        own = [row for row in rows if (row["base"], row["head"]) == (base, head)]
        if not own:
            continue
        tables = [figures(row) for row in own]
        for name in tables[0]:
            values = np.array([table[name] for table in tables])
            cells = [
                f"{m:.{d}f} ± {s:.{d}f}"
                for m, s, d in zip(values.mean(0), values.std(0), (0, 0, 1, 2), strict=True)
            ]
            lines.append(f"| {base}, {head} | {name} | " + " | ".join(cells) + " |")
    lines += ["", *sizes(rows), "", *frozen_table(rows)]
    one, two = (100 * share for share in EXPECTED)
    return "\n".join([*lines, "", f"Of Gaussian errors {one:.0f} and {two:.0f} % lie within 1σ and 2σ.", ""])


def sizes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Typical sizes of errors and of standard deviations as frequencies."""
    lines = [
        "| features, head | seeds | CPU s: fit, σ | error of ω, learnt q (cm⁻¹) | σ | other q | σ |",
        "|---|---|---|---|---|---|---|",
    ]
    for base, head in CASES:
        own = [row for row in rows if (row["base"], row["head"]) == (base, head)]
        if not own:
            continue
        cells = []
        for known in (True, False):
            for key in ("error", "deviation"):
                values = []
                for row in own:
                    chosen = np.array(row["learnt"]) == known
                    label = np.array(row["label"])[chosen]
                    size = np.abs(signed_frequencies_cm(label))
                    change = np.array(row[key])[chosen] / (2 * np.maximum(np.abs(label), 1e-12)) * size
                    values.append(np.sqrt(np.median(change**2)))
                cells.append(f"{np.mean(values):.1f}")
        cost = [np.mean([row[k] for row in own]) for k in ("fit_cpu_s", "uncertainty_cpu_s")]
        lines.append(
            f"| {base}, {head} | {len(own)} | {cost[0]:.0f}, {cost[1]:.0f} | " + " | ".join(cells) + " |"
        )
    return [*lines, "", "Medians over the modes, to first order."]


def frozen_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The two frozen phonons at (0, 0, ¼)."""
    lines = [
        "| features, head | frozen phonon at (0, 0, ¼): pw.x | potential ± σ (cm⁻¹) | error/σ |",
        "|---|---|---|---|",
    ]
    for base, head in CASES:
        own = [row for row in rows if (row["base"], row["head"]) == (base, head)]
        for k in range(2 if own else 0):
            found = [row["frozen"][k] for row in own]
            pw, mine, wide = (np.mean([f[key] for f in found]) for key in ("pw", "potential", "deviation"))
            sigma = float(signed_frequencies_cm(np.array(abs(mine)))) * wide / (2 * abs(mine))
            ratio = np.mean([(f["potential"] - f["pw"]) / f["deviation"] for f in found])
            pw_cm, mine_cm = (float(signed_frequencies_cm(np.array(x))) for x in (pw, mine))
            lines.append(f"| {base}, {head} | {pw_cm:.0f} | {mine_cm:.0f} ± {sigma:.0f} | {ratio:.1f} |")
    return lines


def figure(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """|error| against standard deviation of ω², learnt and other q."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(11, 3.8), layout="constrained")
    for ax, (base, head) in zip(canvas.subplots(1, len(CASES), sharey=True), CASES, strict=True):
        own = [row for row in rows if (row["base"], row["head"]) == (base, head)]
        for known, label in ((True, "learnt q"), (False, "other q")):
            x = [d for row in own for d, k in zip(row["deviation"], row["learnt"], strict=True) if k == known]
            y = [
                abs(e) for row in own for e, k in zip(row["error"], row["learnt"], strict=True) if k == known
            ]
            ax.plot(x, y, ".", ms=4, alpha=0.6, label=label)
        ax.set(xscale="log", yscale="log", xlabel="σ of ω² (eV/Å²/amu)", title=f"{base}, {head}")
        ax.axline((1e-2, 1e-2), (1e-1, 1e-1), color="0.4", lw=0.8, label="1σ")
        ax.axline((1e-2, 2e-2), (1e-1, 2e-1), color="0.7", lw=0.8, ls="--", label="2σ")
    canvas.axes[0].set_ylabel("|error| (eV/Å²/amu)")
    canvas.axes[0].legend(frameon=False, fontsize="small")
    canvas.savefig(path, dpi=150)


def stored() -> list[dict[str, Any]]:
    """Fits of earlier runs."""
    path = RESULTS.with_suffix(".json")
    return json.loads(path.read_text())["rows"] if path.is_file() else []


def write(rows: Sequence[dict[str, Any]]) -> None:
    """Numbers, table and figure."""
    rows = sorted(rows, key=lambda row: (row["seed"], CASES.index((row["base"], row["head"]))))
    write_json(RESULTS.with_suffix(".json"), {"sets": SETS, "frames": FRAMES, "rows": rows}, overwrite=True)
    RESULTS.with_suffix(".md").write_text(summary(rows), encoding="utf-8")
    figure(rows, RESULTS.with_suffix(".png"))


def main() -> None:
    """Run what is missing, rewriting the table after each fit."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="of CASES")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    labels = None
    for seed, (base, head) in product(arguments.seeds, (CASES[k] for k in arguments.cases)):
        if any((row["base"], row["head"], row["seed"]) == (base, head, seed) for row in stored()):
            continue
        labels = labels or Labels()
        row = measure(base, head, seed, labels)
        write([*stored(), row])
    write(stored())


if __name__ == "__main__":
    main()

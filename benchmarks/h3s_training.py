"""Train a network on some of the H3S labels and measure what matters; for the other benchmarks to call."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from himlip_ase.files import write_json
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.pipeline.config import load_config
from himlip_ase.pipeline.labels import LabelFolder
from himlip_ase.pipeline.phonons import dft_well, model_well
from himlip_ase.potential.derivatives import energy_forces_stress
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

ROOT = Path(__file__).parents[1]
H3S = ROOT / "examples" / "h3s"
LABELS = H3S / "labels_k12"
ELEMENTS = ("H", "S")


@dataclass(frozen=True)
class Row:
    """One trained network; units in the names."""

    name: str
    parameters: int
    dft_core_minutes: float
    force_ms: float
    training_cpu_minutes: float
    validation_force_rmse_mev_per_angstrom: float
    frequency_rmse_cm: float
    frequency_largest_error_cm: float
    t1u_cm: float
    well_depth_mev: float
    well_position_angstrom: float


def h3s_settings(n_frames: int, steps: int, seed: int = 0, polish: int = 0) -> TrainingSettings:
    """Training settings of ``examples/h3s/h3s_k12.yaml`` with other numbers of steps and polish rounds."""
    settings = load_config(H3S / "h3s_k12.yaml").finetune.training
    epochs = max(1, round(steps / -(-n_frames // settings.batch_size)))
    return replace(settings, epochs=epochs, seed=seed, polish=replace(settings.polish, rounds=polish))


def h3s_network(**changes: int | float) -> HiMLIPConfig:
    """The network of ``examples/h3s/h3s_k12.yaml``, with changes."""
    return HiMLIPConfig(ELEMENTS, **(load_config(H3S / "h3s_k12.yaml").finetune.network | changes))  # type: ignore[arg-type]


def force_call_ms(model: HiMLIP, images: int = 8, repeats: int = 5) -> float:
    """CPU milliseconds of energy, forces and stress of one 32-atom cell in a batch; least of several."""
    crystal = LabelFolder(LABELS).crystal.repeat((2, 2, 2))
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(images):
        frames.append(crystal.copy())
        frames[-1].positions += rng.normal(scale=0.1, size=crystal.positions.shape)
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        energy_forces_stress(model, build_graph(frames, model.elements, model.cutoff))
        best = min(best, time.process_time() - start)
    return 1e3 * best / images


def core_minutes(sets: Sequence[str], labels: Path = LABELS) -> float:
    """What Quantum ESPRESSO spent on the sets, from their provenance."""
    return sum(json.loads((labels / f"{name}.json").read_text())["core_seconds"] for name in sets) / 60


def train_and_measure(
    name: str,
    network: HiMLIPConfig,
    sets: Sequence[str],
    steps: int,
    seed: int = 0,
    hessian: bool = True,
    polish: int = 0,
) -> Row:
    """Train from scratch on the sets (and the harmonic Hessian), then measure on what was not trained on."""
    torch.set_num_threads(1)
    label = read_hessian(LABELS / "harmonic")
    frames = read_labels([LABELS / f"{item}.extxyz" for item in sets])
    settings = h3s_settings(len(frames), steps, seed, polish)
    if not hessian:
        settings = replace(settings, loss=replace(settings.loss, hessian=0.0))
    start = time.process_time()
    model = finetune(frames, [label] if hessian else [], settings=settings, network=network).model
    minutes = (time.process_time() - start) / 60
    errors = evaluate_labels(model, read_labels([LABELS / "validation.extxyz"]), [label])
    forces = errors.sets["validation"].forces
    harmonic = next(iter(errors.hessians.values()))
    assert forces is not None and harmonic.frequencies is not None and harmonic.lowest is not None
    reference = dft_well(LabelFolder(LABELS))
    assert reference is not None
    well = model_well(model, LabelFolder(LABELS).crystal, reference[0], float(reference[1].amplitudes.max()))
    return Row(
        name,
        model.n_parameters,
        core_minutes(sets),
        force_call_ms(model),
        minutes,
        1e3 * forces.rmse,
        harmonic.frequencies.rmse,
        harmonic.frequencies.largest,
        harmonic.lowest[1],
        1e3 * well.depth,
        well.position,
    )


def report(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as JSON and as a Markdown table beside it."""
    write_json(path.with_suffix(".json"), [asdict(row) for row in rows], overwrite=True)
    header = [
        "network or labels", "parameters", "DFT core-min", "ms / force call", "training CPU-min",
        "validation forces (meV/Å)", "frequencies RMSE (cm⁻¹)", "largest (cm⁻¹)", "T1u (cm⁻¹)",
        "well depth (meV)", "well position (Å)",
    ]  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        values = list(asdict(row).values())
        shown = [values[0], f"{values[1]:,}", f"{values[2]:.0f}", *(f"{x:.1f}" for x in values[3:10])]
        lines.append("| " + " | ".join([*shown, f"{values[10]:.3f}"]) + " |")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    logging.getLogger(__name__).info("wrote %s", path.with_suffix(".md"))

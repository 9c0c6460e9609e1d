"""What a training run leaves: its folder, the model with its card, and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.files import write_json
from himlip_ase.hint.evaluation.error_tables import describe
from himlip_ase.hint.evaluation.evaluate import MOST_FRAMES, MOST_HESSIANS, LabelErrors, evaluate_labels
from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.training_labels import TrainingLabels
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.programs import NOT_SAID
from himlip_ase.labels.views import sampled
from himlip_ase.potential.interface import Potential

MODEL = "model.safetensors"
REPORT = "report.json"


def run_record(model: Potential, origin: str, labels: TrainingLabels) -> dict[str, Any]:
    """The part of a report that every kind of training has: when, with what, from what, on which labels.

    Parameters
    ----------
    model : Potential
    origin : str
    labels : TrainingLabels

    Returns
    -------
    dict
    """
    return {
        "schema": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "base": origin,
        **model.provenance,
        "elements": list(model.elements),
        "parameters": sum(p.numel() for p in model.parameters()),
        "taught_by": taught_by(model, labels),
        "labels": {
            "codes": labels.codes,
            "training": asdict(labels.counts),
            "validation": asdict(labels.held_counts),
            "sets": labels.sets,
            "n_hessians": len(labels.hessians),
            "n_products": len(labels.products),
            "hessians": [{"name": h.name, "atoms": len(h.atoms)} for h in labels.hessians[:MOST_HESSIANS]],
        },
    }


def taught_by(model: Potential, labels: TrainingLabels) -> list[str]:
    """Programs that calculated what a model has learnt, those of its bases first, each once.

    Parameters
    ----------
    model : Potential
    labels : TrainingLabels
        Of its last training.

    Returns
    -------
    list of str
    """
    known = [code for code in labels.codes if code != NOT_SAID]
    return list(dict.fromkeys([*model.taught_by, *known]))


def training_record(progress: Progress) -> dict[str, Any]:
    """How long a training was and why it ended."""
    return {
        "epochs": progress.epoch,
        "steps": progress.step,
        "seconds": round(progress.elapsed, 1),
        "best_epoch": progress.best_epoch,
        "ended": progress.finished,
    }


def judge(model: Potential, labels: TrainingLabels, further: Sequence[HessianLabel] = ()) -> dict[str, Any]:
    """Errors on the training labels and on those held out, and a summary in words.

    Of very many labels, some are chosen at random (`MOST_FRAMES`, `MOST_HESSIANS`).

    Parameters
    ----------
    model : Potential
    labels : TrainingLabels
    further : sequence of HessianLabel
        Hessians that judge, beside those on the frames held out.

    Returns
    -------
    dict
        ``errors`` and ``summary``.
    """
    own = sampled(labels.hessians, MOST_HESSIANS)
    held_out = (h for h in labels.judges if isinstance(h, HessianLabel))
    judges = list(islice(chain(further, held_out), MOST_HESSIANS))
    errors = {
        "training": _errors(model, labels.training, own),
        "held_out": _errors(model, labels.held_out, judges),
    }
    return {
        "errors": {name: found.to_dict() for name, found in errors.items()},
        "summary": [
            *describe(errors["training"]),
            *(f"held out: {line}" for line in describe(errors["held_out"])),
        ],
    }


def _errors(
    model: Potential, frames: Sequence[LabelledFrame], hessians: Sequence[HessianLabel]
) -> LabelErrors:
    return evaluate_labels(model, sampled(frames, MOST_FRAMES), hessians, most_hessians=len(hessians))


def versions() -> dict[str, str]:
    """Versions of what a training run depends on."""
    found = {}
    for name in ("himlip-ase", "torch", "ase", "numpy", "vesin"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def check_folder(path: Path | None, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds another run, unless it is to be continued or replaced.

    Parameters
    ----------
    path : Path or None
    resume, overwrite : bool
    """
    if path is None:
        if resume:
            raise InputError("resume needs the folder of the run to continue (--out)")
        return
    if (path / "state").exists() and not resume:
        if not overwrite:
            raise InputError(
                f"{path} holds a training run; continue it with --resume or replace it with --overwrite"
            )
        for old in (path / "state").glob("*.safetensors"):
            old.unlink()
    if (path / MODEL).exists() and not (resume or overwrite):
        raise InputError(f"{path / MODEL} exists; choose another folder or type --overwrite")


def save_run(path: Path, model: Potential, report: dict[str, Any]) -> None:
    """Write the model with its card, and the report.

    Parameters
    ----------
    path : Path
        Folder of the run.
    model : Potential
    report : dict
        Also the model's card.
    """
    from himlip_ase.potential.checkpoint import save_model

    report = json.loads(json.dumps(report, default=float).replace("Infinity", "null").replace("NaN", "null"))
    save_model(model, path / MODEL, report, overwrite=True)
    write_json(path / REPORT, report, overwrite=True)

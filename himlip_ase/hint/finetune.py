"""Fine-tune a potential, or train one from scratch, on energies, forces, stresses and Hessians."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from himlip_ase.errors import InputError
from himlip_ase.files import FolderLock, write_json
from himlip_ase.hint.batches import FrameStore
from himlip_ase.hint.checks import check_frames, check_hessian, check_separate, find_duplicates
from himlip_ase.hint.error_tables import describe
from himlip_ase.hint.evaluate import evaluate_labels
from himlip_ase.hint.folding import fold_hessian
from himlip_ase.hint.labels import HessianLabel, LabelledFrame, count_labels
from himlip_ase.hint.polish import polish
from himlip_ase.hint.products import HessianProducts
from himlip_ase.hint.progress import Progress
from himlip_ase.hint.settings import TrainingSettings
from himlip_ase.hint.state import write_history
from himlip_ase.hint.training import Trainer
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig, element_union

logger = logging.getLogger(__name__)

MODEL = "model.safetensors"
REPORT = "report.json"
STANDARDISE_FRAMES = 64


@dataclass
class FinetuneResult:
    """What a fine-tuning returns.

    Attributes
    ----------
    model : Potential
        With its best averaged weights.
    report : dict
        Labels, settings, errors per set, costs; what ``report.json`` holds.
    progress : Progress
        History of the training.
    """

    model: Potential
    report: dict[str, Any]
    progress: Progress


def finetune(
    labels: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
    base: Potential | str | os.PathLike | None = None,
    settings: TrainingSettings | None = None,
    folder: str | os.PathLike | None = None,
    validation: Sequence[LabelledFrame] | None = None,
    network: HiMLIPConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Callable[[Progress], None] | None = None,
    products: Sequence[HessianProducts] = (),
    validation_hessians: Sequence[HessianLabel] = (),
    replay: Sequence[LabelledFrame] = (),
) -> FinetuneResult:
    """Train a potential on whatever labels there are.

    Parameters
    ----------
    labels : sequence of LabelledFrame
        Any of energy, forces, stress and Hessian on each; see :func:`himlip_ase.hint.labels.read_labels`.
    hessians : sequence of HessianLabel
        Further Hessians, e.g. of :func:`himlip_ase.hint.labels.read_hessian`.
    base : Potential or name or path, optional
        Model to start from; ``mace:PATH`` or ``mace:NAME`` for one of MACE. None: from scratch.
    settings : TrainingSettings, optional
    folder : path, optional
        Receives ``model.safetensors`` and its card, ``report.json``, ``history.csv`` and ``state/``.
    validation : sequence of LabelledFrame, optional
        Chooses the epoch that is kept. None: a share of `labels` is held out (`validation_fraction`).
        Frames that shall judge the model must not be given here either.
    network : HiMLIPConfig, optional
        Shape of a model from scratch.
    resume, overwrite : bool
        Continue from the checkpoint in `folder`; or replace what is there.
    on_epoch : callable, optional
        Called with the Progress after each epoch.
    products : sequence of HessianProducts
        Labels of parts of Hessians: products with given vectors, columns among them.
    validation_hessians : sequence of HessianLabel
        Judge the model, and stop it with ``watch: hessian``; not trained on.
    replay : sequence of LabelledFrame
        Some of the base's own training data, trained on now and then against forgetting.

    Returns
    -------
    FinetuneResult

    Raises
    ------
    InputError
        Labels that fail the checks, training and validation that share structures, a folder in use.
    TrainingDiverged
        A non-finite loss; the last good checkpoint remains.
    """
    settings = settings or TrainingSettings()
    path = None if folder is None else Path(folder)
    training, held_out, hessians = checked_labels(labels, hessians, validation, settings)
    with FolderLock(path) if path is not None else nullcontext():
        check_folder(path, resume, overwrite)
        model, origin = start_model(training, hessians, base, network, settings)
        learnt = [part for h in hessians for part in fold_hessian(h)] if settings.fold_hessians else hessians
        every: list[HessianLabel | HessianProducts] = [*learnt, *products]
        for part in every:
            logger.info("Hessian of %d atoms: %s", len(part.atoms), part.name)
        trainer = Trainer(
            model, training, every, settings, held_out, path,
            _fingerprint([*training, *replay], held_out, [*hessians, *validation_hessians], origin, products),
            on_epoch, validation_hessians, replay,
        )  # fmt: skip
        if resume:
            trainer.load()
        progress = trainer.run()
        if settings.polish.rounds:
            polish(trainer, on_epoch, resume)
            if path is not None:
                write_history(path / "history.csv", progress.history)
        report = _report(trainer, training, held_out, hessians, origin, settings)
        if path is not None:
            save_run(path, trainer.model, report)
    return FinetuneResult(trainer.model, report, progress)


def checked_labels(
    labels: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    validation: Sequence[LabelledFrame] | None,
    settings: TrainingSettings,
) -> tuple[list[LabelledFrame], list[LabelledFrame], list[HessianLabel]]:
    """Frames to train on, frames held out, and all Hessians, once they have passed the checks.

    For the parameters and errors see `finetune`.
    """
    hessians = [*hessians, *(f.hessian for f in labels if f.hessian is not None)]
    for label in hessians:
        check_hessian(label.atoms, label.matrix, label.name)
    frames = [f for f in labels if any(x is not None for x in (f.energy, f.forces, f.stress))]
    if not frames and not hessians:
        raise InputError("no labels: neither energies, forces, stresses nor Hessians were given")
    check_frames(frames)
    frames = _without_duplicates(frames)
    if validation is not None:
        check_frames(validation)
        check_separate(frames, validation)
        training, held_out = frames, list(validation)
    else:
        training, held_out = split_frames(frames, settings.validation_fraction, settings.seed)
    logger.info("training on %s and %d Hessians", count_labels(training), len(hessians))
    logger.info("validation on %s", count_labels(held_out))
    return training, held_out, hessians


def split_frames(
    frames: Sequence[LabelledFrame], fraction: float, seed: int
) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Hold out a share of each set, chosen by `seed`; sets of fewer than five frames are not split.

    Returns
    -------
    training, held_out : list of LabelledFrame
    """
    kept, held = split_indices([f.set for f in frames], fraction, seed)
    return [frames[k] for k in kept], [frames[k] for k in held]


def split_indices(sets: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """As `split_frames`, of the names of the frames' sets: indices of the frames to train on and held out."""
    rng = np.random.default_rng(seed)
    held: set[int] = set()
    for name in sorted(set(sets)):
        members = [k for k, own in enumerate(sets) if own == name]
        if len(members) >= 5 and fraction > 0:
            held |= {
                int(k) for k in rng.choice(members, max(1, round(fraction * len(members))), replace=False)
            }
    return [k for k in range(len(sets)) if k not in held], sorted(held)


def _without_duplicates(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    found = find_duplicates(frames)
    if not found:
        return list(frames)
    names = [f.source or f"{f.set}#{k}" for k, f in enumerate(frames)]
    dropped = {d.second for d in found}
    logger.warning("%d duplicate frames are left out: %s", len(dropped), "; ".join(map(str, found[:5])))
    return [f for f, name in zip(frames, names, strict=True) if name not in dropped]


def start_model(
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    base: Potential | str | os.PathLike | None,
    network: HiMLIPConfig | None,
    settings: TrainingSettings,
) -> tuple[Potential, str]:
    """The model that training starts from, with the elements' energies fitted, and where it came from."""
    structures = [f.atoms for f in frames] + [h.atoms for h in hessians]
    model: Potential
    fresh = None
    if base is None:
        elements = element_union([a.get_chemical_symbols() for a in structures])
        model = fresh = HiMLIP(network or HiMLIPConfig(elements=elements), seed=settings.seed)
        origin = "from scratch"
    elif isinstance(base, torch.nn.Module):
        model, origin = base, "a model in memory"
    else:
        from himlip_ase.potential.checkpoint import load_model

        model = load_model(base)
        origin = ", ".join([Path(base).name, *filter(None, [model.provenance.get("origin")])])
    model = model.to(device="cpu", dtype=torch.float64)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if frames:
        store = FrameStore(frames, model, settings.loss)
        if fresh is not None:
            rng = np.random.default_rng(settings.seed)
            some = rng.permutation(len(frames))[:STANDARDISE_FRAMES].tolist()
            fresh.standardise(store.batch(some).graph)
        fit_references(model, store, scale=fresh is not None)
    return model, origin


@torch.no_grad()
def fit_references(model: Potential, store: FrameStore, scale: bool = False, ridge: float = 1e-8) -> None:
    """Fit the energy that each element adds, by least squares on what the model misses.

    One crystal alone fixes only the sum over its atoms: the solution of least norm shares it out.

    Parameters
    ----------
    model : Potential
        `energy_shift` is changed in place, and with `scale` also `energy_scale`.
    store : FrameStore
    scale : bool
        Set the unit of the network's output to the spread of the remaining energies per atom.
    ridge : float
        Regularisation, relative to the counts.
    """
    rows, missing, weights = [], [], []
    for k, frame in enumerate(store.frames):
        if frame.energy is None:
            continue
        batch = store.batch([k])
        n = len(frame.atoms)
        counts = torch.bincount(batch.graph.species, minlength=len(model.elements)).to(torch.float64)
        rows.append(counts / n)
        missing.append((batch.energies - model(batch.graph)) / n)
        weights.append(batch.energy_weights)
    if not rows:
        return
    a, b, w = torch.stack(rows), torch.cat(missing), torch.cat(weights).sqrt()
    lhs = (a * w[:, None]).T @ (a * w[:, None])
    values, vectors = torch.linalg.eigh(lhs)
    keep = values > ridge * values.max()
    inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
    shift = vectors @ (inverse * (vectors.T @ (a.T @ (w**2 * b))))
    energies = model.get_buffer("energy_shift")
    energies += shift.to(energies)
    if scale:
        rest = b - a @ shift
        spread = ((w**2 * rest**2).sum() / (w**2).sum()).sqrt()
        model.get_buffer("energy_scale").fill_(float(spread.clamp(0.05, 2.0)))
    logger.info("energies of the elements: %s eV", dict(zip(model.elements, energies.tolist(), strict=True)))


def _fingerprint(
    training: Sequence[LabelledFrame],
    held_out: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    origin: str,
    products: Sequence[HessianProducts] = (),
) -> str:
    digest = hashlib.sha256(origin.encode())
    for frame in [*training, *held_out]:
        structure = (frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array)
        for value in (*structure, frame.energy, frame.forces, frame.stress, frame.weight):
            digest.update(b"none" if value is None else np.ascontiguousarray(value).tobytes())
    for label in hessians:
        digest.update(label.atoms.positions.tobytes() + np.ascontiguousarray(label.matrix).tobytes())
    for item in products:
        for value in (item.atoms.positions, item.vectors, item.products):
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def check_folder(path: Path | None, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds another run, unless it is to be continued or replaced."""
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


def _report(
    trainer: Trainer,
    training: Sequence[LabelledFrame],
    held_out: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    origin: str,
    settings: TrainingSettings,
) -> dict[str, Any]:
    progress = trainer.progress
    on_training = evaluate_labels(trainer.model, training, hessians)
    on_held_out = evaluate_labels(trainer.model, held_out)
    return {
        "schema": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "base": origin,
        **trainer.model.provenance,
        "elements": list(trainer.model.elements),
        "parameters": sum(p.numel() for p in trainer.parameters.values()),
        "labels": {
            "training": asdict(count_labels(training)),
            "validation": asdict(count_labels(held_out)),
            "sets": {n: sum(f.set == n for f in training) for n in sorted({f.set for f in training})},
            "hessians": [{"name": h.name, "atoms": len(h.atoms)} for h in hessians],
        },
        "settings": settings.to_dict(),
        "training": {
            "epochs": progress.epoch,
            "steps": progress.step,
            "seconds": round(progress.elapsed, 1),
            "best_epoch": progress.best_epoch,
            "ended": progress.finished,
        },
        "errors": {
            "training": on_training.to_dict(),
            "held_out": on_held_out.to_dict(),
        },
        "summary": describe(on_training) + [f"held out: {line}" for line in describe(on_held_out)],
    }


def versions() -> dict[str, str]:
    """Versions of what a training run depends on."""
    found = {}
    for name in ("himlip-ase", "torch", "ase", "numpy", "vesin"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def save_run(path: Path, model: Potential, report: dict[str, Any]) -> None:
    """Write the model with its card, and the report."""
    from himlip_ase.potential.checkpoint import save_model

    report = json.loads(json.dumps(report, default=float).replace("Infinity", "null").replace("NaN", "null"))
    save_model(model, path / MODEL, report, overwrite=True)
    write_json(path / REPORT, report, overwrite=True)

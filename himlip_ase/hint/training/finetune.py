"""Fine-tune a potential, or train one from scratch, on energies, forces, stresses and Hessians."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from himlip_ase.files import FolderLock
from himlip_ase.hint.training.batches import FrameStore
from himlip_ase.hint.training.checkpoints import write_history
from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.hint.training.input_statistics import InputStatistics
from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.refinement import polish
from himlip_ase.hint.training.run_record import check_folder, judge, run_record, save_run, training_record
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.hint.training.training_labels import TrainingLabels, prepare_labels
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.labels.views import Joined
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig, element_union

logger = logging.getLogger(__name__)


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
        Any of energy, forces, stress, Hessian and products of one on each; see
        :func:`himlip_ase.labels.readers.read_labels`. May be on disk
        (:func:`himlip_ase.labels.readers.open_labels`): it is never read whole.
    hessians : sequence of HessianLabel
        Further Hessians, e.g. of :func:`himlip_ase.labels.readers.read_hessian`.
    base : Potential or name or path, optional
        Model to start from; ``mace:PATH`` or ``mace:NAME`` for one of MACE. None: from scratch.
    settings : TrainingSettings, optional
    folder : path, optional
        Receives ``model.safetensors`` and its card, ``report.json``, ``history.csv`` and ``state/``.
    validation : sequence of LabelledFrame, optional
        Chooses the epoch that is kept. None: a share of `labels` is held out (`validation_fraction`).
        Hessians on frames held out judge and are not trained on.
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
    prepared = prepare_labels(labels, hessians, validation, settings, products)
    judges = [*validation_hessians, *prepared.judges]
    with FolderLock(path) if path is not None else nullcontext():
        check_folder(path, resume, overwrite)
        model, origin = start_model(prepared.training, prepared.hessians, base, network, settings)
        trainer = Trainer(
            model, prepared.training, taught(prepared, settings), settings, prepared.held_out, path,
            _fingerprint(prepared, replay, judges, origin), on_epoch, judges, replay,
            statistics=_statistics(model, prepared, settings) if base is None else None,
        )  # fmt: skip
        if resume:
            trainer.load()
        progress = trainer.run()
        if settings.polish.rounds:
            polish(trainer, on_epoch, resume)
            if path is not None:
                write_history(path / "history.csv", progress.history)
        report = {
            **run_record(trainer.model, origin, prepared),
            "parameters": sum(p.numel() for p in trainer.parameters.values()),
            "settings": settings.to_dict(),
            "training": training_record(progress),
            **judge(trainer.model, prepared, validation_hessians),
        }
        if path is not None:
            save_run(path, trainer.model, report)
    return FinetuneResult(trainer.model, report, progress)


def taught(labels: TrainingLabels, settings: TrainingSettings) -> Sequence[HessianLabel | HessianProducts]:
    """The Hessians that a training draws from: those of crystals folded into small cells, parts of others."""
    hessians: Sequence[HessianLabel | HessianProducts] = labels.hessians
    if settings.fold_hessians and isinstance(hessians, list):
        hessians = [part for h in labels.hessians for part in fold_hessian(h)]
    every = Joined([hessians, labels.products]) if labels.products else hessians
    for part in every[:20]:
        logger.info("Hessian of %d atoms: %s", len(part.atoms), part.name)
    if len(every) > 20:
        logger.info("and %d others", len(every) - 20)
    return every


def _statistics(
    model: Potential, labels: TrainingLabels, settings: TrainingSettings
) -> InputStatistics | None:
    """Of a network from scratch that has frames to take them from."""
    if isinstance(model, HiMLIP) and labels.training:
        return InputStatistics(model, labels.training, settings.seed)
    return None


def start_model(
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    base: Potential | str | os.PathLike | None,
    network: HiMLIPConfig | None,
    settings: TrainingSettings,
) -> tuple[Potential, str]:
    """The model that training starts from, with the elements' energies fitted, and where it came from."""
    model: Potential
    fresh = None
    if base is None:
        kinds = {symbol for frame in frames for symbol in frame.atoms.symbols}
        kinds |= {symbol for label in hessians for symbol in label.atoms.symbols}
        elements = element_union([sorted(kinds)])
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
            InputStatistics(fresh, frames, settings.seed)()
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
    labels: TrainingLabels,
    replay: Sequence[LabelledFrame],
    judges: Sequence[HessianLabel | HessianProducts],
    origin: str,
) -> str:
    digest = hashlib.sha256(origin.encode())
    for frame in Joined([labels.training, replay, labels.held_out]):
        structure = (frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array)
        for value in (*structure, frame.energy, frame.forces, frame.stress, frame.weight):
            digest.update(b"none" if value is None else np.ascontiguousarray(value).tobytes())
    for item in Joined([labels.hessians, judges, labels.products]):
        values = (item.matrix,) if isinstance(item, HessianLabel) else (item.vectors, item.products)
        for value in (item.atoms.positions, *values):
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()

"""Pre-training: a base model from many structures of low fidelity, streamed from disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import FolderLock
from himlip_ase.hint.batches import FrameStore
from himlip_ase.hint.checks import check_frames, check_hessian
from himlip_ase.hint.distributed import Processes
from himlip_ase.hint.error_tables import describe
from himlip_ase.hint.evaluate import evaluate_labels
from himlip_ase.hint.finetune import (
    FinetuneResult,
    check_folder,
    fit_references,
    save_run,
    split_indices,
    versions,
)
from himlip_ase.hint.folding import fold_hessian
from himlip_ase.hint.label_store import Chosen
from himlip_ase.hint.labels import HessianLabel, LabelledFrame, count_labels
from himlip_ase.hint.progress import Progress
from himlip_ase.hint.settings import TrainingSettings
from himlip_ase.hint.training import Trainer
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig, element_union

logger = logging.getLogger(__name__)

STANDARDISE_PER_ELEMENT = 24
"""Frames of each element that set the statistics of the network's inputs."""


def pretrain(
    labels: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
    settings: TrainingSettings | None = None,
    folder: str | os.PathLike | None = None,
    network: HiMLIPConfig | None = None,
    card: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Callable[[Progress], None] | None = None,
) -> FinetuneResult:
    """Train a model from scratch on many different structures.

    Unlike :func:`himlip_ase.hint.finetune.finetune` it never holds all frames: `labels` may be a
    :class:`himlip_ase.hint.label_store.LabelStore` of millions. A share of every set is held out and judges
    the model; molecules and crystals may be mixed. Started by ``torchrun``, several processes or GPUs share
    the batches and give the same loss curve as one.

    Parameters
    ----------
    labels : sequence of LabelledFrame
        Read one frame at a time, several times.
    hessians : sequence of HessianLabel
        Those on the frames are trained on as well.
    settings : TrainingSettings, optional
    folder : path, optional
        Receives ``model.safetensors`` and its card, ``report.json``, ``history.csv`` and ``state/``.
    network : HiMLIPConfig, optional
        Shape of the model; default for the elements of the labels.
    card : dict, optional
        What else the card shall say: data, licence, validity.
    resume, overwrite : bool
        As in `finetune`.
    on_epoch : callable, optional

    Returns
    -------
    FinetuneResult

    Raises
    ------
    InputError
        As `finetune`.
    TrainingDiverged
        A non-finite loss; the last good checkpoint remains.
    """
    settings = settings or TrainingSettings()
    processes = Processes.of_environment()
    path = None if folder is None else Path(folder)
    check_frames(labels)
    sets, elements, own = _survey(labels)
    hessians = [*hessians, *own]
    for label in hessians:
        check_hessian(label.atoms, label.matrix, label.name)
    kept, held = split_indices(sets, settings.validation_fraction, settings.seed)
    training, held_out = Chosen(labels, kept), Chosen(labels, held)
    if not kept:
        raise InputError("nothing to train on: no frame is left after holding out; lower validation_fraction")
    logger.info("training on %s and %d Hessians", count_labels(training), len(hessians))
    logger.info("held out: %s", count_labels(held_out))
    with FolderLock(path) if path is not None and processes.first else nullcontext():
        if processes.first:
            check_folder(path, resume, overwrite)
        processes.wait()
        model = HiMLIP(
            network or HiMLIPConfig(element_union([list(e) for e in elements])), seed=settings.seed
        )
        store = FrameStore(training, model, settings.loss)
        model.standardise(store.batch(_typical([elements[k] for k in kept], settings.seed)).graph)
        fit_references(model, store, scale=True)
        learnt = [part for h in hessians for part in fold_hessian(h)] if settings.fold_hessians else hessians
        fingerprint = f"pretraining on {len(kept)} of {len(sets)} frames, {len(hessians)} Hessians"
        trainer = Trainer(
            model, training, learnt, settings, held_out, path, fingerprint,
            on_epoch if processes.first else None, processes=processes,
        )  # fmt: skip
        if resume:
            trainer.load()
        progress = trainer.run()
        errors = evaluate_labels(trainer.model, held_out, hessians)
        report = {
            "schema": 1,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "base": "from scratch",
            "elements": list(model.elements),
            "labels": {
                "training": asdict(count_labels(training)),
                "validation": asdict(count_labels(held_out)),
                "sets": {name: sets.count(name) for name in sorted(set(sets))},
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
            "errors": {"held_out": errors.to_dict()},
            "summary": [f"held out: {line}" for line in describe(errors)],
            **(card or {}),
        }
        if path is not None and processes.first:
            save_run(path, trainer.model, report)
        processes.wait()
    return FinetuneResult(trainer.model, report, progress)


def _survey(
    labels: Sequence[LabelledFrame],
) -> tuple[list[str], list[tuple[str, ...]], list[HessianLabel]]:
    """Set and elements of every frame, and the Hessians on them."""
    sets, elements, hessians = [], [], []
    for frame in labels:
        sets.append(frame.set)
        elements.append(tuple(sorted(set(frame.atoms.get_chemical_symbols()))))
        if frame.hessian is not None:
            hessians.append(frame.hessian)
    return sets, elements, hessians


def _typical(elements: Sequence[tuple[str, ...]], seed: int) -> list[int]:
    """Frames in which every element occurs often enough for statistics, chosen at random."""
    order = np.random.default_rng(seed).permutation(len(elements)).tolist()
    chosen: list[int] = []
    seen: dict[str, int] = {}
    for index in order:
        if any(seen.get(symbol, 0) < STANDARDISE_PER_ELEMENT for symbol in elements[index]):
            chosen.append(index)
            for symbol in elements[index]:
                seen[symbol] = seen.get(symbol, 0) + 1
    return chosen

"""The one procedure behind fine-tuning and pre-training: start, train, refine, judge, write."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.files import FolderLock
from himlip_ase.hint.training.checkpoints import write_history
from himlip_ase.hint.training.distributed import Processes
from himlip_ase.hint.training.fingerprint import (
    WITHOUT_WEIGHTS,
    Fingerprint,
    content_fingerprint,
    older_fingerprints,
    weights_digest,
)
from himlip_ase.hint.training.hessian_turns import hessians_at
from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.refinement import polish
from himlip_ase.hint.training.run_record import check_folder, judge, run_record, save_run, training_record
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.start import FROM_SCRATCH, Start, start_training
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.hint.training.training_labels import TrainingLabels, taught
from himlip_ase.labels.digests import frame_digest, hessian_digest
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.programs import with_one_zero
from himlip_ase.labels.views import Joined, remembered
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.network import HiMLIPConfig

logger = logging.getLogger(__name__)


@dataclass
class TrainingResult:
    """What a training returns.

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


def train(
    labels: TrainingLabels,
    base: Potential | str | os.PathLike | None = None,
    settings: TrainingSettings | None = None,
    folder: str | os.PathLike | None = None,
    network: HiMLIPConfig | None = None,
    validation_hessians: Sequence[HessianLabel] = (),
    replay: Sequence[LabelledFrame] = (),
    card: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Train a model on labels that were prepared.

    Started by ``torchrun``, several processes or GPUs share the batches and give the loss curve of one.

    Parameters
    ----------
    labels : TrainingLabels
        See :func:`himlip_ase.hint.training.training_labels.prepare_labels`.
    base : Potential or name or path, optional
        Model to start from. None: from scratch.
    settings : TrainingSettings, optional
    folder : path, optional
        Receives ``model.safetensors`` and its card, ``report.json``, ``history.csv`` and ``state/``.
    network : HiMLIPConfig, optional
        Shape of a model from scratch.
    validation_hessians : sequence of HessianLabel
        Judge the model beside those on frames held out; not trained on.
    replay : sequence of LabelledFrame
        Some of the base's own training data, trained on now and then against forgetting.
    card : dict, optional
        What else the card shall say: data, licence, validity.
    resume, overwrite : bool
        Continue from the checkpoint in `folder`, if there is one yet; or replace what is there.
    on_epoch : callable, optional
        Called with the Progress after each epoch. If it has a method ``polishing`` too
        (:class:`~himlip_ase.hint.training.progress.PolishListener`), it is told of the refinement.

    Returns
    -------
    TrainingResult

    Raises
    ------
    InputError
        A folder in use, a checkpoint of other labels, settings that do not fit together.
    TrainingDiverged
        A non-finite loss; the last good checkpoint remains.
    """
    settings = settings or TrainingSettings()
    processes = Processes.of_environment()
    if processes.count > 1 and settings.polish.rounds:
        raise InputError(
            "polish is done by one process: set its rounds to 0, or start without torchrun and polish "
            "with --resume"
        )
    path = None if folder is None else Path(folder)
    if resume and path is not None and not path.is_dir():
        raise InputError(f"nothing to resume: there is no {path}; start without --resume")
    replay = remembered(with_one_zero(replay, labels.training))
    judges: Sequence[Any] = Joined([validation_hessians, labels.judges])
    with FolderLock(path) if path is not None and processes.first else nullcontext():
        if processes.first:
            check_folder(path, resume, overwrite)
        processes.wait()
        own = labels.hessians[: labels.given[0]]
        start = start_training(
            labels.training, labels.elements, own, base, network, settings, labels.element_energies
        )
        hessians = taught(labels, settings)
        trainer = Trainer(
            start.model, labels.training, hessians.labels, settings, labels.held_out, path,
            _fingerprint(labels, replay, judges, validation_hessians, start),
            on_epoch if processes.first else None, judges, replay, processes, start.statistics,
            start.store, hessians_at(labels.structures, hessians.structures),
        )  # fmt: skip
        if resume:
            trainer.load()
        progress = trainer.run()
        if settings.polish.rounds:
            polish(trainer, on_epoch, resume)
            if path is not None:
                write_history(path / "history.csv", progress.history)
        if settings.loss.energy == 0:
            # forces leave a constant free: that of the labels, which the training has moved away from
            start.refit_references(trainer.model, labels.element_energies)
        report = {
            **run_record(trainer.model, start.origin, labels),
            "settings": settings.to_dict(),
            "training": training_record(progress),
            **judge(trainer.model, labels, validation_hessians),
            **(card or {}),
        }
        trainer.model.taught_by = tuple(report["taught_by"])
        if path is not None and processes.first:
            save_run(path, trainer.model, report)
        processes.wait()
    return TrainingResult(trainer.model, report, progress)


def _fingerprint(
    labels: TrainingLabels,
    replay: Sequence[LabelledFrame],
    judges: Sequence[Any],
    validation_hessians: Sequence[HessianLabel],
    start: Start,
) -> Fingerprint:
    parts: Mapping[str, Iterable[bytes]] = labels.digests | {
        "replay": [frame_digest(frame) for frame in replay],
        "validation": [hessian_digest(label) for label in validation_hessians],
    }
    by_name = content_fingerprint(start.origin, parts, WITHOUT_WEIGHTS)
    before_contents = older_fingerprints(
        start.origin, Joined([labels.training, replay, labels.held_out]),
        Joined([labels.hessians, judges, labels.products]), labels.counts, labels.held_counts,
    )  # fmt: skip
    if start.origin != FROM_SCRATCH:  # two models may have one name, or none
        parts = {**parts, "start": [weights_digest(start.model)]}
    value = content_fingerprint(start.origin, parts)
    return Fingerprint(value, lambda found: found == by_name or before_contents(found))

"""Pre-training: a base model from many structures of low fidelity, streamed from disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.files import FolderLock
from himlip_ase.hint.training.batches import FrameStore
from himlip_ase.hint.training.distributed import Processes
from himlip_ase.hint.training.finetune import FinetuneResult, fit_references, taught
from himlip_ase.hint.training.input_statistics import InputStatistics
from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.run_record import check_folder, judge, run_record, save_run, training_record
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig, element_union


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

    Unlike :func:`himlip_ase.hint.training.finetune.finetune` it never holds all frames: `labels` may be a
    :class:`himlip_ase.labels.store.LabelStore` of millions. A share of every set is held out and judges
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
    prepared = prepare_labels(labels, hessians, settings=settings)
    if not prepared.training:
        raise InputError("nothing to train on: no frame is left after holding out; lower validation_fraction")
    with FolderLock(path) if path is not None and processes.first else nullcontext():
        if processes.first:
            check_folder(path, resume, overwrite)
        processes.wait()
        model = HiMLIP(
            network or HiMLIPConfig(element_union([list(e) for e in prepared.elements])), seed=settings.seed
        )
        store = FrameStore(prepared.training, model, settings.loss)
        statistics = InputStatistics(model, prepared.training, settings.seed)
        statistics()
        fit_references(model, store, scale=True)
        fingerprint = f"pretraining on {prepared.counts}; held out {prepared.held_counts}"
        trainer = Trainer(
            model, prepared.training, taught(prepared, settings), settings, prepared.held_out, path,
            fingerprint, on_epoch if processes.first else None, prepared.judges, processes=processes,
            statistics=statistics,
        )  # fmt: skip
        if resume:
            trainer.load()
        progress = trainer.run()
        report = {
            **run_record(model, "from scratch", prepared),
            "settings": settings.to_dict(),
            "training": training_record(progress),
            **judge(trainer.model, prepared),
            **(card or {}),
        }
        if path is not None and processes.first:
            save_run(path, trainer.model, report)
        processes.wait()
    return FinetuneResult(trainer.model, report, progress)

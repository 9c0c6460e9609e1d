"""Pre-training: a base model from many structures of low fidelity, streamed from disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.hint.training.procedure import TrainingResult, train
from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.potential.network import HiMLIPConfig


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
) -> TrainingResult:
    """Train a model from scratch on many different structures.

    Unlike :func:`himlip_ase.hint.training.finetune.finetune` it never holds all frames: `labels` may be a
    :class:`himlip_ase.labels.store.LabelStore` of millions. A share of every set is held out and judges
    the model; molecules and crystals may be mixed. Started by ``torchrun``, several processes or GPUs share
    the batches and give the same loss curve as one.

    Parameters
    ----------
    labels : sequence of LabelledFrame
        Each read once, and again when it is drawn if there is no room to keep it.
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
    TrainingResult

    Raises
    ------
    InputError
        As `finetune`.
    TrainingDiverged
        A non-finite loss; the last good checkpoint remains.
    """
    prepared = prepare_labels(labels, hessians, settings=settings)
    if not prepared.training:
        raise InputError("nothing to train on: no frame is left after holding out; lower validation_fraction")
    return train(
        prepared, None, settings, folder, network, card=card,
        resume=resume, overwrite=overwrite, on_epoch=on_epoch,
    )  # fmt: skip

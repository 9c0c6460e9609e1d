"""Fine-tune a potential, or train one from scratch, on energies, forces, stresses and Hessians."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from himlip_ase.hint.training.procedure import TrainingResult, train
from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.network import HiMLIPConfig


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
) -> TrainingResult:
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
        Model to start from; ``mace:PATH``, ``mace:NAME`` or ``alphanet:PATH`` for one of
        those. None: from scratch.
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
        Continue from the checkpoint in `folder`, if there is one yet; or replace what is there.
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
    TrainingResult

    Raises
    ------
    InputError
        Labels that fail the checks, training and validation that share structures, a folder in use.
    TrainingDiverged
        A non-finite loss; the last good checkpoint remains.
    """
    return train(
        prepare_labels(labels, hessians, validation, settings, products), base, settings, folder, network,
        validation_hessians, replay, None, resume, overwrite, on_epoch,
    )  # fmt: skip

"""The head of a run's potential in closed form: what would make the fit fail, what it costs, the fit."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from himlip_ase.errors import InputError
from himlip_ase.pipeline.base import base_of
from himlip_ase.pipeline.run_sections import ClosedFormSection, FinetuneSection

if TYPE_CHECKING:
    from himlip_ase.hint.training.settings import TrainingSettings
    from himlip_ase.labels.frames import HessianLabel, LabelledFrame

logger = logging.getLogger(__name__)

REPLAY = "finetune.closed_form.replay"
OTHERWISE = "or leave finetune.closed_form out to train by gradients"


def closed_form_faults(section: FinetuneSection, symbols: Collection[str]) -> list[str]:
    """What would make the fit of a crystal's potential fail.

    Parameters
    ----------
    section : FinetuneSection
    symbols : collection of str
        Elements of the crystal.

    Returns
    -------
    list of str
        Sentences, each with the key that mends it; empty where nothing is wrong or no head is fitted.
    """
    chosen = section.head_to_fit
    if chosen is None:
        return []
    faults = [f"{REPLAY}: {path} does not exist" for path in chosen.replay if not path.exists()]
    base, why = base_of(section, symbols)
    if base is None:
        faults.append(
            "finetune.closed_form: the fit begins with a model that knows the elements, and there is none "
            f"({why}); name one, finetune.base: MODEL, {OTHERWISE}"
        )
    else:
        faults += _base_faults(base, symbols)
    return faults


def _base_faults(base: str, symbols: Collection[str]) -> list[str]:
    from himlip_ase.potential.checkpoint import MACE_PREFIX, load_model
    from himlip_ase.potential.lattice_potential import network_of
    from himlip_ase.potential.network import HiMLIP

    try:
        model = None if base.startswith(MACE_PREFIX) else network_of(load_model(base))
    except InputError as error:
        return [f"finetune.base: {error}"]
    if not isinstance(model, HiMLIP):
        return [
            f"finetune.base: {base} is no Hi-MLIP network, whose head the closed form fits; name one that "
            f"is, {OTHERWISE}"
        ]
    missing = sorted(set(symbols) - set(model.elements))
    if missing:
        return [
            f"finetune.base: {base} does not know {', '.join(missing)}; name a model that does, {OTHERWISE}"
        ]
    return []


def closed_form_cost(section: FinetuneSection, chosen: ClosedFormSection) -> str:
    """What the fit costs, in words.

    Parameters
    ----------
    section : FinetuneSection
    chosen : ClosedFormSection
        Of `section`, used.

    Returns
    -------
    str
    """
    twice = ", twice (finetune.compare)" if section.compare and section.hessian else ""
    fit = f"finetune fits the {chosen.head} head in closed form{twice}"
    return f"{fit}: no epochs, about a minute of a free core"


def replayed_frames(
    paths: Sequence[Path], symbols: Collection[str], judges: Sequence[LabelledFrame]
) -> list[LabelledFrame]:
    """Frames of the base's own training that the fit of a crystal's potential can take part of.

    Parameters
    ----------
    paths : sequence of Path
        Files or folders of labels; none give no frames.
    symbols : collection of str
        Elements of the crystal; frames with another one are left out, and so are sets that judge.
    judges : sequence of LabelledFrame
        What judges the potential and may not be learnt.

    Returns
    -------
    list of LabelledFrame

    Raises
    ------
    InputError
        No frame is left, or one of `judges` is among them.
    """
    if not paths:
        return []
    from himlip_ase.labels.duplicates import check_separate
    from himlip_ase.labels.readers import read_labels, without_judges

    every = read_labels(paths)
    frames = without_judges(every)
    kept = [frame for frame in frames if set(frame.atoms.symbols) <= set(symbols)]
    elements = ", ".join(sorted(set(symbols)))
    if not kept:
        raise InputError(
            f"{REPLAY}: none of {len(every)} frames holds no other element than {elements}; give labels that "
            "do, or leave it out"
        )
    logger.info(
        "replayed: %d of %d frames; %d hold other elements than %s, %d are of sets that judge",
        len(kept),
        len(every),
        len(frames) - len(kept),
        elements,
        len(every) - len(frames),
    )
    try:
        check_separate(kept, judges)
    except InputError as error:
        raise InputError(f"{REPLAY}: {error}") from error
    return kept


def fit_head(
    chosen: ClosedFormSection,
    training: TrainingSettings,
    symbols: Collection[str],
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    replay: Sequence[LabelledFrame],
    base: str,
    folder: Path,
) -> None:
    """Fit the head of the base, of the crystal's elements alone.

    Parameters
    ----------
    chosen : ClosedFormSection
    training : TrainingSettings
        Which frames are held out, to calibrate the posterior.
    symbols : collection of str
        Elements of the crystal.
    frames, hessians : sequences of labels
        To learn from.
    replay : sequence of LabelledFrame
        Of `replayed_frames`.
    base : str
        Name or path.
    folder : Path
        Receives model, posterior and report; what an interrupted fit left there is replaced.

    Raises
    ------
    InputError
        As `himlip_ase.hint.last_layer.closed_form_run.finetune_closed_form`.
    """
    from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings
    from himlip_ase.hint.last_layer.closed_form_run import finetune_closed_form
    from himlip_ase.hint.last_layer.posterior import Noise

    widths = None if chosen.noise is None else Noise(*chosen.noise)
    finetune_closed_form(
        frames,
        hessians,
        base,
        ClosedFormSettings(head=chosen.head, prior=chosen.prior, noise=widths),
        training,
        folder,
        overwrite=True,
        replay=replay,
        elements=symbols,
    )

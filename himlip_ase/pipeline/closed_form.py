"""The head of a run's potential in closed form: what would make the fit fail, what it costs, the fit."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from himlip_ase.errors import InputError
from himlip_ase.pipeline.base import base_of
from himlip_ase.pipeline.run_sections import ClosedFormSection, FinetuneSection

if TYPE_CHECKING:
    from himlip_ase.labels.frames import HessianLabel, LabelledFrame

logger = logging.getLogger(__name__)

REPLAY = "finetune.closed_form.replay"
GRADIENTS_REPLAY = "finetune.replay"
MOST_PARTS = 10
"""Parts of the frames that are left out in turn; each is as much memory as the head squared."""
OTHERWISE = "or leave finetune.closed_form out to train by gradients"


def finetune_faults(section: FinetuneSection, symbols: Collection[str]) -> list[str]:
    """What would make the fit of a crystal's potential fail, or its training for want of replayed labels.

    Parameters
    ----------
    section : FinetuneSection
    symbols : collection of str
        Elements of the crystal.

    Returns
    -------
    list of str
        Sentences, each with the key that mends it; empty where nothing is wrong.
    """
    chosen = section.head_to_fit
    if chosen is None:
        return _missing(section.replay, GRADIENTS_REPLAY) if section.model is None else []
    faults = _missing(chosen.replay, REPLAY)
    base, why = base_of(section, symbols)
    if base is None:
        faults.append(
            "finetune.closed_form: the fit begins with a model that knows the elements, and there is none "
            f"({why}); name one, finetune.base: MODEL, {OTHERWISE}"
        )
    else:
        faults += _base_faults(base, symbols)
    return faults


def _missing(paths: Sequence[Path], key: str) -> list[str]:
    return [f"{key}: {path} does not exist" for path in paths if not path.exists()]


def _base_faults(base: str, symbols: Collection[str]) -> list[str]:
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.foreign_models import split_foreign
    from himlip_ase.potential.lattice_potential import network_of
    from himlip_ase.potential.network import HiMLIP

    try:
        model = None if split_foreign(base) else network_of(load_model(base))
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


def finetune_cost(section: FinetuneSection) -> str:
    """What making the potential costs, in words.

    Parameters
    ----------
    section : FinetuneSection
        Without a finished model.

    Returns
    -------
    str
    """
    twice = section.compare and section.hessian
    chosen = section.head_to_fit
    if chosen is None:
        compared = ", once more without the Hessian (finetune.compare)" if twice else ""
        twins = f", and {section.twins} twins of it, each as long (finetune.twins)" if section.twins else ""
        span = f"{section.training.epochs} epochs" if section.training.epochs else "by the clock"
        return f"finetune trains the potential by gradients, {span}{compared}{twins}"
    words = ", twice (finetune.compare)" if twice else ""
    fit = f"finetune fits the {chosen.head} head in closed form{words}"
    return f"{fit}: no epochs, a minute or two of a free core"


def replayed_frames(
    paths: Sequence[Path],
    symbols: Collection[str],
    judges: Sequence[LabelledFrame],
    key: str = REPLAY,
    learnt: Sequence[LabelledFrame] = (),
) -> list[LabelledFrame]:
    """Frames of the base's own training that a crystal's potential can learn beside its labels.

    Their energies, of another level of theory, and their Hessians are left out.

    Parameters
    ----------
    paths : sequence of Path
        Files or folders of labels; none give no frames.
    symbols : collection of str
        Elements of the crystal; frames with another one are left out, and so are sets that judge.
    judges : sequence of LabelledFrame
        What judges the potential and may not be learnt.
    key : str
        Of the settings that named the files, for messages.
    learnt : sequence of LabelledFrame
        What is learnt anyway, and what twins leave out in turn; it is not replayed as well.

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
    from himlip_ase.labels.digests import configuration_digest
    from himlip_ase.labels.duplicates import check_separate
    from himlip_ase.labels.readers import of_elements, read_labels, without_judges

    every = read_labels(paths)
    frames = without_judges(every)
    kept = of_elements(frames, symbols)
    elements = ", ".join(sorted(set(symbols)))
    if not kept:
        raise InputError(
            f"{key}: none of {len(every)} frames holds no other element than {elements}; give labels that "
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
        raise InputError(f"{key}: {error}") from error
    known = {configuration_digest(frame.atoms) for frame in learnt}
    return [
        replace(frame, energy=None, hessian=None, products=None)
        for frame in kept
        if configuration_digest(frame.atoms) not in known
    ]


def fit_head(
    chosen: ClosedFormSection,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    replay: Sequence[LabelledFrame],
    base: str,
    folder: Path,
) -> None:
    """Fit the head of the base, of the crystal's elements alone, with twins that leave a part out each.

    Matrices keep their weight, so that harmonic phonons are those of the labels; the noise of the frames, of
    every replayed set and of each Hessian is its own, see `himlip_ase.hint.last_layer.cross_fit`.

    Parameters
    ----------
    chosen : ClosedFormSection
    frames, hessians : sequences of labels
        To learn from.
    replay : sequence of LabelledFrame
        Of `replayed_frames`.
    base : str
        Name or path.
    folder : Path
        Receives model, twins and posterior; what an interrupted fit left there is replaced.

    Raises
    ------
    InputError
        As `himlip_ase.hint.last_layer.cross_fit.SummedLabels`.
    """
    from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings
    from himlip_ase.hint.last_layer.closed_form_run import POSTERIOR
    from himlip_ase.hint.last_layer.cross_fit import SummedLabels
    from himlip_ase.hint.last_layer.posterior import Noise
    from himlip_ase.hint.last_layer.twin_weights import FEWEST, check_unlearnt, save_twins, twins_beside
    from himlip_ase.potential.checkpoint import save_model
    from himlip_ase.sscha.learn.rounds import load_base

    folder.mkdir(parents=True, exist_ok=True)
    twins_beside(folder / "model.safetensors").unlink(missing_ok=True)
    check_unlearnt(base, frames)
    model = load_base(base, [*frames, *replay], hessians)
    widths = None if chosen.noise is None else Noise(*chosen.noise)
    sums = SummedLabels(model, replay, hessians, ClosedFormSettings(head=chosen.head, noise=widths))
    for part in parts_of(frames):
        sums.add(part)
    fitted = sums.fit(MOST_PARTS, (chosen.prior,), weigh_hessians=False)
    counts = {"frames": len(frames), "replayed": len(replay), "Hessians": len(hessians)}
    card = {"base": Path(base).name, "labels": counts, "closed_form": asdict(fitted.noise)}
    path = save_model(fitted.model, folder / "model.safetensors", card, overwrite=True)
    fitted.posterior.save(folder / POSTERIOR, overwrite=True)
    if len(fitted.twins.without) >= FEWEST:
        save_twins(fitted.twins, path, overwrite=True)
    else:
        logger.warning(
            "no twins, and no error of the potential in any ±: %d independent groups of cells were learnt, "
            "%d are the fewest",
            len(fitted.twins.without),
            FEWEST,
        )


def parts_of(frames: Sequence[LabelledFrame]) -> list[list[LabelledFrame]]:
    """Frames in at most `MOST_PARTS` parts of nearly equal size; opposites and repetitions together.

    Parameters
    ----------
    frames : sequence of LabelledFrame

    Returns
    -------
    list of list of LabelledFrame
    """
    from himlip_ase.sscha.watch.independent_frames import grouped

    groups = grouped(frames)
    number = min(MOST_PARTS, len(groups))
    return [[frame for group in groups[part::number] for frame in group] for part in range(number)]

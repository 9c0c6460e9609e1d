"""From labels as they were read to what a training takes: checked, counted, parted, each read once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.checks import hot_frames
from himlip_ase.labels.digests import hessian_digest, structure_digest
from himlip_ase.labels.duplicates import check_separate, find_duplicates
from himlip_ase.labels.frames import HessianLabel, LabelCounts, LabelledFrame
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.label_keys import ISOLATED
from himlip_ase.labels.products import HessianProducts
from himlip_ase.labels.programs import NOT_SAID, counted, with_one_zero
from himlip_ase.labels.survey import Survey
from himlip_ase.labels.views import Chosen, Joined, OnFrames, codes_of, remembered

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingLabels:
    """Labels of a training.

    Attributes
    ----------
    training, held_out : sequence of LabelledFrame
        Frames to learn from, and frames that choose the epoch.
    hessians, products : sequences
        Hessians and parts of Hessians to learn from: those given, then those on the frames, but for the
        frames held out.
    judges : sequence
        Hessians and parts of them on the frames held out.
    counts, held_counts : LabelCounts
    sets : dict
        {set: number of frames to learn from}.
    elements : list of tuple of str
        Of every frame to learn from.
    structures : list of bytes
        Digests of the structures of the frames to learn from.
    hessian_structures, product_structures : list of bytes
        The same of the Hessians and parts of Hessians.
    given : (int, int)
        How many of `hessians` and `products` were given beside the frames.
    digests : dict
        {what labels are for: digests of their content}, which fingerprints are made from.
    element_energies : dict
        {symbol: energy of the isolated atom, eV}, of frames of the set `ISOLATED`.
    codes : dict
        {program: how many frames and Hessians to learn from it calculated}; "not said" is one of them.
    """

    training: Sequence[LabelledFrame]
    held_out: Sequence[LabelledFrame]
    hessians: Sequence[HessianLabel]
    products: Sequence[HessianProducts]
    judges: Sequence[HessianLabel | HessianProducts]
    counts: LabelCounts
    held_counts: LabelCounts
    sets: dict[str, int]
    elements: list[tuple[str, ...]]
    structures: list[bytes] = field(default_factory=list)
    hessian_structures: list[bytes] = field(default_factory=list)
    product_structures: list[bytes] = field(default_factory=list)
    given: tuple[int, int] = (0, 0)
    digests: dict[str, list[bytes]] = field(default_factory=dict)
    element_energies: dict[str, float] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)


def prepare_labels(
    labels: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
    validation: Sequence[LabelledFrame] | None = None,
    settings: TrainingSettings | None = None,
    products: Sequence[HessianProducts] = (),
) -> TrainingLabels:
    """Check labels, leave out duplicates, hold some out.

    Parameters
    ----------
    labels : sequence of LabelledFrame
        May be on disk (`LabelStore`): each frame is read once, and kept as long as there is room
        (:class:`himlip_ase.labels.views.Remembered`).
    hessians, products : sequences
        Further ones, beside those on the frames.
    validation : sequence of LabelledFrame, optional
        Held out instead of a share of `labels`.
    settings : TrainingSettings, optional
        Its `validation_fraction` of each set is held out, chosen by its `seed`.

    Returns
    -------
    TrainingLabels

    Raises
    ------
    InputError
        Labels that fail the checks, no labels, or training and validation that share structures.
    """
    settings = settings or TrainingSettings()
    if validation is not None:
        validation = with_one_zero(validation, labels)
    labels = remembered(with_one_zero(labels))
    for label in hessians:
        check_hessian(label.atoms, label.matrix, label.name)
    survey = Survey.of(labels, hessians)
    logger.info("labels: %s", survey.counts())
    for remark in survey.unjudged:
        logger.info("%s", remark)
    _tell_of_hot_frames(survey, settings)
    if not (survey.sets or hessians or products):
        raise InputError("no labels: neither energies, forces, stresses nor Hessians were given")
    kept = _without_duplicates(labels, survey)
    isolated = [k for k in kept if survey.sets[k] == ISOLATED]
    kept = [k for k in kept if survey.sets[k] != ISOLATED]
    element_energies = {survey.elements[k][0]: e for k in isolated if (e := labels[k].energy) is not None}
    if element_energies:
        listed = ", ".join(f"{symbol} {energy:.3f} eV" for symbol, energy in element_energies.items())
        logger.info("energies of the elements, of isolated atoms: %s", listed)
    if validation is not None:
        train, held = kept, []
        judging = remembered(validation)
        judging_survey = Survey.of(judging)
        judged = [k for k, name in enumerate(judging_survey.sets) if name != ISOLATED]
        held_places = [k for k in judging_survey.evaluated if judging_survey.sets[k] != ISOLATED]
        check_separate(
            Chosen(labels, train), judging,
            [survey.keys[k] for k in train], [judging_survey.keys[k] for k in judged],
        )  # fmt: skip
        held_counts = judging_survey.counts()
    else:
        formulas = [survey.keys[k].formula for k in kept]
        places, gone = split_indices(
            [survey.sets[k] for k in kept], settings.validation_fraction, settings.seed, settings.hold_out,
            formulas,
        )  # fmt: skip
        _tell_of_trajectories(survey, settings, bool(gone))
        train, held = [kept[k] for k in places], [kept[k] for k in gone]
        judging, judging_survey, held_places, judged = labels, survey, held, held
        held_counts = survey.counts(held)
    out = set(held)
    own = [k for k in survey.hessians if k not in out]
    parts = [k for k in survey.products if k not in out]
    judges = _judges(judging, judging_survey, set(judged))
    found = TrainingLabels(
        Chosen(labels, train), Chosen(judging, held_places),
        _joined(hessians, OnFrames(labels, own, "hessian")),
        _joined(products, OnFrames(labels, parts, "products")), judges[0],
        survey.counts(train), held_counts,
        dict(sorted(Counter(survey.sets[k] for k in train).items())),
        [survey.elements[k] for k in train],
        [survey.structures[k] for k in train],
        [structure_digest(h.atoms) for h in hessians] + [survey.hessian_structures[k] for k in own],
        [structure_digest(p.atoms) for p in products] + [survey.product_structures[k] for k in parts],
        (len(hessians), len(products)),
        {
            "training": [survey.digests[k] for k in train],
            "held out": [judging_survey.digests[k] for k in held_places],
            "hessians": [hessian_digest(h) for h in hessians] + [survey.hessian_digests[k] for k in own],
            "products": [hessian_digest(p) for p in products] + [survey.product_digests[k] for k in parts],
            "judges": judges[1],
            "isolated atoms": [survey.digests[k] for k in isolated],
        },
        element_energies,
        counted([*codes_of(Chosen(labels, train)), *(label.code for label in hessians)]),
    )  # fmt: skip
    for code, number in found.codes.items():
        if code != NOT_SAID:
            logger.info("%d labels calculated by %s", number, code)
    logger.info(
        "training on %s; %d Hessians and %d structures with parts of one",
        found.counts, len(found.hessians), len(found.products),
    )  # fmt: skip
    if len(held):
        logger.info("validation on %s", held_counts)
    else:
        logger.info("no frames are held out for validation")
    return found


@dataclass(frozen=True)
class TaughtHessians:
    """The Hessians that a training draws from.

    Attributes
    ----------
    labels : sequence of HessianLabel or HessianProducts
    structures : list of bytes
        Digests of their structures.
    """

    labels: Sequence[HessianLabel | HessianProducts]
    structures: list[bytes]


def taught(labels: TrainingLabels, settings: TrainingSettings) -> TaughtHessians:
    """Those given, of crystals folded into small cells, then those on the frames, then parts of others.

    Parameters
    ----------
    labels : TrainingLabels
    settings : TrainingSettings
        Its `fold_hessians`.

    Returns
    -------
    TaughtHessians
    """
    given = labels.given[0]
    own: list[HessianLabel] = list(labels.hessians[:given])
    structures = labels.hessian_structures[:given]
    if settings.fold_hessians:
        own = [part for label in own for part in fold_hessian(label)]
        structures = [structure_digest(part.atoms) for part in own]
    every: Sequence[Any] = own
    if len(labels.hessians) > given or len(labels.products):
        every = Joined([own, labels.hessians[given:], labels.products])
    for part in every[:20]:
        logger.info("Hessian of %d atoms: %s", len(part.atoms), part.name)
    if len(every) > 20:
        logger.info("and %d others", len(every) - 20)
    return TaughtHessians(
        every, [*structures, *labels.hessian_structures[given:], *labels.product_structures]
    )


def _joined(given: Sequence[Any], on_frames: OnFrames) -> Sequence[Any]:
    if not len(on_frames):
        return list(given)
    return Joined([given, on_frames]) if given else on_frames


def _judges(
    frames: Sequence[LabelledFrame], survey: Survey, chosen: set[int]
) -> tuple[Sequence[Any], list[bytes]]:
    """Hessians and products on the chosen frames, and the digests of their content."""
    hessians = [k for k in survey.hessians if k in chosen]
    products = [k for k in survey.products if k in chosen]
    digests = [survey.hessian_digests[k] for k in hessians] + [survey.product_digests[k] for k in products]
    return Joined([OnFrames(frames, hessians, "hessian"), OnFrames(frames, products, "products")]), digests


def split_frames(
    frames: Sequence[LabelledFrame], fraction: float, seed: int
) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Hold out a share of each set, chosen by `seed`; sets of fewer than five frames are not split.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    fraction : float
        Of each set, at least one frame.
    seed : int

    Returns
    -------
    training, held_out : list of LabelledFrame
    """
    kept, held = split_indices([f.set for f in frames], fraction, seed)
    return [frames[k] for k in kept], [frames[k] for k in held]


def split_indices(
    sets: Sequence[str],
    fraction: float,
    seed: int,
    hold_out: str = "frames",
    formulas: Sequence[str] = (),
) -> tuple[list[int], list[int]]:
    """As `split_frames`, of the names of the frames' sets: indices of the frames to train on and held out.

    Parameters
    ----------
    sets : sequence of str
    fraction, seed
        As `split_frames`.
    hold_out : {"frames", "sets", "structures", "trajectories"}
        See `TrainingSettings`.
    formulas : sequence of str
        Composition of each frame, for "structures".

    Returns
    -------
    kept, held_out : list of int

    Raises
    ------
    InputError
        "structures", and all frames have one composition; "sets", and they are of one set.
    """
    rng = np.random.default_rng(seed)
    if hold_out in ("structures", "sets"):
        held = _whole_groups(formulas if hold_out == "structures" else sets, fraction, rng, hold_out)
        return [k for k in range(len(sets)) if k not in held], sorted(held)
    members: dict[str, list[int]] = {}
    for k, name in enumerate(sets):
        members.setdefault(name, []).append(k)
    held = set()
    for name in sorted(members):
        own = members[name]
        if len(own) >= 5 and fraction > 0:
            number = max(1, round(fraction * len(own)))
            last = hold_out == "trajectories"
            held |= {int(k) for k in (own[-number:] if last else rng.choice(own, number, replace=False))}
    return [k for k in range(len(sets)) if k not in held], sorted(held)


def _whole_groups(names: Sequence[str], fraction: float, rng: np.random.Generator, hold_out: str) -> set[int]:
    """All frames of compositions or sets chosen at random, until their share is reached."""
    kinds = sorted(set(names))
    if fraction <= 0:
        return set()
    if len(kinds) < 2:
        what = {"structures": "compositions", "sets": "sets"}[hold_out]
        raise InputError(
            f"hold_out: {hold_out} needs frames of several {what}, and there is {kinds or 'none'}; use "
            "frames or trajectories, or give --validation"
        )
    members: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        members.setdefault(name, []).append(k)
    held: set[int] = set()
    for place in rng.permutation(len(kinds))[:-1]:
        if len(held) >= fraction * len(names):
            break
        held |= set(members[kinds[place]])
    return held


def _tell_of_hot_frames(survey: Survey, settings: TrainingSettings) -> None:
    hot = hot_frames(survey.force_squares)
    if hot and settings.loss.force_scale is None:
        logger.warning(
            "%d of %d frames have half of all squared forces and rule the loss (rms %.3g eV/Å in frame %d, "
            "set %s); soften them with loss: {force_scale: 1.5}, or leave them out",
            len(hot), len(survey.sets), (survey.force_squares[hot[0]] / (3 * survey.sizes[hot[0]])) ** 0.5,
            hot[0], survey.sets[hot[0]],
        )  # fmt: skip
    elif hot:
        logger.info(
            "%d of %d frames have half of all squared forces; loss.force_scale softens them",
            len(hot), len(survey.sets),
        )  # fmt: skip


def _tell_of_trajectories(survey: Survey, settings: TrainingSettings, held: bool) -> None:
    found = survey.trajectories()
    if found and held and settings.hold_out == "frames":
        logger.warning(
            "neighbouring frames of %s are alike (steps of %.2f of their spread): frames held out at random "
            "between them say little; use hold_out: trajectories (or sets), or give --validation",
            ", ".join(found), min(found.values()),
        )  # fmt: skip


def _without_duplicates(frames: Sequence[LabelledFrame], survey: Survey) -> list[int]:
    chosen = survey.evaluated
    found = find_duplicates(Chosen(frames, chosen), keys=[survey.keys[k] for k in chosen])
    if not found:
        return chosen
    dropped = {chosen[d.places[1]] for d in found}
    logger.warning("%d duplicate frames are left out: %s", len(dropped), "; ".join(map(str, found[:5])))
    return [k for k in chosen if k not in dropped]

"""From labels as they were read to what a training takes: checked, counted, parted, never read whole."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.checks import FrameChecks
from himlip_ase.labels.duplicates import check_separate, find_duplicates
from himlip_ase.labels.frames import HessianLabel, LabelCounts, LabelledFrame
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.products import HessianProducts
from himlip_ase.labels.views import Chosen, Joined, OnFrames

logger = logging.getLogger(__name__)


@dataclass
class Survey:
    """What one reading of all frames tells.

    Attributes
    ----------
    sets, elements : list
        Of every frame: name of its set, its chemical symbols.
    evaluated, hessians, products : list of int
        Frames with an energy, forces or a stress; with a Hessian; with products of one.
    numbers : list of tuple of int
        Of every frame: how many energies, forces, stresses, Hessians (0 or 1) and products of one.
    """

    sets: list[str] = field(default_factory=list)
    elements: list[tuple[str, ...]] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    hessians: list[int] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    numbers: list[tuple[int, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, frames: Sequence[LabelledFrame]) -> Survey:
        """Read the frames one by one and check them.

        Raises
        ------
        InputError
            As :func:`himlip_ase.labels.checks.check_frames`.
        """
        found, checks = cls(), FrameChecks()
        for index, frame in enumerate(frames):
            checks.add(frame)
            found.sets.append(frame.set)
            found.elements.append(tuple(sorted({*frame.atoms.symbols})))
            labels = (frame.energy, frame.forces, frame.stress, frame.hessian)
            vectors = 0 if frame.products is None else len(frame.products.vectors)
            found.numbers.append((*(int(label is not None) for label in labels), vectors))
            if frame.evaluated:
                found.evaluated.append(index)
            if frame.hessian is not None:
                found.hessians.append(index)
            if frame.products is not None:
                found.products.append(index)
        checks.finish()
        return found

    def counts(self, chosen: Sequence[int] | None = None) -> LabelCounts:
        """How many labels of each kind some frames have; all by default."""
        rows = self.numbers if chosen is None else [self.numbers[k] for k in chosen]
        return LabelCounts(len(rows), *(sum(row[kind] for row in rows) for kind in range(5)))


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
    judges : list
        Hessians and parts of them on the frames held out.
    counts, held_counts : LabelCounts
    sets : dict
        {set: number of frames to learn from}.
    elements : list of tuple of str
        Of every frame to learn from.
    """

    training: Sequence[LabelledFrame]
    held_out: Sequence[LabelledFrame]
    hessians: Sequence[HessianLabel]
    products: Sequence[HessianProducts]
    judges: list[HessianLabel | HessianProducts]
    counts: LabelCounts
    held_counts: LabelCounts
    sets: dict[str, int]
    elements: list[tuple[str, ...]]


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
        May be on disk (`LabelStore`): it is read one frame at a time, several times.
    hessians, products : sequences
        Further ones, beside those on the frames.
    validation : sequence of LabelledFrame, optional
        Held out instead of a share of `labels`.
    settings : TrainingSettings, optional
        Its `validation_fraction` of each set is held out, chosen by its `seed`.

    Raises
    ------
    InputError
        Labels that fail the checks, no labels, or training and validation that share structures.
    """
    settings = settings or TrainingSettings()
    for label in hessians:
        check_hessian(label.atoms, label.matrix, label.name)
    all_of_them = Survey.of(labels)
    logger.info("labels: %s", all_of_them.counts())
    if not (all_of_them.sets or hessians or products):
        raise InputError("no labels: neither energies, forces, stresses nor Hessians were given")
    kept = _without_duplicates(labels, all_of_them.evaluated)
    if validation is not None:
        held_survey = Survey.of(validation)
        train, held = kept, []
        check_separate(Chosen(labels, train), validation)
        held_out: Sequence[LabelledFrame] = Chosen(validation, held_survey.evaluated)
        judges = [*OnFrames(validation, held_survey.hessians, "hessian")]
        judges += [*OnFrames(validation, held_survey.products, "products")]
        held_counts = held_survey.counts()
    else:
        places, gone = split_indices(
            [all_of_them.sets[k] for k in kept], settings.validation_fraction, settings.seed
        )
        train, held = [kept[k] for k in places], [kept[k] for k in gone]
        held_out = Chosen(labels, held)
        out = set(held)
        judges = [*OnFrames(labels, [k for k in all_of_them.hessians if k in out], "hessian")]
        judges += [*OnFrames(labels, [k for k in all_of_them.products if k in out], "products")]
        held_counts = all_of_them.counts(held)
    out = set(held)
    own = OnFrames(labels, [k for k in all_of_them.hessians if k not in out], "hessian")
    parts = OnFrames(labels, [k for k in all_of_them.products if k not in out], "products")
    training = Chosen(labels, train)
    found = TrainingLabels(
        training, held_out, _joined(hessians, own), _joined(products, parts), judges,
        all_of_them.counts(train), held_counts,
        dict(sorted(Counter(all_of_them.sets[k] for k in train).items())),
        [all_of_them.elements[k] for k in train],
    )  # fmt: skip
    logger.info(
        "training on %s; %d Hessians and %d structures with parts of one",
        found.counts, len(found.hessians), len(found.products),
    )  # fmt: skip
    logger.info("validation on %s", held_counts)
    return found


def _joined(given: Sequence[Any], on_frames: OnFrames) -> Sequence[Any]:
    if not len(on_frames):
        return list(given)
    return Joined([given, on_frames]) if given else on_frames


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
    members: dict[str, list[int]] = {}
    for k, name in enumerate(sets):
        members.setdefault(name, []).append(k)
    held: set[int] = set()
    for name in sorted(members):
        own = members[name]
        if len(own) >= 5 and fraction > 0:
            held |= {int(k) for k in rng.choice(own, max(1, round(fraction * len(own))), replace=False)}
    return [k for k in range(len(sets)) if k not in held], sorted(held)


def _without_duplicates(frames: Sequence[LabelledFrame], chosen: list[int]) -> list[int]:
    found = find_duplicates(Chosen(frames, chosen))
    if not found:
        return chosen
    dropped = {chosen[d.places[1]] for d in found}
    logger.warning("%d duplicate frames are left out: %s", len(dropped), "; ".join(map(str, found[:5])))
    return [k for k in chosen if k not in dropped]

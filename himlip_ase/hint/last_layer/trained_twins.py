"""All weights of a potential by gradients, a head in closed form after, and twins made the same way.

Each twin has not learnt one part of the cells in either step, so that it says how far the potential is off in
what it has not learnt.  A training takes minutes where a head takes seconds (`cross_fit`); what it brings is
in docs/training.md.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings, fit_closed_form
from himlip_ase.hint.last_layer.cross_fit import Twins
from himlip_ase.hint.last_layer.posterior import Noise
from himlip_ase.hint.last_layer.twin_weights import learnt_by, load_twins
from himlip_ase.hint.training.display import training_bar
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.settings import TrainingSettings, all_weights
from himlip_ase.labels.digests import configuration_digest
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.programs import with_one_zero
from himlip_ase.potential.checkpoint import find_model, load_model, read_card, save_model
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

Group = Sequence[LabelledFrame]

TUNED = "tuned.safetensors"
"""The potential in the folder of its training, with its head."""
WIDTHS = Noise(energy=0.003, forces=0.08, stress=0.012, hessian=0.01)
"""Weights of a head after the training: matrices to a few cm⁻¹, forces no better than they are foretold. The
evidence would take the small errors of what gradients have learnt for those of what they have not."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """How a base becomes the potential of some cells.

    Parameters
    ----------
    base : Potential or name or path, optional
        It must not have learnt the cells that twins leave out. None: from scratch.
    settings : TrainingSettings
    hessians : sequence of HessianLabel
        Learnt by the potential and by every twin.
    shared : sequence of LabelledFrame
        The same.
    replay : sequence of LabelledFrame
        Some of the base's own training, learnt between the others. What a twin leaves out it finds neither
        here nor in `shared`.
    head : Noise or None
        Widths that weigh the labels of a wide head after the training; None: no head.
    energies : bool
        Whether gradients learn the energies of the cells; the head does.
    network : HiMLIPConfig, optional
        Shape from scratch.
    validation : sequence of LabelledFrame, optional
        As in `himlip_ase.hint.training.finetune.finetune`.
    validation_hessians : sequence of HessianLabel
        The same.
    """

    base: Potential | str | os.PathLike | None
    settings: TrainingSettings = field(default_factory=all_weights)
    hessians: Sequence[HessianLabel] = ()
    shared: Sequence[LabelledFrame] = ()
    replay: Sequence[LabelledFrame] = ()
    head: Noise | None = WIDTHS
    energies: bool = True
    network: HiMLIPConfig | None = None
    validation: Sequence[LabelledFrame] | None = None
    validation_hessians: Sequence[HessianLabel] = ()


def tune(
    cells: Sequence[LabelledFrame],
    tuning: Tuning,
    folder: Path,
    resume: bool = False,
    overwrite: bool = False,
) -> Potential:
    """Train all weights on cells, then fit the head.

    Parameters
    ----------
    cells : sequence of LabelledFrame
    tuning : Tuning
    folder : Path
        Receives the training, and the potential with its head as ``tuned.safetensors``.
    resume : bool
        Continue in `folder`, or take what is finished there; on a CPU it ends as an unbroken training.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Potential

    Raises
    ------
    InputError
        As `himlip_ase.hint.training.finetune.finetune`, also where `folder` belongs to other labels; a head
        for what is no Hi-MLIP network.
    """
    learnt = list(with_one_zero([*cells, *tuning.shared]))
    taught = learnt if tuning.energies else [replace(frame, energy=None) for frame in learnt]
    with training_bar(tuning.settings) as on_epoch:
        trained = finetune(
            taught, tuning.hessians, tuning.base, tuning.settings, folder, network=tuning.network,
            replay=tuning.replay, resume=resume and (folder / "state").is_dir(), overwrite=overwrite,
            on_epoch=on_epoch, validation=tuning.validation, validation_hessians=tuning.validation_hessians,
        )  # fmt: skip
    if tuning.head is None:
        return trained.model
    if not isinstance(trained.model, HiMLIP):
        raise InputError("a head is fitted to a Hi-MLIP network, and this model is none; leave it out")
    how = {"head": asdict(tuning.head), "trained": _digest(trained.model)}
    place = folder / TUNED
    if resume and place.is_file() and read_card(place).get("tuning") == how:
        return load_model(place)
    head = ClosedFormSettings("wide", tuning.head, folds=1)
    model = fit_closed_form(trained.model, learnt, tuning.hessians, head).model
    save_model(model, place, {**trained.report, "tuning": how}, overwrite=True)
    return model


def _digest(model: Potential) -> str:
    """Of the weights; equal ones can have files with two checksums."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def tune_twin(
    groups: Sequence[Group],
    part_of: Sequence[int],
    part: int,
    tuning: Tuning,
    folder: Path,
    resume: bool = False,
    overwrite: bool = False,
) -> Potential:
    """A potential that has not learnt one part of the cells.

    Parameters
    ----------
    groups : sequence of sequences of LabelledFrame
        Cells that are no independent evidence, as opposites, share a group.
    part_of : sequence of int
        Part of each group.
    part : int
        The one left out.
    tuning : Tuning
    folder : Path
        Of all twins; this one is trained in ``without_PART``.
    resume, overwrite : bool
        As in `tune`.

    Returns
    -------
    Potential
    """
    cells = [frame for own, group in zip(part_of, groups, strict=True) if own != part for frame in group]
    left_out = {
        configuration_digest(frame.atoms)
        for own, group in zip(part_of, groups, strict=True)
        if own == part
        for frame in group
    }
    without = replace(
        tuning, shared=_others(tuning.shared, left_out), replay=_others(tuning.replay, left_out)
    )
    return tune(cells, without, folder / f"without_{part}", resume, overwrite)


def _others(frames: Sequence[LabelledFrame], left_out: Collection[str]) -> Sequence[LabelledFrame]:
    return [frame for frame in frames if configuration_digest(frame.atoms) not in left_out]


@dataclass(frozen=True)
class Partition:
    """Which twin leaves which group out, and what it begins with.

    Attributes
    ----------
    part_of : tuple of int
        Part of each group.
    beginnings : tuple of Potential
        Of each twin, without its part; empty where all begin with the base of the potential.
    before : dict of str to int or None
        What they have learnt by then, as `himlip_ase.hint.last_layer.twin_weights.learnt_by` says it.
    """

    part_of: tuple[int, ...]
    beginnings: tuple[Potential, ...] = ()
    before: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Of twins."""
        return len(self.beginnings) or max(self.part_of) + 1


def partition(
    groups: Sequence[Group], parts: int, base: Potential | str | os.PathLike | None = None
) -> Partition:
    """Parts of the cells, such that no twin begins with what has learnt its own.

    A base that has learnt some of the cells hands its twins on: each begins a twin here, which leaves out the
    same cells, and cells that are new to the base join the parts in turn.

    Parameters
    ----------
    groups : sequence of sequences of LabelledFrame
    parts : int
        Number of parts, at most one for each group, where the base does not say it.
    base : Potential or name or path, optional
        Of one in memory, and of one without twins, nothing is known of what it learnt; then a warning says so
        of a file.

    Returns
    -------
    Partition

    Raises
    ------
    InputError
        Fewer than two groups; one that all twins of the base have learnt.
    """
    if len(groups) < 2:
        raise InputError(f"{len(groups)} independent groups of cells; twins need at least two to leave out")
    known = {} if base is None or isinstance(base, Potential) else learnt_by(base)
    digests = [[configuration_digest(frame.atoms) for frame in group] for group in groups]
    told = [{known[digest] for digest in group if digest in known} for group in digests]
    if not any(told):
        if isinstance(base, (str, os.PathLike)) and not known and Path(base).suffix:
            logger.warning(
                "nothing tells what %s has learnt: twins of a training that begins with it are worth "
                "something only where it has not learnt these cells",
                base,
            )
        part_of = tuple(k % min(parts, len(groups)) for k in range(len(groups)))
        return Partition(part_of, before=dict.fromkeys(known))
    if any(len(one) > 1 or None in one for one in told):
        raise InputError(
            f"{base} and all its twins have learnt some of these cells, so that no twin of a training that "
            "begins with it is without them; begin with one that has not, e.g. himlip-hydride-1"
        )
    assert base is not None and not isinstance(base, Potential)
    beginnings = tuple(load_twins(find_model(base)))
    turns = itertools.cycle(range(len(beginnings)))
    mine = [next(iter(one), None) for one in told]
    return Partition(tuple(next(turns) if part is None else part for part in mine), beginnings, known)


def tune_twins(
    groups: Sequence[Group],
    chosen: Partition,
    tuning: Tuning,
    folder: Path,
    resume: bool = False,
    overwrite: bool = False,
) -> Twins:
    """A twin without each part of the cells, one after the other.

    Parameters
    ----------
    groups : sequence of sequences of LabelledFrame
    chosen : Partition
        Of these groups.
    tuning : Tuning
        Of the potential; twins begin with those of `chosen` where there are any.
    folder : Path
    resume, overwrite : bool
        As in `tune`.

    Returns
    -------
    Twins

    Raises
    ------
    InputError
        As `tune`.
    """
    without = []
    for part in range(chosen.number):
        logger.info("twin %d of %d, without its part of the cells", part + 1, chosen.number)
        own = replace(tuning, base=chosen.beginnings[part]) if chosen.beginnings else tuning
        without.append(tune_twin(groups, chosen.part_of, part, own, folder, resume, overwrite))
    return twins_of(groups, chosen.part_of, without)


def twins_of(groups: Sequence[Group], part_of: Sequence[int], without: Sequence[Potential]) -> Twins:
    """Trained twins, with what says which of them has not learnt what.

    Parameters
    ----------
    groups : sequence of sequences of LabelledFrame
    part_of : sequence of int
        Part of each group.
    without : sequence of Potential
        One for each part.

    Returns
    -------
    Twins
    """
    digests = tuple(tuple(configuration_digest(frame.atoms) for frame in group) for group in groups)
    return Twins(tuple(without), None, tuple(part_of), digests)

"""Which of its labels the potential of a run learns from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from himlip_ase.errors import InputError
from himlip_ase.labels.frames import JUDGES
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.labels import VALIDATION, LabelFolder

if TYPE_CHECKING:
    from himlip_ase.labels.frames import HessianLabel, LabelledFrame


def chosen_sets(config: RunConfig, labels: LabelFolder) -> list[str]:
    """Names of the label sets that the potential learns.

    Parameters
    ----------
    config : RunConfig
    labels : LabelFolder

    Returns
    -------
    list of str
    """
    sets = config.finetune.train_sets
    return list(sets) if sets is not None else labels.training_sets()


def taught_frames(config: RunConfig, labels: LabelFolder) -> list[LabelledFrame]:
    """The frames that the potential learns, with the weights of their sets.

    Parameters
    ----------
    config : RunConfig
    labels : LabelFolder

    Returns
    -------
    list of LabelledFrame

    Raises
    ------
    InputError
        A set that judges, or one that the labels do not have.
    """
    section, chosen = config.finetune, chosen_sets(config, labels)
    for name in chosen:
        if name.startswith(VALIDATION):
            raise InputError(
                f"finetune.train_sets: '{name}' is for judging the model and cannot be learnt from"
            )
    unknown = sorted(set(section.set_weights) - set(chosen))
    if unknown:
        raise InputError(
            f"finetune.set_weights: no set {', '.join(unknown)} to train on; there are {', '.join(chosen)}"
        )
    return [replace(f, weight=f.weight * section.set_weights.get(f.set, 1.0)) for f in labels.frames(chosen)]


def judging_frames(config: RunConfig, labels: LabelFolder) -> list[LabelledFrame]:
    """The frames of sets that judge the potential.

    Parameters
    ----------
    config : RunConfig
    labels : LabelFolder

    Returns
    -------
    list of LabelledFrame
    """
    learnt = chosen_sets(config, labels)
    return labels.frames([name for name in labels.sets() if name.startswith(JUDGES) and name not in learnt])


def chosen_hessians(config: RunConfig, labels: LabelFolder) -> dict[str, HessianLabel]:
    """The harmonic matrices that the potential learns, by the name of their folder.

    Parameters
    ----------
    config : RunConfig
    labels : LabelFolder

    Returns
    -------
    dict of str to HessianLabel

    Raises
    ------
    InputError
        A folder that the labels do not have; the message lists those that there are.
    """
    from himlip_ase.labels.readers import read_hessian

    found = {}
    for name in config.finetune.hessians:
        if name not in labels.harmonic_runs():
            raise InputError(
                f"finetune.hessians: no matrices in {labels.path / name}; there are: "
                f"{', '.join(labels.harmonic_runs()) or 'none'}"
            )
        found[name] = read_hessian(labels.path / name)
    return found


def taught_hessians(config: RunConfig, labels: LabelFolder) -> list[HessianLabel]:
    """The harmonic matrices that the potential learns; none where ``finetune.hessian`` is false.

    Parameters
    ----------
    config : RunConfig
    labels : LabelFolder

    Returns
    -------
    list of HessianLabel
    """
    if not config.finetune.hessian:
        return []
    made_here = config.labels.folder is None
    return [replace(label, unit_known=made_here) for label in chosen_hessians(config, labels).values()]

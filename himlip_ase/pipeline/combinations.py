"""Keys of a run that do not go together, or of which one would be left unused in silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from himlip_ase.errors import InputError
from himlip_ase.pipeline.run_sections import AUTO, LearnSection

if TYPE_CHECKING:
    from himlip_ase.pipeline.config import RunConfig


OF_A_MODEL = frozenset({"model", "model_without_hessian", "hessians", "remainder", "train_sets"})
"""Keys of ``finetune`` that count with a finished model, too."""


def first_clash(config: RunConfig) -> str | None:
    """What is wrong with the keys of a run taken together, and what to write; None if nothing is.

    Parameters
    ----------
    config : RunConfig

    Returns
    -------
    str or None
    """
    return next((found for rule in RULES if (found := rule(config)) is not None), None)


def check_trains(config: RunConfig, overrides: Mapping[str, Any]) -> None:
    """Refuse flags that say how to train where the run takes a finished model, with which nothing is trained.

    A file may say both, for ``--retrain``; who types a flag means this run.

    Parameters
    ----------
    config : RunConfig
        The file with what the flags lay over it.
    overrides : mapping
        What they lay over it, by dotted key.

    Raises
    ------
    InputError
    """
    section = config.finetune
    if section.model is None:
        return
    used = {*OF_A_MODEL, "hessian"} if _learns(config) else OF_A_MODEL
    told = [key.split(".")[1] for key in overrides if key.startswith("finetune.")]
    told += list(overrides.get("finetune") or {})
    idle = [key for key in told if key not in used]
    if idle:
        raise InputError(
            f"--set finetune.{idle[0]} says how to train, and the run takes a finished model "
            f"(finetune.model: {section.model.name}); add --retrain, or leave it out"
        )


def _crystal_is_given(config: RunConfig) -> str | None:
    if config.structure is None and config.labels.folder is None:
        return "give `structure: crystal.cif`, or `labels: {folder: ...}` with finished labels"
    return None


def _remainder_and_loop(config: RunConfig) -> str | None:
    if config.finetune.remainder and _learns(config):
        return (
            "`finetune.remainder` does not fit a network that the learning loop refits; leave one of "
            "them out: `learn: {enabled: false}` or `finetune: {remainder: false}`"
        )
    return None


def _correction_and_loop(config: RunConfig) -> str | None:
    correcting = _correcting(config)
    if not correcting or not (_learns(config) or config.labels.folder is None):
        return None
    return (
        f"`anharmonic.{correcting[0]}` names sets of a finished `labels.folder`, for a run without "
        "the learning loop, whose own labels correct the SSCHA; leave the key out"
        + (", or set `learn: {enabled: false}`" if config.labels.folder is not None else "")
    )


def _correction_and_remainder(config: RunConfig) -> str | None:
    correcting = _correcting(config)
    if correcting and config.finetune.remainder:
        return (
            f"`anharmonic.{correcting[0]}` asks twins of the potential, which are of the network alone, "
            "without its remainder; leave the key or `finetune.remainder` out"
        )
    return None


def _correction_of_many_grids(config: RunConfig) -> str | None:
    further = len(config.further_grids)
    if config.anharmonic.grids_corrected_by and further > 1:
        return (
            "`anharmonic.grids_corrected_by` corrects one supercell beside that of q_grid, and "
            f"`anharmonic.grids` has {further}; give one of them, or leave the key out"
        )
    return None


def _loop_that_is_off(config: RunConfig) -> str | None:
    if config.labels.folder is None or config.learn.enabled is not None:
        return None
    default = LearnSection()
    told = [
        field.name
        for field in dataclasses.fields(LearnSection)
        if getattr(config.learn, field.name) != getattr(default, field.name)
    ]
    if not told:
        return None
    return (
        f"`learn.{told[0]}` is of the learning loop, which is off where labels are finished "
        "(`labels.folder`); switch it on with `learn: {enabled: true}`, or leave the key out"
    )


def _shape_of_a_base(config: RunConfig) -> str | None:
    section = config.finetune
    if not section.network or section.model is not None or section.base in (None, AUTO):
        return None
    return (
        f"`finetune.network` is the shape of fresh weights, and training begins with `finetune.base: "
        f"{section.base}`, which has one; leave one of them out"
    )


RULES: tuple[Callable[[RunConfig], str | None], ...] = (
    _crystal_is_given,
    _remainder_and_loop,
    _correction_and_loop,
    _correction_and_remainder,
    _correction_of_many_grids,
    _loop_that_is_off,
    _shape_of_a_base,
)


def _learns(config: RunConfig) -> bool:
    return config.labels.folder is None if config.learn.enabled is None else config.learn.enabled


def _correcting(config: RunConfig) -> list[str]:
    return [name for name in ("corrected_by", "grids_corrected_by") if getattr(config.anharmonic, name)]

"""Twins of a potential in one file: the change in the weights of each, which for a linear head is little."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, sha256_file

if TYPE_CHECKING:
    import torch

    from himlip_ase.hint.last_layer.cross_fit import Twins
    from himlip_ase.labels.frames import LabelledFrame
    from himlip_ase.potential.interface import Potential

FORMAT = "himlip-twins-1"
LEFT_OUT = "left_out"
"""Key of the header: digests of the structures that each twin did not learn."""
LEARNT_BY_ALL = "learnt_by_all"
"""The same: of structures that the model and every twin learnt."""
FEWEST = 4
"""Twins for an error bar."""


def twins_beside(path: str | os.PathLike) -> Path:
    """Where the twins of a model file are: ``NAME_twins.safetensors``.

    Parameters
    ----------
    path : path-like
        Weights of the model.

    Returns
    -------
    Path
    """
    path = Path(path)
    return path.with_name(f"{path.stem}_twins.safetensors")


def save_twins(
    twins: Twins,
    path: str | os.PathLike,
    overwrite: bool = False,
    learnt_by_all: Sequence[LabelledFrame] = (),
    before: Mapping[str, int | None] | None = None,
) -> Path:
    """Write the twins of a saved model beside it.

    Parameters
    ----------
    twins : Twins
        Of the shape of the model.
    path : path-like
        Weights of the model, which `himlip_ase.potential.checkpoint.save_model` wrote.
    overwrite : bool
    learnt_by_all : sequence of LabelledFrame
        What every twin has learnt and should not be learnt again (`check_unlearnt`).
    before : mapping of str to int or None, optional
        What these twins had learnt before, as `learnt_by` says it of their base.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        Fewer than four twins, or twins of another shape.
    """
    import torch
    from safetensors.torch import save as serialise

    from himlip_ase.labels.digests import configuration_digest
    from himlip_ase.potential.checkpoint import load_model

    if len(twins.without) < FEWEST:
        raise InputError(f"{len(twins.without)} twins; at least {FEWEST} are wanted for an error bar")
    own = load_model(path).state_dict()
    theirs = [twin.state_dict() for twin in twins.without]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in (own, *theirs)]
    if any(shape != shapes[0] for shape in shapes):
        raise InputError("the twins have another shape than the model; fit them with the same head")
    tensors = {
        name: torch.stack([(other[name] - tensor).detach().cpu().float() for other in theirs]).contiguous()
        for name, tensor in own.items()
        if any(not torch.equal(other[name].cpu(), tensor.cpu()) for other in theirs)
    }
    target = twins_beside(path)
    known = {**dict.fromkeys(configuration_digest(frame.atoms) for frame in learnt_by_all), **(before or {})}
    known |= {
        digest: fold for fold, group in zip(twins.fold_of, twins.groups, strict=True) for digest in group
    }
    left_out = [[digest for digest, own in known.items() if own == k] for k in range(len(twins.without))]
    header = {"format": FORMAT, "model_sha256": sha256_file(Path(path)), "twins": str(len(theirs))}
    header[LEFT_OUT] = json.dumps(left_out)
    header[LEARNT_BY_ALL] = json.dumps([digest for digest, own in known.items() if own is None])
    with atomic_write(target, "wb", overwrite=overwrite) as stream:
        stream.write(serialise(tensors, metadata=header))
    return target


def load_twins(path: str | os.PathLike) -> list[Potential]:
    """The twins beside a model file; none where there is no such file.

    Parameters
    ----------
    path : path-like
        Weights of the model.

    Returns
    -------
    list of Potential

    Raises
    ------
    InputError
        The file is damaged, or is of another model.
    """
    from himlip_ase.potential.checkpoint import load_model

    if not twins_beside(path).is_file():
        return []
    header, tensors = _read(path)
    model = load_model(path)
    found = []
    for number in range(int(header["twins"])):
        twin = copy.deepcopy(model)
        state = twin.state_dict()
        for name, changes in tensors.items():
            state[name] += changes[number].to(state[name].dtype)
        found.append(twin)
    return found


def learnt_by(base: str | os.PathLike) -> dict[str, int | None]:
    """What a model with twins has learnt beside them, as far as its file of twins says.

    Parameters
    ----------
    base : str or path-like
        Name or path of the model.

    Returns
    -------
    dict of str to int or None
        The number of the twin in `load_twins` that did not learn a structure, None where all did; by
        `himlip_ase.labels.digests.configuration_digest`. Empty where there are no twins, or their file was
        written before it said so, and for a model of another package.

    Raises
    ------
    InputError
        As `load_twins`, or no such model.
    """
    from himlip_ase.potential.checkpoint import find_model
    from himlip_ase.potential.foreign_models import split_foreign

    if split_foreign(base) is not None:
        return {}
    path = find_model(base)
    if not twins_beside(path).is_file():
        return {}
    header = _read(path)[0]
    found: dict[str, int | None] = dict.fromkeys(json.loads(header.get(LEARNT_BY_ALL, "[]")))
    for number, part in enumerate(json.loads(header.get(LEFT_OUT, "[]"))):
        found |= dict.fromkeys(part, number)
    return found


def twin_without(path: str | os.PathLike) -> dict[str, int]:
    """Which twin of a model did not learn a structure; those that every twin learnt are not among them.

    Parameters
    ----------
    path : path-like
        Weights of the model.

    Returns
    -------
    dict of str to int
        As `learnt_by`.
    """
    return {digest: twin for digest, twin in learnt_by(path).items() if twin is not None}


def check_unlearnt(base: str | os.PathLike, frames: Sequence[LabelledFrame]) -> None:
    """Refuse a base that has learnt some of the frames itself: no twin fitted on it would be without them.

    Parameters
    ----------
    base : str or path-like
        Model whose head is to be fitted; one without twins of its own does not say what it learnt.
    frames : sequence of LabelledFrame
        What twins of that head shall leave out in turn.

    Raises
    ------
    InputError
        Naming how many of the frames the base has learnt.
    """
    from himlip_ase.labels.digests import configuration_digest

    known = learnt_by(base)
    number = sum(configuration_digest(frame.atoms) in known for frame in frames)
    if number:
        raise InputError(
            f"{base} itself has learnt {number} of these {len(frames)} cells, so that a head fitted on it is "
            "judged by cells that it knows. Take it as it is (`finetune.model` of a run, --model of a "
            "command), with its own twins; go on with it by gradients, which its own twins follow "
            "(finetune.twins); or begin with a base that does not know them, e.g. himlip-hydride-1"
        )


def _read(path: str | os.PathLike) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Header and tensors of the twins beside a model, of that model for certain."""
    from himlip_ase.potential.checkpoint import read_tensors

    place = twins_beside(path)
    header, tensors = read_tensors(place)
    if header.get("format") != FORMAT or header.get("model_sha256") != sha256_file(Path(path)):
        raise InputError(f"{place} holds no twins of {path}: get both again, or delete the file")
    return header, tensors

"""Twins of a potential in one file: the change in the weights of each, which for a linear head is little."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, sha256_file

if TYPE_CHECKING:
    from himlip_ase.potential.interface import Potential

FORMAT = "himlip-twins-1"
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


def save_twins(twins: Sequence[Potential], path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write the twins of a saved model beside it.

    Parameters
    ----------
    twins : sequence of Potential
        Of the shape of the model, each fitted without one of equal parts of its labels.
    path : path-like
        Weights of the model, which `himlip_ase.potential.checkpoint.save_model` wrote.
    overwrite : bool

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

    from himlip_ase.potential.checkpoint import load_model

    if len(twins) < FEWEST:
        raise InputError(f"{len(twins)} twins; at least {FEWEST} are wanted for an error bar")
    own = load_model(path).state_dict()
    theirs = [twin.state_dict() for twin in twins]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in (own, *theirs)]
    if any(shape != shapes[0] for shape in shapes):
        raise InputError("the twins have another shape than the model; fit them with the same head")
    tensors = {
        name: torch.stack([(other[name] - tensor).detach().cpu().float() for other in theirs]).contiguous()
        for name, tensor in own.items()
        if any(not torch.equal(other[name].cpu(), tensor.cpu()) for other in theirs)
    }
    target = twins_beside(path)
    header = {"format": FORMAT, "model_sha256": sha256_file(Path(path)), "twins": str(len(twins))}
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
    from himlip_ase.potential.checkpoint import load_model, read_tensors

    place = twins_beside(path)
    if not place.is_file():
        return []
    header, tensors = read_tensors(place)
    if header.get("format") != FORMAT or header.get("model_sha256") != sha256_file(Path(path)):
        raise InputError(f"{place} holds no twins of {path}: get both again, or delete the file")
    model = load_model(path)
    found = []
    for number in range(int(header["twins"])):
        twin = copy.deepcopy(model)
        state = twin.state_dict()
        for name, changes in tensors.items():
            state[name] += changes[number].to(state[name].dtype)
        found.append(twin)
    return found

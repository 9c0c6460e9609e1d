"""Networks of another size that compute the same function: with more hidden units, for fewer elements."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.potential.network import HiMLIP


@torch.no_grad()
def widened(model: HiMLIP, extra: int) -> HiMLIP:
    """A copy with `extra` hidden units in every layer's scalar network, which are silent.

    The new units come last. Their weights from their own layer's inputs, to the readouts and to the next
    layer are zero, so that the function stays the same.

    Parameters
    ----------
    model : HiMLIP
    extra : int
        0 gives a plain copy.

    Returns
    -------
    HiMLIP
    """
    if extra == 0:
        return copy.deepcopy(model)
    result = HiMLIP(replace(model.config, hidden=model.config.hidden + extra)).to(next(model.parameters()))
    source = model.state_dict()
    for name, target in result.state_dict().items():
        target.copy_(
            source[name] if target.shape == source[name].shape else _embedded(source[name], target, name)
        )
    result.taught_by = model.taught_by
    return result


@torch.no_grad()
def restricted_to(model: HiMLIP, elements: Sequence[str]) -> HiMLIP:
    """A copy that knows only these elements: smaller, and with a smaller head to fit.

    Parameters
    ----------
    model : HiMLIP
    elements : sequence of str
        In the order that the copy shall have.

    Returns
    -------
    HiMLIP

    Raises
    ------
    InputError
        The model does not know one of them.
    """
    unknown = [symbol for symbol in elements if symbol not in model.elements]
    if unknown or not elements:
        raise InputError(f"cannot keep {', '.join(unknown) or 'nothing'}; the model knows {model.elements}")
    kept = torch.tensor([model.elements.index(symbol) for symbol in elements])
    result = HiMLIP(replace(model.config, elements=tuple(elements))).to(next(model.parameters()))
    source = model.state_dict()
    for name, target in result.state_dict().items():
        values = source[name]
        for axis, (old, new) in enumerate(zip(values.shape, target.shape, strict=True)):
            if old != new:
                values = values.index_select(axis, kept.to(values.device))
        target.copy_(values)
    result.taught_by, result.loaded_from = model.taught_by, model.loaded_from
    return result


def _embedded(small: Tensor, large: Tensor, name: str) -> Tensor:
    """The tensor in the first corner of a larger one; the rest is silent."""
    filled = torch.ones_like(large) if name.endswith("spread") else torch.zeros_like(large)
    filled[tuple(slice(size) for size in small.shape)] = small
    return filled

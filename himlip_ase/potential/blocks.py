"""Working through the atoms of a batch in blocks whose intermediate results stay in the processor's cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

CACHE_BYTES = 512 * 1024
"""Size of an intermediate result that stays in a core's second-level cache beside a few others."""

DEVICE_BYTES = 256 * 1024 * 1024
"""The same on an accelerator, where only memory bounds it."""

_whole: ContextVar[bool] = ContextVar("whole", default=False)


@contextlib.contextmanager
def without_blocks() -> Iterator[None]:
    """All rows at once, for tracing: the record then does not depend on how many there are."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def blockwise(
    function: Callable[..., tuple[Tensor | None, ...]], bytes_per_row: int, *tensors: Tensor | None
) -> tuple[Any, ...]:
    """Apply a function that treats every row on its own to some rows at a time.

    Parameters
    ----------
    function : callable
        Of slices of `tensors`, None where one is None; returns tensors of as many rows, or None.
    bytes_per_row : int
        Size of the largest intermediate result.
    tensors : Tensor (N, …) or None

    Returns
    -------
    tuple of Tensor (N, …) or None
        What `function` would return for all rows at once.
    """
    first = next(tensor for tensor in tensors if tensor is not None)
    limit = CACHE_BYTES if first.device.type == "cpu" else DEVICE_BYTES
    rows = max(1, limit // max(bytes_per_row, 1))
    if _whole.get() or rows >= len(first):
        return function(*tensors)
    splits = [None if tensor is None else tensor.split(rows) for tensor in tensors]
    n_blocks = -(-len(first) // rows)
    parts = [
        function(*(None if split is None else split[block] for split in splits)) for block in range(n_blocks)
    ]
    return tuple(None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True))

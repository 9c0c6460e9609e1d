"""Whether two values that were read are the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms


def content(value: Any) -> Iterator[Any]:
    """Numbers, arrays and strings inside a value, in order."""
    if isinstance(value, Atoms):
        yield from (value.numbers, value.positions, np.asarray(value.cell), value.get_masses(), value.pbc)
    elif isinstance(value, np.ndarray):
        yield value
    elif hasattr(value, "detach"):
        yield value.detach().cpu().numpy()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from content(getattr(value, item.name))
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key)
            yield from content(value[key])
    elif isinstance(value, list | tuple | set | frozenset):
        yield len(value)
        for item in value:
            yield from content(item)
    elif isinstance(value, bool | int | float | complex | str | None | np.generic):
        yield value


def largest(values: np.ndarray) -> float:
    """Largest absolute value that is a number."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))


def same(first: Any, second: Any) -> bool:
    """Whether two values hold the same numbers and words, numbers to 1e-12 of the largest."""
    one, two = list(content(first)), list(content(second))
    if len(one) != len(two):
        return False
    for a, b in zip(one, two, strict=True):
        words = [isinstance(x, str) or x is None for x in (a, b)]
        if any(words):
            if not all(words) or a != b:
                return False
            continue
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
            return False
        if a.dtype.kind not in "fc":
            if not np.array_equal(a, b):
                return False
        elif not np.allclose(a, b, rtol=1e-12, atol=1e-12 * largest(a), equal_nan=True):
            return False
    return True

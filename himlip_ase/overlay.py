"""Settings laid over defaults: naming one key never drops another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def laid_over(default: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` over `default`, at every depth where both are mappings.

    Parameters
    ----------
    default, given : mapping

    Returns
    -------
    dict
    """
    result = dict(default)
    for key, value in given.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = laid_over(below, value) if both else value  # type: ignore[arg-type]
    return result

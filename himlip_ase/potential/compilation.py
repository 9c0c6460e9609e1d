"""Whether and how passes are compiled: by numba, which comes as a wheel and brings its own compiler."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any

logger = logging.getLogger(__name__)

FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Liberties that leave NaN and infinity as they are: sums in any order, fused multiply and add."""


@cache
def compiled_here() -> bool:
    """Whether compiled passes do the work: numba is there, and ``HIMLIP_FUSED=0`` is not said."""
    if os.environ.get("HIMLIP_FUSED", "1") == "0" or importlib.util.find_spec("numba") is None:
        return False
    logger.debug("numba is there: forces by compiled passes")
    return True


def compiled(function: Callable[..., Any]) -> Any:
    """The function compiled when it is first called, and kept on disk; releases the interpreter's lock.

    Parameters
    ----------
    function : callable
    """
    from numba import njit

    options: dict[str, Any] = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:  # neither the package's folder nor the user's cache can be written to
        logger.warning("compiled anew in every process, %s; NUMBA_CACHE_DIR names another folder", error)
        return njit(**options)(function)

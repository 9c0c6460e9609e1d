"""Whether and how passes are compiled: by numba, which comes as a wheel and brings its own compiler."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
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


@cache
def _sources() -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of all files with functions to compile."""
    folder = Path(__file__).parent
    files = [*sorted((folder / "fused").glob("*.py")), folder / "pair_search.py", Path(__file__)]
    states = [(file.name, file.stat()) for file in files]
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


def compiled(function: Callable[..., Any]) -> Any:
    """The function compiled when it is first called, and kept on disk; releases the interpreter's lock.

    Parameters
    ----------
    function : callable
    """
    return _compiled(function, FAST)


def compiled_exactly(function: Callable[..., Any]) -> Any:
    """As `compiled`, without the liberties of `FAST`: every operation is that of NumPy, to the bit.

    Parameters
    ----------
    function : callable
    """
    return _compiled(function, set())


def _compiled(function: Callable[..., Any], liberties: set[str]) -> Any:
    from numba import njit

    options: dict[str, Any] = {"nogil": True, "fastmath": liberties, "error_model": "numpy"}
    try:
        dispatcher = njit(cache=True, **options)(function)
        # numba asks only whether the file of a function has changed, not those of the functions that it calls
        stored = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
        if stored is not None and hasattr(stored, "_source_stamp"):
            stored._source_stamp = _sources()
        return dispatcher
    except RuntimeError as error:  # neither the package's folder nor the user's cache can be written to
        logger.warning("compiled anew in every process, %s; NUMBA_CACHE_DIR names another folder", error)
        return njit(**options)(function)

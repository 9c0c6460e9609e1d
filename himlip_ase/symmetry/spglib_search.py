"""One way to ask spglib, whose releases say by None or by an exception that they found nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

Found = TypeVar("Found")


def spglib_search(search: Callable[..., Found | None], *arguments: Any, **options: Any) -> Found | None:
    """What a function of spglib finds, or None.

    spglib 2.5 to 2.7 return None where no symmetry is found (two atoms on one site, a tolerance that is too
    wide); from 2.8 on an exception is raised, unless the environment asks for the old way.

    Parameters
    ----------
    search : callable
        ``spglib.get_symmetry``, ``spglib.get_symmetry_dataset``, …
    *arguments, **options
        Its arguments; the first is the cell (lattice, fractional positions, kinds).

    Returns
    -------
    object or None
        None where spglib finds nothing; the reason is logged for debugging.
    """
    import spglib

    failure: type[Exception] = getattr(spglib, "SpglibError", RuntimeError)
    try:
        return search(*arguments, **options)
    except failure as error:
        logger.debug("spglib: %s", error)
        return None

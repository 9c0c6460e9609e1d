"""Options that a use of a command would leave unused are refused: nothing typed is dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def refuse_unused(options: Mapping[str, Any], why: str) -> None:
    """Refuse the first option that was given.

    Parameters
    ----------
    options : mapping
        {"--fmax": what was typed}; None, False and empty lists were not.
    why : str
        What the options belong to and what to type, e.g. "is of --compare; type --compare, or leave it out".

    Raises
    ------
    InputError
        One was given: its name and `why`.
    """
    from himlip_ase.errors import InputError

    for name, value in options.items():
        if value is not None and value is not False and value != [] and value != ():
            raise InputError(f"{name} {why}")

"""Calculators by name, for ``--calculator``."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from himlip_ase.errors import InputError


def _gfn2() -> Any:
    from himlip_ase.labels.molecules.gfn2 import GFN2

    return GFN2()


def _wb97x() -> Any:
    from himlip_ase.labels.molecules.wb97x import WB97X

    return WB97X()


CALCULATORS: dict[str, tuple[str, Callable[[], Any]]] = {
    "gfn2": ("GFN2-xTB by tblite", _gfn2),
    "wb97x": ("ωB97X/6-31G(d) by PySCF", _wb97x),
}
"""Name → description and factory; models of the package and ``module:factory`` come beside."""


def calculator_by_name(name: str) -> Any:
    """A calculator from what was typed.

    Parameters
    ----------
    name : str
        A name of `CALCULATORS`, the name of a bundled model, the path of a ``.safetensors`` file,
        ``mace:PATH`` for a MACE model, or ``module:factory``, where ``factory()`` returns an ASE calculator.

    Raises
    ------
    InputError
        Nothing of that name, or a factory that cannot be imported or called.
    """
    if name in CALCULATORS:
        return CALCULATORS[name][1]()
    if ":" in name and not name.startswith("mace:"):
        return _from_factory(name)
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.potential.checkpoint import bundled_models

    if name.endswith(".safetensors") or name.startswith("mace:") or name in bundled_models():
        return HiMLIPCalculator(name)
    known = [*CALCULATORS, *bundled_models()]
    near = difflib.get_close_matches(name, known, 1)
    raise InputError(
        f"no calculator {name!r}{f'; did you mean {near[0]}?' if near else ''}. Give --calculator "
        f"{', '.join(known)}, a .safetensors file, mace:PATH, or module:factory"
    )


def _from_factory(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"--calculator {name}: {error}. Give module:factory, with a module on PYTHONPATH and a function "
            "(or class) in it that returns an ASE calculator"
        ) from error
    if not callable(factory):
        raise InputError(f"--calculator {name}: {attribute} is a {type(factory).__name__}, not a function")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise InputError(f"--calculator {name}: {attribute} must be callable without arguments") from error
    except ValueError:
        pass  # a builtin without a signature
    return factory()

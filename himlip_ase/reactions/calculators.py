"""Calculators by name, for ``--calculator``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.registry import Registry, did_you_mean


def _gfn2() -> Any:
    from himlip_ase.labels.molecules.gfn2 import GFN2

    return GFN2()


def _wb97x() -> Any:
    from himlip_ase.labels.molecules.wb97x import WB97X

    return WB97X()


@dataclass(frozen=True)
class NamedCalculator:
    """A calculator that has a name of its own.

    Attributes
    ----------
    name, summary : str
    make : callable
        Without arguments; returns what a `Surface` takes.
    """

    name: str
    summary: str
    make: Callable[[], Any]


CALCULATORS = Registry(
    "calculator",
    NamedCalculator("gfn2", "GFN2-xTB by tblite", _gfn2),
    NamedCalculator("wb97x", "ωB97X/6-31G(d) by PySCF", _wb97x),
)
"""Models of the package and ``module:factory`` come beside."""


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
        return CALCULATORS[name].make()
    if ":" in name and not name.startswith("mace:"):
        return _from_factory(name)
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.potential.checkpoint import bundled_models

    if name.endswith(".safetensors") or name.startswith("mace:") or name in bundled_models():
        return HiMLIPCalculator(name)
    known = [*CALCULATORS.names(), *bundled_models()]
    raise InputError(
        f"no calculator {name!r}; {did_you_mean(name, known)}. Give --calculator {', '.join(known)}, a "
        ".safetensors file, mace:PATH, or module:factory"
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

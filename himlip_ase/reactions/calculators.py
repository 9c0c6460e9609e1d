"""Calculators by name, for ``--calculator``."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.potential.foreign_models import split_foreign
from himlip_ase.registry import Registry, did_you_mean

logger = logging.getLogger(__name__)


def _gfn1() -> Any:
    from himlip_ase.labels.molecules.xtb import GFN1

    return GFN1()


def _gfn2() -> Any:
    from himlip_ase.labels.molecules.xtb import GFN2

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
    NamedCalculator("gfn1", "GFN1-xTB by tblite", _gfn1),
    NamedCalculator("gfn2", "GFN2-xTB by tblite", _gfn2),
    NamedCalculator("wb97x", "ωB97X/6-31G(d) by PySCF", _wb97x),
)
"""Models of the package and ``module:factory`` come beside."""


def calculator_by_name(name: str) -> Any:
    """A calculator from what was typed.

    Parameters
    ----------
    name : str
        A name of `CALCULATORS`, the name of a bundled model, the path of a ``.safetensors`` file or of the
        folder of a training, ``mace:PATH`` or ``alphanet:PATH``, or ``module:factory``, where ``factory()``
        returns an ASE calculator.

    Returns
    -------
    object
        What a `Surface` takes; a model with ``posterior.safetensors`` beside it also says how sure it is.

    Raises
    ------
    InputError
        Nothing of that name, or a factory that cannot be imported or called.
    """
    if name in CALCULATORS:
        return CALCULATORS[name].make()
    if ":" in name and split_foreign(name) is None:
        return _from_factory(name)
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.potential.checkpoint import bundled_models

    if split_foreign(name):
        return HiMLIPCalculator(name)
    folder = bool(name) and Path(name, "model.safetensors").is_file()
    if name.endswith(".safetensors") or name in bundled_models() or folder:
        return _model(name)
    known = [*CALCULATORS.names(), *bundled_models()]
    raise InputError(
        f"no calculator {name!r}; {did_you_mean(name, known)}. Give --calculator {', '.join(known)}, a "
        ".safetensors file, mace:PATH, alphanet:PATH, or module:factory"
    )


def _model(name: str) -> Any:
    """A model's calculator, with its posterior where one of the same fit lies beside it."""
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.hint.last_layer.closed_form_run import POSTERIOR
    from himlip_ase.hint.last_layer.uncertain_calculator import UncertainCalculator
    from himlip_ase.potential.checkpoint import find_model

    if (find_model(name).parent / POSTERIOR).is_file():
        try:
            return UncertainCalculator(name)
        except InputError as error:
            logger.warning("%s is used without uncertainties: %s", name, error)
    return HiMLIPCalculator(name)


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

"""What evaluates a structure: a Hi-MLIP, or the ASE calculator that a function of yours returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

CalculatorOption = Annotated[
    str | None,
    typer.Option(
        "--calculator",
        help="Instead of --model: MODULE:FUNCTION, an ASE calculator that your class or function returns, "
        "e.g. ase.calculators.emt:EMT.",
    ),
]


def calculator_named(name: str) -> Calculator:
    """The ASE calculator that MODULE:FUNCTION returns."""
    import importlib

    from himlip_ase.errors import InputError

    module, _, function = name.partition(":")
    if not function:
        raise InputError(
            f"--calculator is {name!r}; give MODULE:FUNCTION with a class or function that returns an ASE "
            "calculator, e.g. my_calculators:dft"
        )
    try:
        return getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise InputError(f"--calculator {name}: {error}; is the module on PYTHONPATH?") from error


def chosen_calculator(model: str | None, calculator: str | None) -> Calculator:
    """Of ``--model`` or ``--calculator``; the bundled model where neither was given."""
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.errors import InputError

    if model is not None and calculator is not None:
        raise InputError("give --model or --calculator, not both")
    if calculator is not None:
        return calculator_named(calculator)
    return HiMLIPCalculator(model) if model else HiMLIPCalculator()

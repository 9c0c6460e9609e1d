"""Options that a use of a command would leave unused are refused: nothing typed is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer


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


def typed_options(context: typer.Context, names: Iterable[str]) -> dict[str, bool]:
    """The options among some parameters of a command that were typed, for `refuse_unused`.

    A value by default and the same value typed look alike to a command: the parser knows.

    Parameters
    ----------
    context : typer.Context
        Of the command that runs.
    names : iterable of str
        Names of parameters of its function.

    Returns
    -------
    dict of str to bool
        True for each, in the order of `names`, spelled as it was typed: ``--no-asr``.
    """
    parameters = {parameter.name: parameter for parameter in context.command.params}
    found = {}
    for name in names:
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":  # the module of the enumeration varies with typer
            continue
        negative = context.params[name] is False and parameters[name].secondary_opts
        found[max(negative or parameters[name].opts, key=len)] = True
    return found

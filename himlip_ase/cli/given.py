"""Which options were typed; a value by default and the same value typed look alike to a command."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def typed_options(context: typer.Context, names: Iterable[str]) -> dict[str, bool]:
    """The options among some parameters of a command that were typed, for `refuse_unused`.

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

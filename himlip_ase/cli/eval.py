"""``himlip eval``: errors of a potential on labelled structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from himlip_ase.cli.training_options import (
    HessianOption,
    LabelsOption,
    OverwriteOption,
    SetsOption,
    names,
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("eval")(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="Name or path of a model.")],
    labels: LabelsOption = None,
    hessian: HessianOption = None,
    sets: SetsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for errors.json and the figures.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Errors of energies, forces, stresses, Hessians and frequencies."""
    from himlip_ase.errors import InputError
    from himlip_ase.hint.evaluation.error_tables import describe
    from himlip_ase.hint.evaluation.evaluate import evaluate_labels
    from himlip_ase.hint.evaluation.report import write_errors
    from himlip_ase.labels.readers import open_labels, read_hessian
    from himlip_ase.potential.checkpoint import load_model

    if not labels and not hessian:
        raise InputError("nothing to compare with: give --labels or --hessian")
    frames = open_labels(labels, names(sets)) if labels else []
    errors = evaluate_labels(load_model(model), frames, [read_hessian(path) for path in hessian or []])
    for line in describe(errors, peers=True):
        typer.echo(line)
    if out is not None:
        write_errors(errors, out, overwrite)

"""``himlip eval``: errors of a potential on labelled structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from himlip_ase.cli.training_options import (
    EnergyKeyOption,
    ForcesKeyOption,
    HessianOption,
    LabelsOption,
    OverwriteOption,
    SetsOption,
    StressKeyOption,
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
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
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
    from himlip_ase.labels.label_keys import LabelKeys
    from himlip_ase.labels.readers import open_labels, read_hessian
    from himlip_ase.potential.checkpoint import load_model

    if not labels and not hessian:
        raise InputError("nothing to compare with: give --labels or --hessian")
    keys = LabelKeys(energy_key, forces_key, stress_key)
    frames = open_labels(labels, names(sets), keys) if labels else []
    errors = evaluate_labels(load_model(model), frames, [read_hessian(path) for path in hessian or []])
    for line in describe(errors, peers=True):
        typer.echo(line)
    if out is not None:
        write_errors(errors, out, overwrite)

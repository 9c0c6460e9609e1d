"""Options that ``himlip finetune``, ``pretrain`` and ``eval`` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from himlip_ase.hint.training.optimizers import OPTIMIZERS
from himlip_ase.hint.training.probes import PROBES
from himlip_ase.labels.formats import FORMATS, HESSIAN_FORMATS

LABELS = f"Files of labels, or folders of them: {'; '.join(entry.summary for entry in FORMATS)}."
HESSIAN = f"A Hessian: {'; '.join(entry.summary for entry in HESSIAN_FORMATS)}."

LabelsOption = Annotated[list[Path] | None, typer.Option("--labels", "-l", help=LABELS)]
HessianOption = Annotated[list[Path] | None, typer.Option("--hessian", help=HESSIAN)]
SetsOption = Annotated[
    str | None, typer.Option("--sets", help="These sets only, separated by commas, e.g. rattle040,cells16.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML with sections `training` and `network`; flags win."),
]
EnergyKeyOption = Annotated[
    str | None,
    typer.Option("--energy-key", help="Name of the energies in the files, if not a known one."),
]
ForcesKeyOption = Annotated[str | None, typer.Option("--forces-key", help="The same of the forces.")]
StressKeyOption = Annotated[
    str | None, typer.Option("--stress-key", help="The same of the stress, or of a virial (eV).")
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Passes over the labels.")]
MinutesOption = Annotated[
    float | None,
    typer.Option("--minutes", help="Wall time; without --epochs the schedule follows the clock."),
]
BatchOption = Annotated[int | None, typer.Option("--batch-size", help="Frames a step.")]
RateOption = Annotated[float | None, typer.Option("--learning-rate", help="Of the optimizer.")]
OptimizerOption = Annotated[str | None, typer.Option("--optimizer", help=f"{OPTIMIZERS.described()}.")]
ProbeOption = Annotated[
    str | None, typer.Option("--probe", help=f"Vectors that a Hessian is projected on: {PROBES.described()}.")
]
HoldOutOption = Annotated[
    str | None,
    typer.Option(
        "--hold-out",
        help="What is held out together: frames, sets (as whole reactions), structures, trajectories.",
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of everything random.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")]


def given(epochs: int | None, minutes: float | None, **flags: Any) -> dict[str, Any]:
    """The flags that were given; either of --epochs and --minutes sets both, so that it replaces a file's."""
    found = {name: value for name, value in flags.items() if value is not None}
    if epochs is None and minutes is None:
        return found
    return found | {"epochs": epochs, "max_minutes": minutes}


def names(sets: str | None) -> list[str] | None:
    """The names that --sets separates by commas."""
    return None if sets is None else sets.split(",")

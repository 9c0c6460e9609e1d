"""``himlip pretrain``: a base model from many labels of low fidelity."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from himlip_ase.cli.training_options import (
    LABELS,
    BatchOption,
    ConfigOption,
    DeviceOption,
    EnergyKeyOption,
    EpochsOption,
    ForcesKeyOption,
    HessianOption,
    HoldOutOption,
    MinutesOption,
    OptimizerOption,
    OverwriteOption,
    RateOption,
    ResumeOption,
    SeedOption,
    StressKeyOption,
    given,
)

if TYPE_CHECKING:
    from himlip_ase.labels.frames import LabelledFrame
    from himlip_ase.labels.origin import Origin
    from himlip_ase.labels.store import LabelStore

logger = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("pretrain")(pretrain)


def pretrain(
    labels: Annotated[list[Path], typer.Option("--labels", "-l", help=LABELS)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("pretrain"),
    hessian: HessianOption = None,
    config: ConfigOption = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    epochs: EpochsOption = None,
    minutes: MinutesOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    optimizer: OptimizerOption = None,
    hold_out: HoldOutOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    store: Annotated[
        Path | None, typer.Option(help="Write the labels to this .h5 first, and stream them from there.")
    ] = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a base model from scratch on many different structures.

    Sets named validation..., test... or doublewell... judge a model and are left out.
    """
    from himlip_ase.hint.training.config import read_training_config
    from himlip_ase.hint.training.display import training_bar
    from himlip_ase.hint.training.pretrain import pretrain as run
    from himlip_ase.labels.label_keys import LabelKeys
    from himlip_ase.labels.origin import Origin
    from himlip_ase.labels.readers import open_labels, read_hessian, without_judges
    from himlip_ase.labels.store import LabelStore, write_labels

    flags = given(
        epochs,
        minutes,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
        optimizer=optimizer,
        hold_out=hold_out,
    )
    settings, network = read_training_config(config, flags)
    keys = LabelKeys(energy_key, forces_key, stress_key)
    if store is not None and resume and store.is_file():
        frames: Sequence[LabelledFrame] = _stored(store, Origin.of(labels, keys))
    else:
        frames = open_labels(labels, keys=keys)
        if store is not None:
            write_labels(store, frames, overwrite=overwrite, origin=Origin.of(labels, keys).to_text())
            frames = LabelStore(store)
    frames = without_judges(frames)
    with training_bar(settings) as on_epoch:
        result = run(
            frames, [read_hessian(path) for path in hessian or []], settings, out, network,
            resume=resume, overwrite=overwrite, on_epoch=on_epoch,
        )  # fmt: skip
    for line in result.report["summary"]:
        typer.echo(line)
    typer.echo(f"model: {out / 'model.safetensors'}")


def _stored(store: Path, given: Origin) -> LabelStore:
    """The store of an interrupted run, if the labels that were given are those that it was made from."""
    from himlip_ase.errors import InputError
    from himlip_ase.labels.origin import Origin
    from himlip_ase.labels.store import LabelStore

    found = LabelStore(store)
    if not found.origin:
        logger.warning("%s does not say what it was made from: --resume reads it, and not --labels", store)
    elif not (known := Origin.from_text(found.origin)).matches(given):
        raise InputError(
            f"--resume reads {store}, which was made from {known}; {given} is not that. Type what it was "
            "made from, or begin anew with another --store and --out"
        )
    elif changed := known.changed(given):
        logger.warning("%s has changed since %s was made, and --resume reads %s", changed[0], store, store)
    return found

"""``himlip pretrain``: a base model from many labels of low fidelity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("pretrain")(pretrain)


def pretrain(
    labels: Annotated[
        list[Path],
        typer.Option("--labels", "-l", help="An .h5 of labels (streamed), or extxyz files or folders."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("pretrain"),
    hessian: Annotated[
        list[Path] | None, typer.Option("--hessian", help="Prefix of QE dyn files, or a phonopy YAML file.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML with sections `training` and `network`; flags win."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the labels.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Wall time; without --epochs the schedule follows the clock.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Frames a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Write the labels to this .h5 first, and stream them from there.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Train a base model from scratch on many different structures."""
    from himlip_ase.hint.config import read_training_config
    from himlip_ase.hint.label_store import LabelStore, write_labels
    from himlip_ase.hint.labels import STORES, read_hessian, read_labels
    from himlip_ase.hint.pretrain import pretrain as run
    from himlip_ase.hint.report import training_bar

    flags: dict[str, Any] = {
        "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed, "device": device,
    }  # fmt: skip
    clock = {"epochs", "max_minutes"} if epochs is not None or minutes is not None else set()
    flags |= {"epochs": epochs, "max_minutes": minutes} if clock else {}
    settings, network = read_training_config(
        config, {k: v for k, v in flags.items() if v is not None or k in clock}
    )
    frames: Any
    if len(labels) == 1 and labels[0].suffix in STORES:
        frames = LabelStore(labels[0])
    else:
        frames = read_labels(labels)
        if store is not None:
            if not (resume and store.is_file()):
                write_labels(store, frames, overwrite=overwrite)
            frames = LabelStore(store)
    with training_bar(settings) as on_epoch:
        result = run(
            frames, [read_hessian(path) for path in hessian or []], settings, out, network,
            resume=resume, overwrite=overwrite, on_epoch=on_epoch,
        )  # fmt: skip
    for line in result.report["summary"]:
        typer.echo(line)
    typer.echo(f"model: {out / 'model.safetensors'}")

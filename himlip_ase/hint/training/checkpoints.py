"""Checkpoints of a training run: one safetensors file with everything, replaced atomically."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.hint.training.settings import TrainingSettings

if TYPE_CHECKING:
    from himlip_ase.hint.training.trainer import Trainer

FORMAT = "himlip-training-1"
MAY_CHANGE = ("max_minutes", "checkpoint_seconds", "device", "polish")
"""Settings that a continued run may change without being another run."""


def write_state(path: Path, trainer: Trainer) -> None:
    """Write weights, averages, optimiser, random state and history of a trainer."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in trainer.ema.items()}
    tensors |= {f"best.{k}": v for k, v in trainer.best.items()}
    optimizer = trainer.optimizer.state_dict()
    for index, entry in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    tensors["generator"] = trainer.generator.get_state()
    # JSON writes floats so that they are read back exactly; Infinity is Python's own extension, kept inside.
    header = {
        "format": FORMAT,
        "fingerprint": trainer.fingerprint,
        "settings": json.dumps(trainer.settings.to_dict()),
        "progress": json.dumps(dataclasses.asdict(trainer.progress)),
        "best": json.dumps(bool(trainer.best)),
    }
    data = safetensors.torch.save(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, header
    )
    with atomic_write(path, "wb", overwrite=True) as stream:
        stream.write(data)


def read_state(path: Path, trainer: Trainer) -> None:
    """Put a trainer into the state of a checkpoint.

    Raises
    ------
    InputError
        The file is damaged, or belongs to other labels, another model or other settings.
    """
    from himlip_ase.hint.training.progress import Progress

    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}
    except Exception as error:
        raise InputError(
            f"{path} is not a complete checkpoint ({error}); start again with --overwrite"
        ) from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path} has the format {header.get('format')!r}, expected {FORMAT!r}")
    if header["fingerprint"] != trainer.fingerprint:
        raise InputError(
            f"{path} belongs to other labels or another model; resume with those, or use another folder"
        )
    _check_settings(path, json.loads(header["settings"]), trainer.settings.to_dict())

    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: v.to(trainer.device) for k, v in tensors.items() if k.startswith(prefix)}

    trainer.model.load_state_dict(part("model."))
    trainer.ema = part("ema.")
    trainer.ema = {k: trainer.ema[k] for k in trainer.parameters}
    trainer.best = part("best.")
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    trainer.optimizer.load_state_dict(trainer.optimizer.state_dict() | {"state": state})
    trainer.generator.set_state(tensors["generator"])
    progress = Progress(**json.loads(header["progress"]))
    minutes = trainer.settings.max_minutes
    if progress.finished.endswith("minutes") and (minutes is None or 60 * minutes > progress.elapsed):
        progress.finished = ""
    trainer.progress = progress


def _check_settings(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    # A setting that the checkpoint does not know had the effect of its default.
    old = TrainingSettings().to_dict() | old
    changed = [k for k in new if k not in MAY_CHANGE and old.get(k) != new[k]]
    if changed:
        listed = "; ".join(f"{k} was {old.get(k)!r}, now {new[k]!r}" for k in changed)
        raise InputError(
            f"{path} was made with other settings ({listed}); resume with those, or use another folder"
        )


def write_history(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write one line per epoch as CSV; columns that an epoch lacks stay empty."""
    columns: list[str] = []
    for row in rows:
        columns += [key for key in row if key not in columns]
    with atomic_write(path, overwrite=True) as stream:
        writer = csv.DictWriter(stream, columns or ["epoch"], restval="")
        writer.writeheader()
        writer.writerows({k: f"{v:.10g}" for k, v in row.items()} for row in rows)


def read_history(path: Path) -> list[dict[str, float]]:
    """Read what :func:`write_history` wrote."""
    with open(path, encoding="utf-8", newline="") as stream:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]

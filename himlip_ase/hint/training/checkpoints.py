"""Checkpoints of a training run: one safetensors file with everything, replaced atomically."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.settings import TrainingSettings

FORMAT = "himlip-training-1"
MAY_CHANGE = ("max_minutes", "checkpoint_seconds", "device", "polish")
"""Settings that a continued run may change without being another run."""


@dataclass
class TrainingState:
    """Everything that a training needs to go on as if it had never stopped.

    Attributes
    ----------
    weights, averages, best : dict
        {name: tensor}: the model's state, averaged parameters, those of the best epoch (empty before one).
    optimizer : dict
        {index of a parameter: {name: tensor}}, as torch's optimisers keep it.
    generator : Tensor
        State of the random numbers.
    progress : Progress
    settings : dict
        Of `TrainingSettings`.
    fingerprint : str
        Of labels and model; see `himlip_ase.hint.training.fingerprint`.
    """

    weights: dict[str, Tensor]
    averages: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    generator: Tensor
    progress: Progress
    settings: dict[str, Any]
    fingerprint: str


def write_state(path: Path, state: TrainingState) -> None:
    """Write a checkpoint; what was there before is replaced only by a complete file.

    Parameters
    ----------
    path : Path
    state : TrainingState
    """
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in state.weights.items()}
    tensors |= {f"ema.{k}": v for k, v in state.averages.items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    for index, entry in state.optimizer.items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    tensors["generator"] = state.generator
    # JSON writes floats so that they are read back exactly; Infinity is Python's own extension, kept inside.
    header = {
        "format": FORMAT,
        "fingerprint": state.fingerprint,
        "settings": json.dumps(state.settings),
        "progress": json.dumps(dataclasses.asdict(state.progress)),
        "best": json.dumps(bool(state.best)),
    }
    data = safetensors.torch.save(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, header
    )
    with atomic_write(path, "wb", overwrite=True) as stream:
        stream.write(data)


def read_state(path: Path) -> TrainingState:
    """Read what `write_state` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    TrainingState
        On the CPU.

    Raises
    ------
    InputError
        The file is damaged, or of another format.
    """
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

    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

    optimizer: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer.").items():
        index, name = key.split(".", 1)
        optimizer.setdefault(int(index), {})[name] = value
    try:
        return TrainingState(
            part("model."),
            part("ema."),
            part("best."),
            optimizer,
            tensors["generator"],
            Progress(**json.loads(header["progress"])),
            json.loads(header["settings"]),
            header["fingerprint"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}); start again with --overwrite"
        ) from error


def check_settings(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to go on with other settings than those of a checkpoint, `MAY_CHANGE` excepted.

    Parameters
    ----------
    path : Path
        For the message.
    old, new : dict
        Of `TrainingSettings.to_dict`.

    Raises
    ------
    InputError
        Naming each that changed.
    """
    # A setting that the checkpoint does not know had the effect of its default.
    old = TrainingSettings().to_dict() | old
    changed = [k for k in new if k not in MAY_CHANGE and old.get(k) != new[k]]
    if changed:
        listed = "; ".join(f"{k} was {old.get(k)!r}, now {new[k]!r}" for k in changed)
        raise InputError(
            f"{path} was made with other settings ({listed}); resume with those, or use another folder"
        )


def write_history(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write one line per epoch as CSV; columns that an epoch lacks stay empty.

    Parameters
    ----------
    path : Path
    rows : sequence of dict
    """
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

"""Models, and what a training is told and leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .kind import Kind, Named, current
from .label_inputs import toy_frames


def _weights(named: Named, path: Path) -> Any:
    """Weights, cutoff and elements of a model."""
    model = named("potential.checkpoint.load_model")(path)
    return [dict(model.state_dict()), model.cutoff, list(model.elements)]


def _small_model(folder: Path) -> None:
    config = current("potential.network.HiMLIPConfig")(elements=("H", "S"), channels=4, layers=1)
    model = current("potential.network.HiMLIP")(config)
    current("potential.checkpoint.save_model")(model, folder / "small.safetensors", {"licence": "MIT"})


def _model_on_a_lattice(folder: Path) -> None:
    from ase.build import bulk

    network = current("potential.network.HiMLIP")(
        current("potential.network.HiMLIPConfig")(elements=("H",), channels=4, layers=1)
    )
    lattice = current("potential.harmonic_remainder.ReferenceLattice").of(bulk("H", "fcc", a=3.0), (2, 1, 1))
    model = current("potential.lattice_potential.LatticePotential")(network, lattice)
    current("potential.checkpoint.save_model")(model, folder / "small.safetensors", {"licence": "MIT"})


def _training_yaml(folder: Path) -> None:
    (folder / "base.yaml").write_text(
        "training:\n  epochs: 200\n  learning_rate: 0.01\n  optimizer: soap\n"
        "network:\n  elements: [H, S]\n  channels: 8\n"
    )


def _posterior(folder: Path) -> None:
    import torch

    noise = current("hint.last_layer.evidence.Noise")
    posterior = current("hint.last_layer.posterior.Posterior")
    root = torch.eye(5, dtype=torch.float64)
    posterior(root, noise(), "readout", 0, {}).save(folder / "posterior.safetensors")


def _training(folder: Path, resume: bool = False, named: Named = current) -> Any:
    settings = named("hint.training.settings.TrainingSettings")
    network = named("potential.network.HiMLIPConfig")(elements=("Cl", "Na"), channels=4, layers=1)
    frames = [dataclasses.replace(frame, hessian=None) for frame in toy_frames()]
    with _quiet():
        return named("hint.training.finetune.finetune")(
            frames,
            network=network,
            settings=settings.from_dict(
                {"epochs": 2, "batch_size": 2, "polish": {"rounds": 0}, "device": "cpu"}
            ),
            folder=folder / "tuned",
            resume=resume,
        )


def _resumed_training(named: Named, folder: Path) -> Any:
    _training(folder, True, named)
    return _weights(named, folder / "tuned" / "model.safetensors")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


KINDS = (
    Kind("model", _small_model, ("*",), lambda n, d: _weights(n, d / "small.safetensors"), sealed=True),
    Kind(
        "model with a remainder",
        _model_on_a_lattice,
        ("*",),
        lambda n, d: _weights(n, d / "small.safetensors"),
        sealed=True,
    ),
    Kind(
        "training YAML",
        _training_yaml,
        ("base.yaml",),
        lambda n, d: n("hint.training.config.read_training_config")(d / "base.yaml"),
    ),
    Kind(
        "posterior",
        _posterior,
        ("posterior.safetensors",),
        lambda n, d: [
            n("hint.last_layer.posterior.Posterior").load(d / "posterior.safetensors").root,
        ],
    ),
    Kind(
        "checkpoint of a training",
        lambda folder: _training(folder) and None,
        ("tuned/state/*", "tuned/model.*"),
        _resumed_training,
        slow=True,
    ),
)

"""Training: labels prepared once, losses, projections, optimisers, checkpoints, refinement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.hint.training.config import read_training_config
    from himlip_ase.hint.training.curriculum import Curriculum
    from himlip_ase.hint.training.display import training_bar, write_figures
    from himlip_ase.hint.training.folding import fold_hessian
    from himlip_ase.hint.training.losses import LossWeights
    from himlip_ase.hint.training.optimizers import OPTIMIZERS, OptimizerChoice
    from himlip_ase.hint.training.probes import PROBES, ProbeChoice
    from himlip_ase.hint.training.procedure import TrainingResult, train
    from himlip_ase.hint.training.progress import Progress, TrainingDiverged
    from himlip_ase.hint.training.settings import PolishSettings, TrainingSettings
    from himlip_ase.hint.training.start import start_model
    from himlip_ase.hint.training.trainer import Trainer
    from himlip_ase.hint.training.training_labels import TrainingLabels, prepare_labels

_HOMES = {
    "read_training_config": "config",
    "Curriculum": "curriculum",
    "training_bar": "display",
    "write_figures": "display",
    "fold_hessian": "folding",
    "LossWeights": "losses",
    "OPTIMIZERS": "optimizers",
    "OptimizerChoice": "optimizers",
    "PROBES": "probes",
    "ProbeChoice": "probes",
    "TrainingResult": "procedure",
    "train": "procedure",
    "Progress": "progress",
    "TrainingDiverged": "progress",
    "PolishSettings": "settings",
    "TrainingSettings": "settings",
    "start_model": "start",
    "Trainer": "trainer",
    "TrainingLabels": "training_labels",
    "prepare_labels": "training_labels",
}
__all__ = [
    "Curriculum",
    "LossWeights",
    "OPTIMIZERS",
    "OptimizerChoice",
    "PROBES",
    "PolishSettings",
    "ProbeChoice",
    "Progress",
    "Trainer",
    "TrainingDiverged",
    "TrainingLabels",
    "TrainingResult",
    "TrainingSettings",
    "fold_hessian",
    "prepare_labels",
    "read_training_config",
    "start_model",
    "train",
    "training_bar",
    "write_figures",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

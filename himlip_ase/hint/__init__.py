"""Hessian-informed training: training, closed-form last layers, evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.hint.evaluation.error_tables import describe
    from himlip_ase.hint.evaluation.evaluate import LabelErrors, evaluate_labels
    from himlip_ase.hint.evaluation.hessian_errors import HessianErrors, hessian_errors
    from himlip_ase.hint.last_layer.calibration import calibration
    from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings, fit_closed_form
    from himlip_ase.hint.last_layer.closed_form_run import finetune_closed_form
    from himlip_ase.hint.last_layer.phonon_uncertainty import phonon_uncertainty
    from himlip_ase.hint.last_layer.posterior import Posterior
    from himlip_ase.hint.last_layer.uncertain_calculator import UncertainCalculator
    from himlip_ase.hint.selection import Selection, by_energy, weighted_local_density
    from himlip_ase.hint.training.config import read_training_config
    from himlip_ase.hint.training.curriculum import Curriculum
    from himlip_ase.hint.training.finetune import finetune
    from himlip_ase.hint.training.losses import LossWeights
    from himlip_ase.hint.training.optimizers import OPTIMIZERS
    from himlip_ase.hint.training.pretrain import pretrain
    from himlip_ase.hint.training.probes import PROBES
    from himlip_ase.hint.training.procedure import TrainingResult, train
    from himlip_ase.hint.training.settings import PolishSettings, TrainingSettings
    from himlip_ase.hint.training.training_labels import prepare_labels

_HOMES = {
    "describe": "evaluation.error_tables",
    "LabelErrors": "evaluation.evaluate",
    "evaluate_labels": "evaluation.evaluate",
    "HessianErrors": "evaluation.hessian_errors",
    "hessian_errors": "evaluation.hessian_errors",
    "calibration": "last_layer.calibration",
    "ClosedFormSettings": "last_layer.closed_form",
    "fit_closed_form": "last_layer.closed_form",
    "finetune_closed_form": "last_layer.closed_form_run",
    "phonon_uncertainty": "last_layer.phonon_uncertainty",
    "Posterior": "last_layer.posterior",
    "UncertainCalculator": "last_layer.uncertain_calculator",
    "Selection": "selection",
    "by_energy": "selection",
    "weighted_local_density": "selection",
    "read_training_config": "training.config",
    "Curriculum": "training.curriculum",
    "finetune": "training.finetune",
    "LossWeights": "training.losses",
    "OPTIMIZERS": "training.optimizers",
    "pretrain": "training.pretrain",
    "PROBES": "training.probes",
    "TrainingResult": "training.procedure",
    "train": "training.procedure",
    "PolishSettings": "training.settings",
    "TrainingSettings": "training.settings",
    "prepare_labels": "training.training_labels",
}
__all__ = [
    "ClosedFormSettings",
    "Curriculum",
    "HessianErrors",
    "LabelErrors",
    "LossWeights",
    "OPTIMIZERS",
    "PROBES",
    "PolishSettings",
    "Posterior",
    "Selection",
    "TrainingResult",
    "TrainingSettings",
    "UncertainCalculator",
    "by_energy",
    "calibration",
    "describe",
    "evaluate_labels",
    "finetune",
    "finetune_closed_form",
    "fit_closed_form",
    "hessian_errors",
    "phonon_uncertainty",
    "prepare_labels",
    "pretrain",
    "read_training_config",
    "train",
    "weighted_local_density",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Linear last layers in closed form, and what their posterior says of forces, Hessians and phonons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.hint.last_layer.calibration import Calibration
    from himlip_ase.hint.last_layer.closed_form import ClosedFormResult, ClosedFormSettings, fit_closed_form
    from himlip_ase.hint.last_layer.closed_form_run import ClosedFormRun, finetune_closed_form
    from himlip_ase.hint.last_layer.phonon_uncertainty import PhononUncertainty
    from himlip_ase.hint.last_layer.posterior import Noise, Posterior, Uncertainty
    from himlip_ase.hint.last_layer.uncertain_calculator import UncertainCalculator

_HOMES = {
    "Calibration": "calibration",
    "ClosedFormResult": "closed_form",
    "ClosedFormSettings": "closed_form",
    "fit_closed_form": "closed_form",
    "ClosedFormRun": "closed_form_run",
    "finetune_closed_form": "closed_form_run",
    "PhononUncertainty": "phonon_uncertainty",
    "Noise": "posterior",
    "Posterior": "posterior",
    "Uncertainty": "posterior",
    "UncertainCalculator": "uncertain_calculator",
}
__all__ = [
    "Calibration",
    "ClosedFormResult",
    "ClosedFormRun",
    "ClosedFormSettings",
    "Noise",
    "PhononUncertainty",
    "Posterior",
    "UncertainCalculator",
    "Uncertainty",
    "finetune_closed_form",
    "fit_closed_form",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Errors of a potential on labelled structures, in the units that people quote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.hint.evaluation.error_summary import ErrorSummary, Mean
    from himlip_ase.hint.evaluation.error_tables import describe
    from himlip_ase.hint.evaluation.evaluate import LabelErrors, SetErrors, evaluate_labels
    from himlip_ase.hint.evaluation.hessian_errors import HessianErrors, compare_hessians
    from himlip_ase.hint.evaluation.horm_metrics import HormErrors
    from himlip_ase.hint.evaluation.mode_overlap import ModeErrors, mode_errors
    from himlip_ase.hint.evaluation.phonopy_metrics import PhonopyErrors
    from himlip_ase.hint.evaluation.plots import parity_figure
    from himlip_ase.hint.evaluation.report import write_errors

_HOMES = {
    "ErrorSummary": "error_summary",
    "Mean": "error_summary",
    "describe": "error_tables",
    "LabelErrors": "evaluate",
    "SetErrors": "evaluate",
    "evaluate_labels": "evaluate",
    "HessianErrors": "hessian_errors",
    "compare_hessians": "hessian_errors",
    "HormErrors": "horm_metrics",
    "ModeErrors": "mode_overlap",
    "mode_errors": "mode_overlap",
    "PhonopyErrors": "phonopy_metrics",
    "parity_figure": "plots",
    "write_errors": "report",
}
__all__ = [
    "ErrorSummary",
    "HessianErrors",
    "HormErrors",
    "LabelErrors",
    "Mean",
    "ModeErrors",
    "PhonopyErrors",
    "SetErrors",
    "compare_hessians",
    "describe",
    "evaluate_labels",
    "mode_errors",
    "parity_figure",
    "write_errors",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

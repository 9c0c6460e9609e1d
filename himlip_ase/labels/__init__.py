"""What is known about energies: frames, Hessians, readers, stores, checks, and what is worth labelling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.labels.checks import check_frames
    from himlip_ase.labels.displacements import displace_along, rattle, softest_gamma_mode
    from himlip_ase.labels.duplicates import Duplicate, check_separate, find_duplicates
    from himlip_ase.labels.formats import FORMATS, HESSIAN_FORMATS, FileFormat
    from himlip_ase.labels.frames import HessianLabel, LabelCounts, LabelledFrame, count_labels
    from himlip_ase.labels.hessian_checks import check_hessian
    from himlip_ase.labels.horm import HormStore
    from himlip_ase.labels.label_keys import frame_from_atoms
    from himlip_ase.labels.products import HessianProducts
    from himlip_ase.labels.readers import open_labels, read_hessian, read_labels
    from himlip_ase.labels.store import LabelStore, write_labels
    from himlip_ase.labels.survey import Survey

_HOMES = {
    "check_frames": "checks",
    "displace_along": "displacements",
    "rattle": "displacements",
    "softest_gamma_mode": "displacements",
    "Duplicate": "duplicates",
    "check_separate": "duplicates",
    "find_duplicates": "duplicates",
    "FORMATS": "formats",
    "HESSIAN_FORMATS": "formats",
    "FileFormat": "formats",
    "HessianLabel": "frames",
    "LabelCounts": "frames",
    "LabelledFrame": "frames",
    "count_labels": "frames",
    "check_hessian": "hessian_checks",
    "HormStore": "horm",
    "frame_from_atoms": "label_keys",
    "HessianProducts": "products",
    "open_labels": "readers",
    "read_hessian": "readers",
    "read_labels": "readers",
    "LabelStore": "store",
    "write_labels": "store",
    "Survey": "survey",
}
__all__ = [
    "FORMATS",
    "HESSIAN_FORMATS",
    "Duplicate",
    "FileFormat",
    "HessianLabel",
    "HessianProducts",
    "HormStore",
    "LabelCounts",
    "LabelStore",
    "LabelledFrame",
    "Survey",
    "check_frames",
    "check_hessian",
    "check_separate",
    "count_labels",
    "displace_along",
    "find_duplicates",
    "frame_from_atoms",
    "open_labels",
    "rattle",
    "read_hessian",
    "read_labels",
    "softest_gamma_mode",
    "write_labels",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

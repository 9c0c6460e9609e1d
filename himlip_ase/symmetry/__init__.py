"""Symmetry operations, point groups, irreducible products; serves crystals and molecules, knows neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.symmetry.irreducible import RowsReport, symmetric_rows
    from himlip_ase.symmetry.irreducible_hessian import structure_operations, symmetric_hessian
    from himlip_ase.symmetry.operations import Operations, crystal_operations, supercell_with_operations
    from himlip_ase.symmetry.point_groups import is_linear, point_group_operations, rotational_symmetry_number

_HOMES = {
    "Operations": "operations",
    "RowsReport": "irreducible",
    "crystal_operations": "operations",
    "is_linear": "point_groups",
    "point_group_operations": "point_groups",
    "rotational_symmetry_number": "point_groups",
    "structure_operations": "irreducible_hessian",
    "supercell_with_operations": "operations",
    "symmetric_hessian": "irreducible_hessian",
    "symmetric_rows": "irreducible",
}
__all__ = [
    "Operations",
    "RowsReport",
    "crystal_operations",
    "is_linear",
    "point_group_operations",
    "rotational_symmetry_number",
    "structure_operations",
    "supercell_with_operations",
    "symmetric_hessian",
    "symmetric_rows",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Positions → energy and its derivatives: neighbour graphs, the Hi-MLIP network, autodiff, checkpoints.

Names are imported when they are first used, because they bring torch. Batches of structures are evaluated by
`himlip_ase.potential.evaluate.evaluate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.potential.alphanet import AlphaNetPotential
    from himlip_ase.potential.checkpoint import (
        bundled_models,
        default_model,
        load_model,
        read_card,
        save_model,
    )
    from himlip_ase.potential.derivatives import (
        Derivatives,
        energy_forces_stress,
        hessian,
        hessian_vector_product,
        hessians,
    )
    from himlip_ase.potential.graph import Graph, build_graph
    from himlip_ase.potential.harmonic_remainder import ReferenceLattice
    from himlip_ase.potential.interface import Potential
    from himlip_ase.potential.lattice_potential import LatticePotential
    from himlip_ase.potential.mace import MACEPotential
    from himlip_ase.potential.neighbours import VerletList
    from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
    from himlip_ase.potential.products import hessian_products

_HOMES = {
    "AlphaNetPotential": "alphanet",
    "Derivatives": "derivatives",
    "Graph": "graph",
    "HiMLIP": "network",
    "HiMLIPConfig": "network",
    "LatticePotential": "lattice_potential",
    "MACEPotential": "mace",
    "Potential": "interface",
    "ReferenceLattice": "harmonic_remainder",
    "VerletList": "neighbours",
    "build_graph": "graph",
    "bundled_models": "checkpoint",
    "default_model": "checkpoint",
    "energy_forces_stress": "derivatives",
    "hessian": "derivatives",
    "hessian_products": "products",
    "hessian_vector_product": "derivatives",
    "hessians": "derivatives",
    "load_model": "checkpoint",
    "read_card": "checkpoint",
    "save_model": "checkpoint",
}
__all__ = [
    "AlphaNetPotential",
    "Derivatives",
    "Graph",
    "HiMLIP",
    "HiMLIPConfig",
    "LatticePotential",
    "MACEPotential",
    "Potential",
    "ReferenceLattice",
    "VerletList",
    "build_graph",
    "bundled_models",
    "default_model",
    "energy_forces_stress",
    "hessian",
    "hessian_products",
    "hessian_vector_product",
    "hessians",
    "load_model",
    "read_card",
    "save_model",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

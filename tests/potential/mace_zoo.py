"""A small MACE with arbitrary weights, made by MACE's own constructor, as a user's would be."""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from himlip_ase.potential.mace import MACEPotential
from himlip_ase.potential.mace_library import import_mace

needs_mace = [
    pytest.mark.peer,
    pytest.mark.skipif(importlib.util.find_spec("mace") is None, reason="needs mace-torch"),
]
CUTOFF = 3.5


SHAPES: dict[str, dict[str, Any]] = {
    "MACE-MP-0": {"interaction_cls_first": "RealAgnosticInteractionBlock"},
    "MACE-OMAT-0": {
        "interaction_cls": "RealAgnosticDensityResidualInteractionBlock",
        "interaction_cls_first": "RealAgnosticDensityInteractionBlock",
        "pair_repulsion": True,
        "distance_transform": "Agnesi",
    },
    "MACE-MH-1": {
        "interaction_cls": "RealAgnosticResidualNonLinearInteractionBlock",
        "interaction_cls_first": "RealAgnosticResidualNonLinearInteractionBlock",
        "readout_cls": "NonLinearBiasReadoutBlock",
        "edge_irreps": "8x0e + 8x1o",
        "apply_cutoff": False,
        "use_agnostic_product": True,
        "use_last_readout_only": True,
    },
    "with tanh": {"gate": torch.tanh, "num_interactions": 3, "radial_MLP": [16, 16]},
}
"""What tells the architectures of published models apart, and one of a kind."""


@cache
def mace_module(
    kind: str = "ScaleShiftMACE",
    dtype: torch.dtype = torch.float64,
    heads: int = 1,
    correlation: int = 2,
    shape: str = "MACE-MP-0",
) -> Any:
    """Two layers, 16x0e + 16x1o, l ≤ 2; weights large enough that every order of the products counts."""
    modules, o3 = import_mace("mace.modules"), import_mace("e3nn.o3")
    several = heads > 1
    options = {
        "r_max": CUTOFF,
        "num_bessel": 6,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "interaction_cls": "RealAgnosticResidualInteractionBlock",
        "interaction_cls_first": "RealAgnosticResidualInteractionBlock",
        "num_interactions": 2,
        "num_elements": 2,
        "hidden_irreps": "16x0e + 16x1o",
        "MLP_irreps": "16x0e",
        "gate": torch.nn.functional.silu,
        "atomic_energies": np.array([[-1.0, -5.0], [-2.0, -7.0]][:heads]).squeeze(),
        "avg_num_neighbors": np.float64(10.0),
        "atomic_numbers": [1, 16],
        "correlation": correlation,
        "heads": ["Default", "other"][:heads],
    } | SHAPES[shape]
    if kind == "ScaleShiftMACE":
        options["atomic_inter_scale"] = [2.0] * heads if several else 2.0
        options["atomic_inter_shift"] = [0.2] * heads if several else 0.2
    known = modules.interaction_classes | modules.readout_classes
    options = {
        key: o3.Irreps(value) if key.endswith("irreps") else known.get(str(value), value)
        for key, value in options.items()
    }
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            module = getattr(modules, kind)(**options)
        with torch.no_grad():
            for parameter in module.products.parameters():
                parameter.mul_(4)
        return module
    finally:
        torch.set_default_dtype(before)


@cache
def mace_potential() -> MACEPotential:
    """The same, as a potential."""
    return MACEPotential.of(mace_module())


def mace_calculator(module: Any) -> Any:
    """MACE's own ASE calculator, which changes torch's default type."""
    before = torch.get_default_dtype()
    calculators = import_mace("mace.calculators")
    try:
        return calculators.MACECalculator(
            models=[module], device="cpu", default_dtype="float64", head=module.heads[0]
        )
    finally:
        torch.set_default_dtype(before)


def with_calculator(atoms: Atoms, calc: Any) -> Atoms:
    """A copy with another calculator."""
    copy = atoms.copy()
    copy.calc = calc
    return copy

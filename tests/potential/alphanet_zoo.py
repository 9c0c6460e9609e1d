"""A small AlphaNet with arbitrary weights, in files as a user has them, and AlphaNet's own calculator."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from himlip_ase.potential.alphanet import AlphaNetPotential
from himlip_ase.potential.alphanet_arguments import arguments_of, build_alphanet
from himlip_ase.potential.alphanet_library import import_alphanet

REASON = "needs msc-alphanet and torch-geometric"


def has_alphanet() -> bool:
    """Whether AlphaNet's network can be built."""
    return all(importlib.util.find_spec(module) for module in ("alphanet", "torch_geometric"))


needs_alphanet = [pytest.mark.peer, pytest.mark.skipif(not has_alphanet(), reason=REASON)]
needs_its_calculator = pytest.mark.skipif(
    not has_alphanet() or importlib.util.find_spec("pydantic_settings") is None,
    reason="AlphaNet's own calculator needs msc-alphanet, torch-geometric and pydantic-settings",
)
CUTOFF = 4.1
SECTION: dict[str, Any] = {
    "num_layers": 2, "hidden_channels": 16, "num_radial": 8, "head": 4, "hidden_channels_chi": 16,
    "main_chi1": 8, "mp_chi1": 8, "chi2": 3, "cutoff": CUTOFF, "has_dropout_flag": True,
    "compute_forces": True, "compute_stress": True,
}  # fmt: skip


@cache
def weights() -> dict[str, Tensor]:
    """Of single precision, as AlphaNet saves them."""
    network = build_alphanet(arguments_of(SECTION))
    return {name: tensor.float() for name, tensor in network.state_dict().items()}


@cache
def alphanet_potential() -> AlphaNetPotential:
    """The same, as a potential."""
    return AlphaNetPotential.of(weights(), SECTION)


def write_files(
    folder: Path, section: Mapping[str, Any] = SECTION, tensors: Mapping[str, Tensor] | None = None
) -> Path:
    """``small.ckpt`` and ``shape.json``."""
    state = {f"model.{name}": tensor for name, tensor in (tensors or weights()).items()}
    torch.save(state, folder / "small.ckpt")
    (folder / "shape.json").write_text(json.dumps({"model": section, "train": {"epochs": 1}}))
    return folder / "small.ckpt"


def alphanet_calculator(
    folder: Path, section: Mapping[str, Any] = SECTION, tensors: Mapping[str, Tensor] | None = None
) -> Any:
    """AlphaNet's own ASE calculator in double precision."""
    path = write_files(folder, section, tensors)
    calc, config = import_alphanet("alphanet.infer.calc"), import_alphanet("alphanet.config")
    settings = config.All_Config.from_json(str(folder / "shape.json"))
    return calc.AlphaNetCalculator(str(path), settings, device="cpu", precision="64")


def ask(calc: Any, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray | None]:
    """Energy, forces and, of crystals, stress; without what the calculator prints."""
    copy = atoms.copy()
    copy.calc = calc
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stress = copy.get_stress() if atoms.pbc.all() else None
        return float(copy.get_potential_energy()), copy.get_forces(), stress

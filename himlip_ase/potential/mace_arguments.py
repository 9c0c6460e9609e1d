"""The shape of a MACE network as plain data, and the network from it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from himlip_ase.errors import InputError
from himlip_ase.potential.mace_library import import_mace
from himlip_ase.potential.module_records import Record

_IRREPS = ("hidden_irreps", "MLP_irreps", "edge_irreps")
_REFUSED = {
    "embedding_specs": "takes charges, spins or fields as input, which labels here do not have",
    "cueq_config": "was converted to cuequivariance; convert it back with mace_cueq_to_e3nn",
}


def arguments_of(module: Any) -> dict[str, Any]:
    """Arguments that MACE's constructor needs to build a network again.

    Parameters
    ----------
    module : Module or Record
        A MACE in memory, or the record of one (`himlip_ase.potential.module_records`).

    Returns
    -------
    dict
        JSON: classes and functions by name, irreps as text, arrays as lists.

    Raises
    ------
    InputError
        Not a MACE that gives an energy from positions alone.
    """
    kind = type(module).__name__
    if kind not in ("MACE", "ScaleShiftMACE"):
        raise InputError(
            f"a {kind} is not a MACE model of the energy; give a MACE or ScaleShiftMACE, whole, as MACE "
            "saves it at the end of a training (NAME.model)"
        )
    source = _scaled(module) if kind == "MACE" else module
    try:
        found = import_mace("mace.tools.scripts_utils").extract_config_mace_model(source)
    except AttributeError as error:
        raise InputError(f"MACE cannot describe this network, to build it again (no {error})") from error
    for key, reason in _REFUSED.items():
        if found.get(key) is not None:
            raise InputError(f"this MACE {reason}")
    return {
        key: str(value) if key in _IRREPS and value is not None else _plain(value)
        for key, value in found.items()
    }


def build_mace(arguments: dict[str, Any], scripted: bool = False) -> nn.Module:
    """A float64 network with arbitrary weights.

    Its constants, Clebsch-Gordan coefficients among them, are computed in float64. Unless `scripted`, e3nn's
    generated code stays Python: TorchScript rounds its first calls differently from later ones, so that a
    continued training would not be the unbroken one, and takes longer.

    Parameters
    ----------
    arguments : dict
        Of the constructor.
    scripted : bool
        Whether e3nn compiles its generated code.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        mace-torch is missing, or its version does not know this network.
    """
    modules, o3 = import_mace("mace.modules"), import_mace("e3nn.o3")
    typed = dict(arguments)
    for key in _IRREPS:
        if typed.get(key) is not None:
            typed[key] = o3.Irreps(typed[key])
    try:
        for key in ("interaction_cls", "interaction_cls_first"):
            typed[key] = modules.interaction_classes[typed[key]]
        typed["readout_cls"] = modules.readout_classes[typed["readout_cls"]]
        typed["gate"] = modules.gate_dict[str(typed["gate"])]
        typed["atomic_energies"] = np.array(typed["atomic_energies"], dtype=float)
        with _building(scripted):
            return modules.ScaleShiftMACE(**typed)
    except (KeyError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"the installed mace-torch cannot build this network ({error}); upgrade it: "
            "pip install -U mace-torch"
        ) from error


def _scaled(module: Any) -> Any:
    """A plain MACE as the ScaleShiftMACE of the same energy: scale one, shift nothing."""
    source = type("ScaleShiftMACE", (Record,), {})()
    source.__dict__.update(module.__dict__)
    scale_shift = Record()
    scale_shift.__dict__.update(scale=torch.ones((), dtype=torch.float64), shift=torch.zeros(()))
    source.__dict__["scale_shift"] = scale_shift
    return source


def _plain(value: Any) -> Any:
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Record):  # a function of torch's own, asked for as getattr(module, name)
        return str(value.arguments[-1])
    if callable(value):
        return value.__name__
    return value


@contextlib.contextmanager
def _building(scripted: bool) -> Iterator[None]:
    """Global settings under which networks are built, put back afterwards."""
    e3nn = import_mace("e3nn")
    dtype, options = torch.get_default_dtype(), e3nn.get_optimization_defaults()
    try:
        torch.set_default_dtype(torch.float64)
        e3nn.set_optimization_defaults(jit_script_fx=scripted)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            yield
    finally:
        torch.set_default_dtype(dtype)
        e3nn.set_optimization_defaults(**options)

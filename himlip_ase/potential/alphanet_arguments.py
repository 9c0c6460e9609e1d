"""The shape of an AlphaNet as plain data, and the network from it."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from himlip_ase.errors import InputError
from himlip_ase.potential.alphanet_library import INSTALL, import_alphanet

DEFAULTS: dict[str, Any] = {
    "name": "Alphanet", "num_layers": 3, "num_targets": 1, "output_dim": 1, "readout": "sum", "use_pbc": True,
    "compute_forces": False, "compute_stress": False, "eps": 1e-10, "hidden_channels": 128, "cutoff": 5.0,
    "num_radial": 96, "dtype": "32", "use_sigmoid": False, "head": 16, "a": 1.0, "b": 1.0, "main_chi1": 24,
    "mp_chi1": 24, "chi2": 6, "hidden_channels_chi": 96, "has_dropout_flag": True,
    "has_norm_before_flag": True, "has_norm_after_flag": False, "reduce_mode": "sum", "zbl": False,
}  # fmt: skip
"""What msc-alphanet 0.1.3 takes for a key that the "model" section of a configuration leaves out."""

_OF_NO_MATTER = ("name", "num_targets", "use_pbc", "compute_forces", "compute_stress", "dtype", "device")
"""Keys that say nothing of the energy."""
_ONLY = {
    "readout": ("sum", "is no sum over atoms"),
    "use_sigmoid": (False, "is squeezed between 0 and 1"),
    "output_dim": (1, "is one of several numbers"),
}


def arguments_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters of a network, every one of them named.

    Parameters
    ----------
    section : mapping
        The "model" section of a configuration of AlphaNet's.

    Returns
    -------
    dict
        JSON.

    Raises
    ------
    InputError
        A key or a value that AlphaNet does not have, or an energy that is not one of a crystal.
    """
    for key in section:
        if key not in DEFAULTS and key not in _OF_NO_MATTER:
            near = difflib.get_close_matches(key, DEFAULTS, n=1)
            raise InputError(
                f'AlphaNet has no key {key!r} in "model" (msc-alphanet 0.1.3)'
                + (f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(DEFAULTS)}")
            )
    found = {key: section.get(key, value) for key, value in DEFAULTS.items() if key not in _OF_NO_MATTER}
    for key, value in found.items():
        if not _alike(value, DEFAULTS[key]):
            raise InputError(f'"model": {key} is {value!r}, but AlphaNet wants one like {DEFAULTS[key]!r}')
        found[key] = type(DEFAULTS[key])(value)
    for key, (only, what) in _ONLY.items():
        if found[key] != only:
            raise InputError(
                f'with "{key}": {found[key]!r} the output of this AlphaNet {what}, not the energy of a '
                f"crystal; a base must have {key} = {only!r}"
            )
    return found


def build_alphanet(arguments: Mapping[str, Any]) -> nn.Module:
    """A float64 network with arbitrary weights, which changes no global setting.

    Dropout is left out: with it, energies of a training would be random.

    Parameters
    ----------
    arguments : mapping
        See `arguments_of`.

    Returns
    -------
    torch.nn.Module
        On the CPU.

    Raises
    ------
    InputError
        msc-alphanet is missing, or its version does not know this network.
    """
    library = import_alphanet()
    fixed = {"dtype": "64", "compute_forces": False, "compute_stress": False, "has_dropout_flag": False}
    shape = SimpleNamespace(**{**DEFAULTS, **arguments, **fixed})
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            network: nn.Module = library.AlphaNet(shape, device=torch.device("cpu")).double()
    except (AttributeError, TypeError, RuntimeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"the installed msc-alphanet cannot build this network ({error}); look at its configuration, or "
            f"type: {INSTALL}"
        ) from error
    finally:
        torch.set_default_dtype(before)
    for module in network.modules():
        if type(module) is nn.LayerNorm:
            module.__class__ = _LayerNorm
    return network


class _LayerNorm(nn.LayerNorm):
    """The same numbers from plain operations.

    Torch's own `layer_norm` (2.13) has a wrong third derivative, and so gradients of Hessians by the
    weights (findings/torch_layer_norm_third_derivative.sh).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Over the last dimension."""
        centred = input - input.mean(dim=-1, keepdim=True)
        scaled = centred / torch.sqrt((centred * centred).mean(dim=-1, keepdim=True) + self.eps)
        if self.weight is not None:
            scaled = scaled * self.weight
        return scaled if self.bias is None else scaled + self.bias


def _alike(value: Any, default: Any) -> bool:
    """Whether a value is of the default's kind; a whole number may stand for a number."""
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)

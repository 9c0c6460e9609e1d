"""The Hi-MLIP network by compiled passes: the numbers of plain torch, at less than half its time, on a CPU.

numba compiles the passes when they are first called (about half a minute) and keeps them on disk.  Where
numba is not installed, or ``HIMLIP_FUSED=0`` stands in the environment, plain torch does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard
from weakref import WeakKeyDictionary

from himlip_ase.potential.compilation import compiled_here

if TYPE_CHECKING:
    from torch import Tensor, nn

    from himlip_ase.potential.fused.forces import FusedForces
    from himlip_ase.potential.interface import Potential
    from himlip_ase.potential.network import HiMLIP

_made: WeakKeyDictionary[Potential, tuple[tuple, FusedForces]] = WeakKeyDictionary()


def fused_forces(model: Potential) -> FusedForces | None:
    """The compiled passes for a model as it is now, or None where plain torch must serve.

    Parameters
    ----------
    model : Potential

    Returns
    -------
    FusedForces or None
        None without numba, off the CPU, for another architecture, or where weights are being trained.
    """
    tensors = tensors_of(model)
    if not _compiled_for(model, tensors[0]) or any(tensor.requires_grad for tensor in tensors):
        return None
    version = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
    known = _made.get(model)
    if known is None or known[0] != version:
        from himlip_ase.potential.fused.forces import FusedForces

        known = (version, FusedForces(model))
        _made[model] = known
    return known[1]


def fused_learning(model: Potential) -> TypeGuard[HiMLIP]:
    """Whether compiled passes give derivatives by the weights (`himlip_ase.potential.fused.learning`).

    Parameters
    ----------
    model : Potential

    Returns
    -------
    bool
        False without numba, off the CPU, and for another architecture.
    """
    return _compiled_for(model, next(model.parameters()))


def _compiled_for(model: Potential, tensor: Tensor) -> TypeGuard[HiMLIP]:
    if not compiled_here():
        return False
    from himlip_ase.potential.network import HiMLIP

    return isinstance(model, HiMLIP) and tensor.device.type == "cpu"


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers as they are now; many times faster than asking torch for them.

    Parameters
    ----------
    model : Module

    Returns
    -------
    list of Tensor
    """
    found: list[Tensor | None] = []
    modules = [model]
    for module in modules:
        found += module._parameters.values()
        found += module._buffers.values()
        modules += [below for below in module._modules.values() if below is not None]
    return [tensor for tensor in found if tensor is not None]

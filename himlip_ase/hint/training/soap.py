"""Adam in the eigenbases of the gradients of each matrix (SOAP; Vyas et al., arXiv:2409.11321, algorithm 3).

Losses of derivatives are ill-conditioned: the inputs of a layer are strongly correlated, and Adam, which
scales every weight by itself, is slow along the directions in which they hardly vary. Scaling them in the
common eigenbasis of the gradients is not, at a few matrix products a step
(benchmarks/hint/growing_network.py measures what it gains).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-8


class SOAP(torch.optim.Optimizer):
    """Shampoo's basis, Adam's steps.

    Matrices, and the matrices of a stack (..., m, n), are turned into the eigenbases of the running means of
    G Gᵀ and Gᵀ G; vectors are left to Adam. The first gradient only sets the bases.

    Parameters
    ----------
    parameters : iterable of Tensor
    lr : float
    weight_decay : float
        Decoupled, of matrices only.
    decay : float
        Of the running means of gradients, their squares, and G Gᵀ.
    renewed_every : int
        Steps between two renewals of the bases, each a step of orthogonal iteration.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 3e-3,
        weight_decay: float = 0.0,
        decay: float = 0.95,
        renewed_every: int = 10,
    ) -> None:
        settings = {"lr": lr, "weight_decay": weight_decay, "decay": decay, "renewed_every": renewed_every}
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state, gradient = self.state[parameter], parameter.grad
                if parameter.ndim < 2:
                    change = adam_step(state or started(state, gradient), gradient, group["decay"])
                    parameter.sub_(change, alpha=group["lr"])
                    continue
                stack = gradient.reshape(-1, *gradient.shape[-2:])
                if not state:
                    set_bases(started(state, stack), stack)
                    continue
                change = rotated_step(state, stack, group["decay"], group["renewed_every"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(change.reshape(parameter.shape), alpha=group["lr"])
        return loss


def started(state: dict[str, Any], gradient: Tensor) -> dict[str, Any]:
    """The state before the first step.

    Parameters
    ----------
    state : dict
        Filled in place.
    gradient : Tensor

    Returns
    -------
    dict
        `state`.
    """
    state["step"] = torch.zeros(())
    state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    return state


def set_bases(state: dict[str, Any], gradient: Tensor) -> None:
    """Covariances of rows and columns after the first gradient, and their eigenvectors, largest first.

    Parameters
    ----------
    state : dict
        Filled in place.
    gradient : Tensor (..., m, n)
    """
    for side, covariance in (("left", gradient @ gradient.mT), ("right", gradient.mT @ gradient)):
        state[side] = covariance
        state[f"{side}_basis"] = torch.linalg.eigh(covariance)[1].flip(-1).contiguous()


def adam_step(state: dict[str, Any], gradient: Tensor, decay: float, mean: Tensor | None = None) -> Tensor:
    """The change per unit of learning rate; `mean` where the running mean is kept in another basis.

    Parameters
    ----------
    state : dict
        Changed in place.
    gradient : Tensor
    decay : float
        Of the running means.
    mean : Tensor, optional

    Returns
    -------
    Tensor
        Shaped like `gradient`.
    """
    state["step"] += 1
    if mean is None:
        mean = state["mean"].lerp_(gradient, 1 - decay)
    state["square"].mul_(decay).addcmul_(gradient, gradient, value=1 - decay)
    settled = 1 - decay ** float(state["step"])
    return (mean / settled) / ((state["square"] / settled).sqrt() + EPSILON)


def rotated_step(state: dict[str, Any], gradient: Tensor, decay: float, renewed_every: int) -> Tensor:
    """The same in the eigenbases, which follow the gradients.

    Parameters
    ----------
    state : dict
        Changed in place.
    gradient : Tensor (..., m, n)
    decay : float
        Of the running means.
    renewed_every : int
        Steps between two renewals of the bases.

    Returns
    -------
    Tensor (..., m, n)
        Change per unit of learning rate.
    """
    left, right = state["left_basis"], state["right_basis"]
    state["mean"].lerp_(gradient, 1 - decay)
    change = adam_step(state, left.mT @ gradient @ right, decay, left.mT @ state["mean"] @ right)
    change = left @ change @ right.mT
    state["left"].lerp_(gradient @ gradient.mT, 1 - decay)
    state["right"].lerp_(gradient.mT @ gradient, 1 - decay)
    if int(state["step"]) % renewed_every == 0:
        for side in ("left", "right"):
            state[f"{side}_basis"] = torch.linalg.qr(state[side] @ state[f"{side}_basis"])[0]
    return change

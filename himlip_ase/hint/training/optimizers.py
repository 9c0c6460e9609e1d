"""Optimisers of a training, one entry each; the class is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from himlip_ase.registry import Registry, imported

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

ARGUMENTS = {"learning_rate": "lr", "weight_decay": "weight_decay"}
"""Training settings that an optimiser may take, and the names that torch has for them."""


@dataclass(frozen=True)
class OptimizerChoice:
    """One optimiser.

    Parameters
    ----------
    name : str
    summary : str
        One line for ``--help`` and the documentation.
    factory : str or callable
        A class like those of torch.optim, as ``module:class`` or itself.
    settings : tuple of str
        Training settings that reach it, of `ARGUMENTS`.
    """

    name: str
    summary: str
    factory: str | Callable[..., Any]
    settings: tuple[str, ...] = ("learning_rate", "weight_decay")

    def build(self, parameters: Iterable[Tensor], settings: Any) -> Optimizer:
        """The optimiser of some parameters.

        Parameters
        ----------
        parameters : iterable of Tensor
        settings : TrainingSettings

        Returns
        -------
        torch.optim.Optimizer
        """
        factory: Any = imported(self.factory) if isinstance(self.factory, str) else self.factory
        arguments = {ARGUMENTS[name]: getattr(settings, name) for name in self.settings}
        optimizer: Optimizer = factory(parameters, **arguments)
        return optimizer


OPTIMIZERS: Registry[OptimizerChoice] = Registry(
    "optimizer",
    OptimizerChoice("adam", "Adam", "torch.optim:Adam"),
    OptimizerChoice("adamw", "Adam with decoupled weight decay", "torch.optim:AdamW"),
    OptimizerChoice(
        "soap",
        "Adam's steps in the eigenbases of the gradients, arXiv:2409.11321; for hundreds of frames",
        "himlip_ase.hint.training.soap:SOAP",
    ),
)
"""What ``optimizer`` may be."""

"""Training on several processes or GPUs, started by ``torchrun``: the same loss curve as on one.

Every process holds the whole model and draws the same batch; each works on its share, and the gradients are
summed. Shares are weighted so that the sum is the gradient of the undivided batch, to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes
    ----------
    rank, count : int
        Which one this is, and how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def of_environment(cls) -> Processes:
        """Those that ``torchrun`` started (variables RANK and WORLD_SIZE), joined; else this one alone."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(dist.get_rank(), count)

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Part of this process of `items`."""
        return items[self.rank :: self.count]

    def sum(self, *numbers: float, device: torch.device | str = "cpu") -> list[float]:
        """Sums of numbers over the processes."""
        if self.count == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(values)
        return values.tolist()

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every parameter's gradient by its sum over the processes."""
        if self.count == 1:
            return
        tensors = list(parameters)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in tensors]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        for parameter, part in zip(tensors, flat.split([p.numel() for p in tensors]), strict=True):
            parameter.grad = part.reshape(parameter.shape)

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()

"""How much memory there is, what a recorded derivative takes of it, and when it ran out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

_CGROUP = Path("/sys/fs/cgroup")
DEFAULT_SHARE = 0.5
"""Part of the free memory that is used where no limit is given."""


def available_bytes(device: torch.device) -> int:
    """Free memory of a device: of the graphics card, or of this machine within its container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])]
    with contextlib.suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        found.append(limit - int((_CGROUP / "memory.current").read_text(encoding="ascii")))
    return max(min(found), 0) if found else 4 * 1024**3


def budget_bytes(memory_gb: float | None, device: torch.device) -> int:
    """The limit that was asked for, or `DEFAULT_SHARE` of what is free.

    Parameters
    ----------
    memory_gb : float or None
        GiB that were asked for.
    device : torch.device

    Returns
    -------
    int
        Bytes.
    """
    return int(memory_gb * 1024**3) if memory_gb else int(DEFAULT_SHARE * available_bytes(device))


class SavedBytes:
    """Bytes of the distinct tensors that are kept for later derivatives."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}

    @property
    def total(self) -> int:
        """Bytes seen so far."""
        return sum(self._storages.values())

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Count what is saved within."""

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            self._storages[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # a result that its own node keeps as it is would never be freed

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "memory" in str(error).lower()
    )

"""CPU time and peak memory of a call."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cpu_seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """CPU time of a call, the least of some repetitions after a warm-up."""
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def peak_megabytes(call: Callable[[], Any]) -> float:
    """Growth of this process's resident memory at the highest point of a call, MB (Linux).

    What earlier calls have freed is given back to the system first.
    """
    call()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    call()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

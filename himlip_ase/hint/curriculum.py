"""How the weight of the Hessian grows while training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from himlip_ase.errors import InputError


@dataclass(frozen=True)
class Curriculum:
    """Factor on the Hessian's loss weight as a function of the progress of training.

    Parameters
    ----------
    kind : {"linear", "constant"}
        ``linear`` is eq. 3 of the paper: from `start` to `end` linearly, so that the potential first settles
        the energy surface and then its curvature. ``constant`` is `end` throughout.
    start, end : float
        Factors at the beginning and from `until` on.
    until : float
        Progress, 0…1, at which the growth is complete.
    """

    kind: Literal["linear", "constant"] = "linear"
    start: float = 0.05
    end: float = 1.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "constant"):
            raise InputError(f"unknown curriculum {self.kind!r}; allowed: linear, constant")
        if self.start < 0 or self.end < 0 or not 0 < self.until <= 1:
            raise InputError(
                f"curriculum start {self.start}, end {self.end}, until {self.until}; "
                "factors must not be negative and until lies in (0, 1]"
            )

    def factor(self, progress: float) -> float:
        """Factor at `progress` (0 at the first step, 1 at the last)."""
        if self.kind == "constant":
            return self.end
        return self.start + (self.end - self.start) * min(max(progress / self.until, 0.0), 1.0)

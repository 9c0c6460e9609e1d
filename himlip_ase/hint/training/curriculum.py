"""How the weight of the Hessian grows while training goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from himlip_ase.errors import InputError

CurriculumKind = Literal["linear", "constant", "cosine", "geometric", "step"]


@dataclass(frozen=True)
class Curriculum:
    """Factor on the Hessian's loss weight as a function of the progress of training.

    Parameters
    ----------
    kind : {"linear", "constant", "cosine", "geometric", "step"}
        ``linear`` is eq. 3 of the paper: from `start` to `end` linearly, so that the potential first settles
        the energy surface and then its curvature. ``constant`` is `end` throughout; ``cosine`` goes smoothly,
        ``geometric`` by equal factors (`start` must be positive), ``step`` at once, at `until`.
    start, end : float
        Factors at the beginning and from `until` on.
    until : float
        Progress, 0…1, at which the growth is complete.
    """

    kind: CurriculumKind = "linear"
    start: float = 0.05
    end: float = 1.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(CurriculumKind):
            allowed = ", ".join(get_args(CurriculumKind))
            raise InputError(f"unknown curriculum {self.kind!r}; allowed: {allowed}")
        if self.kind == "geometric" and not (self.start > 0 and self.end > 0):
            raise InputError(
                f"a geometric curriculum goes from {self.start} to {self.end} by equal factors; "
                "both must be positive"
            )
        if self.start < 0 or self.end < 0 or not 0 < self.until <= 1:
            raise InputError(
                f"curriculum start {self.start}, end {self.end}, until {self.until}; "
                "factors must not be negative and until lies in (0, 1]"
            )

    def factor(self, progress: float) -> float:
        """Factor at `progress` (0 at the first step, 1 at the last)."""
        if self.kind == "constant":
            return self.end
        done = min(max(progress / self.until, 0.0), 1.0)
        if self.kind == "geometric":
            return float(self.start * (self.end / self.start) ** done)
        if self.kind == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        elif self.kind == "step":
            done = float(done == 1.0)
        return self.start + (self.end - self.start) * done

"""Kinds of vectors that a Hessian is projected on, one entry each; each is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from himlip_ase.registry import Registry, imported

if TYPE_CHECKING:
    import torch

    Draw = Callable[[int, int, torch.Generator | None, torch.dtype], torch.Tensor]


@dataclass(frozen=True)
class ProbeChoice:
    """One kind of probe.

    Parameters
    ----------
    name : str
    summary : str
        One line for ``--help`` and the documentation.
    factory : str or callable
        ``(number, size, generator, dtype)`` → vectors (number, size), as ``module:function`` or itself.
    settings : tuple of str
        Training settings that it takes.
    every : bool
        All columns, whatever `number`.
    fixed : bool
        The same vectors whenever they are drawn.
    """

    name: str
    summary: str
    factory: str | Draw
    settings: tuple[str, ...] = ("probes",)
    every: bool = False
    fixed: bool = False

    def draw(self) -> Draw:
        """The function that draws."""
        if not isinstance(self.factory, str):
            return self.factory
        function: Draw = imported(self.factory)
        return function


_HERE = "himlip_ase.hint.training.projections"
PROBES: Registry[ProbeChoice] = Registry(
    "probe",
    ProbeChoice("rademacher", "independent signs", f"{_HERE}:rademacher"),
    ProbeChoice("gaussian", "Gaussian directions of unit norm", f"{_HERE}:gaussian"),
    ProbeChoice("one-hot", "columns of the Hessian", f"{_HERE}:one_hot"),
    ProbeChoice("fixed", "signs that never change", f"{_HERE}:fixed", fixed=True),
    ProbeChoice("full", "all 3N columns", f"{_HERE}:full", settings=(), every=True),
)
"""What ``probe`` may be."""

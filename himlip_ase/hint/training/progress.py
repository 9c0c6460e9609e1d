"""Where a training run stands, on which device, and with which weights."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from himlip_ase.errors import CalculationError, InputError

LEAST_IMPROVEMENT = 1e-3
"""Relative fall of the validation score that counts as one, for patience and plateaus."""


class TrainingDiverged(CalculationError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


@dataclass
class Progress:
    """Where a training run stands; everything that a checkpoint needs besides tensors."""

    epoch: int = 0
    step: int = 0
    elapsed: float = 0.0
    best_score: float = math.inf
    best_epoch: int = -1
    stale: int = 0
    plateau_factor: float = 1.0
    plateau_stale: int = 0
    marks: int = 0
    finished: str = ""
    history: list[dict[str, float]] = field(default_factory=list)

    def judge(self, watched: float, plateau_patience: int) -> bool:
        """Count a validation, and how many have passed since the last improvement.

        Parameters
        ----------
        watched : float
            Loss by which epochs are judged.
        plateau_patience : int
            Validations without an improvement after which `plateau_factor` is halved.

        Returns
        -------
        bool
            Whether no epoch before had a smaller one.
        """
        improved = watched < self.best_score * (1 - LEAST_IMPROVEMENT)
        best = watched < self.best_score
        if best:
            self.best_score, self.best_epoch = watched, self.epoch
        if improved:
            self.stale = self.plateau_stale = 0
        else:
            self.stale += 1
            self.plateau_stale += 1
            if self.plateau_stale > plateau_patience:
                self.plateau_factor, self.plateau_stale = self.plateau_factor / 2, 0
        return best


@dataclass(frozen=True)
class PolishStanding:
    """Where the refinement after the last epoch stands.

    Attributes
    ----------
    round, rounds : int
        The one that is on, from 1, of so many.
    iteration, iterations : int
        Of this round.
    seconds_left : float
        Until the end of the last round, at the pace so far.
    losses : dict
        {name: unweighted loss} of the last pass over all labels.
    """

    round: int
    rounds: int
    iteration: int
    iterations: int
    seconds_left: float
    losses: dict[str, float]


@runtime_checkable
class PolishListener(Protocol):
    """An `on_epoch` that has this method too is told of every pass of the refinement, which takes long."""

    def polishing(self, standing: PolishStanding) -> None:
        """The refinement is as far as this."""


def choose_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one."""
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:1") from error


class SwappedWeights:
    """Context in which a model has other weights.

    Parameters
    ----------
    parameters : dict
        {name: parameter} of the model.
    values : dict
        {name: tensor}, its weights within the context.
    """

    def __init__(self, parameters: dict[str, Any], values: dict[str, Tensor]) -> None:
        self.parameters, self.values = parameters, values

    @torch.no_grad()
    def __enter__(self) -> None:
        self.kept = {k: p.detach().clone() for k, p in self.parameters.items()}
        for key, parameter in self.parameters.items():
            parameter.copy_(self.values[key])

    @torch.no_grad()
    def __exit__(self, *exc: object) -> None:
        for key, parameter in self.parameters.items():
            parameter.copy_(self.kept[key])

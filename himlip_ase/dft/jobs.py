"""Work of an engine: a single point, what it gives, and what is still to be done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


class Result(Protocol):
    """Results of one single point."""

    @property
    def energy(self) -> float:
        """eV per cell; of a metal the free energy E − TS, to which the forces belong."""

    @property
    def forces(self) -> np.ndarray | None:
        """(N, 3) eV/Å, constraints not applied."""

    @property
    def stress(self) -> np.ndarray | None:
        """(6,) eV/Å³, ASE's Voigt order, positive in tension."""

    @property
    def core_seconds(self) -> float:
        """CPU seconds."""


class Job(Protocol):
    """One single point: a folder and what is to be calculated there. It can be sent to another process."""

    @property
    def folder(self) -> Path:
        """Where its files are."""

    def started(self) -> bool:
        """Whether the folder has been asked for this before.

        Raises
        ------
        InputError
            It has been asked for something else.
        """

    def finished(self) -> Result | None:
        """Results that are there already and can be trusted."""

    def run(self) -> Result:
        """Calculate, unless it is finished.

        Raises
        ------
        CalculationError
            It failed; the message tells why.
        """


@dataclass(frozen=True)
class Task:
    """Jobs of one kind that a run will need, and what they are likely to cost.

    Attributes
    ----------
    name : str
    jobs : int
    atoms : int
        In a cell.
    k_points : int, optional
        Irreducible k-points of one job; None where the engine does not say.
    q_points : int, optional
        Irreducible q-points of a response calculation.
    core_hours : float, optional
        Of all jobs together; None where nothing is known. See the engine for how far it can be trusted.
    memory_mb, disk_mb : float, optional
        Memory of one process; scratch files of one job.
    """

    name: str
    jobs: int
    atoms: int
    k_points: int | None = None
    q_points: int | None = None
    core_hours: float | None = None
    memory_mb: float | None = None
    disk_mb: float | None = None

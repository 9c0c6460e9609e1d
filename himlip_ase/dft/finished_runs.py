"""What engines have finished: single points as they are published, and relaxed crystals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class FinishedRun:
    """A finished single point, as it is published.

    Attributes
    ----------
    name : str
        Name of its folder.
    folder : Path
    atoms : Atoms
        Structure with its masses.
    energy, forces, stress
        As `himlip_ase.dft.jobs.Result`.
    core_seconds : float
    code : str
        Program and version: "pw.x 6.7MaX".
    settings : mapping
        What has to agree between the labels of one set.
    info : mapping
        Entries of `Atoms.info` of the label.
    record : mapping
        Row of the set's provenance.
    notes : mapping
        What its runner noted: retries, origin.
    source : object
        The engine's own record of the run.
    """

    name: str
    folder: Path
    atoms: Atoms
    energy: float
    forces: np.ndarray | None
    stress: np.ndarray | None
    core_seconds: float
    code: str
    settings: Mapping[str, Any]
    info: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    source: Any = None


@dataclass(frozen=True)
class RelaxResult:
    """A relaxed crystal.

    Attributes
    ----------
    atoms : Atoms
    pressure_gpa : float
        Static pressure of a separate run on `atoms`, positive in compression.
    stress_spread_gpa : float
        Largest deviation of a stress component from −pressure times the unit matrix.
    max_force : float
        Largest force on an atom, eV/Å.
    energy : float
        eV per cell.
    runs : int
        Runs of the engine, reused ones included.
    core_seconds : float
    crystal : Path
        The file crystal.extxyz.
    """

    atoms: Atoms
    pressure_gpa: float
    stress_spread_gpa: float
    max_force: float
    energy: float
    runs: int
    core_seconds: float
    crystal: Path

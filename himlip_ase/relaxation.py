"""Relaxation of atoms, and of the cell to a pressure, with any ASE calculator."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.units import GPA_EV_PER_ANGSTROM3

logger = logging.getLogger(__name__)

FORCE_WARNING = 1e-3
"""Largest force (eV/Å) above which a structure counts as not relaxed: its frequencies depend on it."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A relaxed structure.

    Attributes
    ----------
    atoms : Atoms
        Without calculator.
    energy : float
        eV.
    forces : ndarray (N, 3)
        eV/Å.
    stress : ndarray (6,) or None
        eV/Å³, ASE Voigt order; None without a volume.
    steps : int
    largest_force : float
        eV/Å, of a free atom.
    pressure_gpa : float or None
        Minus a third of the trace of the stress.
    """

    atoms: Atoms
    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    steps: int
    largest_force: float
    pressure_gpa: float | None


def relax(
    atoms: Atoms,
    calc: Any,
    pressure_gpa: float | None = None,
    fmax: float = 1e-4,
    steps: int = 500,
    keep_symmetry: bool = False,
    symprec: float = 0.01,
    constant_volume: bool = False,
) -> Relaxation:
    """Relax the atoms, and the cell too if a pressure is given.

    Parameters
    ----------
    atoms : Atoms
        Not changed; its constraints are honoured.
    calc : ase calculator
    pressure_gpa : float, optional
        Target pressure in GPa; by default the cell stays as it is.
    fmax : float
        Largest force on an atom in eV/Å, and with a pressure also the largest generalised force on the cell.
    steps : int
        Most steps to take.
    keep_symmetry : bool
        Impose the space group of the start.
    symprec : float
        Of the search for that space group, Å.
    constant_volume : bool
        Relax the shape of the cell at its volume.

    Returns
    -------
    Relaxation

    Raises
    ------
    InputError
        A pressure for a structure without a volume, or a setting out of range.
    NotConvergedError
        The forces did not get below `fmax` in `steps`.
    """
    if fmax <= 0 or steps < 0:
        raise InputError(f"fmax must be positive and steps not negative, got {fmax} and {steps}")
    if pressure_gpa is not None and constant_volume:
        raise InputError("a pressure changes the volume; give pressure_gpa or constant_volume, not both")
    if (pressure_gpa is not None or constant_volume) and not atoms.pbc.all():
        raise InputError(
            f"relaxing a cell needs a crystal, but pbc is {atoms.pbc.tolist()}; leave the pressure out"
        )
    subject = atoms.copy()
    if keep_symmetry:
        subject.set_constraint([*subject.constraints, FixSymmetry(subject, symprec)])
    subject.calc = calc
    target: Any = subject
    if pressure_gpa is not None:
        target = FrechetCellFilter(subject, scalar_pressure=pressure_gpa * GPA_EV_PER_ANGSTROM3)
    if constant_volume:
        target = FrechetCellFilter(subject, constant_volume=True)
    optimizer = BFGS(target, logfile=None, maxstep=0.1)
    converged = bool(optimizer.run(fmax=fmax, steps=steps))
    largest = float(np.linalg.norm(target.get_forces(), axis=1).max())
    if not converged:
        raise NotConvergedError(
            f"after {optimizer.nsteps} steps the largest force is {largest:.2e} eV/Å, not below {fmax:g}; "
            "allow more steps, or look whether the model knows such structures"
        )
    stress = subject.get_stress() if subject.pbc.all() else None
    result = subject.copy()
    if keep_symmetry:
        result.set_constraint(atoms.constraints)
    pressure = None if stress is None else float(-stress[:3].mean() / GPA_EV_PER_ANGSTROM3)
    logger.info("relaxed in %d steps, largest force %.2e eV/Å", optimizer.nsteps, largest)
    return Relaxation(
        result,
        float(subject.get_potential_energy()),
        subject.get_forces(apply_constraint=False),
        stress,
        int(optimizer.nsteps),
        float(np.linalg.norm(subject.get_forces(), axis=1).max()),
        pressure,
    )


def largest_force(atoms: Atoms, calculator: Any, indices: Sequence[int] | None = None) -> float:
    """Length of the largest force on an atom.

    Parameters
    ----------
    atoms : Atoms
        Constraints are ignored.
    calculator : ase calculator
    indices : sequence of int, optional
        Atoms that count; all by default.

    Returns
    -------
    float
        eV/Å.

    Raises
    ------
    CalculationError
        The calculator returned a force that is not finite.
    """
    copy = atoms.copy()
    copy.calc = calculator
    forces = copy.get_forces(apply_constraint=False)
    if not np.isfinite(forces).all():
        raise CalculationError("the calculator returned forces that are not finite")
    counted = forces if indices is None else forces[list(indices)]
    return float(np.linalg.norm(counted, axis=1).max(initial=0.0))

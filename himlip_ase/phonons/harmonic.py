"""Force constants of a crystal from a calculator."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.lattice import build_supercell, check_dims, check_primitive

logger = logging.getLogger(__name__)

FORCE_WARNING = 1e-3
"""Largest force (eV/Å) above which a crystal counts as not relaxed."""


def harmonic_force_constants(
    primitive: Atoms,
    calculator: Any,
    dims: Sequence[int],
    symmetrize: bool = True,
    displacement: float = 0.01,
) -> ForceConstants:
    """Harmonic force constants of a crystal.

    Parameters
    ----------
    primitive : Atoms
        Should be relaxed; a force above 1e-3 eV/Å is logged as a warning, because frequencies then depend
        on it.
    calculator : ASE calculator
        With ``get_hessian(atoms)`` → (N, 3, N, 3) eV/Å² (as `HiMLIPCalculator` and MACE have it) it is called
        once; otherwise central differences of forces are taken with phonopy's displacements.
    dims : three integers
        Diagonal supercell.
    symmetrize : bool
        Project onto the space group and the sum rules (phonopy with symfc).
    displacement : float
        Å, where differences are taken.

    Raises
    ------
    CalculationError
        The calculator returned a number that is not finite.
    """
    dims = check_dims(dims)
    cell = check_primitive(primitive)
    residual = largest_force(cell, calculator)
    if residual > FORCE_WARNING:
        logger.warning(
            "the largest force is %.3g eV/Å: the crystal is not relaxed; use --relax or `himlip relax`",
            residual,
        )
    if hasattr(calculator, "get_hessian"):
        supercell = build_supercell(cell, dims)
        hessian = np.asarray(calculator.get_hessian(supercell), dtype=float)
        if hessian.ndim == 3:
            hessian = hessian.reshape(len(supercell), 3, len(supercell), 3)
        if not np.isfinite(hessian).all():
            raise CalculationError("the calculator returned a Hessian with numbers that are not finite")
        fc = ForceConstants.from_hessian(cell, dims, hessian)
    else:
        fc = _finite_differences(cell, calculator, dims, displacement)
    return fc.symmetrized() if symmetrize else fc


def read_crystal(path: str | os.PathLike) -> Atoms:
    """Last structure of a file that ASE reads, as a bare primitive cell.

    Raises
    ------
    InputError
        No such file, a format that ASE does not know, or a structure that is no crystal.
    """
    from ase.io import read

    if not Path(path).is_file():
        raise InputError(f"{path} does not exist; give a structure file (extxyz, cif, POSCAR, …)")
    try:
        atoms = read(str(path))
    except Exception as error:
        raise InputError(f"{path} is no structure file that ASE can read: {error}") from error
    assert isinstance(atoms, Atoms)
    return check_primitive(atoms)


def largest_force(atoms: Atoms, calculator: Any) -> float:
    """Length of the largest force on an atom, eV/Å."""
    copy = atoms.copy()
    copy.calc = calculator
    forces = copy.get_forces(apply_constraint=False)
    if not np.isfinite(forces).all():
        raise CalculationError("the calculator returned forces that are not finite")
    return float(np.linalg.norm(forces, axis=1).max())


def relax_positions(atoms: Atoms, calculator: Any, fmax: float = 1e-4, steps: int = 500) -> Atoms:
    """Relax the atoms in their cell, keeping the crystal's symmetry.

    Parameters
    ----------
    atoms : Atoms
    calculator : ASE calculator
    fmax : float
        Largest force at the end, eV/Å.
    steps : int

    Raises
    ------
    NotConvergedError
        The force is still above `fmax` after `steps`.
    """
    from ase.constraints import FixSymmetry
    from ase.optimize import BFGSLineSearch

    relaxed = check_primitive(atoms)
    relaxed.calc = calculator
    if largest_force(relaxed, calculator) > fmax:
        relaxed.set_constraint(FixSymmetry(relaxed))
        BFGSLineSearch(relaxed, logfile=os.devnull).run(fmax=fmax, steps=steps)
        relaxed.set_constraint()
        residual = largest_force(relaxed, calculator)
        if residual > fmax:
            raise NotConvergedError(
                f"after {steps} steps the largest force is still {residual:.3g} eV/Å (wanted {fmax:.3g})"
            )
    return check_primitive(relaxed)


def _finite_differences(
    primitive: Atoms, calculator: Any, dims: tuple[int, int, int], displacement: float
) -> ForceConstants:
    from himlip_ase.phonons.phonopy_io import from_phonopy_atoms, setup_phonopy

    if not displacement > 0:
        raise InputError(f"the displacement must be positive (Å); got {displacement}")
    ph = setup_phonopy(primitive, dims)
    ph.generate_displacements(distance=displacement, is_plusminus=True)
    forces = []
    for displaced in ph.supercells_with_displacements or []:
        atoms = from_phonopy_atoms(displaced)
        atoms.calc = calculator
        forces.append(atoms.get_forces(apply_constraint=False))
    if not np.isfinite(forces).all():
        raise CalculationError("the calculator returned forces that are not finite")
    ph.forces = np.array(forces)
    ph.produce_force_constants(calculate_full_force_constants=False)
    return ForceConstants(primitive, dims, np.asarray(ph.force_constants))

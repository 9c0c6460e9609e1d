"""Force constants of a crystal from a calculator."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.lattice import build_supercell, check_dims, check_primitive
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.relaxation import FORCE_WARNING, largest_force

logger = logging.getLogger(__name__)


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
        One with ``get_force_constants`` (`HiMLIPCalculator`) makes them itself; one with
        ``get_hessian(atoms)`` → (N, 3, N, 3) eV/Å² (as MACE has it) is called once on the supercell;
        otherwise central differences of forces are taken with phonopy's displacements.
    dims : three integers
        Diagonal supercell.
    symmetrize : bool
        Project onto the space group and the sum rules (phonopy with symfc).
    displacement : float
        Å, where differences are taken.

    Returns
    -------
    ForceConstants
        eV/Å²; masses are those of `primitive`.

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
            "the largest force is %.3g eV/Å: the crystal is not relaxed; leave --no-relax out, or type "
            "`himlip relax`",
            residual,
        )
    if hasattr(calculator, "get_force_constants"):
        fc = calculator.get_force_constants(cell, supercell=dims, symmetry=symmetrize)
    elif hasattr(calculator, "get_hessian"):
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


def _finite_differences(
    primitive: Atoms, calculator: Any, dims: tuple[int, int, int], displacement: float
) -> ForceConstants:
    from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, setup_phonopy

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

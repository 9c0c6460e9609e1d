"""Force constants of a crystal from exact Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, physical_units
from himlip_ase.symmetry.irreducible import RowsReport, symmetric_rows
from himlip_ase.symmetry.operations import SYMPREC, supercell_with_operations

if TYPE_CHECKING:
    from phonopy import Phonopy

AtomsProducts = Callable[[Atoms, np.ndarray], np.ndarray]
"""Hessian-vector products of a structure, as `HiMLIPCalculator.hessian_vector_product` makes them."""


def exact_force_constants(
    atoms: Atoms,
    dims: Sequence[int],
    products: AtomsProducts,
    symmetry: bool = True,
    symprec: float = SYMPREC,
) -> tuple[ForceConstants, RowsReport]:
    """Harmonic force constants, and how they were obtained.

    Parameters
    ----------
    atoms : Atoms
        Primitive or any other cell of the crystal.
    dims : three integers
        Diagonal supercell.
    products : callable
        ``calculator.hessian_vector_product``, or any function of a structure and vectors (K, N, 3).
    symmetry : bool
        Use the space group; otherwise every row of the cell is computed.
    symprec : float
        Å; tolerance of the space-group search.

    Returns
    -------
    constants : ForceConstants
    report : RowsReport
        Products taken, sum rule, permutation symmetry, and the error where the crystal is slightly off its
        symmetry.

    Raises
    ------
    InputError
        A structure that is not periodic in three directions.
    CalculationError
        A non-finite product.
    """
    primitive, dims, supercell, operations = supercell_with_operations(atoms, dims, symmetry, symprec)
    blocks, report = symmetric_rows(partial(products, supercell), operations)
    return ForceConstants(primitive, dims, blocks), report


def fill_phonopy(phonopy: Phonopy, products: AtomsProducts) -> None:
    """Set the force constants of a `phonopy.Phonopy` object, with whatever cells it was set up.

    Supercells that are not diagonal and a ``primitive_matrix`` (as "auto") are phonopy's own business: the
    products are taken along the displacements that it asks for, in place of its finite differences.

    Parameters
    ----------
    phonopy : phonopy.Phonopy
        In the units of its calculator. Displacements and forces that it holds stay as they are.
    products : callable
        As in `exact_force_constants`.
    """
    units = physical_units(phonopy)
    length = units.distance_to_A
    supercell = from_phonopy_atoms(phonopy.supercell, length)
    # What stands for finite differences here never enters the object: products are linear in displacements,
    # whose length is of no account, and would be taken for calculated forces.
    scratch = phonopy.replicate()
    scratch.generate_displacements(distance=1.0, is_plusminus=False)
    displaced = scratch.displacements  # (index, x, y, z) of each
    vectors = np.zeros((len(displaced), len(supercell), 3))
    for row, (index, *displacement) in enumerate(displaced):
        vectors[row, int(index)] = displacement
    scratch.forces = -products(supercell, vectors * length) / units.force_to_eVperA
    scratch.produce_force_constants(calculate_full_force_constants=False)
    phonopy.force_constants = scratch.force_constants

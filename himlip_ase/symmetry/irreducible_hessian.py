"""Hessian of a molecule or crystal from its symmetry-irreducible rows."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from himlip_ase.symmetry.irreducible import Products, RowsReport, symmetric_rows
from himlip_ase.symmetry.operations import SYMPREC, Operations, crystal_operations
from himlip_ase.symmetry.point_groups import point_group_operations


def structure_operations(atoms: Atoms, symprec: float = SYMPREC) -> Operations:
    """Space group of a crystal, point group of a molecule, the identity for slabs and wires.

    Parameters
    ----------
    atoms : Atoms
    symprec : float
        Å.

    Returns
    -------
    Operations
    """
    if atoms.pbc.all():
        return crystal_operations(atoms, (1, 1, 1), symprec)
    return point_group_operations(atoms, symprec)


def symmetric_hessian(
    atoms: Atoms, products: Products, symprec: float = SYMPREC
) -> tuple[np.ndarray, RowsReport]:
    """Second derivatives of the energy, from as few Hessian-vector products as the symmetry allows.

    Parameters
    ----------
    atoms : Atoms
    products : callable
        Hessian-vector products of `atoms`, (K, N, 3) → (K, N, 3).
    symprec : float
        Å; tolerance of the search for symmetry. Atoms off their symmetric sites cost one product more, and
        all rows where that matters (see `himlip_ase.symmetry.irreducible.symmetric_rows`).

    Returns
    -------
    hessian : ndarray (N, 3, N, 3)
        eV/Å², indices (atom, direction, atom, direction).
    report : RowsReport
    """
    blocks, report = symmetric_rows(products, structure_operations(atoms, symprec))
    return blocks.transpose(0, 2, 1, 3), report

"""Directions in which the atoms may move: within the constraints, without rigid motions."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane

from himlip_ase.errors import InputError
from himlip_ase.vibrations.rigid_motions import rigid_motions

LINEAR_CONSTRAINTS = (FixAtoms, FixCartesian, FixedPlane, FixedLine)
"""Constraints under which the allowed displacements are a linear space that does not depend on where the
atoms are."""


class FreeDirections:
    """Orthonormal bases of the displacements that a search may use.

    Parameters
    ----------
    atoms : Atoms
        Its constraints count. Without constraints, translations and (without periodic directions) rotations
        are left out; with some, those rigid motions that the constraints allow.
    mass_weighted : bool
        Whether displacements are times √mass, √amu Å.

    Raises
    ------
    InputError
        A constraint that is not one of `LINEAR_CONSTRAINTS`, or no freedom left.
    """

    def __init__(self, atoms: Atoms, mass_weighted: bool = False) -> None:
        for constraint in atoms.constraints:
            if not isinstance(constraint, LINEAR_CONSTRAINTS):
                raise InputError(
                    f"the constraint {type(constraint).__name__} is not known to reaction searches; they "
                    f"take {', '.join(kind.__name__ for kind in LINEAR_CONSTRAINTS)}. Remove it, or use one "
                    "of these"
                )
        self._atoms = atoms.copy()
        if not mass_weighted:
            self._atoms.set_masses(np.ones(len(atoms)))
        self._allowed = allowed_displacements(atoms)
        if not self._allowed.shape[1]:
            raise InputError("the constraints hold every atom; free those that react")

    def basis(self, positions: np.ndarray) -> np.ndarray:
        """Orthonormal columns (3N, f) at flat positions in Å."""
        self._atoms.set_positions(np.reshape(positions, (-1, 3)), apply_constraint=False)
        rigid = rigid_motions(self._atoms)
        inside, sizes, _ = np.linalg.svd(self._allowed.T @ rigid, full_matrices=True)
        kept = np.ones(inside.shape[1], dtype=bool)
        kept[: len(sizes)] = sizes < 1 - 1e-6  # a rigid motion that the constraints allow has size 1
        return self._allowed @ inside[:, kept]


def allowed_displacements(atoms: Atoms) -> np.ndarray:
    """Orthonormal columns (3N, m) that span the displacements within the constraints."""
    size = 3 * len(atoms)
    refused = []
    bare = atoms.copy()
    for constraint in atoms.constraints:
        projector = np.empty((size, size))
        for column, unit in enumerate(np.eye(size)):
            field = unit.reshape(-1, 3).copy()
            constraint.adjust_forces(bare, field)
            projector[:, column] = field.ravel()
        refused.append(np.eye(size) - projector)
    if not refused:
        return np.eye(size)
    left, sizes, _ = np.linalg.svd(np.hstack(refused), full_matrices=True)
    rank = int((sizes > 1e-9).sum())
    return left[:, rank:]


def held_atoms(atoms: Atoms) -> np.ndarray:
    """Indices of the atoms that constraints keep from moving in any direction."""
    free = np.abs(allowed_displacements(atoms)).reshape(len(atoms), -1).max(axis=1, initial=0)
    return np.flatnonzero(free < 1e-9)

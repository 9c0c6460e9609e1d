"""Translations and rotations of a structure as a whole."""

from __future__ import annotations

import numpy as np
from ase import Atoms


def rigid_motions(atoms: Atoms) -> np.ndarray:
    """Orthonormal mass-weighted rigid motions.

    Parameters
    ----------
    atoms : Atoms
        Periodic directions leave translations only; without any, rotations about the centre of mass are there
        too (two for a linear molecule, none for an atom).

    Returns
    -------
    ndarray (3N, k)
        Displacements times √mass; k = 3, 5 or 6.
    """
    roots = np.sqrt(atoms.get_masses())[:, None]
    axes = np.eye(3)
    fields = [np.broadcast_to(axis, (len(atoms), 3)) for axis in axes]
    if not atoms.pbc.any():
        positions = atoms.positions - atoms.get_center_of_mass()
        fields += [np.cross(axis, positions) for axis in axes]
    columns = np.stack([(field * roots).ravel() for field in fields], axis=1)
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > 1e-4 * sizes[0]]

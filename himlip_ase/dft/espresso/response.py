"""How many k-points the response at each q-point needs, and typical numbers of iterations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import spglib
from ase import Atoms

from himlip_ase.lattice import commensurate_qpoints, grid_triplets
from himlip_ase.symmetry.spglib_search import spglib_search

SCF_STEPS, RESPONSE_STEPS = 9, 10
"""Typical numbers: scf steps of a run, iterations of a perturbation in ph.x."""


def response_k_points(
    atoms: Atoms, k_grid: Sequence[int], q_grid: Sequence[int], qpoints: np.ndarray | None = None
) -> list[int]:
    """k-points that ph.x needs at each irreducible q: those of the little group of q, with time reversal.

    Parameters
    ----------
    atoms : Atoms
        Primitive cell.
    k_grid, q_grid : three ints
        Γ-centred.
    qpoints : ndarray (n, 3), optional
        The irreducible q-points in units of the reciprocal vectors, in the order wanted.

    Returns
    -------
    list of int
        One number for each irreducible q-point; k and k + q both count.
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    symmetry = spglib_search(spglib.get_symmetry, cell, symprec=1e-3)
    rotations = [np.eye(3)] if symmetry is None else list(symmetry["rotations"])
    turned = [np.rint(np.linalg.inv(np.asarray(r, dtype=float)).T).astype(int) for r in rotations]
    # time reversal: k and −k are alike
    reciprocal = list({(sign * r).tobytes(): sign * r for r in turned for sign in (1, -1)}.values())
    counts = []
    for point in irreducible_qpoints(q_grid, reciprocal) if qpoints is None else qpoints:
        little = [r for r in reciprocal if _equivalent(r @ point, point)]
        irreducible = irreducible_count(k_grid, little)
        counts.append(irreducible if np.abs(point - np.rint(point)).max() < 1e-6 else 2 * irreducible)
    return counts


def irreducible_qpoints(grid: Sequence[int], rotations: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One point of each orbit of a Γ-centred grid under integer rotations of the reciprocal basis.

    Parameters
    ----------
    grid : three ints
    rotations : sequence of (3, 3) ndarray of int

    Returns
    -------
    list of ndarray (3,)
    """
    points = commensurate_qpoints(grid)
    chosen, seen = [], np.zeros(len(points), dtype=bool)
    for index, point in enumerate(points):
        if seen[index]:
            continue
        chosen.append(point)
        for rotation in rotations:
            away = points - rotation @ point
            seen |= np.abs(away - np.rint(away)).max(axis=1) < 1e-6
    return chosen


def irreducible_count(grid: Sequence[int], rotations: Sequence[np.ndarray]) -> int:
    """Number of orbits of a Γ-centred grid under integer rotations of the reciprocal basis.

    Parameters
    ----------
    grid : three ints
    rotations : sequence of (3, 3) ndarray of int
        In the reciprocal basis.

    Returns
    -------
    int
    """
    dims = np.asarray(grid)
    triplets = grid_triplets(grid)
    fractions = triplets / dims
    smallest = np.arange(len(triplets))
    for rotation in rotations:
        images = fractions @ rotation.T * dims
        rounded = np.rint(images).astype(int)
        on_grid = np.abs(images - rounded).max(axis=1) < 1e-6
        rounded %= dims
        places = rounded[:, 0] + dims[0] * (rounded[:, 1] + dims[1] * rounded[:, 2])
        smallest = np.where(on_grid, np.minimum(smallest, places), smallest)
    return len(np.unique(smallest))


def _equivalent(first: np.ndarray, second: np.ndarray) -> bool:
    away = first - second
    return bool(np.abs(away - np.rint(away)).max() < 1e-6)

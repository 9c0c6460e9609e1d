"""How many k-points the response at each q-point needs, and typical numbers of iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import spglib
from ase import Atoms

from himlip_ase.lattice import commensurate_qpoints, grid_triplets
from himlip_ase.symmetry.spglib_search import spglib_search

RESPONSE_STEPS = 10
"""Typical number of iterations of a perturbation in ph.x."""


def scf_steps(n_atoms: int, conv_thr_ry: float = 1e-10) -> float:
    """Typical number of scf steps of a run.

    Displaced supercells need more than their primitive cell: of Al, AlH, PdH and H3S 5 to 9 steps with one or
    two atoms, 7 to 10 with four, 8 to 12 with eight, 11 (AlH) and 21 (PdH) with sixteen (recorded runs,
    benchmarks/results/forecasts.md). The threshold counts by its decades: pw.x starts near 0.02 Ry an atom.

    Parameters
    ----------
    n_atoms : int
    conv_thr_ry : float
        Of the whole cell's energy, Ry.

    Returns
    -------
    float
    """
    decades = math.log10(0.02 * n_atoms / conv_thr_ry)
    usual = math.log10(0.02 * n_atoms / 1e-10)
    return 7.0 * n_atoms**0.3 * max(decades / usual, 0.3)


def response_k_points(
    atoms: Atoms,
    k_grid: Sequence[int],
    q_grid: Sequence[int],
    qpoints: np.ndarray | None = None,
    k_shift: bool = False,
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
    k_shift : bool
        Whether the k-grid is shifted by half a step.

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
        irreducible = irreducible_count(k_grid, little, k_shift)
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


def irreducible_count(grid: Sequence[int], rotations: Sequence[np.ndarray], shifted: bool = False) -> int:
    """Number of orbits of a Γ-centred or shifted grid under integer rotations of the reciprocal basis.

    Parameters
    ----------
    grid : three ints
    rotations : sequence of (3, 3) ndarray of int
        In the reciprocal basis. One that leads off the grid identifies no points.
    shifted : bool
        By half a step in each direction.

    Returns
    -------
    int
    """
    dims, start = np.asarray(grid), 0.5 if shifted else 0.0
    triplets = grid_triplets(grid)
    fractions = (triplets + start) / dims
    smallest = np.arange(len(triplets))
    for rotation in rotations:
        images = fractions @ rotation.T * dims - start
        rounded = np.rint(images).astype(int)
        on_grid = np.abs(images - rounded).max(axis=1) < 1e-6
        rounded %= dims
        places = rounded[:, 0] + dims[0] * (rounded[:, 1] + dims[1] * rounded[:, 2])
        smallest = np.where(on_grid, np.minimum(smallest, places), smallest)
    return len(np.unique(smallest))


def _equivalent(first: np.ndarray, second: np.ndarray) -> bool:
    away = first - second
    return bool(np.abs(away - np.rint(away)).max() < 1e-6)

"""Directions of a degenerate distortion that a subgroup of the symmetry singles out.

A distortion lies in a space on which the group acts by orthogonal matrices.  Where the vectors that a
subgroup leaves alone form a line, a branch of stationary points leaves the symmetric one along that line
(equivariant branching lemma: Golubitsky, Stewart and Schaeffer, Singularities and Groups II, ch. XIII).
Those lines, one of each set of equivalent ones, are what is worth following; each sign of a line is a
direction of its own unless an operation exchanges the two.
"""

from __future__ import annotations

import numpy as np

from himlip_ase.symmetry.operations import Operations

SAME = 1e-4
"""Elements of orthogonal matrices and of projectors closer than this are equal."""

MAX_SUBSPACES = 4000
"""Subspaces after which the search for intersections stops."""


def on_basis(operations: Operations, basis: np.ndarray) -> np.ndarray:
    """Orthogonal matrices of all operations, translations included, on an invariant space of displacements.

    Parameters
    ----------
    operations : Operations
        Of a supercell of N atoms.
    basis : ndarray, shape (3N, d)
        Orthonormal columns, coordinates ordered (atom, direction); may be mass-weighted.

    Returns
    -------
    ndarray, shape (m, d, d)
        Each matrix once.
    """
    fields = basis.reshape(operations.n_atoms, 3, -1)
    turned = []
    for rotation, target in zip(operations.rotations, operations.permutations, strict=True):
        moved = np.empty_like(fields)
        moved[target] = np.einsum("ab,nbd->nad", rotation, fields)
        turned.append(moved)
    found: dict[bytes, np.ndarray] = {}
    for moved in turned:
        for target in operations.translations:
            shifted = np.empty_like(moved)
            shifted[target] = moved
            matrix = basis.T @ shifted.reshape(len(basis), -1)
            found.setdefault((np.rint(matrix / SAME) + 0.0).astype(np.int64).tobytes(), matrix)
    return np.array(list(found.values()))


def singled_out_directions(matrices: np.ndarray) -> list[np.ndarray]:
    """Inequivalent directions of a real orthogonal representation that a subgroup leaves alone.

    Parameters
    ----------
    matrices : ndarray, shape (m, d, d)
        A group of orthogonal matrices.

    Returns
    -------
    list of ndarray, shape (d,)
        Unit vectors, the most symmetric (left alone by most operations) first.  Where no subgroup leaves just
        a line, basis vectors of the smallest spaces that one leaves.
    """
    size = matrices.shape[1]
    spaces = {key: p for key, p in (_keyed(_fixed(g)) for g in matrices) if np.trace(p) > 0.5}
    simplest = list(spaces.values())
    front = list(simplest)
    while front and len(spaces) < MAX_SUBSPACES:
        fresh = []
        for first in front:
            for second in simplest:
                key, both = _keyed(_common(first, second))
                if np.trace(both) > 0.5 and key not in spaces:
                    spaces[key] = both
                    fresh.append(both)
        front = fresh
    dimensions = {key: int(np.rint(np.trace(p))) for key, p in spaces.items()}
    smallest = min(dimensions.values())
    chosen: list[np.ndarray] = []
    for key, projector in spaces.items():
        if dimensions[key] > smallest:
            continue
        _, vectors = np.linalg.eigh(projector)
        for vector in vectors[:, size - smallest :].T:
            for sign in (1, -1):
                if not _equivalent(sign * vector, chosen, matrices):
                    chosen.append(_rounded(sign * vector))
    kept = [int((np.abs(matrices @ v - v).max(axis=1) < 10 * SAME).sum()) for v in chosen]
    return [chosen[i] for i in np.argsort(-np.array(kept), kind="stable")]


def _fixed(matrix: np.ndarray) -> np.ndarray:
    """Projector on the vectors that an orthogonal matrix leaves alone."""
    _, singular, rows = np.linalg.svd(matrix - np.eye(len(matrix)))
    kept = rows[singular < 10 * SAME]
    return kept.T @ kept


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Projector on the intersection of two subspaces."""
    values, vectors = np.linalg.eigh((first + second) / 2)
    kept = vectors[:, values > 1 - 10 * SAME]
    return kept @ kept.T


def _keyed(projector: np.ndarray) -> tuple[bytes, np.ndarray]:
    return (np.rint(projector / (10 * SAME)) + 0.0).astype(np.int64).tobytes(), projector


def _equivalent(vector: np.ndarray, known: list[np.ndarray], matrices: np.ndarray) -> bool:
    images = matrices @ vector
    return any((np.abs(images - other).max(axis=1) < 10 * SAME).any() for other in known)


def _rounded(vector: np.ndarray) -> np.ndarray:
    vector = np.where(np.abs(vector) < SAME, 0.0, vector)
    return vector / np.linalg.norm(vector)

"""Lowest eigenpairs of a symmetric operator known by its products, many vectors at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

logger = logging.getLogger(__name__)

AT_ONCE = 2
"""New directions per step: few keep the search as thrifty as Lanczos', which takes one."""

Block = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Lowest eigenpairs.

    Attributes
    ----------
    values : ndarray (n,)
        Ascending.
    vectors : ndarray (size, n)
        Orthonormal columns.
    residuals : ndarray (n,)
        ‖A x − λ x‖: an eigenvalue lies within this distance of each value.
    products : int
        Products taken.
    converged : bool
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    products: int
    converged: bool


def lowest_eigenpairs(
    operator: Block,
    start: np.ndarray,
    n: int,
    tolerance: Callable[[np.ndarray], np.ndarray],
    project: Block,
    max_products: int,
) -> Eigenpairs:
    """Lanczos from a block of vectors, in Davidson's form with thick restarts.

    The search space grows by the residuals of the lowest pairs that are still open (Davidson, J. Comput.
    Phys. 17, 87 (1975), without a preconditioner: springs between neighbours made it slower). A block of
    first vectors, unlike a single one, holds every partner of a degenerate eigenvalue.

    Parameters
    ----------
    operator : callable
        (size, k) → (size, k), symmetric.
    start : ndarray (size, b)
        First vectors, b ≥ n.
    n : int
        Eigenpairs wanted.
    tolerance : callable
        Largest residual allowed for each of some eigenvalues.
    project : callable
        Projection onto the space that is searched.
    max_products : int
        Ends the search, converged or not.

    Returns
    -------
    Eigenpairs
    """
    width = start.shape[1]
    basis = _orthonormal(project(start), np.empty((len(start), 0)))
    images = operator(basis)
    taken = basis.shape[1]
    while True:
        small = basis.T @ images
        values, mixing = np.linalg.eigh((small + small.T) / 2)
        kept = min(len(values), width)
        vectors = basis @ mixing[:, :kept]
        residual = images @ mixing[:, :kept] - vectors * values[:kept]
        norms = np.linalg.norm(residual, axis=0)
        open_ones = np.flatnonzero(norms[:n] > tolerance(values[:n]))
        logger.debug("%d products: %d of %d open, residual %.1e", taken, len(open_ones), n, norms[:n].max())
        exhausted = basis.shape[1] >= len(start)
        if not len(open_ones) or taken >= max_products or exhausted:
            return Eigenpairs(values[:n], vectors[:, :n], norms[:n], taken, not len(open_ones))
        if basis.shape[1] > 12 * width:
            keep = mixing[:, : 4 * width]
            basis, images = basis @ keep, images @ keep
        fresh = _orthonormal(project(residual[:, open_ones[:AT_ONCE]]), basis)
        if not fresh.shape[1]:
            return Eigenpairs(values[:n], vectors[:, :n], norms[:n], taken, False)
        basis = np.hstack([basis, fresh])
        images = np.hstack([images, operator(fresh)])
        taken += fresh.shape[1]


def _orthonormal(vectors: np.ndarray, against: np.ndarray) -> np.ndarray:
    """Orthonormal basis of what vectors add to a space with an orthonormal basis."""
    lengths = np.linalg.norm(vectors, axis=0)
    fresh = vectors[:, lengths > 0] / lengths[lengths > 0]
    for _ in range(3):
        fresh = fresh - against @ (against.T @ fresh)
        left, sizes, _ = np.linalg.svd(fresh, full_matrices=False)
        fresh = left[:, sizes > 1e-8]
    return fresh

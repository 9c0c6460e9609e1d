"""The direction to climb in a large system, from Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from himlip_ase.vibrations.davidson import lowest_eigenpairs

PRODUCTS = 40
"""Most products for one direction; a mode that is climbed needs to be known to a few degrees only."""


def softest_direction(
    products: Callable[[np.ndarray], np.ndarray], basis: np.ndarray, start: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest eigenvector of the Hessian within a space, and its product with the Hessian.

    Parameters
    ----------
    products : callable
        (3N, k) → (3N, k).
    basis : ndarray (3N, f)
        Orthonormal columns.
    start : ndarray (3N,), optional
        Where to begin: the direction climbed before, or the path's tangent.

    Returns
    -------
    vector, image : ndarray (3N,)
        Unit length; eV/Å².
    """

    def project(vectors: np.ndarray) -> np.ndarray:
        return basis @ (basis.T @ vectors)

    def operator(vectors: np.ndarray) -> np.ndarray:
        return project(products(vectors))

    first = np.random.default_rng(0).normal(size=(len(basis), 2))
    if start is not None:
        first[:, 0] = start
    found = lowest_eigenpairs(
        operator, first, 1, lambda values: np.maximum(0.1 * np.abs(values), 0.05), project, PRODUCTS
    )
    vector = found.vectors[:, 0]
    return vector, operator(vector[:, None])[:, 0]

"""Hessians brought up to date by a gradient at another point (quasi-Newton)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Update = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def bofill(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Symmetric rank one mixed with Powell's, for saddle points (Bofill, J. Comput. Chem. 15, 1 (1994)).

    Parameters
    ----------
    hessian : ndarray (n, n)
        At the old point.
    step : ndarray (n,)
        New minus old point.
    change : ndarray (n,)
        New minus old gradient.

    Returns
    -------
    ndarray (n, n)
        At the new point; the step meets it with the change exactly.
    """
    miss = change - hessian @ step
    size, missed = step @ step, miss @ miss
    if size < 1e-16 or missed < 1e-20:
        return hessian
    along = miss @ step
    share = along**2 / (size * missed)
    powell = (np.outer(miss, step) + np.outer(step, miss)) / size - along / size**2 * np.outer(step, step)
    if share < 1e-8:
        return hessian + powell
    return hessian + share * np.outer(miss, miss) / along + (1 - share) * powell


def bfgs(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Broyden–Fletcher–Goldfarb–Shanno, for minima; a step against the curvature leaves the Hessian alone.

    Parameters
    ----------
    hessian, step, change
        As for `bofill`.

    Returns
    -------
    ndarray (n, n)
    """
    curvature, product = change @ step, hessian @ step
    expected = step @ product
    if curvature <= 1e-10 or expected <= 1e-10:
        return hessian
    return hessian + np.outer(change, change) / curvature - np.outer(product, product) / expected


UPDATES: dict[str, Update] = {"bofill": bofill, "bfgs": bfgs}

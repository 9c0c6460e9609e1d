"""Which mode of one dynamical matrix is which of another: by their vectors, not by their order."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def partners(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The pairing of modes with the largest sum of squared overlaps.

    Parameters
    ----------
    before, after : ndarray, shape (3n, 3n)
        Polarisation vectors of the mass-reduced matrices as columns.

    Returns
    -------
    ndarray (3n,) of int
        Column of `after` for each column of `before`.
    """
    return np.asarray(linear_sum_assignment(np.abs(before.conj().T @ after) ** 2, maximize=True)[1])

"""Hessians from central differences of forces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def hessian_by_differences(
    forces: Callable[[np.ndarray], np.ndarray], positions: np.ndarray, step: float
) -> np.ndarray:
    """−∂F/∂r by central differences, symmetrised; the error is of second order in `step`.

    Parameters
    ----------
    forces : callable
        Positions (N, 3) in Å → forces (N, 3) in eV/Å.
    positions : ndarray (N, 3)
    step : float
        Å.

    Returns
    -------
    ndarray (N, 3, N, 3)
        eV/Å².
    """
    n = len(positions)
    matrix = np.empty((n, 3, n, 3))
    for atom in range(n):
        for axis in range(3):
            moved = positions.copy()
            moved[atom, axis] += step
            ahead = forces(moved)
            moved[atom, axis] -= 2 * step
            matrix[atom, axis] = (forces(moved) - ahead) / (2 * step)
    return (matrix + matrix.transpose(2, 3, 0, 1)) / 2

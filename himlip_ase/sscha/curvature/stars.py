"""q-points of a grid that need be shown: one of each set with equal figures."""

from __future__ import annotations

import numpy as np


def inequivalent(*figures: np.ndarray) -> list[tuple[int, int]]:
    """The first q-point of each set with the same figures, and how many are in the set.

    Parameters
    ----------
    *figures : ndarray, shape (nq, ...)
        Frequencies, cm⁻¹, of symmetrised matrices, so that equivalent points agree to rounding.

    Returns
    -------
    list of (int, int)
        Index and number, in the order of the grid.
    """
    rows = np.concatenate([np.reshape(figure, (len(figure), -1)) for figure in figures], axis=1)
    found: list[tuple[int, int]] = []
    for index, row in enumerate(rows):
        for place, (first, count) in enumerate(found):
            if np.allclose(row, rows[first], rtol=1e-6, atol=1e-3):
                found[place] = first, count + 1
                break
        else:
            found.append((index, 1))
    return found

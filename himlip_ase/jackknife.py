"""The standard error of what was estimated anew without each of equal parts of its data."""

from __future__ import annotations

import numpy as np


def student(m: int) -> float:
    """What makes up, in a variance, for an error that is estimated from m units itself; see `jackknife`.

    Parameters
    ----------
    m : int

    Returns
    -------
    float
    """
    return (m - 1) / (m - 3) if m > 3 else 1.0


def jackknife(deleted: np.ndarray) -> np.ndarray:
    """Standard error from the estimates that leave one of m units out.

    Efron and Stein, Ann. Stat. 9, 586 (1981). The factor (m − 1)/(m − 3) on the variance makes up for the
    error being estimated from few units itself: deviation over quoted error then has unit variance, as with a
    known error (Student's t).

    Parameters
    ----------
    deleted : ndarray, shape (m, ...)

    Returns
    -------
    ndarray, shape (...)
        In the unit of the estimates.
    """
    m = len(deleted)
    return np.sqrt(student(m) * (m - 1) * ((deleted - deleted.mean(axis=0)) ** 2).mean(axis=0))

"""The gap between acoustic and optical bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices


@dataclass(frozen=True)
class BandGap:
    """From the top of the three lowest bands to the bottom of the others, on the points of a q-grid.

    Attributes
    ----------
    top_cm, bottom_cm : float
        Highest frequency of the third band and lowest of the fourth, cm⁻¹.
    error_cm : float or None
        One standard error of their difference; None where the frequencies have none.
    """

    top_cm: float
    bottom_cm: float
    error_cm: float | None

    @property
    def size_cm(self) -> float:
        """Negative where the bands overlap."""
        return self.bottom_cm - self.top_cm


def acoustic_optical_gap(matrices: DynamicalMatrices, sigma_cm: np.ndarray | None) -> BandGap:
    """The gap between acoustic and optical bands on the points of the grid, where errors are known.

    Parameters
    ----------
    matrices : DynamicalMatrices
    sigma_cm : ndarray (nq, 3n) or None
        Standard errors in the order of ``matrices.frequencies()``.

    Returns
    -------
    BandGap

    Raises
    ------
    InputError
        One atom, which has no optical band; or imaginary modes, which stand below the acoustic ones.
    """
    frequencies = matrices.frequencies()
    if frequencies.shape[1] < 6:
        raise InputError("one atom in the primitive cell: no optical bands")
    if frequencies.min() < -1:
        raise InputError(f"imaginary modes (lowest {frequencies.min():.0f} cm⁻¹): no order of bands")
    top, bottom = int(frequencies[:, 2].argmax()), int(frequencies[:, 3].argmin())
    error = None if sigma_cm is None else float(np.hypot(sigma_cm[top, 2], sigma_cm[bottom, 3]))
    return BandGap(float(frequencies[top, 2]), float(frequencies[bottom, 3]), error)

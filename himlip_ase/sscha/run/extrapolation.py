"""The step to a new population when the old ensemble carries no further.

Reweighting follows the minimisation only while the Gaussians overlap, and the overlap falls exponentially
with the number of modes: with hundreds of atoms an ensemble carries a few per cent of the way.  What it still
asks for is known, though: the self-consistent force constants Φ + δΦ = -Υ⟨u f⟩ and the Newton step of the
centroids.  The next population is drawn there.  The iteration converges because the feedback of a wider
Gaussian on its own force constants is less than one (a quartic oscillator has at most ½).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.convergence.residual import Residual
from himlip_ase.sscha.run.initial import FLOOR_CM

LARGEST_SHIFT = 0.1
"""Å that a centroid may move at once."""

SHORTEST = 1 / 64
"""Fraction of the step that is tried last."""


def extrapolate(auxiliary: DynamicalMatrices, in_sample: Residual, move_centroids: bool) -> DynamicalMatrices:
    """Where an ensemble's self-consistency condition points, as far as no mode becomes soft.

    Parameters
    ----------
    auxiliary : DynamicalMatrices
        Where the minimisation ended.
    in_sample : Residual
        What the ensemble still asks for there, with its final weights.
    move_centroids : bool
        Move the centroids too.

    Returns
    -------
    DynamicalMatrices
        Without imaginary modes.

    Raises
    ------
    CalculationError
        Even the shortest step makes a mode imaginary.
    """
    change = in_sample.blocks.mean(axis=0)
    shift = np.zeros((len(auxiliary.primitive), 3))
    if move_centroids:
        stiffness = (auxiliary.matrices[0].real + auxiliary.matrices[0].real.T) / 2
        shift = (np.linalg.pinv(stiffness, rcond=1e-8) @ in_sample.force.ravel()).reshape(-1, 3)
        shift *= min(1.0, LARGEST_SHIFT / max(float(np.linalg.norm(shift, axis=1).max()), 1e-12))
    length = 1.0
    while length >= SHORTEST:
        primitive = auxiliary.primitive.copy()
        primitive.positions += length * shift
        try:
            found = replace(auxiliary, primitive=primitive, matrices=auxiliary.matrices + length * change)
        except InputError as error:
            raise CalculationError(f"the step to the next population is not finite: {error}") from error
        if np.sort(found.frequencies().ravel())[3] > FLOOR_CM and found.frequencies().min() > -1.0:
            return found
        length /= 2
    raise CalculationError(
        "the ensemble asks for force constants with imaginary modes, however short the step; use more "
        "configurations (n_configurations) or start from matrices nearer to the minimum"
    )

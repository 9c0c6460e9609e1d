"""Φ(q) between the q-points of the grid, by phonopy, with or without LO–TO splitting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError

if TYPE_CHECKING:
    from phonopy import Phonopy

GAMMA = 1e-8
"""Fractional; a q-point within this of zero is Γ."""

NEAR_GAMMA = 2e-5
"""Å⁻¹ without 2π; nearer to Γ (1e-5) phonopy puts the limit in the place of the non-analytical term."""


def interpolated_matrices(
    ph: Phonopy, primitive: Atoms, qpoints: np.ndarray, directions: np.ndarray | None = None
) -> np.ndarray:
    """Φ(q) at any q-points; see `ForceConstants.matrices`.

    Parameters
    ----------
    ph : Phonopy
        With force constants; with its non-analytical term, if there is one.
    primitive : Atoms
    qpoints : (nq, 3) ndarray
        Fractional coordinates in the reciprocal primitive basis.
    directions : (nq, 3) ndarray, optional
        Fractional directions from which Γ is approached.

    Returns
    -------
    (nq, 3n, 3n) complex ndarray
        eV/Å², without masses, no atomic position in the phase.
    """
    qpoints = np.asarray(qpoints, dtype=float)
    if qpoints.ndim != 2 or qpoints.shape[1] != 3 or not np.isfinite(qpoints).all():
        raise InputError(f"q-points must be finite and of shape (nq, 3); got shape {qpoints.shape}")
    reduced = _reduced(ph, qpoints)
    if ph.nac_params is not None:
        along = qpoints.copy()  # close to Γ, where phonopy leaves the limit to its caller
        at_gamma = is_gamma(qpoints)
        along[at_gamma] = 0.0 if directions is None else _checked_directions(directions, qpoints)[at_gamma]
        lengths = np.linalg.norm(qpoints @ np.linalg.inv(primitive.cell.array).T, axis=1)
        for index in np.flatnonzero((lengths < NEAR_GAMMA) & along.any(axis=1)):
            reduced[index] = _reduced(ph, qpoints[[index]], along[index])[0]
    roots = np.sqrt(np.repeat(primitive.get_masses(), 3))
    scaled = primitive.get_scaled_positions(wrap=False)
    phase = np.repeat(np.exp(2j * np.pi * qpoints @ scaled.T), 3, axis=1)
    return reduced * roots[:, None] * roots * phase[:, :, None] * np.conj(phase)[:, None, :]


def is_gamma(qpoints: np.ndarray) -> np.ndarray:
    """Which q-points (nq, 3), fractional, are Γ itself: (nq,) of bool."""
    return np.abs(qpoints).max(axis=1) < GAMMA


def _reduced(ph: Phonopy, qpoints: np.ndarray, direction: np.ndarray | None = None) -> np.ndarray:
    """phonopy's mass-reduced matrices, in its phase convention."""
    found = ph.run_qpoints(qpoints, with_dynamical_matrices=True, nac_q_direction=direction)
    return np.array(found.dynamical_matrices)


def _checked_directions(directions: np.ndarray, qpoints: np.ndarray) -> np.ndarray:
    along = np.asarray(directions, dtype=float)
    if along.shape != qpoints.shape or not np.isfinite(along).all():
        raise InputError(f"directions must be finite and of shape {qpoints.shape}; got {along.shape}")
    return along

"""A positive-definite start from harmonic dynamical matrices, stable or not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.phonons.force_constants import DynamicalMatrices, mass_reduced
from himlip_ase.sscha.array_files import load_arrays, pack, restoring, save_arrays, unpack
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM, signed_frequencies_cm

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FLOOR_CM = 10.0
"""Modes softer than this (cm⁻¹), translations apart, start here: their Gaussian would be too wide to use."""


def positive_definite_start(dynamical: DynamicalMatrices) -> tuple[DynamicalMatrices, NDArray[np.float64]]:
    """Symmetrise, impose the acoustic sum rule and replace each ω by max(|ω|, 10 cm⁻¹).

    Parameters
    ----------
    dynamical : DynamicalMatrices
        Harmonic (or any earlier auxiliary) matrices in eV/Å².

    Returns
    -------
    start : DynamicalMatrices
        Positive definite but for the three translations at Γ.  It is only where the minimisation starts.
    changed : ndarray, shape (k, 4)
        One row for each mode that was imaginary or too soft: q (fractional) and its wavenumber in cm⁻¹
        (imaginary negative), so that the change is never silent.
    """
    symmetric = dynamical.force_constants().with_acoustic_sum_rule().symmetrized().dynamical_matrices()
    masses = symmetric.primitive.get_masses()
    roots = np.sqrt(np.repeat(masses, 3))
    reduced = mass_reduced(symmetric.matrices, masses)
    rigid = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
    matrices, changed = np.empty_like(reduced), []
    for index, (q, block) in enumerate(zip(symmetric.qpoints, reduced, strict=True)):
        basis = np.eye(len(roots)) if index else np.linalg.qr(rigid, mode="complete")[0][:, 3:]
        values, vectors = np.linalg.eigh(basis.T @ block @ basis)
        wavenumbers = signed_frequencies_cm(values)
        positive = np.maximum(np.abs(wavenumbers), FLOOR_CM) / SQRT_EV_PER_ANGSTROM2_AMU_CM
        raised = np.where(wavenumbers >= FLOOR_CM, values, positive**2)
        changed += [[*q, wavenumber] for wavenumber in wavenumbers if wavenumber < FLOOR_CM]
        vectors = basis @ vectors
        matrices[index] = (vectors * raised) @ vectors.conj().T * roots[:, None] * roots[None, :]
    if changed:
        logger.info(
            "%d of %d modes of the starting matrices are imaginary or softer than %g cm⁻¹ and start from |ω|",
            len(changed),
            reduced.shape[0] * reduced.shape[1] - 3,
            FLOOR_CM,
        )
    start = symmetric.with_matrices(matrices)
    return start, np.array(changed, dtype=float).reshape(-1, 4)


def stored_start(folder: Path, make: Callable[[], DynamicalMatrices]) -> DynamicalMatrices:
    """Matrices that a run in `folder` starts from: those in its ``start.npz``, else new ones, stored there.

    Harmonic matrices that are computed again differ by rounding, and a run is only continued from the very
    matrices that it was begun with.

    Parameters
    ----------
    folder : Path
    make : callable
        Gives the matrices where there are none yet.

    Returns
    -------
    DynamicalMatrices
    """
    path = folder / "start.npz"
    if path.exists():
        arrays = load_arrays(path)
        with restoring(path):
            return unpack("start", arrays)
    found = make()
    save_arrays(path, pack("start", found))
    return found

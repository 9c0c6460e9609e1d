"""How alike two Hessians are where it matters: internal modes, the softest of them, and their signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.vibrations.rigid_motions import rigid_motions

DEGENERATE = 1e-3
"""Eigenvalues within this share of the largest one belong to the same mode."""
ZERO = 1e-3
"""Eigenvalues smaller than this share of the largest one have no sign."""


@dataclass(frozen=True)
class ModeErrors:
    """Internal modes (mass-weighted, rigid motions projected out) of a Hessian against a label's.

    Attributes
    ----------
    eigenvalue_mae : float
        Sorted eigenvalues, eV/(Å² amu).
    frequency_mae : float
        Wavenumbers, imaginary ones negative, cm⁻¹.
    lowest_cosine : float
        Length of the predicted softest mode's projection on the label's softest modes (one, or all that are
        degenerate with it): |cosine| for a mode that is alone.
    sign_agreement : float
        Share of the eigenvalues, in ascending order, that have the sign of the label's; those of the label
        that are nearly zero are left out.
    unstable : (int, int)
        Negative eigenvalues of label and prediction: 1 at a transition state.
    """

    eigenvalue_mae: float
    frequency_mae: float
    lowest_cosine: float
    sign_agreement: float
    unstable: tuple[int, int]


def internal_modes(atoms: Atoms, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and modes of a mass-weighted Hessian within the space of internal motions.

    Parameters
    ----------
    atoms : Atoms
    matrix : ndarray (N, 3, N, 3)
        eV/Å².

    Returns
    -------
    eigenvalues : ndarray (m,)
        eV/(Å² amu), ascending; m = 3N − 3 for a crystal, 3N − 6 for a molecule (3N − 5 if linear).
    modes : ndarray (3N, m)
        Orthonormal columns.
    """
    size = 3 * len(atoms)
    roots = np.repeat(atoms.get_masses(), 3) ** 0.5
    reduced = matrix.reshape(size, size) / roots / roots[:, None]
    rigid = rigid_motions(atoms)
    left = np.linalg.svd(rigid, full_matrices=True)[0]
    internal = left[:, rigid.shape[1] :]
    values, vectors = np.linalg.eigh(internal.T @ ((reduced + reduced.T) / 2) @ internal)
    return values, internal @ vectors


def internal_eigenvalues(atoms: Atoms, matrix: np.ndarray) -> np.ndarray:
    """Eigenvalues of a Hessian (N, 3, N, 3) without masses, rigid motions projected out; ascending, eV/Å².

    Parameters
    ----------
    atoms : Atoms
    matrix : ndarray (N, 3, N, 3)
        eV/Å².

    Returns
    -------
    ndarray (3N − 3 or fewer,)
        eV/Å².
    """
    weightless = atoms.copy()
    weightless.set_masses(np.ones(len(atoms)))
    return internal_modes(weightless, matrix)[0]


def mode_errors(atoms: Atoms, predicted: np.ndarray, label: np.ndarray) -> ModeErrors | None:
    """Compare two Hessians, (N, 3, N, 3) in eV/Å², of the same atoms; None if there is no internal motion.

    Parameters
    ----------
    atoms : Atoms
    predicted, label : ndarray (N, 3, N, 3)
        eV/Å².

    Returns
    -------
    ModeErrors or None
    """
    from himlip_ase.units import signed_frequencies_cm

    wanted, modes = internal_modes(atoms, label)
    got, own = internal_modes(atoms, predicted)
    if not wanted.size:
        return None
    scale = max(float(np.abs(wanted).max()), 1e-30)
    softest = modes[:, np.abs(wanted - wanted[0]) < DEGENERATE * scale]
    signed = np.abs(wanted) > ZERO * scale
    agree = np.sign(got[signed]) == np.sign(wanted[signed])
    return ModeErrors(
        float(np.abs(got - wanted).mean()),
        float(np.abs(signed_frequencies_cm(got) - signed_frequencies_cm(wanted)).mean()),
        float(np.linalg.norm(softest.T @ own[:, 0])),
        float(agree.mean()) if signed.any() else 1.0,
        (int((wanted < -ZERO * scale).sum()), int((got < -ZERO * scale).sum())),
    )

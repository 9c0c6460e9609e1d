"""Normal modes of a structure from its Hessian, rigid motions taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_EV, signed_frequencies_cm
from himlip_ase.vibrations.rigid_motions import rigid_motions


@dataclass(frozen=True, eq=False)
class NormalModes:
    """Vibrations of a molecule, or at Γ of a crystal.

    Attributes
    ----------
    eigenvalues : ndarray (n,)
        ω² in eV/Å²/amu, ascending; n = 3N less the rigid motions.
    modes : ndarray (n, N, 3)
        Orthonormal eigenvectors of the mass-weighted Hessian; divide by √mass for displacements.
    rigid : float
        cm⁻¹; largest frequency that the Hessian gives a rigid motion: 0 at a stationary point.
    """

    eigenvalues: np.ndarray
    modes: np.ndarray
    rigid: float

    @property
    def frequencies(self) -> np.ndarray:
        """cm⁻¹, imaginary negative."""
        return signed_frequencies_cm(self.eigenvalues)

    @property
    def energies(self) -> np.ndarray:
        """ħω in eV, complex: imaginary for an unstable mode (as ASE has it)."""
        return np.sqrt(self.eigenvalues.astype(complex)) * SQRT_EV_PER_ANGSTROM2_AMU_EV

    @property
    def zero_point_energy(self) -> float:
        """½ Σ ħω in eV over the real modes."""
        return float(self.energies.real.sum() / 2)


def normal_modes(atoms: Atoms, hessian: np.ndarray) -> NormalModes:
    """Normal modes of a structure.

    Parameters
    ----------
    atoms : Atoms
        Its masses count; translations, and the rotations of a molecule, are projected out.
    hessian : ndarray (N, 3, N, 3)
        eV/Å².

    Returns
    -------
    NormalModes
        Rigid motions left out.

    Raises
    ------
    InputError
        A Hessian of another shape.
    """
    n_atoms = len(atoms)
    if np.shape(hessian) != (n_atoms, 3, n_atoms, 3):
        raise InputError(
            f"the Hessian of {n_atoms} atoms should have shape ({n_atoms}, 3, {n_atoms}, 3); "
            f"got {np.shape(hessian)}"
        )
    roots = np.sqrt(np.repeat(atoms.get_masses(), 3))
    matrix = np.reshape(hessian, (3 * n_atoms, 3 * n_atoms)) / roots / roots[:, None]
    matrix = (matrix + matrix.T) / 2
    rigid = rigid_motions(atoms)
    basis = np.linalg.qr(rigid, mode="complete")[0][:, rigid.shape[1] :]
    values, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
    left = np.linalg.eigvalsh(rigid.T @ matrix @ rigid)
    modes = (basis @ vectors).T.reshape(-1, n_atoms, 3)
    return NormalModes(values, modes, float(np.abs(signed_frequencies_cm(left)).max()))

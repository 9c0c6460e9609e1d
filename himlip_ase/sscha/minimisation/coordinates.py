"""What a minimiser moves: the force constants themselves, or their square root."""

from __future__ import annotations

import numpy as np

from himlip_ase.sscha.ensembles.trial_gaussian import TrialGaussian
from himlip_ase.sscha.minimisation.basis import SymmetryBasis


class ForceConstantCoordinates:
    """Coefficients of Φ(q) in the symmetry-adapted basis, eV/Å².

    Parameters
    ----------
    basis : SymmetryBasis
    begun : TrialGaussian
        Where the minimisation starts.

    Attributes
    ----------
    origin : ndarray, shape (len(basis),)
        Coordinates of `begun`, symmetrised.
    """

    def __init__(self, basis: SymmetryBasis, begun: TrialGaussian) -> None:
        self.basis = basis
        self.origin = basis.coefficients(begun.matrices)

    def matrices(self, coordinates: np.ndarray) -> list[np.ndarray]:
        """Φ(q) by sector."""
        return self.basis.matrices(coordinates)

    def direction(self, trial: TrialGaussian, gradient: np.ndarray) -> np.ndarray:
        """Preconditioned gradient in these coordinates from coefficients of G.

        Parameters
        ----------
        trial : TrialGaussian
        gradient : ndarray, shape (len(basis),)
            Coefficients of G, eV/Å².

        Returns
        -------
        ndarray, shape (len(basis),)
        """
        return gradient


class RootCoordinates:
    """Coefficients of S(q) = √Φ(q): Φ = S² cannot turn negative (Monacelli et al., PRB 98, 024106 (2018)).

    The gradient is that of python-sscha's "sqrt" representation, G S + S G, here over four times the mean
    eigenvalue of Φ, so that a step of 1 is again about Newton's.
    """

    def __init__(self, basis: SymmetryBasis, begun: TrialGaussian) -> None:
        self.basis = basis
        self.origin = basis.coefficients(_roots(basis.matrices(basis.coefficients(begun.matrices))))
        size = basis.grid.cells * begun.matrices[0].shape[-1]
        self._scale = 4 * float(self.origin @ self.origin) / size  # |S|² = tr Φ

    def matrices(self, coordinates: np.ndarray) -> list[np.ndarray]:
        """Φ(q) = S(q)² by sector."""
        return [block @ block for block in self.basis.matrices(coordinates)]

    def direction(self, trial: TrialGaussian, gradient: np.ndarray) -> np.ndarray:
        """(G S + S G) / (4 ⟨Φ⟩) in the coefficients of S.

        Parameters
        ----------
        trial : TrialGaussian
        gradient : ndarray, shape (len(basis),)
            Coefficients of G, eV/Å².

        Returns
        -------
        ndarray, shape (len(basis),)
        """
        pairs = zip(self.basis.matrices(gradient), _roots(trial.matrices), strict=True)
        turned = [block @ root + root @ block for block, root in pairs]
        return self.basis.coefficients(turned) / self._scale


def _roots(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """Hermitian square roots by sector; eigenvalues that rounding left below 0 count as 0."""
    result = []
    for block in matrices:
        values, vectors = np.linalg.eigh(block)
        roots = np.sqrt(np.clip(values, 0, None))
        result.append((vectors * roots[:, None, :]) @ vectors.conj().swapaxes(1, 2))
    return result

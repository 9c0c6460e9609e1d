"""Importance weights that carry an ensemble from the Gaussian it was drawn from to another.

The weight of a configuration is ρ = P_target(x)/P_drawn(x) (Monacelli et al., J. Phys.: Condens. Matter 33,
363001 (2021), eq. 31).
"""

from __future__ import annotations

import numpy as np

from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.trial_gaussian import TrialGaussian


class FourierEnsemble:
    """An ensemble Fourier transformed over the lattice, and its density in the Gaussian it was drawn from.

    Every :class:`~himlip_ase.sscha.ensembles.ensemble.Ensemble` makes it once.

    Parameters
    ----------
    drawn_from : HarmonicDistribution
    displacements : ndarray, shape (n, N, 3)
        Å from the centroids of `drawn_from`.
    forces : ndarray, shape (n, N, 3)
        eV/Å.

    Attributes
    ----------
    grid : HalfGrid
    gaussian : TrialGaussian
        Of `drawn_from`.
    displacements, forces : list of ndarray, shape (k, n, 3 n_primitive)
        u(q) in Å and f(q) in eV/Å, by sector of the grid.
    log_drawn : ndarray, shape (n,)
        ln P of each configuration in `gaussian`.
    """

    def __init__(
        self, drawn_from: HarmonicDistribution, displacements: np.ndarray, forces: np.ndarray
    ) -> None:
        self.grid = HalfGrid(drawn_from.dims)
        self.displacements = self.grid.fields(displacements)
        self.forces = self.grid.fields(forces)
        self.gaussian = TrialGaussian.of(drawn_from, self.grid)
        quadratic = quadratic_forms(self.grid, self.gaussian.inverse_covariance, self.displacements)[0]
        self.log_drawn = self.gaussian.log_normalisation() - quadratic / 2

    def __len__(self) -> int:
        return len(self.log_drawn)

    def displacements_from(self, centroids: np.ndarray) -> list[np.ndarray]:
        """u(q) from other centroids (n_primitive, 3) in Å, by sector: only Γ changes."""
        shift = (self.gaussian.centroids - centroids).ravel()
        if not shift.any():
            return self.displacements
        first = self.displacements[0].copy()
        first[0] += shift * np.sqrt(self.grid.cells)
        return [first, *self.displacements[1:]]


def quadratic_forms(
    grid: HalfGrid, matrices: list[np.ndarray], fields: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Σ_q x(q)† A(q) x(q) of each configuration, (n,), and A x by sector.

    Parameters
    ----------
    grid : HalfGrid
    matrices : list of ndarray, shape (k, f, f)
        A(q) by sector.
    fields : list of ndarray, shape (k, n, f)
        x(q) by sector.

    Returns
    -------
    forms : ndarray, shape (n,)
    products : list of ndarray, shape (k, n, f)
    """
    total = np.zeros(fields[0].shape[1])
    products = []
    for sector, matrix, field in zip(grid.sectors, matrices, fields, strict=True):
        product = field @ matrix.swapaxes(1, 2)
        total += sector.multiplicity * np.einsum(
            "knf,knf->n", _as_real(field), _as_real(product), optimize=False
        )
        products.append(product)
    return total, products


def _as_real(field: np.ndarray) -> np.ndarray:
    """The same memory with real and imaginary parts side by side."""
    return field.view(float) if np.iscomplexobj(field) else field


def log_weights(
    fourier: FourierEnsemble, target: TrialGaussian, displacements: list[np.ndarray]
) -> np.ndarray:
    """ln ρ of each configuration.

    Parameters
    ----------
    fourier : FourierEnsemble
    target : TrialGaussian
    displacements : list of ndarray, shape (k, n, 3 n_primitive)
        From the centroids of `target`, see :meth:`FourierEnsemble.displacements_from`.

    Returns
    -------
    ndarray, shape (n,)
    """
    quadratic, _ = quadratic_forms(fourier.grid, target.inverse_covariance, displacements)
    return target.log_normalisation() - quadratic / 2 - fourier.log_drawn


def kong_liu_ratio(weights: np.ndarray) -> float:
    """Effective sample size (Σρ)²/Σρ² over the number of configurations."""
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σρx/Σρ over the first axis and its standard error.

    The error is that of a ratio to first order; configurations 2k and 2k+1, which may be opposites, count as
    one draw, so that their correlation does not make it too small.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
    weights : ndarray, shape (n,)
        ρ.

    Returns
    -------
    mean, sigma : ndarray, shape (...)
    """
    flat = values.reshape(len(values), -1)
    mean = weights @ flat / weights.sum()
    deviations = weights[:, None] * (flat - mean)
    pairs = np.add.reduceat(deviations, np.arange(0, len(flat), 2), axis=0)
    count = len(pairs)
    sigma = np.sqrt(count / (count - 1) * (pairs**2).sum(axis=0)) / weights.sum()
    return mean.reshape(values.shape[1:]), sigma.reshape(values.shape[1:])

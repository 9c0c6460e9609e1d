"""What an ensemble still asks of its auxiliary: the SCHA self-consistency residual and its standard error.

At the SSCHA minimum Φ = -Υ⟨u f⟩ and ⟨f⟩ = 0, with Υ the inverse covariance (Monacelli et al., J. Phys.:
Condens. Matter 33, 363001 (2021), eqs. 24 and 33).  On an ensemble that had no part in making Φ, the residual
δΦ = -Υ⟨u (f + Φu)⟩, in cm⁻¹ for each mode and with its error from blocks of the ensemble, is an
unbiased test of convergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM


class Projection(Protocol):
    """Linear projections, such as :class:`~himlip_ase.sscha.symmetry.SpaceGroup`."""

    def matrices(self, blocks: np.ndarray, /) -> np.ndarray:
        """Of Φ(q), (nq, 3n, 3n)."""

    def vectors(self, values: np.ndarray, /) -> np.ndarray:
        """Of one vector an atom of the primitive cell, (n, 3)."""


@dataclass(frozen=True)
class Residual:
    """Change that an ensemble asks for.

    Attributes
    ----------
    shifts_cm, sigma_cm : ndarray, shape (nq, 3n)
        First-order change of each auxiliary frequency (cm⁻¹) and its standard error; translations 0.
    blocks : ndarray, shape (n_blocks, nq, 3n, 3n)
        δΦ(q) of each block, symmetrised, eV/Å².
    force, force_sigma : ndarray, shape (n, 3)
        Mean force on the centroids, eV/Å, symmetrised.
    """

    shifts_cm: np.ndarray
    sigma_cm: np.ndarray
    blocks: np.ndarray
    force: np.ndarray
    force_sigma: np.ndarray


def residual(
    target: HarmonicDistribution,
    ensemble: Ensemble,
    group: Projection,
    n_blocks: int,
    weights: np.ndarray | None = None,
) -> Residual:
    """Self-consistency residual of a Gaussian on an ensemble.

    Parameters
    ----------
    target : HarmonicDistribution
        The auxiliary tested, at its temperature.
    ensemble : Ensemble
        Opposite pairs adjacent.
    group : Projection
        Projections onto the space group.
    n_blocks : int
        Blocks for the standard error.
    weights : ndarray, shape (n,), optional
        Importance weights; by default those of `ensemble` for `target`.

    Returns
    -------
    Residual
    """
    weights = ensemble.weights(target) if weights is None else weights
    fourier, forces = ensemble.fourier, ensemble.forces
    grid, pushed = fourier.grid, fourier.forces
    moved = fourier.displacements_from(target.dynamical.primitive.positions)
    excess = [
        push + move @ block.swapaxes(1, 2)
        for push, move, block in zip(pushed, moved, grid.split(target.dynamical.matrices), strict=True)
    ]
    inverse = grid.split(target.inverse_covariance())
    pairs = np.arange(len(ensemble)) // 2
    members = np.array_split(np.arange(pairs[-1] + 1), n_blocks)
    blocks, block_forces, shares = [], [], []
    for member in members:
        chosen = (pairs >= member[0]) & (pairs <= member[-1])
        shares.append(weights[chosen].sum() / weights.sum())
        weight = weights[chosen] / weights[chosen].sum()
        change = [
            -left @ (move[:, chosen].swapaxes(1, 2) @ (over[:, chosen] * weight[:, None]).conj())
            for left, move, over in zip(inverse, moved, excess, strict=True)
        ]
        whole = grid.join(change)
        blocks.append(group.matrices((whole + whole.conj().transpose(0, 2, 1)) / 2))
        mean = (weight @ forces[chosen].reshape(len(weight), -1)).reshape(grid.cells, -1, 3).mean(axis=0)
        block_forces.append(group.vectors(mean - mean.mean(axis=0)))
    changes, means = np.array(blocks), np.array(block_forces)
    shifts = frequency_changes(target, changes)
    share = np.array(shares)
    return Residual(
        np.tensordot(share, shifts, 1),
        standard_error(shifts),
        changes,
        np.tensordot(share, means, 1),
        standard_error(means),
    )


def standard_error(blocks: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the first axis."""
    return blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))


def frequency_changes(distribution: HarmonicDistribution, changes: np.ndarray) -> np.ndarray:
    """First-order changes (cm⁻¹) of the auxiliary frequencies by δΦ(q), (..., nq, 3n); translations 0.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary.
    changes : ndarray, shape (..., nq, 3n, 3n)
        δΦ(q), eV/Å².

    Returns
    -------
    ndarray, shape (..., nq, 3n)
        cm⁻¹.
    """
    wavenumbers, vectors = distribution.dynamical.eigen()
    scale = distribution.inverse_root_masses
    polarised = vectors * scale[:, None]
    squares = np.einsum("qia,...qij,qja->...qa", polarised.conj(), changes, polarised, optimize=True).real
    result = squares * SQRT_EV_PER_ANGSTROM2_AMU_CM**2 / (2 * np.where(wavenumbers > 0, wavenumbers, np.inf))
    result[..., 0, :3] = 0
    return result

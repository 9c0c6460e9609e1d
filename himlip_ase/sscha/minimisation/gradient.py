"""SSCHA free energy of a trial Gaussian and its gradients, as averages over a reweighted ensemble.

With δf = f + Φu the forces beyond the trial's own (Monacelli et al., J. Phys.: Condens. Matter 33, 363001
(2021), eqs. 14, 22-24 and 31):

    F     = F_harm(Φ) + ⟨V - ½uΦu⟩
    ∂F/∂R = -⟨δf⟩
    ∂F/∂Φ = -½ K∘G,   G = Υ⟨u δf⟩ made symmetric,   K_μν = (σ_μ - σ_ν)/(ω_μ² - ω_ν²) < 0

K acts on mass-reduced mode components.  G is the preconditioned gradient: at Φ - G the self-consistency
equation Φ = -Υ⟨u f⟩ would hold if the averages did not change.  Everything is done q by q.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.reweighting import (
    kong_liu_ratio,
    log_weights,
    quadratic_forms,
    weighted_mean,
)
from himlip_ase.sscha.ensembles.trial_gaussian import TrialGaussian
from himlip_ase.units import KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV

SAME = 1e-6
"""Relative difference of two frequencies below which K is taken as its limit, the derivative of σ."""


@dataclass(frozen=True)
class BlockMeans:
    """A weighted mean in parts, for its standard error.

    Attributes
    ----------
    parts : ndarray
        Contribution of each block of the ensemble to the mean (blocks first); they add up to it.
    shares : ndarray, shape (n_blocks,)
        Share of the total weight.
    """

    parts: np.ndarray
    shares: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Sum of the parts."""
        return self.parts.sum(axis=0)

    def sigma(self) -> np.ndarray:
        """Standard error of the mean, from the spread of the blocks."""
        count = len(self.shares)
        deviations = self.parts - np.tensordot(self.shares, self.mean, axes=0)
        return np.sqrt(count / (count - 1) * (deviations**2).sum(axis=0))


class TrialAverages:
    """Averages of an ensemble reweighted to a trial Gaussian.

    Parameters
    ----------
    ensemble : Ensemble
    trial : TrialGaussian
        On the ensemble's grid.

    Attributes
    ----------
    weights : ndarray, shape (n,)
        ρ, whose mean is 1 but for noise.
    """

    def __init__(self, ensemble: Ensemble, trial: TrialGaussian) -> None:
        self.ensemble, self.trial = ensemble, trial
        fourier = ensemble.fourier
        self.displacements = fourier.displacements_from(trial.centroids)
        logs = log_weights(fourier, trial, self.displacements)
        self.weights = np.exp(np.clip(logs, -300, 300))
        springs, pulls = quadratic_forms(fourier.grid, trial.matrices, self.displacements)
        self._spring_energies = springs / 2
        self._excess = [pull + force for pull, force in zip(pulls, fourier.forces, strict=True)]

    @cached_property
    def kong_liu(self) -> float:
        """Effective sample size over the number of configurations."""
        return kong_liu_ratio(self.weights)

    def free_energy(self) -> tuple[float, float]:
        """F and its standard error, eV per primitive cell, potential energy included."""
        cells = self.ensemble.fourier.grid.cells
        mean, sigma = weighted_mean(self.ensemble.energies - self._spring_energies, self.weights)
        return self.trial.harmonic_free_energy() + float(mean) / cells, float(sigma) / cells

    def gradient_blocks(self, n_blocks: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Υ⟨u δf†⟩ (not yet Hermitian) in blocks of the ensemble.

        Returns
        -------
        parts : list of ndarray, shape (n_blocks, k, 3n, 3n)
            eV/Å² by sector; the sum over blocks is the average.
        shares : ndarray, shape (n_blocks,)
            Share of the total weight.
        """
        edges = _pair_edges(len(self.ensemble), n_blocks)
        shares = self.weights / self.weights.sum()
        parts = []
        for inverse, moved, excess in zip(
            self.trial.inverse_covariance, self.displacements, self._excess, strict=True
        ):
            weighted = (excess * shares[:, None]).conj()
            correlations = np.stack(
                [
                    moved[:, begin:end].swapaxes(1, 2) @ weighted[:, begin:end]
                    for begin, end in pairwise(edges)
                ]
            )
            parts.append(inverse @ correlations)
        return parts, np.add.reduceat(shares, edges[:-1])

    def force_blocks(self, n_blocks: int) -> BlockMeans:
        """⟨δf⟩ on the atoms of the primitive cell in blocks, parts (n_blocks, n, 3), eV/Å."""
        edges = _pair_edges(len(self.ensemble), n_blocks)
        shares = self.weights / self.weights.sum()
        forces = self._excess[0][0] / np.sqrt(self.ensemble.fourier.grid.cells) * shares[:, None]
        parts = np.add.reduceat(forces, edges[:-1], axis=0)
        return BlockMeans(parts.reshape(len(parts), -1, 3), np.add.reduceat(shares, edges[:-1]))

    def preconditioned_gradient(self) -> list[np.ndarray]:
        """G(q) = Hermitian part of Υ⟨u δf†⟩ by sector, (k, 3n, 3n), eV/Å²; not symmetrised."""
        parts, _ = self.gradient_blocks(1)
        return [(part[0] + part[0].conj().swapaxes(1, 2)) / 2 for part in parts]

    def force(self) -> np.ndarray:
        """-∂F/∂R = ⟨δf⟩ on the atoms of the primitive cell, (n, 3), eV/Å; F counted per primitive cell."""
        return self.force_blocks(1).mean


def _pair_edges(n: int, n_blocks: int) -> np.ndarray:
    """Bounds of contiguous blocks that do not part configurations 2k and 2k+1."""
    blocks = max(1, min(n_blocks, n // 2))
    edges = 2 * (np.arange(blocks + 1) * (n // 2) // blocks)
    edges[-1] = n
    return edges


def free_energy_gradient(trial: TrialGaussian, preconditioned: list[np.ndarray]) -> list[np.ndarray]:
    """∂F/∂Φ(q) from G(q), so that dF = Σ_q Re tr(∂F/∂Φ(q)† dΦ(q)) / cells, by sector.

    Parameters
    ----------
    trial : TrialGaussian
    preconditioned : list of ndarray, shape (k, 3n, 3n)
        Hermitian G(q), eV/Å².

    Returns
    -------
    list of ndarray, shape (k, 3n, 3n)
        Å², for F per primitive cell.
    """
    roots = trial.crystal.roots
    result = []
    for vectors, kernel, block in zip(trial.vectors, variance_response(trial), preconditioned, strict=True):
        polarised = vectors / roots[:, None]
        modes = polarised.conj().swapaxes(1, 2) @ block @ polarised
        result.append(polarised @ (-kernel / 2 * modes) @ polarised.conj().swapaxes(1, 2))
    return result


def variance_response(trial: TrialGaussian) -> list[np.ndarray]:
    """K_μν = (σ_μ - σ_ν)/(ω_μ² - ω_ν²) by sector, (k, 3n, 3n), amu² Å⁴/eV; 0 with a translation."""
    scale = SQRT_EV_PER_ANGSTROM2_AMU_EV**2
    temperature = trial.crystal.temperature_k
    result = []
    for values, energies, variances in zip(trial.eigenvalues, trial.energies, trial.variances, strict=True):
        finite = np.isfinite(values)
        squares, energy = np.where(finite, values, 1.0), np.where(finite, energies, 1.0)
        slope = -np.where(finite, variances, 0.0) / (2 * squares)  # dσ/dω² at fixed occupation
        if temperature > 0:
            x = energy / (2 * KB_EV_PER_K * temperature)
            slope -= scale**2 / (8 * energy**2 * KB_EV_PER_K * temperature) / np.sinh(np.minimum(x, 300)) ** 2
        difference = squares[:, :, None] - squares[:, None, :]
        close = np.abs(difference) <= SAME * squares[:, :, None]
        exact = (variances[:, :, None] - variances[:, None, :]) / np.where(close, 1.0, difference)
        kernel = np.where(close, (slope[:, :, None] + slope[:, None, :]) / 2, exact)
        both = finite[:, :, None] & finite[:, None, :]
        result.append(np.where(both, kernel, 0.0))
    return result

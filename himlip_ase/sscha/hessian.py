"""Free-energy Hessian with error bars from splitting its ensemble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.sscha.ensemble import Ensemble
from himlip_ase.sscha.residual import Residual


@dataclass(frozen=True)
class HessianEstimate:
    """Free-energy Hessian, the standard error and the bias of its frequencies.

    Attributes
    ----------
    hessian : DynamicalMatrices
        From the whole ensemble, eV/Å².
    sigma_cm : ndarray, shape (nq, 3n)
        Standard error of each frequency, cm⁻¹.
    bias_cm : ndarray, shape (nq, 3n)
        Jackknife estimate of the bias left by the finite ensemble (the bubble is quadratic in noisy
        third-order constants), cm⁻¹.
    """

    hessian: DynamicalMatrices
    sigma_cm: np.ndarray
    bias_cm: np.ndarray


def estimate_hessian(
    compute: Callable[[Ensemble], DynamicalMatrices],
    ensemble: Ensemble,
    maker: Residual,
    n_blocks: int,
    on_step: Callable[[int], None] | None = None,
) -> HessianEstimate:
    """Hessian of an ensemble with a delete-one-block jackknife.

    Parameters
    ----------
    compute : callable
        The Hessian of an ensemble.
    ensemble : Ensemble
        Fresh draw from the auxiliary.
    maker : Residual
        Residual on the ensemble that made the auxiliary; its blocks carry the auxiliary's own noise into the
        Hessian's error.
    n_blocks : int
        Blocks of the jackknife.
    on_step : callable, optional
        Called with the number of Hessians made.
    """
    hessian = compute(ensemble)
    whole = hessian.frequencies()
    left_out = []
    for number, block in enumerate(ensemble.pair_blocks(n_blocks), start=1):
        kept = np.delete(np.arange(len(ensemble)), block)
        left_out.append(compute(ensemble.part(kept)).frequencies())
        if on_step is not None:
            on_step(number)
    deleted = np.array(left_out)
    mean = deleted.mean(axis=0)
    spread = (n_blocks - 1) / n_blocks * ((deleted - mean) ** 2).sum(axis=0)
    changes = (maker.blocks - maker.blocks.mean(axis=0)) / np.sqrt(len(maker.blocks))
    moved = np.array(
        [
            DynamicalMatrices(
                hessian.primitive, hessian.dims, hessian.qpoints, hessian.matrices + change
            ).frequencies()
            for change in changes
        ]
    )
    from_auxiliary = ((moved - whole) ** 2).sum(axis=0) / (len(moved) - 1)
    sigma = np.sqrt(spread + from_auxiliary)
    bias = (n_blocks - 1) * (mean - whole)
    sigma[0][acoustic(hessian)] = 0
    bias[0][acoustic(hessian)] = 0
    return HessianEstimate(hessian, sigma, bias)


def acoustic(dynamical: DynamicalMatrices) -> np.ndarray:
    """Indices of the three translations among the modes at Γ."""
    _, vectors = dynamical.eigen()
    masses = dynamical.primitive.get_masses()
    rigid = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
    overlap = (np.abs(rigid.T @ vectors[0]) ** 2).sum(axis=0)
    return np.sort(np.argsort(overlap)[-3:])

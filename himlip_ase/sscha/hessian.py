"""Free-energy Hessian with error bars from splitting its ensemble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.sscha.ensemble import Ensemble
from himlip_ase.sscha.residual import Residual
from himlip_ase.sscha.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.third_order import hessian_with_bubble, third_order


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
    distribution: HarmonicDistribution,
    ensemble: Ensemble,
    maker: Residual,
    group: SpaceGroup,
    n_blocks: int,
    on_step: Callable[[int], None] | None = None,
) -> HessianEstimate:
    """Hessian of an ensemble with a delete-one-block jackknife.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary.
    ensemble : Ensemble
        Fresh draw from it.
    maker : Residual
        Residual on the ensemble that made the auxiliary; its blocks carry the auxiliary's own noise into the
        Hessian's error.
    group : SpaceGroup
        Of the auxiliary.
    n_blocks : int
        Blocks of the jackknife.
    on_step : callable, optional
        Called with the number of blocks done.
    """
    weights, total = [], None
    tensors = []
    for number, block in enumerate(ensemble.pair_blocks(n_blocks), start=1):
        tensors.append(third_order(distribution, ensemble.part(block), group))
        weights.append(len(block) / len(ensemble))
        total = tensors[-1] * weights[-1] if total is None else total + tensors[-1] * weights[-1]
        if on_step is not None:
            on_step(number)
    assert total is not None
    hessian = hessian_with_bubble(distribution, total, group)
    whole = hessian.frequencies()
    deleted = np.array(
        [
            hessian_with_bubble(distribution, (total - weight * tensor) / (1 - weight), group).frequencies()
            for tensor, weight in zip(tensors, weights, strict=True)
        ]
    )
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

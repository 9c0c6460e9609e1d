"""Quoted standard errors cover: over many seeds the truth lies within one of them two times in three."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from himlip_ase.sscha.convergence.residual import residual
from himlip_ase.sscha.curvature.hessian import estimate_hessian
from himlip_ase.sscha.curvature.third_order import hessian_with_bubble, third_order
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.symmetry import SpaceGroup

from .toy import BondCrystal, cscl

SHELLS = [(6.0, -60.0, 300.0, -0.02), (2.0, -20.0, 60.0, 0.02), (1.0, 0.0, 0.0, 0.0)]


@pytest.fixture(scope="module")
def sample():
    """z-scores of the residual and of the Hessian over 40 seeds against a hundred times larger ensemble."""
    crystal = BondCrystal(cscl(c=2.7), (1, 1, 2), SHELLS)
    start, _ = positive_definite_start(crystal.harmonic())
    distribution, group = HarmonicDistribution(start), SpaceGroup(start)

    def draw(n, seed):
        ensemble = draw_ensemble(distribution, n, np.random.SeedSequence(seed), crystal)
        return ensemble, residual(distribution, ensemble, group, 20)

    large, exact = draw(20_000, 1)
    hessian = hessian_with_bubble(distribution, third_order(distribution, large, group), group)
    shifts, curvatures = [], []
    for seed in range(40):
        ensemble, found = draw(200, 100 + seed)
        moving = found.sigma_cm > 0
        shifts.append(((found.shifts_cm - exact.shifts_cm) / np.where(moving, found.sigma_cm, 1))[moving])
        silent = dataclasses.replace(found, blocks=np.zeros_like(found.blocks))
        estimate = estimate_hessian(distribution, ensemble, silent, group, 20)
        change = estimate.hessian.frequencies() - estimate.bias_cm - hessian.frequencies()
        moving = estimate.sigma_cm > 0
        curvatures.append((change / np.where(moving, estimate.sigma_cm, 1))[moving])
    return np.array(shifts), np.array(curvatures)


@pytest.mark.parametrize("which", [0, 1], ids=["residual", "hessian"])
def test_one_sigma_covers(sample, which):
    z = sample[which]
    assert 0.55 < (np.abs(z) < 1).mean() < 0.82
    assert 0.8 < np.sqrt((z**2).mean()) < 1.3

"""ωB97X/6-31G(d) labels: gradient and Hessian against differences, grids, what does not converge."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from himlip_ase.errors import InputError
from himlip_ase.labels.molecules.wb97x import WB97X

pytest.importorskip("pyscf")


def _hydrogen() -> Atoms:
    return Atoms("H2", positions=[[0.0, 0.1, 0.0], [0.05, 0.0, 0.8]])


def test_gradient_and_hessian_are_derivatives() -> None:
    atoms, labeller, step = _hydrogen(), WB97X(), 0.005
    result = labeller.calculate(atoms, hessian=True)
    direction = np.array([[0.0, 0.3, -0.2], [0.1, 0.0, 1.0]])
    ahead, behind = (
        labeller.calculate(Atoms(atoms.numbers, positions=atoms.positions + s * direction), hessian=False)
        for s in (step, -step)
    )
    slope = (behind.energy - ahead.energy) / (2 * step)
    assert (result.forces * direction).sum() == pytest.approx(slope, abs=5e-3)  # of 3 eV/Å
    assert result.hessian is not None
    product = np.einsum("iajb,jb->ia", result.hessian, direction)
    np.testing.assert_allclose(product, (behind.forces - ahead.forces) / (2 * step), atol=0.1)  # of 40 eV/Å²


def test_sum_rule_mends_the_grids() -> None:
    atoms = _hydrogen()
    fine = WB97X(grid_level=4).calculate(atoms, hessian=True)
    coarse = WB97X(grid_level=2).calculate(atoms, hessian=True)
    assert coarse.hessian is not None and fine.hessian is not None
    assert np.abs(coarse.hessian.sum(axis=2)).max() < 1e-10
    assert np.abs(coarse.hessian - fine.hessian).max() < 0.3
    assert np.abs(coarse.forces.sum(axis=0)).max() < 1e-4


def test_settings_and_unknown_basis() -> None:
    assert "wb97x/6-31g(d)" in WB97X().settings["method"]
    with pytest.raises(InputError, match="grid level"):
        WB97X(grid_level=12)
    with pytest.raises(InputError, match="no basis"):
        WB97X(basis="none-such").calculate(_hydrogen(), hessian=False)


@pytest.mark.slow
def test_density_fitting_changes_little() -> None:
    atoms = molecule("H2O")
    exact, fitted = (
        WB97X(grid_level=2, density_fitting=on).calculate(atoms, hessian=True) for on in (False, True)
    )
    assert exact.hessian is not None and fitted.hessian is not None
    assert np.abs(exact.hessian - fitted.hessian).max() < 0.02
    np.testing.assert_allclose(exact.forces, fitted.forces, atol=5e-3)

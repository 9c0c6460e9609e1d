"""Errors of modes on Hessians whose modes are known."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from himlip_ase.hint.evaluation.mode_overlap import internal_modes, mode_errors
from himlip_ase.units import signed_frequencies_cm
from tests.hint.toy import toy_hessian


def _diatomic(k: float, distance: float = 0.74) -> tuple[Atoms, np.ndarray]:
    matrix = np.zeros((2, 3, 2, 3))
    matrix[:, 2, :, 2] = k * np.array([[1, -1], [-1, 1]])
    return Atoms("H2", [[0, 0, 0], [0, 0, distance]]), matrix


def test_a_spring_has_one_internal_mode() -> None:
    """ω² = k/μ, and rotations of a linear molecule are not modes."""
    atoms, matrix = _diatomic(35.0)
    values, modes = internal_modes(atoms, matrix)
    mass = atoms.get_masses()[0]
    assert values == pytest.approx([35.0 * 2 / mass])
    assert np.abs(modes[:, 0]) == pytest.approx([0, 0, 2**-0.5, 0, 0, 2**-0.5])
    errors = mode_errors(atoms, _diatomic(-20.0)[1], matrix)
    assert errors.eigenvalue_mae == pytest.approx(55.0 * 2 / mass)
    lower, upper = signed_frequencies_cm(np.array([-40.0, 70.0]) / mass)
    assert errors.frequency_mae == pytest.approx(upper - lower)
    assert (errors.sign_agreement, errors.unstable) == (0.0, (0, 1))
    assert errors.lowest_cosine == pytest.approx(1.0)


def test_number_of_internal_modes() -> None:
    for atoms, expected in ((molecule("H2O"), 3), (molecule("CO2"), 4), (bulk("Cu", cubic=True), 9)):
        assert len(internal_modes(atoms, np.zeros((len(atoms), 3, len(atoms), 3)))[0]) == expected
    assert mode_errors(Atoms("H"), np.zeros((1, 3, 1, 3)), np.zeros((1, 3, 1, 3))) is None


def test_degenerate_softest_modes_count_together() -> None:
    """A cubic crystal's softest modes may come out in any mixture: the overlap stays one."""
    crystal = bulk("Cu", "fcc", a=3.7, cubic=True)
    matrix = toy_hessian(crystal)
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert mode_errors(crystal, matrix, matrix).lowest_cosine == pytest.approx(1.0)
    tilted = matrix.copy()
    tilted[:] += 1e-6 * np.einsum("ij,ab->iajb", np.eye(4) - 0.25, axes @ np.diag([1, 2, 3]) @ axes.T)
    assert mode_errors(crystal, tilted, matrix).lowest_cosine == pytest.approx(1.0, abs=1e-3)
    # The softest modes of −H are the stiffest of H.
    assert mode_errors(crystal, -matrix, matrix).lowest_cosine < 1e-6

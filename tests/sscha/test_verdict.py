"""The verdict: noise passes, a real change does not, and the sentence says which."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.sscha.convergence.residual import Residual
from himlip_ase.sscha.convergence.verdict import fresh_test, reason


def made_of(shifts: np.ndarray, sigma: float, force: float = 0.0, force_sigma: float = 0.0) -> Residual:
    shifts = shifts.copy()
    shifts[0, :3] = 0
    return Residual(
        shifts,
        np.full(shifts.shape, sigma),
        np.zeros((4, *shifts.shape, shifts.shape[1])),
        np.full((2, 3), force),
        np.full((2, 3), force_sigma),
    )


def test_noise_passes_and_a_change_does_not():
    noise = np.random.default_rng(0).normal(size=(200, 6))
    test = fresh_test(made_of(5 * noise, 5.0), None)
    assert test.rms_z == pytest.approx(1, abs=0.1) and test.passed(2.0)
    doubled = fresh_test(made_of(np.sqrt(2) * 5 * noise, 5.0), made_of(noise, 5.0))
    assert doubled.rms_z == pytest.approx(test.rms_z, rel=1e-3)
    changed = fresh_test(made_of(5 * noise + 15, 5.0), None)
    assert not changed.passed(2.0) and "more than the 2 allowed" in reason(changed, "gradient", 2.0)
    assert "within the 2 allowed" in reason(test, "gradient", 2.0)
    assert "Kong-Liu" in reason(test, "kong-liu", 2.0)


def test_one_mode_far_off_is_seen_among_many():
    shifts = np.random.default_rng(1).normal(size=(200, 6))
    shifts[7, 2] = 12
    test = fresh_test(made_of(shifts, 1.0), None)
    assert test.rms_z < 2 and not test.passed(2.0)
    assert test.largest_shift_cm == 12


def test_noiseless_agreement_passes_and_forces_count():
    still = np.zeros((8, 6))
    assert fresh_test(made_of(still, 0.0), None).passed(2.0)
    assert fresh_test(made_of(still, 0.0, force=1e-17), None).rms_z == 0
    assert not fresh_test(made_of(still, 0.0, force=0.05, force_sigma=0.001), None).passed(2.0)

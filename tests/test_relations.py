"""Numbers that a few others contradict are told; rounding and noise are not."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from himlip_ase.relations import broken_by_few, net_force, tell_net_forces

GENERATOR = np.random.default_rng(0)


def test_one_wrong_number_among_many_is_found_and_noise_is_not() -> None:
    exact = np.zeros((10, 10))
    assert broken_by_few(exact, 1.0) == 0
    assert broken_by_few(exact + 1e-9 * GENERATOR.normal(size=exact.shape), 1.0) == 0
    assert broken_by_few(0.01 * GENERATOR.normal(size=exact.shape), 1.0) == 0  # a little everywhere
    exact[3, 4] = 1e-4
    assert broken_by_few(exact, 1.0) == 1e-4
    assert broken_by_few(np.full(50, 0.2), 1.0) == 0.2  # much everywhere
    assert broken_by_few(np.zeros(0), 1.0) == broken_by_few(exact, 0.0) == 0


def test_forces_that_do_not_add_up_are_told(caplog: pytest.LogCaptureFixture) -> None:
    forces = GENERATOR.normal(0, 0.1, (6, 3))
    forces -= forces.mean(axis=0)
    flipped = forces.copy()
    flipped[2, 1] += 0.2
    assert net_force(flipped)[0] == pytest.approx(0.2)
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        tell_net_forces([("right", forces), ("rounded", forces.round(3)), ("atom", np.ones((1, 3)))])
        assert not caplog.text
        tell_net_forces([("right", forces), ("run 7", flipped)])
    assert "the forces of 1 structure do not add up to zero; worst is run 7, 0.2 eV/Å" in caplog.text

"""What is held out of a training together: trajectories, compositions, sets."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.training_labels import prepare_labels, split_indices
from tests.hint.toy import rattled, toy_frame

SETTINGS = TrainingSettings(epochs=1, device="cpu", validation_fraction=0.25)


def test_trajectories_are_told_and_can_be_held_out_at_their_end(caplog) -> None:
    rest = bulk("Cu", "fcc", a=3.7, cubic=True)
    amplitude = np.random.default_rng(1).normal(0, 0.1, rest.positions.shape)
    walk = []
    for k in range(20):
        atoms = rest.copy()
        atoms.positions += np.sin(k / 10) * amplitude
        walk.append(toy_frame(atoms, "md"))
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        prepare_labels([toy_frame(a) for a in rattled(rest, 20, 0.1)], settings=SETTINGS)
        assert "hold_out" not in caplog.text
        prepare_labels(walk, settings=SETTINGS)
    assert "neighbouring frames of md are alike" in caplog.text and "hold_out: trajectories" in caplog.text
    last = prepare_labels(walk, settings=replace(SETTINGS, hold_out="trajectories"))
    assert [f.energy for f in last.held_out] == [f.energy for f in walk[-5:]]


def test_whole_compositions_are_held_out() -> None:
    formulas = ["A"] * 6 + ["B"] * 5 + ["C"] * 4
    kept, held = split_indices(["s"] * 15, 0.3, 0, "structures", formulas)
    assert sorted(kept + held) == list(range(15)) and len(held) >= 5
    assert not {formulas[k] for k in kept} & {formulas[k] for k in held}
    with pytest.raises(InputError, match="several compositions"):
        split_indices(["s"] * 5, 0.3, 0, "structures", ["A"] * 5)


def test_whole_sets_are_held_out() -> None:
    sets = ["reaction 1"] * 6 + ["reaction 2"] * 5 + ["reaction 3"] * 4
    kept, held = split_indices(sets, 0.3, 0, "sets")
    assert sorted(kept + held) == list(range(15)) and held
    assert not {sets[k] for k in kept} & {sets[k] for k in held}
    with pytest.raises(InputError, match="several sets"):
        split_indices(["one"] * 5, 0.3, 0, "sets")

"""The reaction potential of the package finds saddles and is the one that its card describes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from himlip_ase import HiMLIPCalculator
from himlip_ase.labels.store import LabelStore
from himlip_ase.potential.checkpoint import read_card
from himlip_ase.reactions import calculator_by_name, find_saddle
from himlip_ase.vibrations.normal_modes import normal_modes

LABELS = Path(__file__).parents[2] / "examples" / "reactions" / "labels"
NAME = "himlip-chno-1"


@pytest.fixture(scope="module")
def reactions() -> list[dict]:
    return json.loads((LABELS / "reactions.json").read_text(encoding="utf-8"))["list"]


def test_saddle_of_hydrogen_cyanide_is_the_teachers(reactions) -> None:
    store = LabelStore(LABELS / "reactions.h5")
    known = store[next(r for r in reactions if r["set"] == "training 0127")["transition_state"]]
    start = known.atoms.copy()
    start.positions += 0.05 * np.random.default_rng(0).normal(size=start.positions.shape)
    found = find_saddle(start, calculator_by_name(NAME))
    assert found.converged and len(found.imaginary) == 1
    teacher = normal_modes(known.atoms, known.hessian.matrix).frequencies
    assert found.imaginary[0] == pytest.approx(teacher[0], rel=0.3)
    distances = found.atoms.get_all_distances() - known.atoms.get_all_distances()
    assert np.abs(distances).max() < 0.15


def test_hessians_of_unseen_reactions_are_those_of_the_card(reactions) -> None:
    """Every tenth of the test reactions, at its transition state."""
    store, calc = LabelStore(LABELS / "reactions.h5"), HiMLIPCalculator(NAME)
    errors = []
    for reaction in [r for r in reactions if r["part"] == "test"][::10]:
        frame = store[reaction["transition_state"]]
        errors.append(np.abs(calc.get_hessian(frame.atoms) - frame.hessian.matrix).mean())
    card = read_card(NAME)["errors"]["unseen reactions"]["mean_over_hessians"]
    assert np.mean(errors) < 1.6 * card["hessian MAE (eV/Å²)"]["mean"]

"""The models of the package, against what their cards say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from himlip_ase.labels.readers import read_labels
from himlip_ase.potential.checkpoint import load_model, read_card
from himlip_ase.potential.evaluate import evaluate

CELLS = Path(__file__).parents[2] / "examples" / "h3s" / "labels"


@pytest.mark.parametrize("name", ["validation_first", "validation_second"])
def test_himlip_h3s_2_misses_forces_of_unlearnt_cells_by_what_its_card_says(name: str) -> None:
    frames = read_labels(CELLS / f"{name}.extxyz")
    found = evaluate(load_model("himlip-h3s-2"), [frame.atoms for frame in frames]).force_array
    missed = np.array([ours - frame.forces for ours, frame in zip(found, frames, strict=True)])
    said = read_card("himlip-h3s-2")["errors"]["never learnt"]["sets"][name]["forces"]["rmse"]
    assert np.sqrt(np.mean(missed**2)) == pytest.approx(said, rel=1e-6)
    learnt_elsewhere = evaluate(load_model("himlip-h3s-1"), [frame.atoms for frame in frames]).force_array
    before = np.array([ours - frame.forces for ours, frame in zip(learnt_elsewhere, frames, strict=True)])
    assert np.mean(missed**2) < 0.6 * np.mean(before**2)

"""The base model that comes with the package is the one that its card and its data describe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase import HiMLIPCalculator
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.labels.readers import read_labels
from himlip_ase.potential.checkpoint import default_model, load_model, read_card

LABELS = Path(__file__).parents[2] / "examples" / "hydrides" / "labels"


def test_errors_on_the_cells_put_aside_are_those_of_the_card() -> None:
    card = read_card("himlip-hydride-1")
    test = [f for name in card["labels"]["sets"] for f in read_labels(LABELS / f"{name}.extxyz")[9::10]]
    by_system = [replace(f, set="".join(sorted(set(f.atoms.symbols)))) for f in test]
    found = evaluate_labels(load_model("himlip-hydride-1"), by_system).sets
    assert set(found) == set(card["errors"]["test"]["sets"])
    for name, errors in card["errors"]["test"]["sets"].items():
        own = found[name].forces
        assert own is not None and own.rmse == pytest.approx(errors["forces"]["rmse"], rel=1e-6)
    sulphur = found["HS"].forces
    assert sulphur is not None and sulphur.rmse < 0.2 * sulphur.label_rms


def test_default_calculator_knows_the_hydrides() -> None:
    """An elastic PdH near its known lattice constant, without network or a name."""
    assert default_model() == "himlip-hydride-1"
    calc = HiMLIPCalculator()
    energies = []
    for a in (3.8, 4.1, 4.4):
        crystal = bulk("PdH", "rocksalt", a=a)
        crystal.calc = calc
        energies.append(crystal.get_potential_energy())
    assert np.argmin(energies) == 1

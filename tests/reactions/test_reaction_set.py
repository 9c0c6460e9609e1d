"""The set of reactions that comes with the examples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.labels.readers import read_labels, without_judges
from himlip_ase.labels.store import LabelStore
from himlip_ase.vibrations.normal_modes import normal_modes

LABELS = Path(__file__).parents[2] / "examples" / "reactions" / "labels"


FILES = ("reactions", "training_more")


def listed_in(name: str) -> list[dict]:
    return json.loads((LABELS / f"{name}.json").read_text(encoding="utf-8"))["list"]


@pytest.fixture(scope="module")
def listed() -> list[dict]:
    return listed_in("reactions")


def test_parts_share_no_reaction_and_judges_are_left_out(listed) -> None:
    keys = {
        part: {r["key"] for r in listed if r["part"] == part} for part in ("training", "validation", "test")
    }
    assert sum(map(len, keys.values())) == len(listed) == len(set().union(*keys.values()))
    frames = read_labels(LABELS / "reactions.h5")
    learnt = {frame.set for frame in without_judges(frames)}
    assert learnt == {r["set"] for r in listed if r["part"] == "training"}


def test_further_reactions_are_learnt_from_and_judge_nothing(listed) -> None:
    more = listed_in("training_more")
    store, judges = LabelStore(LABELS / "training_more.h5"), LabelStore(LABELS / "reactions.h5")
    assert {r["part"] for r in more} == {"training"} == {f.set.split()[0] for f in store}
    assert not {r["key"] for r in more} & {r["key"] for r in listed}
    saddles = [
        (sorted(frame.atoms.numbers), frame.energy)
        for frame in (judges[r["transition_state"]] for r in listed if r["part"] != "training")
    ]
    for reaction in more:
        frame = store[reaction["transition_state"]]
        near = [e for n, e in saddles if n == sorted(frame.atoms.numbers) and abs(e - frame.energy) < 5e-4]
        assert not near, reaction["candidate"]


@pytest.mark.parametrize("name", FILES)
def test_each_reaction_is_a_saddle_between_two_minima(name) -> None:
    store = LabelStore(LABELS / f"{name}.h5")
    for reaction in listed_in(name)[::10]:
        for role, imaginary in (("reactant", 0), ("transition_state", 1), ("product", 0)):
            frame = store[reaction[role]]
            assert frame.set == reaction["set"]
            assert np.linalg.norm(frame.forces, axis=1).max() < 0.02
            found = normal_modes(frame.atoms, frame.hessian.matrix)
            assert (found.frequencies < -30).sum() == imaginary, reaction["candidate"]
        energies = [store[k].energy for k in range(*reaction["frames"])]
        top = energies[reaction["transition_state"] - reaction["frames"][0]]
        assert top > max(energies) - 0.1
        assert reaction["barrier_ev"] == pytest.approx(top - energies[0])


@pytest.mark.parametrize("name", FILES)
def test_labels_are_those_of_the_method(name) -> None:
    pytest.importorskip("tblite")
    from himlip_ase.labels.molecules.xtb import GFN2

    for frame in list(LabelStore(LABELS / f"{name}.h5"))[7::60]:
        found = GFN2().calculate(frame.atoms, hessian=False)
        assert found.energy == pytest.approx(frame.energy, abs=1e-4)
        assert np.allclose(found.forces, frame.forces, atol=1e-3)


def test_dear_labels_belong_to_reactions_of_the_set(listed) -> None:
    store, cheap = LabelStore(LABELS / "wb97x.h5"), LabelStore(LABELS / "reactions.h5")
    by_set = {reaction["set"]: reaction for reaction in listed}
    roles: dict[str, set[str]] = {}
    for frame in store:
        reaction = by_set[frame.set]
        for role in ("reactant", "transition_state", "product"):
            if np.allclose(cheap[reaction[role]].atoms.positions, frame.atoms.positions, atol=1e-6):
                roles.setdefault(frame.set, set()).add(role)
    assert sum(len(found) == 3 for found in roles.values()) >= 12

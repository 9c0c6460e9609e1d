"""The models of the package, against what their cards say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.last_layer.twin_weights import check_unlearnt, load_twins, twin_without
from himlip_ase.labels.digests import configuration_digest
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.potential.checkpoint import find_model, load_model, read_card
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.interface import Potential

EXAMPLES = Path(__file__).parents[2] / "examples"
CELLS = EXAMPLES / "h3s" / "labels"


REFINED = {
    "himlip-h3s-3": ("h3s", ("validation_first", "validation_second")),
    "himlip-cah6-1": ("cah6", ("validation", "validation_second")),
}
"""himlip-hydride-2 trained further on one crystal: that crystal, and cells of it that it has not learnt."""


@pytest.mark.parametrize(
    ("model", "crystal", "name"),
    [(model, crystal, name) for model, (crystal, names) in REFINED.items() for name in names],
)
def test_a_refined_model_misses_cells_by_less_than_its_base(model: str, crystal: str, name: str) -> None:
    frames = read_labels(EXAMPLES / crystal / "labels" / f"{name}.extxyz")
    found = missed(load_model(model), frames)
    said = read_card(model)["errors"]["never learnt"]["sets"][name]["forces"]["rmse"]
    assert found == pytest.approx(said, rel=1e-6)
    assert found < missed(load_model("himlip-hydride-2"), frames)


@pytest.mark.parametrize("model", REFINED)
def test_cells_that_the_twins_of_a_base_left_out_are_left_out_again(model: str) -> None:
    ours, theirs = (twin_without(find_model(name)) for name in (model, "himlip-hydride-2"))
    assert ours.items() >= theirs.items()


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


def missed(model: Potential, frames: Sequence[LabelledFrame]) -> float:
    """Error of the forces, eV/Å rms."""
    found = evaluate(model, [frame.atoms for frame in frames]).forces
    off = [ours - frame.forces for ours, frame in zip(found, frames, strict=True)]
    return float(np.sqrt(np.mean(np.concatenate(off) ** 2)))


@pytest.mark.parametrize(
    ("crystal", "name"),
    [
        ("h3s", "validation_first"),
        ("h3s", "validation_sheared"),
        ("cah6", "validation"),
        ("lah10", "validation"),
        ("pdh", "validation"),
    ],
)
def test_himlip_hydride_2_misses_forces_of_unlearnt_cells_by_what_its_card_says(
    crystal: str, name: str
) -> None:
    frames = read_labels(EXAMPLES / crystal / "labels" / f"{name}.extxyz")
    found = missed(load_model("himlip-hydride-2"), frames)
    said = read_card("himlip-hydride-2")["errors"]["never learnt"]["sets"][f"{crystal} {name}"]
    assert found == pytest.approx(said["forces"]["rmse"], rel=1e-6)
    assert found < 0.7 * missed(load_model("himlip-hydride-1"), frames)
    assert not set(map(digest, frames)) & set(twin_without(find_model("himlip-hydride-2")))


@pytest.mark.parametrize("crystal", ["h3s", "cah6", "pdh"])
def test_harmonic_phonons_of_himlip_hydride_2_are_those_of_the_matrices(crystal: str) -> None:
    matrices = read_hessian(EXAMPLES / crystal / "labels" / "harmonic" / "dyn")
    found = evaluate_labels(load_model("himlip-hydride-2"), [], [matrices])
    (frequencies,) = (errors.frequencies for errors in found.hessians.values())
    assert frequencies is not None and frequencies.rmse < 5.1


def test_each_learnt_cell_is_unknown_to_one_twin_and_twins_miss_such_cells_by_more_than_the_model() -> None:
    frames = read_labels(EXAMPLES / "lah10" / "labels" / "learn_second.extxyz")
    path = find_model("himlip-hydride-2")
    number, twins, model = twin_without(path), load_twins(path), load_model(path)
    assert {number[digest(frame)] for frame in frames} == set(range(len(twins)))
    parts = [[frame for frame in frames if number[digest(frame)] == twin] for twin in range(len(twins))]
    unknown = [missed(twin, own) for twin, own in zip(twins, parts, strict=True)]
    known = [missed(model, own) for own in parts]
    assert np.mean(np.square(unknown)) > 1.5 * np.mean(np.square(known))


def test_no_head_is_fitted_to_cells_that_the_base_has_learnt() -> None:
    frames = read_labels(EXAMPLES / "cah6" / "labels" / "learn.extxyz")
    check_unlearnt("himlip-hydride-1", frames)
    check_unlearnt("himlip-hydride-2", read_labels(EXAMPLES / "cah6" / "labels" / "validation.extxyz"))
    with pytest.raises(InputError, match="has learnt 14 of these 14 cells"):
        check_unlearnt("himlip-hydride-2", frames)
    beside = read_labels(EXAMPLES / "hydrides" / "labels" / "metal_zero_point.extxyz")
    with pytest.raises(InputError, match="has learnt 20 of these 22 cells"):  # every tenth is put aside
        check_unlearnt("himlip-hydride-2", beside)


def digest(frame: LabelledFrame) -> str:
    """What tells its structure from others."""
    return configuration_digest(frame.atoms)

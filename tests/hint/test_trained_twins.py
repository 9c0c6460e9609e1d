"""Twins trained by gradients: each without its part, also where a base that knows the cells goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.trained_twins import (
    TUNED,
    Tuning,
    partition,
    tune,
    tune_twin,
    tune_twins,
    twins_of,
)
from himlip_ase.hint.last_layer.twin_weights import learnt_by, load_twins, save_twins, twin_without
from himlip_ase.hint.training.settings import TrainingSettings, all_weights
from himlip_ase.labels.digests import configuration_digest
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.potential.checkpoint import load_model, save_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame

SHAPE = HiMLIPConfig(("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1)
QUICK = TrainingSettings(epochs=30, learning_rate=0.01, batch_size=4, validation_fraction=0, ema=0)
CRYSTAL = bulk("Cu", "fcc", a=3.7).repeat((2, 1, 1))


def cells(number: int, seed: int = 0) -> list[list[LabelledFrame]]:
    return [[toy_frame(image)] for image in rattled(CRYSTAL, number, 0.2, seed)]


def misses(model: Potential, group: Sequence[LabelledFrame]) -> float:
    said = evaluate(model, [frame.atoms for frame in group]).force_array
    return float(np.sqrt(np.mean((said - np.array([frame.forces for frame in group])) ** 2)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of eight cells with four twins beside it."""
    folder, groups = tmp_path_factory.mktemp("trained"), cells(8)
    tuning = Tuning(None, QUICK, network=SHAPE)
    model = tune([frame for group in groups for frame in group], tuning, folder / "all")
    twins = tune_twins(groups, partition(groups, 4), tuning, folder)
    save_twins(twins, save_model(model, folder / "model.safetensors", {"licence": "CC0"}))
    return folder


def test_a_twin_misses_most_what_it_has_not_learnt(trained: Path) -> None:
    groups, twins = cells(8), load_twins(trained / "model.safetensors")
    unknown = [misses(twins[k % 4], group) for k, group in enumerate(groups)]
    known = [misses(twins[(k + 1) % 4], group) for k, group in enumerate(groups)]
    assert np.mean(np.square(unknown)) > np.mean(np.square(known))


def test_twins_of_the_base_go_on_with_their_own_parts(trained: Path, tmp_path: Path) -> None:
    """The chain stays honest: what twin k had not learnt before, it does not learn now, whatever it says."""
    groups = [*cells(8)[5:], *cells(2, seed=9)]  # in another order, with two that the base has never seen
    chosen = partition(groups, 10, trained / "model.safetensors")
    assert chosen.part_of == (1, 2, 3, 0, 1)
    tuning = Tuning(trained / "model.safetensors", replace(QUICK, epochs=3), head=None)
    twins = tune_twins(groups, chosen, tuning, tmp_path / "true")
    ((frame,),) = groups[2:3]
    assert frame.forces is not None
    groups[2] = [replace(frame, forces=2 * frame.forces)]
    others = tune_twins(groups, chosen, tuning, tmp_path / "wrong")
    same = [
        all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in twin.state_dict().items())
        for twin, other in zip(twins.without, others.without, strict=True)
    ]
    assert same == [False, False, False, True]


def test_what_is_replayed_or_shared_does_not_bring_back_what_a_twin_leaves_out(tmp_path: Path) -> None:
    groups = cells(4)
    every = [frame for group in groups for frame in group]
    tuning = Tuning(HiMLIP(SHAPE, seed=1), replace(QUICK, epochs=2), head=None)
    alone = tune_twin(groups, range(4), 1, tuning, tmp_path / "alone")
    more = replace(tuning, replay=every[1:2], shared=every[1:2])
    beside = tune_twin(groups, range(4), 1, more, tmp_path / "beside")
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, beside.state_dict()[name]), name


def test_what_a_model_had_learnt_is_known_two_trainings_later(trained: Path, tmp_path: Path) -> None:
    """First cells, then other cells, then the first ones again: no twin is left that does not know them."""
    first, second = cells(8), cells(4, seed=9)
    base = trained / "model.safetensors"
    chosen = partition(second, 4, base)
    tuning = Tuning(base, replace(QUICK, epochs=1), head=None)
    model = tune([frame for group in second for frame in group], tuning, tmp_path / "all")
    path = save_model(model, tmp_path / "model.safetensors", {"licence": "CC0"})
    save_twins(tune_twins(second, chosen, tuning, tmp_path), path, before=chosen.before)
    assert len(learnt_by(path)) == 12
    with pytest.raises(InputError, match="all its twins have learnt some of these cells"):
        partition(first, 4, path)
    assert partition(second, 4, path).part_of == (0, 1, 2, 3)


def test_the_mean_of_twins_counts_every_cell_alike(trained: Path) -> None:
    """What control variates ask for: nonlinear twins are averaged in what they say, by the sizes of parts."""
    groups, without = cells(5), load_twins(trained / "model.safetensors")
    twins = twins_of(groups, partition(groups, 4).part_of, without)
    images = [frame.atoms for group in groups for frame in group]
    said = np.array([evaluate(twin, images).energies for twin in without])
    np.testing.assert_allclose(twins.evaluate_mean(images).energies, np.array([2, 1, 1, 1]) @ said / 5)
    judging = (1, 1, 3)  # those whose cells were chosen at random
    np.testing.assert_allclose(twins.evaluate_mean(images, judging).energies, (2 * said[1] + said[3]) / 3)


def test_what_every_twin_of_the_base_has_learnt_is_refused(trained: Path, tmp_path: Path) -> None:
    groups = cells(8)
    model = load_model(trained / "model.safetensors")
    tuning = Tuning(model, replace(QUICK, epochs=1), head=None)
    twins = tune_twins(groups[:4], partition(groups[:4], 4), tuning, tmp_path)
    path = save_model(model, tmp_path / "model.safetensors", {"licence": "CC0"})
    save_twins(twins, path, learnt_by_all=groups[5])
    assert partition(groups[:5], 4, path).part_of == (0, 1, 2, 3, 0)
    with pytest.raises(InputError, match="all its twins have learnt some of these cells"):
        partition(groups[:6], 4, path)


def test_a_stopped_training_of_twins_ends_as_an_unbroken_one(trained: Path, tmp_path: Path) -> None:
    groups, tuning = cells(4), Tuning(trained / "model.safetensors", replace(QUICK, epochs=4))
    whole = tune_twins(groups, partition(groups, 4), tuning, tmp_path / "whole")
    tune_twins(groups, partition(groups, 4), tuning, tmp_path / "parts")
    (tmp_path / "parts" / "without_2" / TUNED).unlink()
    with pytest.raises(InputError, match="belongs to other labels or another model"):
        tune_twins(cells(4, seed=3), partition(groups, 4), tuning, tmp_path / "parts", resume=True)
    again = tune_twins(groups, partition(groups, 4), tuning, tmp_path / "parts", resume=True)
    for ours, theirs in zip(again.without, whole.without, strict=True):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_by_the_command(tmp_path: Path) -> None:
    groups = cells(8)
    images = []
    for (frame,) in groups:
        image = frame.atoms.copy()
        image.info |= {"REF_energy": frame.energy, "REF_stress": frame.stress}
        image.arrays["REF_forces"] = frame.forces
        images.append(image)
    ase.io.write(tmp_path / "cells.extxyz", images)
    (tmp_path / "net.yaml").write_text(
        "network: {elements: [Cu], cutoff: 4.5, n_radial: 4, channels: 2, edge_features: 2, hidden: 8, "
        "layers: 1}\n"
    )
    words = [
        "finetune",
        "--labels",
        tmp_path / "cells.extxyz",
        "--config",
        tmp_path / "net.yaml",
        "--epochs",
        2,
    ]
    words += ["--out", tmp_path / "run", "--no-plots"]

    def run(*more: object) -> str:
        result = CliRunner().invoke(app, list(map(str, [*words, *more])))
        return result.output + str(result.exception or "")

    assert "give at least 4" in run("--twins", 3)
    ase.io.write(tmp_path / "few.extxyz", images[:3])
    few = CliRunner().invoke(app, ["finetune", "--labels", str(tmp_path / "few.extxyz"), "--twins", "4"])
    assert few.exit_code == 2 and "3 independent groups of cells" in few.output
    assert "leave --closed-form and --remainder out" in run("--twins", 4, "--closed-form", "after")
    assert "_twins.safetensors" in run("--twins", 4)
    model = tmp_path / "run" / "model.safetensors"
    assert len(load_twins(model)) == 4
    left_out = twin_without(model)
    assert {left_out[configuration_digest(frame.atoms)] for (frame,) in groups} == {0, 1, 2, 3}


def test_all_weights_learn_as_the_recipe_of_himlip_hydride_2_says() -> None:
    from himlip_ase.hint.training.config import read_training_config

    recipe, _ = read_training_config(Path(__file__).parents[2] / "examples" / "hydrides" / "second.yaml")
    assert recipe == replace(all_weights(), epochs=recipe.epochs)

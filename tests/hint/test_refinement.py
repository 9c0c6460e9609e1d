"""Quasi-Newton descent at the end of a training run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.refinement import polish
from himlip_ase.hint.training.settings import PolishSettings, TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_label

NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1, mean_neighbours=12.0
)
SETTINGS = TrainingSettings(
    epochs=2,
    batch_size=3,
    validation_fraction=0.0,
    device="cpu",
    polish=PolishSettings(rounds=2, iterations=6),
)


@pytest.fixture
def frames():
    return [toy_frame(atoms) for atoms in rattled(bulk("Cu", "fcc", a=3.7, cubic=True), 5, 0.15)]


@pytest.fixture
def label():
    return toy_label(bulk("Cu", "fcc", a=3.7, cubic=True))


def whole_loss(model: HiMLIP, frames, label) -> float:
    """Loss of all labels, with the whole Hessian in the place of projections."""
    from himlip_ase.hint.training import refinement as module

    trainer = Trainer(model, frames, [label], SETTINGS)
    batch = trainer.store.batch(range(len(frames)))
    item = trainer.hessians[0]
    drawn = item.draw("full", 1, torch.Generator())
    return module._accumulate(trainer, [batch], [drawn])["loss"]


def test_each_round_lowers_the_loss(frames, label) -> None:
    losses = []
    for rounds in (0, 1, 2):
        settings = replace(SETTINGS, polish=replace(SETTINGS.polish, rounds=rounds))
        model = finetune(frames, [label], settings=settings, network=NETWORK).model
        losses.append(whole_loss(model, frames, label))
    assert losses[1] < 0.5 * losses[0]
    assert losses[2] < losses[1]


def test_the_gradient_is_that_of_the_mean_over_all_labels(frames, label) -> None:
    """Batches of different sizes add up to the loss of one batch."""
    from himlip_ase.hint.training import refinement as module

    sizes = [*frames, toy_frame(rattled(bulk("Cu", "fcc", a=3.7), 1, 0.1, seed=3)[0])]
    model = HiMLIP(NETWORK, seed=1)
    trainer = Trainer(model, sizes, [], SETTINGS)
    whole = module._accumulate(trainer, [trainer.store.batch(range(len(sizes)))], [])
    expected = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    parts = module._accumulate(trainer, [trainer.store.batch([0, 5]), trainer.store.batch([1, 2, 3, 4])], [])
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-10)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


def test_resumed_polish_is_the_unbroken_one_to_the_bit(frames, label, tmp_path: Path) -> None:
    whole = finetune(frames, [label], settings=SETTINGS, folder=tmp_path / "whole", network=NETWORK)

    class Stop(Exception):
        pass

    def stop(progress) -> None:
        if len(progress.history) == 3:
            raise Stop

    with pytest.raises(Stop):
        finetune(frames, [label], settings=SETTINGS, folder=tmp_path / "cut", network=NETWORK, on_epoch=stop)
    cut = finetune(frames, [label], settings=SETTINGS, folder=tmp_path / "cut", network=NETWORK, resume=True)
    for a, b in zip(cut.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert len(cut.progress.history) == len(whole.progress.history) == 4
    steps = [[row["step"] for row in result.progress.history] for result in (cut, whole)]
    assert steps[0] == steps[1]


def test_polish_of_other_settings_is_refused(frames, label, tmp_path: Path) -> None:
    finetune(frames, [label], settings=SETTINGS, folder=tmp_path, network=NETWORK)
    other = replace(SETTINGS, polish=PolishSettings(rounds=3, iterations=7))
    with pytest.raises(InputError, match="other settings"):
        finetune(frames, [label], settings=other, folder=tmp_path, network=NETWORK, resume=True)


def test_a_diverging_round_leaves_the_weights_as_they_were(frames, label) -> None:
    trainer = Trainer(HiMLIP(NETWORK, seed=1), frames, [], SETTINGS)
    before = [parameter.detach().clone() for parameter in trainer.parameters.values()]
    trainer.store.batch([0]).energies.fill_(float("nan"))
    with pytest.raises(Exception, match="diverged"):
        polish(trainer)
    for a, b in zip(trainer.parameters.values(), before, strict=True):
        assert torch.equal(a, b)


def test_a_listener_hears_how_far_the_refinement_is(frames, label, caplog) -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard = []

        def __call__(self, progress) -> None:
            pass

        def polishing(self, standing) -> None:
            self.heard.append(standing)

    listener = Listener()
    with caplog.at_level("INFO", logger="himlip_ase"):
        finetune(frames, [label], settings=SETTINGS, network=NETWORK, on_epoch=listener)
    rounds, iterations = SETTINGS.polish.rounds, SETTINGS.polish.iterations
    places = [(item.round, item.iteration) for item in listener.heard]
    assert places == sorted(places) and {item.round for item in listener.heard} == set(range(1, rounds + 1))
    last = listener.heard[-1]
    assert 0 < last.iteration <= iterations and last.seconds_left < listener.heard[0].seconds_left
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("polish: ")]
    assert (
        f"{rounds} rounds of {iterations} iterations on" in told[0]
        and f"round {rounds} of {rounds}" in told[-1]
    )

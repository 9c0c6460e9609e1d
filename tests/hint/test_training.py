"""Training learns, continues exactly, stops safely."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

import himlip_ase.hint.training.checkpoints as state_module
from himlip_ase.errors import InputError
from himlip_ase.hint.evaluation.evaluate import evaluate_labels, hessian_errors
from himlip_ase.hint.last_layer.closed_form import fit_closed_form
from himlip_ase.hint.last_layer.closed_form_run import finetune_closed_form
from himlip_ase.hint.training.checkpoints import read_history
from himlip_ase.hint.training.curriculum import Curriculum
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.progress import TrainingDiverged
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.hint.training.training_labels import split_frames
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_hessian, toy_label

SMALL = HiMLIPConfig(
    elements=("Cu",),
    cutoff=4.5,
    n_radial=4,
    channels=2,
    edge_features=2,
    hidden=8,
    layers=1,
    mean_neighbours=12.0,
)
FAST = TrainingSettings(
    epochs=4, batch_size=3, validation_fraction=0.0, learning_rate=5e-3, warmup_steps=2, device="cpu",
    checkpoint_seconds=0.0, validate_every=2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def crystal() -> Atoms:
    return bulk("Cu", "fcc", a=3.7, cubic=True)


@pytest.fixture
def frames(crystal: Atoms) -> list[LabelledFrame]:
    return [toy_frame(a) for a in rattled(crystal, 6, 0.15)]


@pytest.fixture
def label(crystal: Atoms) -> HessianLabel:
    return toy_label(crystal)


def _losses(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def test_gradient_of_the_hessian_loss_is_its_finite_difference(frames, label) -> None:
    """Third derivatives: d/dw of |(H − H_ref)v|² against central differences in single parameters."""
    model = HiMLIP(SMALL, seed=1)
    trainer = Trainer(model, frames, [label], FAST)
    model.standardise(trainer.store.batch(range(len(frames))).graph)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():  # the readout starts from zero
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    item = trainer.hessians[0]
    drawn = item.draw("rademacher", 2, torch.Generator().manual_seed(0))
    trainer.hessian_loss(item, drawn).backward()
    checked = 0
    for parameter in model.parameters():
        if parameter.grad is None or not parameter.grad.abs().max() > 1e-3:
            continue
        k = int(parameter.grad.abs().argmax())
        flat, step = parameter.data.view(-1), 1e-5
        kept = float(flat[k])
        values = []
        for sign in (1, -1):
            flat[k] = kept + sign * step
            values.append(float(trainer.hessian_loss(item, drawn, create_graph=False)))
        flat[k] = kept
        numeric = (values[0] - values[1]) / (2 * step)
        assert float(parameter.grad.view(-1)[k]) == pytest.approx(numeric, rel=1e-5)
        checked += 1
    assert checked >= 4


@pytest.mark.parametrize("optimizer", ["adam", "soap"])
def test_fault_31_a_resumed_run_is_the_unbroken_run(frames, label, tmp_path: Path, optimizer: str) -> None:
    """Stopped after two epochs of five and continued, with held-out frames, averages and fresh probes."""
    settings = replace(FAST, epochs=5, validation_fraction=0.2, ema=0.9, optimizer=optimizer)
    whole = finetune(frames, [label], settings=settings, folder=tmp_path / "whole", network=SMALL)

    class Stop(Exception):
        pass

    def stop(progress) -> None:
        if progress.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        finetune(frames, [label], settings=settings, folder=tmp_path / "cut", network=SMALL, on_epoch=stop)
    with pytest.raises(InputError, match="--resume"):
        finetune(frames, [label], settings=settings, folder=tmp_path / "cut", network=SMALL)
    cut = finetune(frames, [label], settings=settings, folder=tmp_path / "cut", network=SMALL, resume=True)
    assert _losses(cut.progress.history) == _losses(whole.progress.history)
    for a, b in zip(cut.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [r["epoch"] for r in read_history(tmp_path / "cut" / "history.csv")] == [1, 2, 3, 4, 5]


def test_checkpoint_of_other_labels_or_settings_is_refused(frames, label, tmp_path: Path) -> None:
    finetune(frames, [label], settings=FAST, folder=tmp_path, network=SMALL)
    with pytest.raises(InputError, match=r"learning_rate was 0\.005, now 0\.001"):
        finetune(
            frames,
            [label],
            settings=replace(FAST, learning_rate=1e-3),
            folder=tmp_path,
            network=SMALL,
            resume=True,
        )
    with pytest.raises(InputError, match="other labels"):
        finetune(frames[:5], [label], settings=FAST, folder=tmp_path, network=SMALL, resume=True)
    with pytest.raises(InputError, match="nothing to resume"):
        finetune(frames, [label], settings=FAST, folder=tmp_path / "new", network=SMALL, resume=True)


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_anew(
    frames, label, tmp_path: Path
) -> None:
    unbroken = finetune(frames, [label], settings=FAST, folder=tmp_path / "a", network=SMALL)
    (tmp_path / "b").mkdir()
    resumed = finetune(frames, [label], settings=FAST, folder=tmp_path / "b", network=SMALL, resume=True)
    weights = resumed.model.state_dict()
    assert all(torch.equal(weights[name], known) for name, known in unbroken.model.state_dict().items())


def test_fault_30_kill_during_a_save_leaves_the_previous_checkpoint(
    frames, label, tmp_path: Path, monkeypatch
) -> None:
    """The write stops half-way, as by kill −9: the last complete checkpoint loads and continues."""
    real = state_module.atomic_write
    saves = []

    def torn(path, mode="w", overwrite=False):
        if Path(path).suffix == ".safetensors":
            saves.append(path)
            if len(saves) == 4:
                Path(path).with_name(".checkpoint.safetensors.torn").write_bytes(b"half of a file")
                raise SystemExit(137)
        return real(path, mode, overwrite)

    monkeypatch.setattr(state_module, "atomic_write", torn)
    with pytest.raises(SystemExit):
        finetune(frames, [label], settings=FAST, folder=tmp_path, network=SMALL)
    monkeypatch.setattr(state_module, "atomic_write", real)
    result = finetune(frames, [label], settings=FAST, folder=tmp_path, network=SMALL, resume=True)
    assert result.progress.epoch == FAST.epochs
    whole = finetune(frames, [label], settings=FAST, network=SMALL)
    assert _losses(result.progress.history) == _losses(whole.progress.history)


def test_damaged_checkpoint_is_refused(frames, label, tmp_path: Path) -> None:
    finetune(frames, [label], settings=FAST, folder=tmp_path, network=SMALL)
    path = tmp_path / "state" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a complete checkpoint"):
        finetune(frames, [label], settings=FAST, folder=tmp_path, network=SMALL, resume=True)


def test_fault_29_nan_loss_stops_and_keeps_the_last_good_checkpoint(frames, label, tmp_path: Path) -> None:
    def spoil(progress) -> None:
        if progress.epoch == 2:
            with torch.no_grad():
                next(iter(trainer.parameters.values())).fill_(float("nan"))

    trainer = Trainer(HiMLIP(SMALL), frames, [label], FAST, folder=tmp_path, on_epoch=spoil)
    with pytest.raises(TrainingDiverged, match=r"epoch 2, step 4: .*nan.*checkpoint\.safetensors"):
        trainer.run()
    fresh = Trainer(HiMLIP(SMALL), frames, [label], FAST, folder=tmp_path)
    fresh.load()
    assert fresh.progress.epoch == 2
    assert all(torch.isfinite(p).all() for p in fresh.parameters.values())
    assert fresh.run().epoch == FAST.epochs


def test_time_budget_ends_a_run_that_continues_with_more(frames, label, tmp_path: Path, monkeypatch) -> None:
    """On a clock that advances a second whenever it is read."""

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 1.0
            return self.now

    monkeypatch.setattr("himlip_ase.hint.training.schedule.time", Clock())
    settings = replace(FAST, epochs=None, max_minutes=0.5)
    first = finetune(frames, [label], settings=settings, folder=tmp_path, network=SMALL).progress
    assert first.finished == "0.5 minutes"
    assert 30 <= first.elapsed < 45
    longer = replace(settings, max_minutes=1.5)
    more = finetune(frames, [label], settings=longer, folder=tmp_path, network=SMALL, resume=True).progress
    assert more.epoch > first.epoch > 0
    assert 90 <= more.elapsed < 105


def test_patience_ends_training(frames) -> None:
    settings = replace(
        FAST, epochs=100, learning_rate=1e-12, patience=2, validate_every=1, validation_fraction=0.2
    )
    result = finetune(frames, settings=settings, network=SMALL)
    assert result.progress.epoch < 20
    assert "no improvement" in result.progress.finished


def test_hessian_weight_zero_equals_no_hessian_given(frames, label) -> None:
    settings = replace(FAST, loss=LossWeights(hessian=0.0))
    with_label = finetune(frames, [label], settings=settings, network=SMALL).model
    without = finetune(frames, [], settings=settings, network=SMALL).model
    for a, b in zip(with_label.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)


def test_partial_labels_are_learnt_from_what_they_have(frames, label) -> None:
    """Frames with only forces, only energy, a molecule without stress, and a Hessian train together."""
    molecule = Atoms("Cu3", positions=[[0, 0, 0], [2.4, 0, 0], [0.3, 2.5, 0]])
    mixed = [
        replace(frames[0], energy=None, stress=None),
        replace(frames[1], forces=None, stress=None),
        replace(toy_frame(molecule), stress=None),
        LabelledFrame(label.atoms, hessian=label),
    ]
    settings = replace(FAST, epochs=40, loss=LossWeights(energy=1, forces=10, hessian=1))
    result = finetune(mixed, settings=settings, network=SMALL)
    first, last = result.progress.history[0], result.progress.history[-1]
    assert last["forces"] < first["forces"]
    assert last["hessian"] < first["hessian"]
    assert "stress" not in last
    assert np.isfinite(last["energy"])


def test_references_of_one_composition_are_fitted(frames) -> None:
    """A large offset, as of total energies, does not have to be learnt by the network."""
    shifted = [replace(f, energy=f.energy - 4000.0) for f in frames]
    result = finetune(shifted, settings=replace(FAST, epochs=1), network=SMALL)
    errors = evaluate_labels(result.model, shifted).sets["toy"]
    assert errors.energy is not None and errors.energy.rmse < 5.0


def test_split_is_seeded_and_by_set(frames) -> None:
    both = frames + [replace(f, set="other") for f in frames]
    training, held = split_frames(both, 0.2, seed=4)
    assert [f.set for f in held] == ["toy", "other"]
    assert len(training) == 10
    again = split_frames(both, 0.2, seed=4)[1]
    assert all(a is b for a, b in zip(held, again, strict=True))
    assert split_frames(frames[:4], 0.2, seed=0)[1] == []


def test_validation_that_shares_a_frame_is_refused(frames) -> None:
    with pytest.raises(InputError, match="both the training and the validation"):
        finetune(frames, settings=FAST, network=SMALL, validation=frames[:1])


def test_base_model_is_continued_and_unknown_elements_are_named(frames, label, tmp_path: Path) -> None:
    base = finetune(frames, [label], settings=replace(FAST, epochs=30), network=SMALL).model
    before = evaluate_labels(base, frames).sets["toy"].forces
    tuned = finetune(frames, [label], base=base, settings=replace(FAST, learning_rate=1e-5, epochs=1))
    after = evaluate_labels(tuned.model, frames).sets["toy"].forces
    assert before is not None and after is not None
    assert after.rmse == pytest.approx(before.rmse, rel=0.05)
    with pytest.raises(InputError, match="Ag"):
        finetune([toy_frame(bulk("Ag", a=3.7))], base=base, settings=FAST)


def test_a_base_in_memory_stays_as_it_is(frames, label) -> None:
    """Else a second training would begin with what the first has learnt, also with what it shall not know."""
    base = finetune(frames[:2], [label], settings=replace(FAST, epochs=2), network=SMALL).model
    before = copy.deepcopy(base.state_dict())
    first = finetune(frames, [label], base=base, settings=FAST).model
    assert all(torch.equal(tensor, base.state_dict()[name]) for name, tensor in before.items())
    again = finetune(frames, [label], base=base, settings=FAST).model
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in first.state_dict().items())
    fit_closed_form(base, frames, [label])
    finetune_closed_form(frames, [label], base=base)
    assert all(torch.equal(tensor, base.state_dict()[name]) for name, tensor in before.items())


def test_hessian_of_a_toy_crystal_is_learnt_with_its_frequencies() -> None:
    """From random weights to the curvature of a Morse crystal; without the Hessian term it stays far off."""
    primitive = bulk("Cu", "fcc", a=3.7)
    empty = ForceConstants(primitive, (2, 2, 2), np.zeros((1, 8, 3, 3)))
    constants = ForceConstants.from_hessian(
        primitive, (2, 2, 2), toy_hessian(empty.supercell), order="phonopy"
    )
    label = HessianLabel.from_force_constants(constants)
    frames = [toy_frame(a) for a in rattled(primitive, 1, 0.0)]
    settings = replace(
        FAST, epochs=120, learning_rate=2e-2, checkpoint_seconds=60.0, validate_every=120,
        curriculum=Curriculum("linear", start=0.1),
        loss=LossWeights(energy=1, forces=1, stress=10, hessian=10),
    )  # fmt: skip
    found: dict[int, list[float]] = {0: [], 1: []}
    for seed in range(3):  # one draw of weights may come close to the curvature by chance
        for hessians in ([label], []):
            seeded = replace(settings, seed=seed)
            errors = hessian_errors(finetune(frames, hessians, settings=seeded, network=SMALL).model, label)
            assert errors.frequencies is not None
            assert errors.sum_rule < 1e-8 and errors.asymmetry < 1e-8
            found[len(hessians)].append(errors.frequencies.rmse)
        assert found[1][-1] < 0.1 * errors.frequencies.label_rms
    assert np.mean(found[1]) < 0.3 * np.mean(found[0])


def test_report_and_card_are_plain_json(frames, label, tmp_path: Path) -> None:
    pytest.importorskip("himlip_ase.potential.checkpoint")
    from himlip_ase.hint.evaluation.report import write_errors
    from himlip_ase.hint.training.display import write_figures
    from himlip_ase.potential.checkpoint import load_model

    result = finetune(frames, [label], settings=FAST, folder=tmp_path, network=SMALL)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["labels"]["training"]["forces"] == 6
    assert report["training"]["epochs"] == FAST.epochs
    again = load_model(tmp_path / "model.safetensors")
    for a, b in zip(again.parameters(), result.model.parameters(), strict=True):
        assert torch.equal(a, b)
    write_figures(result.model, frames, [label], tmp_path)
    for name in ("parity.png", "parity.pdf", "loss.png"):
        assert (tmp_path / "figures" / name).stat().st_size > 1000
    errors = evaluate_labels(result.model, frames, [label])
    write_errors(errors, tmp_path / "eval")
    with pytest.raises(InputError, match="--overwrite"):
        write_errors(errors, tmp_path / "eval")


def test_replay_keeps_what_the_base_knew() -> None:
    """Fine-tuned on other structures, the model forgets its first ones less when they are replayed."""
    cube = bulk("Cu", "fcc", a=3.7, cubic=True)
    old = [toy_frame(atoms) for atoms in rattled(cube, 6, 0.25)]
    dense = bulk("Cu", "fcc", a=3.2, cubic=True)
    new = [toy_frame(atoms) for atoms in rattled(dense, 4, 0.05, seed=5)]
    settings = TrainingSettings(epochs=60, batch_size=3, validation_fraction=0, device="cpu", replay_every=1)
    base = finetune(old, settings=settings, network=SMALL).model
    errors = {}
    for name, replay in (("without", []), ("with", old)):
        model = finetune(new, base=copy.deepcopy(base), settings=settings, replay=replay).model
        errors[name] = evaluate_labels(model, old).sets["toy"].forces.rmse
    assert errors["with"] < 0.8 * errors["without"]


def test_a_hessian_that_is_not_trained_on_stops_and_chooses() -> None:
    cube = bulk("Cu", "fcc", a=3.7, cubic=True)
    frames = [toy_frame(atoms) for atoms in rattled(cube, 4, 0.1)]
    settings = TrainingSettings(
        epochs=40, batch_size=4, validation_fraction=0, device="cpu", watch="hessian", validate_every=1,
        patience=3, learning_rate=3e-2,
    )  # fmt: skip
    trainer = Trainer(HiMLIP(SMALL, seed=1), frames, [], settings, validation_hessians=[toy_label(cube)])
    progress = trainer.run()
    watched = [row["val_hessian"] for row in progress.history]
    assert progress.best_score == min(watched)
    assert trainer.validate()["hessian"] >= 0
    assert "no improvement" in progress.finished or progress.epoch == 40
    assert progress.best_epoch == progress.history[watched.index(min(watched))]["epoch"]
    with pytest.raises(InputError, match="watch score"):
        Trainer(HiMLIP(SMALL, seed=1), frames, [], settings).run()

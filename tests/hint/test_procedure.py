"""One procedure for fine-tuning and pre-training: what it reads, what it goes on with, what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
from ase.build import bulk

from himlip_ase.calculator import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.hint.training.checkpoints import read_state
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.fingerprint import content_fingerprint, older_fingerprints
from himlip_ase.hint.training.pretrain import pretrain
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels import views
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.potential.checkpoint import save_model
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_label

NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1, mean_neighbours=12.0
)
CUBE = bulk("Cu", "fcc", a=3.7, cubic=True)
SETTINGS = TrainingSettings(epochs=2, batch_size=4, validation_fraction=0.25, device="cpu", seed=2)
WAYS = {"finetune": finetune, "pretrain": pretrain}


class Stop(Exception):
    pass


def _stop(progress) -> None:
    raise Stop


def _frames() -> list[LabelledFrame]:
    frames = [toy_frame(atoms) for atoms in rattled(CUBE, 8, 0.1)]
    return [replace(f, hessian=toy_label(f.atoms)) if k % 2 else f for k, f in enumerate(frames)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each frame is read from a file, until the first step."""
    counted: Counter = Counter()
    read = LabelStore._item

    def counting(self: LabelStore, index: int) -> LabelledFrame:
        counted[index] += 1
        return read(self, index)

    def stop(self: Trainer) -> None:
        raise Stop

    monkeypatch.setattr(LabelStore, "_item", counting)
    monkeypatch.setattr(Trainer, "run", stop)
    return counted


@pytest.mark.parametrize("way", WAYS)
def test_each_frame_is_read_once_before_the_first_step(way: str, tmp_path: Path, reads: Counter) -> None:
    write_labels(tmp_path / "labels.h5", _frames())
    with pytest.raises(Stop):
        WAYS[way](LabelStore(tmp_path / "labels.h5"), settings=SETTINGS, network=NETWORK)
    assert reads == dict.fromkeys(range(8), 1)


def test_without_room_a_frame_is_read_again_for_what_is_made_of_it(
    tmp_path: Path, reads: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Survey; typical structures; references; Hessians that judge and those whose names are logged."""
    monkeypatch.setattr(views, "KEPT_ATOMS", 0)
    write_labels(tmp_path / "labels.h5", _frames())
    with pytest.raises(Stop):
        finetune(LabelStore(tmp_path / "labels.h5"), settings=SETTINGS, network=NETWORK)
    assert max(reads.values()) <= 4 and sum(reads.values()) <= 26


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("changed", ["energy", "forces", "hessian", "order"])
def test_resume_refuses_other_labels_of_the_same_counts(way: str, changed: str, tmp_path: Path) -> None:
    frames = _frames()
    options = {"settings": SETTINGS, "folder": tmp_path, "network": NETWORK}
    with pytest.raises(Stop):
        WAYS[way](frames, **options, on_epoch=_stop)
    other = list(frames)
    if changed == "energy":
        other[0] = replace(frames[0], energy=frames[0].energy + 1e-9)
    elif changed == "forces":
        other[0] = replace(frames[0], forces=frames[0].forces * (1 + 1e-12))
    elif changed == "hessian":
        label = frames[1].hessian
        other[1] = replace(frames[1], hessian=replace(label, matrix=label.matrix * (1 + 1e-12)))
    elif changed == "order":
        other[:] = frames[::-1]
    with pytest.raises(InputError, match="other labels or another model"):
        WAYS[way](other, **options, resume=True)
    assert WAYS[way](frames, **options, resume=True).progress.epoch == 2


@pytest.mark.parametrize("way", WAYS)
def test_checkpoints_of_older_releases_go_on(way: str, tmp_path: Path, caplog) -> None:
    """Their fingerprints (a hash of another form, or counts alone) are compared with what they hold."""
    frames = _frames()
    options = {"settings": SETTINGS, "folder": tmp_path, "network": NETWORK}
    with pytest.raises(Stop):
        WAYS[way](frames, **options, on_epoch=_stop)
    labels = prepare_labels(frames, settings=SETTINGS)
    if way == "pretrain":
        old = f"pretraining on {labels.counts}; held out {labels.held_counts}"
    else:
        old = _old_hash(labels)
    path = tmp_path / "state" / "checkpoint.safetensors"
    _set_fingerprint(path, old)
    with caplog.at_level("INFO", "himlip_ase"):
        assert WAYS[way](frames, **options, resume=True).progress.epoch == 2
    assert "older release" in caplog.text
    assert read_state(path).fingerprint.startswith("content-2:")
    _set_fingerprint(path, old.replace("8", "9").replace("6", "7").replace("a", "b"))
    with pytest.raises(InputError, match="other labels or another model"):
        WAYS[way](frames, **options, resume=True)


@pytest.mark.parametrize("in_memory", [True, False])
def test_another_base_of_the_same_name_is_refused(in_memory: bool, tmp_path: Path) -> None:
    """The labels alone would fit: a training from one model must not go on as that from the other."""
    frames = _frames()
    bases = {}
    for seed in (1, 2):
        bases[seed] = HiMLIP(NETWORK, seed=seed)
        (tmp_path / str(seed)).mkdir()
        save_model(bases[seed], tmp_path / str(seed) / "model.safetensors")
        if not in_memory:
            bases[seed] = tmp_path / str(seed) / "model.safetensors"
    options = {"settings": SETTINGS, "folder": tmp_path / "run"}
    with pytest.raises(Stop):
        finetune(frames, base=bases[1], **options, on_epoch=_stop)
    with pytest.raises(InputError, match="other labels or another model"):
        finetune(frames, base=bases[2], **options, resume=True)
    assert finetune(frames, base=bases[1], **options, resume=True).progress.epoch == 2


def test_a_checkpoint_that_knows_its_base_by_name_goes_on(tmp_path: Path) -> None:
    """Checkpoints of older releases hold the name of the base, not its weights."""
    frames = _frames()
    options = {"settings": SETTINGS, "folder": tmp_path, "base": HiMLIP(NETWORK, seed=1)}
    with pytest.raises(Stop):
        finetune(frames, **options, on_epoch=_stop)
    digests = prepare_labels(frames, settings=SETTINGS).digests | {"replay": [], "validation": []}
    by_name = content_fingerprint("a model in memory", digests, "content-1:")
    _set_fingerprint(tmp_path / "state" / "checkpoint.safetensors", by_name)
    assert finetune(frames, **options, resume=True).progress.epoch == 2


def test_energies_that_the_loss_leaves_out_keep_their_zero() -> None:
    """Forces leave a constant free, and a training by forces alone moves away from that of the labels."""
    frames = _frames()
    blind = replace(SETTINGS, loss=replace(SETTINGS.loss, energy=0.0), epochs=12, validation_fraction=0.0)
    model = finetune(frames, settings=replace(blind, learning_rate=0.02), network=NETWORK).model
    calculator = HiMLIPCalculator(model)
    missed = [calculator.get_potential_energy(frame.atoms) - frame.energy for frame in frames]
    assert abs(np.mean(missed)) < 0.1 * np.std(missed)  # 3.5 of it without the refit


def _old_hash(labels) -> str:
    """As build 06090d2 made it, written out once more."""
    import hashlib

    digest = hashlib.sha256(b"from scratch")
    for frame in [*labels.training, *labels.held_out]:
        for value in (
            frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array, frame.energy, frame.forces,
            frame.stress, frame.weight,
        ):  # fmt: skip
            digest.update(b"none" if value is None else np.ascontiguousarray(value).tobytes())
    for item in [*labels.hessians, *labels.judges]:
        digest.update(item.atoms.positions.tobytes())
        digest.update(np.ascontiguousarray(item.matrix).tobytes())
    return digest.hexdigest()


def _set_fingerprint(path: Path, value: str) -> None:
    with safetensors.safe_open(path, framework="pt") as stream:
        header = dict(stream.metadata())
        tensors = {key: stream.get_tensor(key) for key in stream.keys()}
    safetensors.torch.save_file(tensors, path, header | {"fingerprint": value})


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    frames = _frames()
    with pytest.raises(Stop):
        finetune(frames, settings=SETTINGS, folder=tmp_path, network=NETWORK, on_epoch=_stop)
    wider = replace(NETWORK, hidden=12)
    with pytest.raises(InputError, match="another network"):
        finetune(frames, settings=SETTINGS, folder=tmp_path, network=wider, resume=True)


def test_counts_alone_are_said_to_be_so() -> None:
    labels = prepare_labels(_frames(), settings=SETTINGS)
    older = older_fingerprints("x", [], [], labels.counts, labels.held_counts)
    assert older(f"pretraining on {labels.counts}; held out {labels.held_counts}")
    assert not older(f"pretraining on {labels.held_counts}; held out {labels.counts}")
    assert not older("0" * 64)


def test_damaged_checkpoints_are_one_message(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        finetune(_frames(), settings=SETTINGS, folder=tmp_path, network=NETWORK, on_epoch=_stop)
    path = tmp_path / "state" / "checkpoint.safetensors"
    with safetensors.safe_open(path, framework="pt") as stream:
        header = dict(stream.metadata())
        tensors = {key: stream.get_tensor(key) for key in stream.keys()}
    safetensors.torch.save_file(tensors, path, header | {"progress": json.dumps({"epoch": 1, "x": 2})})
    with pytest.raises(InputError, match=r"damaged.*--overwrite"):
        read_state(path)

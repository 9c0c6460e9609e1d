"""Labels on disk are trained on as those in memory are, and are never held whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.hint.training import batches
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels.duplicates import find_duplicates
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.labels.readers import open_labels, without_judges
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.labels.views import Chosen, Joined, set_names
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_hessian, toy_label

NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1, mean_neighbours=12.0
)
CUBE = bulk("Cu", "fcc", a=3.7, cubic=True)
SETTINGS = TrainingSettings(epochs=3, batch_size=4, validation_fraction=0.25, device="cpu", seed=2)
CONFIG = """
training: {epochs: 2, batch_size: 4, validation_fraction: 0, device: cpu}
network: {elements: [Cu], cutoff: 4.5, n_radial: 4, channels: 2, edge_features: 2, hidden: 8, layers: 1}
"""


def _columns(atoms, which: Sequence[int]) -> HessianProducts:
    matrix = toy_hessian(atoms).reshape(-1, len(atoms), 3)
    return HessianProducts.of_columns(atoms, [(k // 3, k % 3) for k in which], matrix[list(which)])


def _frames() -> list[LabelledFrame]:
    """Eight frames with all labels, each with a Hessian or columns of one."""
    frames = [toy_frame(atoms) for atoms in rattled(CUBE, 8, 0.1)]
    for k, frame in enumerate(frames):
        if k % 2:
            frames[k] = replace(frame, hessian=toy_label(frame.atoms))
        else:
            frames[k] = replace(frame, products=_columns(frame.atoms, [1, 5]))
    return frames


def test_training_from_disk_is_training_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses, with room for one frame and one Hessian only."""
    frames = _frames()
    write_labels(tmp_path / "labels.h5", frames)
    memory = finetune(frames, settings=SETTINGS, network=NETWORK)
    monkeypatch.setattr(batches, "CACHED_ATOMS", 1)
    monkeypatch.setattr(batches, "CACHED_ELEMENTS", 1)
    store = LabelStore(tmp_path / "labels.h5")
    disk = finetune(store, settings=SETTINGS, network=NETWORK)
    for a, b in zip(memory.progress.history, disk.progress.history, strict=True):
        assert a["loss"] == b["loss"] and a["hessian"] == b["hessian"] and a["val_score"] == b["val_score"]
    assert disk.report["labels"]["n_hessians"] + disk.report["labels"]["n_products"] == 6


def test_what_is_held_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_labels(tmp_path / "labels.h5", _frames())
    monkeypatch.setattr(batches, "CACHED_ATOMS", 4)
    monkeypatch.setattr(batches, "CACHED_ELEMENTS", 100)
    labels = prepare_labels(LabelStore(tmp_path / "labels.h5"), settings=SETTINGS)
    assert isinstance(labels.training, Chosen) and not isinstance(labels.hessians, list)
    trainer = Trainer(
        HiMLIP(NETWORK), labels.training, Joined([labels.hessians, labels.products]), SETTINGS,
        labels.held_out, validation_hessians=labels.judges,
    )  # fmt: skip
    trainer.run()
    assert len(trainer.store._kept) == 1 and len(trainer.hessians._kept) == 1


def test_hessians_held_out_are_not_trained_on() -> None:
    frames = _frames()
    labels = prepare_labels(frames, settings=SETTINGS)
    out = {id(frame) for frame in labels.held_out}
    assert len(out) == 2 and len(labels.training) == 6
    judged = [x for f in frames if id(f) in out for x in (f.hessian, f.products) if x is not None]
    assert {id(x) for x in labels.judges} == {id(x) for x in judged}
    learnt = [*labels.hessians, *labels.products]
    assert not {id(x) for x in learnt} & {id(x) for x in judged} and len(learnt) + len(judged) == 8
    given = prepare_labels(frames[:4], validation=frames[4:], settings=SETTINGS)
    assert len(given.judges) == 4 and len(given.training) == 4


def test_checks_of_a_store_state_the_deviation(tmp_path: Path) -> None:
    """Nothing escapes the checks because it is on disk."""
    frames = _frames()
    matrix = frames[1].hessian.matrix.copy()
    matrix[0, 0, 1, 1] += 0.5 * np.abs(matrix).max()
    frames[1] = replace(frames[1], hessian=HessianLabel(frames[1].atoms, matrix))
    write_labels(tmp_path / "bad.h5", frames)
    with pytest.raises(InputError, match=r"not symmetric.*50\.00%"):
        finetune(LabelStore(tmp_path / "bad.h5"), settings=SETTINGS, network=NETWORK)
    write_labels(tmp_path / "gpa.h5", [replace(f, stress=f.stress * 1e4) for f in _frames()])
    with pytest.raises(InputError, match="GPa"):
        prepare_labels(LabelStore(tmp_path / "gpa.h5"), settings=SETTINGS)
    with pytest.raises(InputError, match="in both"):
        prepare_labels(_frames(), validation=_frames()[3:4], settings=SETTINGS)


def test_duplicates_are_found_by_neighbours_alone() -> None:
    """As by comparing all pairs; each frame may occur several times, turned and permuted."""
    frames = [toy_frame(atoms) for atoms in rattled(CUBE, 4, 0.1)]
    turned = frames[2].atoms.copy()
    turned.rotate(35, (1, 2, 0.5), rotate_cell=True)
    turned = turned[[3, 1, 0, 2]]
    many = [*frames, replace(frames[2], atoms=turned), frames[0], frames[0]]
    assert [d.places for d in find_duplicates(many)] == [(0, 5), (0, 6), (2, 4), (5, 6)]
    assert [d.places for d in find_duplicates(frames[:2], many)] == [(0, 0), (0, 5), (0, 6), (1, 1)]
    other = replace(frames[0], energy=frames[0].energy + 1.0)
    assert find_duplicates([frames[0], other]) == []


def test_open_labels_joins_files_and_stores(tmp_path: Path) -> None:
    frames = [replace(f, set=name) for f, name in zip(_frames(), "aabbccdd", strict=True)]
    write_labels(tmp_path / "one.h5", frames[:3])
    write_labels(tmp_path / "two.h5", [*frames[3:], replace(toy_frame(CUBE), set="validation")])
    every = open_labels([tmp_path / "one.h5", tmp_path / "two.h5"])
    assert len(every) == 9 and every[-1].set == "validation" and every[3].set == "b"
    assert set_names(without_judges(every)) == list("aabbccdd")
    assert [f.set for f in open_labels(tmp_path / "two.h5", ["c"])] == ["c", "c"]
    with pytest.raises(InputError, match="no set 'x'"):
        open_labels(tmp_path / "two.h5", ["x"])


# -- partial labels through the command ---------------------------------------------------------------------


def test_finetune_takes_every_kind_of_partial_label(tmp_path: Path) -> None:
    """Energies alone, forces alone, a Hessian alone, columns alone: all counted, printed and learnt from."""
    full = [toy_frame(atoms) for atoms in rattled(CUBE, 6, 0.15)]
    frames = [replace(f, forces=None, stress=None, set="energies") for f in full[:2]]
    frames += [replace(f, energy=None, stress=None, set="forces") for f in full[2:4]]
    frames.append(LabelledFrame(full[4].atoms, hessian=toy_label(full[4].atoms), set="hessians"))
    frames.append(LabelledFrame(full[5].atoms, products=_columns(full[5].atoms, [0, 4, 8]), set="columns"))
    write_labels(tmp_path / "labels.h5", frames)
    (tmp_path / "train.yaml").write_text(CONFIG)
    arguments = ["--labels", tmp_path / "labels.h5", "--config", tmp_path / "train.yaml", "--no-plots"]
    result = CliRunner().invoke(app, ["finetune", *map(str, arguments), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "labels: 6 frames: 2 energies, 2 with forces, 0 stresses, 1 Hessians, 3 Hessian products" in (
        result.output
    )
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert {"energy", "forces", "hessian"} <= set(history[0].split(","))
    closed = ["--closed-form", "alone", "--out", str(tmp_path / "closed")]
    result = CliRunner().invoke(app, ["finetune", *map(str, arguments), *closed])
    assert result.exit_code == 0, result.output
    assert "2 energy" in result.output and "24 forces" in result.output and "hessian" in result.output


@pytest.mark.parametrize("kind", ["energy", "forces", "products"])
def test_one_kind_alone_is_enough(kind: str) -> None:
    """Each kind of label alone lowers its own loss."""
    frames = []
    for frame in [toy_frame(atoms) for atoms in rattled(CUBE, 4, 0.15)]:
        bare = LabelledFrame(frame.atoms)
        value = _columns(frame.atoms, [0, 4]) if kind == "products" else getattr(frame, kind)
        frames.append(replace(bare, **{kind: value}))
    epochs = 100 if kind == "products" else 25  # an epoch without frames is one step
    settings = replace(SETTINGS, epochs=epochs, validation_fraction=0.0, learning_rate=1e-2)
    losses = finetune(frames, settings=settings, network=NETWORK).progress.history
    name = "hessian" if kind == "products" else kind
    assert np.mean([r[name] for r in losses[-4:]]) < 0.7 * np.mean([r[name] for r in losses[:4]])

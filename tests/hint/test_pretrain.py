"""Pre-training on a mixture of molecules and crystals, streamed from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.training.pretrain import pretrain
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.potential.checkpoint import load_model, read_card
from himlip_ase.potential.network import HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_label

NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1, mean_neighbours=12.0
)
SETTINGS = TrainingSettings(epochs=30, batch_size=4, validation_fraction=0.2, device="cpu", seed=3)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    crystals = rattled(bulk("Cu", "fcc", a=3.7, cubic=True), 8, 0.15)
    molecules = rattled(Atoms("Cu3", [[0, 0, 0], [2.4, 0, 0], [0, 2.6, 0]]), 8, 0.15, seed=2)
    frames = [toy_frame(atoms, "crystals") for atoms in crystals]
    frames += [toy_frame(atoms, "molecules") for atoms in molecules]
    rest = bulk("Cu", "fcc", a=3.7).repeat((2, 1, 1))
    with_hessian = toy_frame(rest, "rest", hessian=toy_label(rest))
    write_labels(tmp_path / "labels.h5", [*frames, with_hessian])
    return tmp_path / "labels.h5"


def test_molecules_and_crystals_from_a_file(store: Path, tmp_path: Path) -> None:
    result = pretrain(LabelStore(store), settings=SETTINGS, folder=tmp_path / "run", network=NETWORK,
                      card={"licence": "MIT"})  # fmt: skip
    counted = result.report["labels"]
    assert counted["training"]["frames"] == 13 and counted["validation"]["frames"] == 4
    assert len(counted["hessians"]) == 1
    first, last = result.progress.history[0], result.progress.history[-1]
    assert last["forces"] < 0.3 * first["forces"] and last["hessian"] < first["hessian"]
    held = result.report["errors"]["held_out"]["sets"]
    assert set(held) == {"crystals", "molecules"}
    again = evaluate_labels(load_model(tmp_path / "run"), list(LabelStore(store)))
    assert np.isfinite(again.sets["molecules"].forces.rmse)
    assert read_card(tmp_path / "run")["licence"] == "MIT"


def test_continued_run_is_the_unbroken_one(store: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress) -> None:
        if progress.epoch == 8:
            raise Stop

    whole = pretrain(LabelStore(store), settings=SETTINGS, network=NETWORK)
    options = {"settings": TrainingSettings(**{**SETTINGS.__dict__, "checkpoint_seconds": 0.0})}
    options |= {"folder": tmp_path / "cut", "network": NETWORK}
    with pytest.raises(Stop):
        pretrain(LabelStore(store), **options, on_epoch=stop)
    cut = pretrain(LabelStore(store), **options, resume=True)
    assert [r["loss"] for r in cut.progress.history] == [r["loss"] for r in whole.progress.history]


def test_nothing_left(store: Path) -> None:
    with pytest.raises(InputError, match="no labels"):
        pretrain([], settings=SETTINGS, network=NETWORK)

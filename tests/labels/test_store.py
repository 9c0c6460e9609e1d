"""Labels in HDF5: partial labels, Hessians, products, and reading one frame at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.closed_form import fit_closed_form
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels import store as store_module
from himlip_ase.labels.frames import LabelledFrame, count_labels
from himlip_ase.labels.products import HessianProducts
from himlip_ase.labels.readers import read_labels
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.labels.views import Chosen
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_hessian, toy_label

NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1, mean_neighbours=12.0
)
CUBE = bulk("Cu", "fcc", a=3.7, cubic=True)


def _mixed() -> list[LabelledFrame]:
    frames = [toy_frame(atoms) for atoms in rattled(CUBE, 3, 0.1)]
    frames[1] = replace(frames[1], energy=None, stress=None, set="forces only", weight=0.5)
    frames[2] = replace(frames[2], forces=None, hessian=toy_label(frames[2].atoms))
    return [*frames, LabelledFrame(molecule("H2O"), -3.25, np.ones((3, 3)), set="water")]


def test_every_label_comes_back_to_the_bit(tmp_path) -> None:
    frames = _mixed()
    products = HessianProducts(
        CUBE, np.eye(12).reshape(12, 4, 3)[:2], toy_hessian(CUBE).reshape(12, 4, 3)[:2]
    )
    frames[0] = replace(toy_frame(CUBE), set="toy", products=products)
    assert write_labels(tmp_path / "labels.h5", iter(frames)) == 4
    store = LabelStore(tmp_path / "labels.h5")
    assert store.counts() == count_labels(frames)
    for found, frame in zip(store, frames, strict=True):
        assert found.atoms == frame.atoms
        assert (found.energy, found.set, found.weight) == (frame.energy, frame.set, frame.weight)
        for a, b in ((found.forces, frame.forces), (found.stress, frame.stress)):
            assert (a is None and b is None) or np.array_equal(a, b)
    assert np.array_equal(store[2].hessian.matrix, frames[2].hessian.matrix)
    assert np.array_equal(store[0].products.vectors, products.vectors)
    assert np.array_equal(store.products(0).products, products.products)
    assert store.products(1) is None and store.with_products() == [0]
    assert [f.set for f in Chosen(store, [3, 1])] == ["water", "forces only"]
    assert [f.set for f in store[2:]] == ["toy", "water"]
    assert len(read_labels(tmp_path / "labels.h5")) == 4


def test_a_store_is_streamed(tmp_path, monkeypatch) -> None:
    """Only as many graphs are kept as there is room for, and training does not notice."""
    from himlip_ase.hint.training import batches

    frames = [toy_frame(atoms) for atoms in rattled(CUBE, 6, 0.1)]
    write_labels(tmp_path / "labels.h5", frames)
    settings = TrainingSettings(epochs=2, batch_size=2, validation_fraction=0, device="cpu")
    whole = Trainer(HiMLIP(NETWORK, seed=1), frames, [], settings)
    whole.run()
    monkeypatch.setattr(batches, "CACHED_ATOMS", 8)
    streamed = Trainer(HiMLIP(NETWORK, seed=1), LabelStore(tmp_path / "labels.h5"), [], settings)
    streamed.run()
    assert len(streamed.store._kept) == 2
    assert [row["loss"] for row in streamed.progress.history] == [r["loss"] for r in whole.progress.history]


def test_files_that_are_something_else(tmp_path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match=r"text\.h5 is damaged, or not what its name says"):
        LabelStore(tmp_path / "text.h5")
    with pytest.raises(InputError, match="no such file"):
        LabelStore(tmp_path / "absent.h5")
    with pytest.raises(InputError, match="no frames"):
        write_labels(tmp_path / "none.h5", [])
    assert not (tmp_path / "none.h5").exists()
    with pytest.raises(InputError, match=r"\.h5"):
        write_labels(tmp_path / "labels.txt", _mixed())


def test_columns_teach_what_the_matrix_does() -> None:
    """All columns as products give the loss of the whole Hessian; a few of them already lower its error."""
    atoms = rattled(CUBE, 1, 0.05, seed=2)[0]
    label = toy_label(atoms)
    full = HessianProducts(atoms, np.eye(12).reshape(12, 4, 3), label.matrix.reshape(12, 4, 3))
    settings = TrainingSettings(epochs=1, probe="full", fold_hessians=False, device="cpu")
    losses = []
    for item in (label, full):
        trainer = Trainer(HiMLIP(NETWORK, seed=1), [], [item], settings)
        drawn = trainer.hessians[0].draw("full", 1, None)
        losses.append(float(trainer.hessian_loss(trainer.hessians[0], drawn).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    columns = HessianProducts.of_columns(atoms, [(0, 0), (1, 2)], label.matrix.reshape(12, 4, 3)[[0, 5]])
    network = HiMLIP(NETWORK, seed=1)
    before = np.abs(hessian(network, atoms).detach().numpy() - label.matrix).mean()
    for model in (
        fit_closed_form(network, [], products=[columns]).model,
        finetune([toy_frame(atoms)], products=[columns], network=NETWORK,
                 settings=TrainingSettings(epochs=80, validation_fraction=0, device="cpu")).model,
    ):  # fmt: skip
        after = np.abs(hessian(model, atoms).detach().numpy() - label.matrix).mean()
        assert after < 0.5 * before


def test_products_that_cannot_be() -> None:
    matrix = toy_hessian(CUBE).reshape(12, 12)
    vectors = np.eye(12).reshape(12, 4, 3)
    skew = matrix.copy()
    skew[0, 5] += 3.0
    skew[0, 2] -= 3.0
    for wrong, message in (
        (skew, "one Hessian"),
        (matrix + np.eye(12), "net force"),
        (np.where(matrix == matrix[0, 0], np.nan, matrix), "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            HessianProducts(CUBE, vectors, wrong.T.reshape(12, 4, 3))
    with pytest.raises(InputError, match="length zero"):
        HessianProducts(CUBE, 0 * vectors[:1], 0 * vectors[:1])
    with pytest.raises(InputError, match="both must be"):
        HessianProducts(CUBE, vectors, matrix.reshape(12, 4, 3)[:3])


def test_names_of_very_many_sets_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 bounds an attribute to 64 kB, some 4000 names."""
    frames = [LabelledFrame(Atoms("H"), energy=float(k), set=f"set {k}") for k in range(6)]
    monkeypatch.setattr(store_module, "MOST_IN_ATTRIBUTE", 4)
    write_labels(tmp_path / "many.h5", frames)
    write_labels(tmp_path / "few.h5", frames[:4])
    for name, number in (("many", 6), ("few", 4)):
        found = LabelStore(tmp_path / f"{name}.h5")
        assert found.set_names() == [f"set {k}" for k in range(number)]
        assert [frame.set for frame in found] == found.set_names()

"""Errors by our own, HORM's and phonopy's definitions, on Hessians whose errors are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.hint.evaluation.error_summary import ErrorSummary, Mean, RunningErrors
from himlip_ase.hint.evaluation.error_tables import describe
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.evaluation.hessian_errors import compare_hessians, hessian_errors, means
from himlip_ase.hint.evaluation.plots import parity_panels
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.labels.store import write_labels
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.potential.checkpoint import save_model
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_hessian, toy_label

NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1, mean_neighbours=12.0
)
CUBE = bulk("Cu", "fcc", a=3.7, cubic=True)


@pytest.fixture(scope="module")
def model() -> HiMLIP:
    return HiMLIP(NETWORK, seed=3)


def _water(seed: int) -> tuple[HessianLabel, np.ndarray]:
    """A symmetric label with translations as null vectors, and an asymmetric prediction."""
    rng = np.random.default_rng(seed)
    atoms = molecule("H2O")
    free = np.eye(9) - np.kron(np.full((3, 3), 1 / 3), np.eye(3))
    root = rng.normal(size=(9, 9))
    label = free @ (root + root.T) @ free
    noise = free @ rng.normal(size=(9, 9)) @ free
    return HessianLabel(atoms, label.reshape(3, 3, 3, 3), f"water{seed}"), (label + noise).reshape(3, 3, 3, 3)


def test_a_shift_of_the_internal_modes_is_found_there_only() -> None:
    """H + c P_internal raises every internal eigenvalue by c and no rigid motion."""
    label, _ = _water(0)
    rigid = np.concatenate(
        [
            np.tile(np.eye(3), (3, 1)).T,
            [np.cross(axis, label.atoms.positions).ravel() for axis in np.eye(3)],
        ]
    )
    inner = np.eye(9) - np.linalg.pinv(rigid) @ rigid
    clean = inner @ label.matrix.reshape(9, 9) @ inner
    label = replace(label, matrix=clean.reshape(3, 3, 3, 3))
    found = compare_hessians((clean + 0.7 * inner).reshape(3, 3, 3, 3), label)
    assert found.internal.count == 3 and found.internal.mae == pytest.approx(0.7)
    assert found.internal.rmse == pytest.approx(0.7)
    lower = np.linalg.eigvalsh(clean)
    raised = np.linalg.eigvalsh(clean + 0.7 * inner)
    assert found.eigenvalues.mae == pytest.approx(np.abs(raised - lower).mean())
    assert found.hessian.mae == pytest.approx(0.7 * np.abs(inner).mean())


def test_asymmetry_and_means_over_hessians() -> None:
    cases = [_water(seed) for seed in range(4)]
    found = [compare_hessians(predicted, label) for label, predicted in cases]
    square = cases[0][1].reshape(9, 9)
    assert found[0].asymmetry == pytest.approx(np.abs(square - square.T).max())
    assert found[0].mean_asymmetry == pytest.approx(np.abs(square - square.T).mean())
    mean = means(found)["hessian MAE (eV/Å²)"]
    values = [np.abs(predicted - label.matrix).mean() for label, predicted in cases]
    assert (mean.mean, mean.count) == (pytest.approx(np.mean(values)), 4)
    assert mean.error == pytest.approx(np.std(values, ddof=1) / 2)
    assert Mean.of([2.0]).error is None


def test_horm_counts_structures_alike(model: HiMLIP) -> None:
    """Small and large structures weigh the same, energies are total ones, eigenvalues have no masses."""
    small, large = bulk("Cu", "fcc", a=3.7), CUBE.repeat((2, 1, 1))
    frames = [toy_frame(rattled(atoms, 1, 0.1)[0]) for atoms in (small, large)]
    frames = [replace(f, hessian=HessianLabel(f.atoms, toy_hessian(f.atoms), f.source)) for f in frames]
    found = evaluate_labels(model, frames)
    values: dict[str, list[float]] = {k: [] for k in ("energy", "forces", "hessian", "eigenvalues")}
    for frame in frames:
        one = evaluate_labels(model, [replace(frame, hessian=None)])
        values["energy"].append(one.sets["toy"].energy.mae * len(frame.atoms))
        values["forces"].append(one.sets["toy"].forces.mae)
        size = 3 * len(frame.atoms)
        own = hessian(model, frame.atoms).detach().numpy().reshape(size, size)
        label = frame.hessian.matrix.reshape(size, size)
        values["hessian"].append(np.abs(own - label).mean())
        values["eigenvalues"].append(np.abs(np.linalg.eigvalsh(own) - np.linalg.eigvalsh(label)).mean())
    for key, expected in values.items():
        assert getattr(found.horm, key) == pytest.approx(np.mean(expected)), key
    assert found.horm.forces != pytest.approx(found.sets["toy"].forces.mae), (
        "components are not counted alike"
    )
    ratio = found.horm.eigenvalues_hartree_per_bohr2 / found.horm.eigenvalues
    assert ratio == pytest.approx(0.529177**2 / 27.2114, rel=1e-5)


def test_phonopy_agrees_with_itself_and_with_us(model: HiMLIP) -> None:
    """Frequencies by phonopy in THz are ours in cm⁻¹; both sides through `Phonopy` objects."""
    primitive = bulk("Cu", "fcc", a=3.7)
    empty = ForceConstants(primitive, (2, 2, 2), np.zeros((1, 8, 3, 3)))
    constants = ForceConstants.from_hessian(primitive, (2, 2, 2), toy_hessian(empty.supercell))
    found = hessian_errors(model, HessianLabel.from_force_constants(constants))
    assert found.phonopy.frequency_rmse == pytest.approx(found.frequencies.rmse / 33.35641, rel=1e-4)
    assert found.phonopy.frequency_mae == pytest.approx(found.frequencies.mae / 33.35641, rel=1e-4)
    assert found.phonopy.drift < 1e-8 and found.phonopy.label_drift < 1e-8
    text = "\n".join(
        describe(evaluate_labels(model, [], [HessianLabel.from_force_constants(constants)]), True)
    )
    assert "as HORM defines them" in text and "as phonopy defines them" in text and "THz" in text


def test_products_are_judged_per_unit_vector(model: HiMLIP) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 4, 3))
    exact = np.einsum("iajb,kjb->kia", hessian(model, CUBE).detach().numpy(), vectors)
    unit = np.linalg.norm(vectors, axis=(1, 2), keepdims=True)
    net = np.tile(np.eye(4) - 0.25, 1)
    wrong = exact + 0.1 * unit * np.einsum("ij,kja->kia", net, np.ones((2, 4, 3)) * [[1], [-1], [1], [-1]])
    frames = [LabelledFrame(CUBE, products=HessianProducts(CUBE, vectors, p)) for p in (exact, wrong)]
    assert evaluate_labels(model, frames[:1]).sets["labels"].products.largest < 1e-8
    assert evaluate_labels(model, frames[1:]).sets["labels"].products.mae == pytest.approx(0.1)


def test_running_errors_are_those_of_all_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from himlip_ase.hint.evaluation import error_summary

    monkeypatch.setattr(error_summary, "KEPT_PAIRS", 50)
    rng = np.random.default_rng(1)
    labels, predicted = rng.normal(size=(2, 997))
    running = RunningErrors()
    for part in np.array_split(np.arange(997), 13):
        running.add(predicted[part], labels[part])
    error = np.abs(predicted - labels)
    expected = ErrorSummary(
        (error**2).mean() ** 0.5, error.mean(), error.max(), (labels**2).mean() ** 0.5, 997
    )
    for name in ("rmse", "mae", "largest", "label_rms", "count"):
        assert getattr(running.summary(), name) == pytest.approx(getattr(expected, name))
    kept = running.pairs()
    assert 10 <= kept[0].size <= 50
    assert set(zip(*kept, strict=True)) <= set(zip(labels, predicted, strict=True))


def test_eval_of_a_store_with_partial_labels(tmp_path: Path, model: HiMLIP) -> None:
    """Energies only, forces only, Hessians, products: each judged, counted, drawn and written."""
    frames = [toy_frame(a) for a in rattled(CUBE, 6, 0.1)]
    frames[0] = replace(frames[0], forces=None, stress=None, set="energies")
    frames[1] = replace(frames[1], energy=None, stress=None, set="forces")
    for k in (2, 3):
        label = toy_label(frames[k].atoms)
        frames[k] = LabelledFrame(frames[k].atoms, hessian=label, set="hessians")
    columns = toy_hessian(frames[4].atoms).reshape(12, 4, 3)[[0, 7]]
    products = HessianProducts.of_columns(frames[4].atoms, [(0, 0), (2, 1)], columns)
    frames[4] = LabelledFrame(frames[4].atoms, products=products, set="columns")
    write_labels(tmp_path / "labels.h5", frames)
    save_model(model, tmp_path / "model.safetensors", {})
    arguments = ["eval", tmp_path / "model.safetensors", "-l", tmp_path / "labels.h5", "-o", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    for text in ("mean ± standard error over 2 Hessians", "Hessian products RMSE", "as HORM defines them"):
        assert text in result.output
    errors = json.loads((tmp_path / "out" / "errors.json").read_text())
    sets = errors["sets"]
    assert set(sets["energies"]) == {"frames", "energy"} and "energy" not in sets["forces"]
    assert sets["columns"]["products"]["count"] == 24
    assert errors["mean_over_hessians"]["hessian MAE (eV/Å²)"]["count"] == 2
    assert errors["horm"]["hessians"] == 2
    assert (tmp_path / "out" / "parity.png").stat().st_size > 1000
    with np.load(tmp_path / "out" / "parity.npz") as data:
        assert "columns.products" in data.files and any("frequencies" in name for name in data.files)
    drawn = parity_panels(evaluate_labels(model, frames))
    assert list(drawn) == ["energy", "forces", "stress", "Hessian", "frequency"]


def test_a_single_atom_has_no_modes(model: HiMLIP) -> None:
    label = HessianLabel(Atoms("Cu"), np.zeros((1, 3, 1, 3)))
    found = compare_hessians(np.zeros((1, 3, 1, 3)), label)
    assert found.internal is None and found.modes is None

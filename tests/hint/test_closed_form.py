"""The closed-form head: exact rows, exact recovery, honest widths."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.calibration import calibration, errors_and_deviations
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings, calibrate, fit_closed_form
from himlip_ase.hint.last_layer.closed_form_run import POSTERIOR, finetune_closed_form
from himlip_ase.hint.last_layer.cross_fit import SummedLabels
from himlip_ase.hint.last_layer.cross_validation import choose_floor
from himlip_ase.hint.last_layer.evidence import FLOOR, NormalEquations, maximise_evidence
from himlip_ase.hint.last_layer.features import HeadFeatures
from himlip_ase.hint.last_layer.posterior import Noise, Posterior
from himlip_ase.hint.last_layer.twin_weights import load_twins, save_twins, twin_without, twins_beside
from himlip_ase.hint.last_layer.uncertain_calculator import UncertainCalculator
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.start import start_model
from himlip_ase.labels.digests import configuration_digest
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.potential.checkpoint import save_model
from himlip_ase.potential.derivatives import energy_forces_stress, hessian
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from himlip_ase.potential.widening import widened
from tests.hint.toy import rattled, toy_frame, toy_label

NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=5, channels=3, edge_features=2, hidden=10, layers=2, mean_neighbours=12.0
)
CUBE = bulk("Cu", "fcc", a=3.7, cubic=True)


@pytest.fixture(scope="module")
def frames() -> list[LabelledFrame]:
    return [toy_frame(atoms) for atoms in rattled(CUBE, 8, 0.15)]


@pytest.fixture(scope="module")
def network(frames) -> HiMLIP:
    """Random weights with standardised inputs, as training starts from."""
    return start_model(frames, [], None, NETWORK, TrainingSettings(seed=1, device="cpu"))[0]


@pytest.mark.parametrize("kind", ["readout", "wide"])
def test_rows_are_the_derivatives_of_the_network_that_has_the_head(network, kind) -> None:
    """Energy, forces, stress and Hessian of the assembled network change by row·θ, θ arbitrary."""
    features = HeadFeatures(network, kind)
    theta = 0.01 * torch.randn(features.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    other = features.apply(theta)
    atoms = rattled(bulk("Cu", "fcc", a=3.6).repeat((2, 1, 1)), 1, 0.1, seed=5)[0]
    graph = build_graph(atoms, network.elements, network.cutoff)
    before, after = energy_forces_stress(network, graph), energy_forces_stress(other, graph)
    forces, stress = features.forces_and_stress(graph)
    assert torch.allclose(features.summed(graph) @ theta, after.energies - before.energies, atol=1e-11)
    assert torch.allclose(forces @ theta, after.forces - before.forces, atol=1e-11)
    change = (after.stresses - before.stresses)[0]
    voigt = torch.stack([change[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])
    assert torch.allclose(stress @ theta, voigt, atol=1e-12)
    change = hessian(other, atoms, [1]) - hessian(network, atoms, [1])
    assert float(change.abs().max()) > 1e-3
    assert torch.allclose(features.hessian(graph, [1]) @ theta, change, atol=1e-9)


def test_a_widened_network_is_the_same_function(network) -> None:
    atoms = rattled(CUBE, 1, 0.2, seed=3)[0]
    graph = build_graph(atoms, network.elements, network.cutoff)
    wide = widened(network, 3)
    assert wide.config.hidden == NETWORK.hidden + 3
    a, b = energy_forces_stress(network, graph), energy_forces_stress(wide, graph)
    assert torch.allclose(a.energies, b.energies, rtol=1e-13, atol=1e-12)
    assert torch.allclose(a.forces, b.forces, atol=1e-12)


@pytest.mark.parametrize("kind", ["readout", "wide"])
def test_labels_of_a_head_are_fitted_exactly(network, kind) -> None:
    """A truth within reach is found from E, F, S and H, and predicted on a structure never seen."""
    features = HeadFeatures(network, kind)
    generator = torch.Generator().manual_seed(2)
    theta = torch.randn(features.size, dtype=torch.float64, generator=generator)
    truth = features.apply(0.2 * theta)

    def frame(atoms) -> LabelledFrame:
        out = energy_forces_stress(truth, build_graph(atoms, truth.elements, truth.cutoff))
        s = out.stresses[0].numpy()
        voigt = s[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        return LabelledFrame(atoms, float(out.energies), out.forces.numpy(), voigt)

    seen = [frame(atoms) for atoms in rattled(CUBE, 12, 0.25, seed=1)]
    label = HessianLabel(CUBE, hessian(truth, CUBE).numpy(), "exact")
    noise = Noise(1e-6, 1e-5, 1e-6, 1e-4)
    result = fit_closed_form(network, seen, [label], ClosedFormSettings(kind, noise))
    fresh = frame(rattled(CUBE, 1, 0.25, seed=77)[0])
    out = energy_forces_stress(result.model, build_graph(fresh.atoms, truth.elements, truth.cutoff))
    start = energy_forces_stress(network, build_graph(fresh.atoms, truth.elements, truth.cutoff))
    size = np.abs(start.forces.numpy() - fresh.forces).max()
    assert size > 0.1
    assert np.abs(out.forces.numpy() - fresh.forces).max() < 2e-3 * size
    error = (hessian(result.model, CUBE) - torch.as_tensor(label.matrix)).abs().max()
    assert float(error) < 1e-3 * np.abs(label.matrix).max()


def test_evidence_finds_the_noise_and_the_prior() -> None:
    """Synthetic regression with two kinds of labels of known noise."""
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 2.0, 30)
    sums = {}
    for kind, sigma, count in (("energy", 0.05, 200), ("forces", 0.5, 3000)):
        x = rng.normal(size=(count, 30))
        y = x @ theta + rng.normal(0, sigma, count)
        sums[kind] = NormalEquations.zeros(30, torch.device("cpu"))
        sums[kind].add(torch.as_tensor(x), torch.as_tensor(y))
    found = maximise_evidence(sums)
    assert found.beta["energy"] ** -0.5 == pytest.approx(0.05, rel=0.15)
    assert found.beta["forces"] ** -0.5 == pytest.approx(0.5, rel=0.05)
    assert found.alpha**-0.5 == pytest.approx(2.0, rel=0.3)
    assert found.effective == pytest.approx(30, abs=0.5)
    # The posterior is as wide as its error: χ² of the coefficients is that of 30 degrees of freedom.
    z = torch.linalg.solve(found.root, found.mean - torch.as_tensor(theta))
    assert 12 < float(z @ z) < 55


def test_the_floor_of_the_noise_is_chosen_by_what_was_left_out() -> None:
    """More coefficients than labels, which are fitted to the bit; errors against ridge regression by hand."""
    rng = np.random.default_rng(3)
    size, parts = 120, []
    theta = rng.normal(0, 1.0, size) / np.arange(1, size + 1)
    rows, values = rng.normal(size=(4, 20, size)), np.zeros((4, 20))
    for k in range(4):
        values[k] = rows[k] @ theta + rng.normal(0, 0.3, 20)
        part = {kind: NormalEquations.zeros(size, torch.device("cpu")) for kind in ("energy", "forces")}
        part["forces"].add(torch.as_tensor(rows[k]), torch.as_tensor(values[k]))
        parts.append(part)
    nothing = {kind: NormalEquations.zeros(size, torch.device("cpu")) for kind in ("energy", "forces")}
    chosen = choose_floor(parts, nothing)
    multiple = min(chosen.scores, key=chosen.scores.__getitem__)
    assert len(chosen.scores) > 2 and multiple > 1  # the labels are less exact than the usual floor
    assert chosen.floor.forces == pytest.approx(multiple * FLOOR.forces)
    ridge = chosen.evidence.alpha / chosen.evidence.beta["forces"]
    errors, expected = [], 0.0
    for k in range(4):
        x, y = (np.concatenate(np.delete(a, k, axis=0)) for a in (rows, values))
        fitted = np.linalg.solve(x.T @ x + ridge * np.eye(size), x.T @ y)
        errors.append(rows[k] @ fitted - values[k])
        covariance = np.linalg.inv(x.T @ x + ridge * np.eye(size)) / chosen.evidence.beta["forces"]
        expected += np.trace(rows[k] @ covariance @ rows[k].T) + 20 / chosen.evidence.beta["forces"]
    assert np.sum(np.square(errors)) == pytest.approx(expected, rel=1e-6)
    assert chosen.scores[multiple] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-6)


def test_widths_are_those_of_resampled_labels(network, frames) -> None:
    """With noise of known size on the labels, predictions scatter by the posterior's width or less.

    Sampling covariance is Σ(A − α)Σ = Σ − αΣ², below Σ by the share that the prior determines.
    """
    settings = ClosedFormSettings(noise=Noise(1e-3, 0.05, 1e-3, 0.1), force_scale=None)
    probe = rattled(CUBE, 1, 0.2, seed=50)[0]
    rng = np.random.default_rng(4)
    seen, said = [], None
    for _ in range(8):
        noisy = [
            replace(
                f,
                energy=f.energy + rng.normal(0, 1e-3) * len(f.atoms),
                forces=f.forces + rng.normal(0, 0.05, f.forces.shape),
                stress=f.stress + rng.normal(0, 1e-3, 6),
            )
            for f in frames[:3]
        ]
        result = fit_closed_form(network, noisy, [], settings)
        graph = build_graph(probe, network.elements, network.cutoff)
        seen.append(energy_forces_stress(result.model, graph).forces.numpy())
        said = result.posterior.uncertainty(result.model, probe, noise=False).forces
    ratio = np.std(seen, axis=0, ddof=1) / said
    assert 0.5 < np.sqrt(np.mean(ratio**2)) < 1.15


def test_partial_labels_and_hessian_alone(network, frames) -> None:
    """Every kind of label may be missing; the Hessian alone fits the Hessian."""
    label = toy_label(CUBE)
    alone = fit_closed_form(network, [], [label])
    assert set(alone.rows) == {"hessian"}
    before = (hessian(network, CUBE) - torch.as_tensor(label.matrix)).abs().max()
    after = (hessian(alone.model, CUBE) - torch.as_tensor(label.matrix)).abs().max()
    assert after < 0.05 * before
    mixed = [replace(frames[0], stress=None, forces=None), replace(frames[1], energy=None, stress=None)]
    assert fit_closed_form(network, mixed).rows == {"energy": 1, "forces": 12}
    with pytest.raises(InputError, match="nothing to fit"):
        fit_closed_form(network, [])


def test_the_network_given_is_left_as_it_was(network, frames) -> None:
    before = copy.deepcopy(network.state_dict())
    fit_closed_form(network, frames[:3], settings=ClosedFormSettings("wide"))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())


def test_calibration_by_other_frames(network, frames) -> None:
    result = fit_closed_form(network, frames[:5], [toy_label(CUBE)])
    posterior = calibrate(result, frames[5:])
    error, width = errors_and_deviations(result.model, posterior, frames[5:])["forces"]
    found = calibration(error, width)
    assert found.rms_ratio == pytest.approx(1.0, abs=1e-9)
    assert 0.5 < found.within_one < 0.9
    assert found.count == 36


def test_run_folder_and_calculator(tmp_path, frames) -> None:
    """From labels to files to a calculator that says how sure it is."""
    settings = TrainingSettings(seed=1, validation_fraction=0.3, device="cpu")
    run = finetune_closed_form(
        frames, [toy_label(CUBE)], None, ClosedFormSettings("wide"), settings, tmp_path, None, NETWORK
    )
    calc = UncertainCalculator(tmp_path / "model.safetensors", device="cpu")
    near, far = rattled(CUBE, 1, 0.05, seed=8)[0], rattled(CUBE, 1, 0.45, seed=9)[0]
    near.calc = calc
    assert np.isfinite(near.get_forces()).all()
    assert set(calc.results) <= {"energy", "free_energy", "forces", "stress"}
    said = calc.uncertainty(near)
    assert said.forces.shape == (4, 3) and said.stress.shape == (6,)
    direct = run.posterior.uncertainty(run.model, near)
    assert np.allclose(said.forces, direct.forces, rtol=1e-3)
    assert calc.uncertainty(far).forces.mean() > 1.2 * said.forces.mean(), (
        "far from the labels it is less sure"
    )
    assert (calc.uncertainty(near, noise=False).forces < said.forces).all()
    frequencies, widths = calc.frequency_uncertainty(CUBE)
    assert frequencies.shape == widths.shape == (12,) and np.isfinite(widths).all()
    assert calc.hessian_uncertainty(CUBE, [0]).shape == (1, 3, 4, 3)
    with pytest.raises(InputError, match="not of the same fit"):
        Posterior.load(tmp_path / POSTERIOR).features(HiMLIP(replace(NETWORK, channels=4, hidden=11)))
    with pytest.raises(InputError, match="overwrite"):
        finetune_closed_form(frames, settings=settings, folder=tmp_path, network=NETWORK)


def test_a_molecule_has_no_stress(frames) -> None:
    water = molecule("H2O")
    model = HiMLIP(replace(NETWORK, elements=("H", "O")), seed=0)
    frame = LabelledFrame(water, -1.0, np.zeros((3, 3)))
    result = fit_closed_form(model, [frame])
    assert result.rows == {"energy": 1, "forces": 9}
    assert result.posterior.uncertainty(result.model, water).stress is None


def test_unknown_head(network) -> None:
    with pytest.raises(InputError, match="readout, wide"):
        HeadFeatures(network, "deep")  # type: ignore[arg-type]


def test_twins_come_back_from_their_file_and_only_with_their_model(network, frames, tmp_path) -> None:
    sums = SummedLabels(network, [], (), ClosedFormSettings(head="wide", noise=Noise()))
    for frame in frames[:5]:
        sums.add([frame])
    fitted = sums.fit(weigh_hessians=False)
    path = save_model(fitted.model, tmp_path / "model.safetensors")
    assert load_twins(path) == [] and twin_without(path) == {}
    save_twins(fitted.twins, path)
    graph = build_graph(frames[7].atoms, network.elements, network.cutoff)
    found = [energy_forces_stress(twin, graph).forces for twin in load_twins(path)]
    wanted = [energy_forces_stress(twin, graph).forces for twin in fitted.twins.without]
    assert len(found) == 5
    assert twin_without(path) == {configuration_digest(f.atoms): k for k, f in enumerate(frames[:5])}
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert not torch.allclose(wanted[0], wanted[1], atol=1e-4)
    other = save_model(network, tmp_path / "other.safetensors")
    twins_beside(path).rename(twins_beside(other))
    with pytest.raises(InputError, match="no twins of"):
        load_twins(other)
    with pytest.raises(InputError, match="at least 4"):
        save_twins(replace(fitted.twins, without=fitted.twins.without[:3]), path)

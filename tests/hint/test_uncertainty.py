"""Standard deviations of second derivatives and phonons against heads drawn from the posterior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk

from himlip_ase.hint.last_layer.calibration import phonon_errors
from himlip_ase.hint.last_layer.closed_form import (
    ClosedFormResult,
    ClosedFormSettings,
    calibrate,
    fit_closed_form,
)
from himlip_ase.hint.last_layer.phonon_uncertainty import frequency_deviations, phonon_uncertainty
from himlip_ase.hint.last_layer.uncertain_calculator import UncertainCalculator
from himlip_ase.hint.training.folding import irreducible_cells
from himlip_ase.labels.frames import HessianLabel
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_hessian

NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1, mean_neighbours=12.0
)
CUBE = bulk("Cu", "fcc", a=3.7, cubic=True)
PRIMITIVE = bulk("Cu", "fcc", a=3.7)
DRAWN = 100
SCATTER = 4 / (2 * DRAWN) ** 0.5
"""Four standard errors of a standard deviation from `DRAWN` samples, relative."""


@pytest.fixture(scope="module", params=["readout", "wide"])
def fit(request: pytest.FixtureRequest) -> ClosedFormResult:
    frames = [toy_frame(atoms) for atoms in rattled(CUBE, 3, 0.1)]
    network = HiMLIP(NETWORK, seed=1)
    network.standardise(build_graph([f.atoms for f in frames], network.elements, network.cutoff))
    return fit_closed_form(network, frames, [], ClosedFormSettings(request.param))


@pytest.fixture(scope="module")
def drawn(fit: ClosedFormResult) -> list[HiMLIP]:
    return fit.posterior.sample(fit.model, DRAWN, seed=3)


def test_hessian_and_products_scatter_as_the_posterior_says(
    fit: ClosedFormResult, drawn: list[HiMLIP]
) -> None:
    quiet = replace(fit.posterior, noise=replace(fit.posterior.noise, hessian=1e-12))
    said = quiet.hessian_uncertainty(fit.model, CUBE, [0])
    samples = np.array([hessian(m, CUBE, indices=[0]).detach().numpy() for m in drawn])
    large = said > 1e-3 * said.max()
    assert np.abs(samples.std(axis=0, ddof=1)[large] / said[large] - 1).max() < SCATTER
    centre = hessian(fit.model, CUBE, indices=[0]).detach().numpy()
    assert np.abs((samples.mean(axis=0) - centre)[large] / said[large]).max() < 4 / DRAWN**0.5
    vectors = np.random.default_rng(0).normal(size=(2, 4, 3))
    said = quiet.product_uncertainty(fit.model, CUBE, vectors)
    products = [np.einsum("iajb,kjb->kia", hessian(m, CUBE).detach().numpy(), vectors) for m in drawn]
    assert np.abs(np.std(products, axis=0, ddof=1) / said - 1).max() < SCATTER


def test_frequencies_on_a_grid_scatter_as_the_posterior_says(fit: ClosedFormResult) -> None:
    """Against the dynamical matrices of the whole supercell, sample by sample; narrow, as first order is."""
    dims = (2, 2, 2)
    narrow = replace(fit.posterior, root=0.02 * fit.posterior.root)
    drawn = narrow.sample(fit.model, DRAWN, seed=4)
    said = phonon_uncertainty(narrow, fit.model, PRIMITIVE, dims, noise=False)
    assert said.members.sum() == 8 and len(said.qpoints) == 3
    own = _supercell(fit.model, dims)
    places = [own.dynamical_matrices().index(q) for q in said.qpoints]
    frequencies = own.dynamical_matrices().frequencies()[places]
    assert np.abs(frequencies - said.frequencies).max() < 1e-4  # roots of rounding errors, at Γ
    samples = np.array([_supercell(m, dims).dynamical_matrices().frequencies()[places] for m in drawn])
    clear = (np.abs(said.frequencies) > 10 * said.deviations) & (said.deviations > 1e-6)
    assert clear.sum() >= 3, "enough modes for which the first order suffices"
    ratio = samples.std(axis=0, ddof=1)[clear] / said.deviations[clear]
    assert np.abs(ratio - 1).max() < SCATTER + 0.02
    acoustic = np.abs(said.frequencies[0]) < 1e-3
    assert acoustic.sum() == 3
    assert said.eigenvalue_deviations[0][acoustic].max() < 1e-9, "uniform motion costs nothing, for sure"


def _supercell(model: HiMLIP, dims: tuple[int, int, int]) -> ForceConstants:
    empty = ForceConstants(PRIMITIVE, dims, np.zeros((1, int(np.prod(dims)), 3, 3)))
    rows = hessian(model, empty.supercell, indices=[0]).detach().numpy()
    return ForceConstants(PRIMITIVE, dims, rows.transpose(0, 2, 1, 3))


def test_a_complex_mode_has_the_variance_of_its_quadratic_form(fit: ClosedFormResult) -> None:
    """q of order three: e†D(q)e of a changed head moves by row·δθ, whose variance is what is said."""
    dims = (3, 1, 1)
    said = phonon_uncertainty(fit.posterior, fit.model, PRIMITIVE, dims, noise=False)
    place = int(np.argmax(np.abs(said.qpoints).max(axis=1)))
    matrices = []
    for column in range(4):
        step = 1e-3 * fit.posterior.root[:, column]
        moved = fit.posterior.features(fit.model).apply(step)
        dynamical = _supercell(moved, dims).dynamical_matrices()
        matrices.append(dynamical.matrices[dynamical.index(said.qpoints[place])] / PRIMITIVE.get_masses()[0])
    start = _supercell(fit.model, dims).dynamical_matrices()
    centre = start.matrices[start.index(said.qpoints[place])] / PRIMITIVE.get_masses()[0]
    e = said.vectors[place][:, -1]
    moved = np.array([(e.conj() @ (d - centre) @ e).real / 1e-3 for d in matrices])
    only = replace(fit.posterior, root=fit.posterior.root[:, :4])
    few = phonon_uncertainty(only, fit.model, PRIMITIVE, dims, noise=False)
    assert few.eigenvalue_deviations[place][-1] == pytest.approx(np.linalg.norm(moved), rel=1e-6)


def test_cells_of_a_grid_hold_their_q(fit: ClosedFormResult) -> None:
    cells = irreducible_cells(bulk("NaCl", "rocksalt", a=5.4), (4, 4, 2))
    assert sum(members for _, members, *_ in cells) == 32
    assert np.array_equal(cells[0][0], [0, 0, 0]) and len(cells[0][2]) == 2
    for q, _, cell, shifts in cells:
        assert len(cell) == 2 * len(shifts)
        phase = (np.asarray(cell.cell) @ np.linalg.inv(bulk("NaCl", "rocksalt", a=5.4).cell)) @ q
        assert np.abs(phase - np.rint(phase)).max() < 1e-9


def test_deviations_of_frequencies_near_zero_are_finite() -> None:
    found = frequency_deviations(np.array([1.0, 0.0, -0.04]), np.array([0.01, 0.01, 0.0]))
    assert found == pytest.approx([521.47 * 0.005, 521.47 * 0.05, 0.0], rel=1e-4)


def test_calculator_exposes_them(fit: ClosedFormResult) -> None:
    calc = UncertainCalculator(fit.model, fit.posterior, device="cpu")
    found = calc.phonon_uncertainty(PRIMITIVE, (2, 2, 2))
    quiet = calc.phonon_uncertainty(PRIMITIVE, (2, 2, 2), noise=False)
    assert (found.deviations >= quiet.deviations).all() and found.deviations.max() > 0
    one = np.zeros((4, 3))
    one[0, 1] = 1.0
    column = calc.product_uncertainty(CUBE, one)
    assert column.shape == (4, 3)
    assert column == pytest.approx(calc.hessian_uncertainty(CUBE, [0])[0, 1])
    committee = calc.sampled(2)
    energies = [c.get_potential_energy(CUBE) for c in committee]
    assert energies[0] != energies[1]
    assert torch.equal(committee[0].model.energy_shift, calc.sampled(2)[0].model.energy_shift)


def test_a_head_trained_on_the_labels_leaves_nothing_to_learn() -> None:
    """Around a head fitted to the same labels the posterior shrinks; around none it is the first one."""
    frames = [toy_frame(atoms) for atoms in rattled(CUBE, 3, 0.1)]
    network = HiMLIP(NETWORK, seed=1)
    network.standardise(build_graph([f.atoms for f in frames], network.elements, network.cutoff))
    first = fit_closed_form(network, frames)
    again = fit_closed_form(first.model, frames, settings=ClosedFormSettings(prior="model"))
    anew = fit_closed_form(first.model, frames, settings=ClosedFormSettings(prior="zero"))

    def width(found: ClosedFormResult) -> float:
        return float(found.posterior.uncertainty(found.model, CUBE, noise=False).energy)

    assert again.effective_parameters < 0.5 * first.effective_parameters
    assert anew.effective_parameters == pytest.approx(first.effective_parameters, rel=0.1)
    assert width(anew) == pytest.approx(width(first), rel=0.2)


def test_hessians_that_were_not_learnt_give_factors() -> None:
    """Recalibrated by a crystal's Hessian: factors for elements and phonons, whose rms ratio becomes one."""
    frames = [toy_frame(atoms) for atoms in rattled(CUBE, 3, 0.1)]
    network = HiMLIP(NETWORK, seed=1)
    network.standardise(build_graph([f.atoms for f in frames], network.elements, network.cutoff))
    fit = fit_closed_form(network, frames)
    empty = ForceConstants(PRIMITIVE, (2, 2, 2), np.zeros((1, 8, 3, 3)))
    constants = ForceConstants.from_hessian(PRIMITIVE, (2, 2, 2), toy_hessian(empty.supercell))
    posterior = calibrate(fit, [], [HessianLabel.from_force_constants(constants)])
    assert set(posterior.factors) == {"hessian", "phonons"}
    found = phonon_errors(fit.model, posterior, constants)
    assert np.sqrt(np.mean((found.errors / found.deviations) ** 2)) == pytest.approx(1.0)
    assert len(found.errors) == 6, "two stars beside Γ, whose modes are uniform motion"

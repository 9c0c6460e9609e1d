"""Ensembles that were not drawn from the matrices, or at the temperature, that they are said to come from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha import Ensemble, HarmonicDistribution, draw_ensemble
from himlip_ase.sscha.ensembles.consistency import check_widths, measure_widths

from .crystals import CRYSTALS, random_matrices
from .toy import HarmonicCrystal

HOT_K = 600.0


def ensemble_of(name: str, temperature_k: float, sampling: str = "pairs", n: int = 200) -> Ensemble:
    dynamical = random_matrices(*CRYSTALS[name])
    drawn_from = HarmonicDistribution(dynamical, temperature_k)
    return draw_ensemble(drawn_from, n, 1, HarmonicCrystal(dynamical), sampling, n_blocks=10)


def refused(ensemble: Ensemble) -> str:
    with pytest.raises(InputError) as caught:
        check_widths(ensemble, "this one", "Give -T {temperature}.")
    return str(caught.value)


def said_to_be(ensemble: Ensemble, dynamical: DynamicalMatrices, temperature_k: float) -> Ensemble:
    return dataclasses.replace(ensemble, drawn_from=HarmonicDistribution(dynamical, temperature_k))


@pytest.mark.parametrize("sampling", ["pairs", "independent", "sobol"])
@pytest.mark.parametrize("temperature", [0.0, HOT_K])
@pytest.mark.parametrize("name", ["cubic", "hexagonal", "no symmetry", "one cell"])
def test_a_draw_has_the_widths_of_its_gaussian_and_tells_its_temperature(name, temperature, sampling):
    ensemble = ensemble_of(name, temperature, sampling)
    found = check_widths(ensemble, "a draw", "")
    assert abs(found.mean - 1) < 4 * found.sigma
    assert 0 < found.sigma < 0.1
    assert abs(found.temperature_k - temperature) <= 4 * found.temperature_sigma_k
    # whatever temperature it is said to have, the same one is found
    cold = measure_widths(said_to_be(ensemble, ensemble.drawn_from.dynamical, 0.0))
    assert cold.temperature_k == pytest.approx(found.temperature_k, abs=1e-3)
    if temperature:
        assert not cold.passed and cold.mean > 1.2


def test_another_temperature_is_refused_with_the_right_one():
    ensemble = ensemble_of("cubic", HOT_K, n=400)
    message = refused(said_to_be(ensemble, ensemble.drawn_from.dynamical, 0.0))
    fitted = float(message.split("-T ")[1].rstrip("."))
    assert fitted == pytest.approx(HOT_K, rel=0.05)
    assert "mean uᵀΥu per mode" in message


def test_other_masses_units_and_orders_of_atoms_are_refused():
    ensemble = ensemble_of("no symmetry", 0.0, n=400)
    dynamical = ensemble.drawn_from.dynamical
    assert "mean uᵀΥu" in refused(said_to_be(ensemble, dynamical.with_masses({"H": 2.014}), 0.0))
    bohr = dataclasses.replace(ensemble, displacements=ensemble.displacements * 0.529177)
    assert "it would be 1 at 0" in refused(bohr)
    order = np.arange(len(ensemble.drawn_from.supercell)).reshape(-1, 3)[:, [1, 0, 2]].ravel()
    refused(dataclasses.replace(ensemble, displacements=ensemble.displacements[:, order]))


def test_matrices_of_the_same_mean_width_are_told_by_single_modes():
    """Twice the spring of one direction, less in the others, so that the mean over all modes stays."""
    ensemble = ensemble_of("one cell", 0.0, n=2000)
    dynamical = ensemble.drawn_from.dynamical

    def stretched(others: float) -> Ensemble:
        scale = np.tile([others, others, 2.0], len(dynamical.primitive))
        matrices = dynamical.matrices * np.sqrt(np.outer(scale, scale))
        changed = DynamicalMatrices(dynamical.primitive, dynamical.dims, dynamical.qpoints, matrices)
        return said_to_be(ensemble, changed, 0.0)

    trials = np.linspace(0.5, 1.0, 51)
    best = min(trials, key=lambda others: abs(measure_widths(stretched(others)).mean - 1))
    found = measure_widths(stretched(best))
    assert found.right_width and not found.passed
    assert "single modes" in refused(stretched(best))


def test_other_centroids_are_refused():
    ensemble = ensemble_of("no symmetry", 0.0, "independent", n=2000)
    dynamical = ensemble.drawn_from.dynamical
    primitive = dynamical.primitive.copy()
    primitive.positions[0, 0] += 0.02
    moved = DynamicalMatrices(primitive, dynamical.dims, dynamical.qpoints, dynamical.matrices)
    shift = np.zeros(primitive.positions.shape)
    shift[0, 0] = -0.02
    same_places = dataclasses.replace(
        ensemble, displacements=ensemble.displacements + np.tile(shift, (int(np.prod(dynamical.dims)), 1))
    )
    assert "centroids" in refused(said_to_be(same_places, moved, 0.0))

"""Isotopes and temperatures begun from a neighbouring run end where a run from scratch ends."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.sscha import SschaSettings, run_sscha
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.continuation import continue_run, temperature_series
from himlip_ase.sscha.run.initial import positive_definite_start

from .toy import STRONG, BondCrystal, cscl

DIMS = (1, 1, 2)
SETTINGS = SschaSettings(n_configurations=200, n_hessian_configurations=600, seed=5, n_blocks=10)


@pytest.fixture(scope="module")
def crystal():
    return BondCrystal(cscl(c=2.7), DIMS, STRONG)


@pytest.fixture(scope="module")
def natural(crystal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("natural")
    return run_sscha(crystal.harmonic(), crystal, SETTINGS, folder), folder


def differences(one, two):
    """Free energies and frequencies in units of their joined errors."""
    free = (one.free_energy + one.static_energy) - (two.free_energy + two.static_energy)
    sigma = np.hypot(one.auxiliary_sigma_cm, two.auxiliary_sigma_cm)
    change = (one.frequencies() - two.frequencies())[sigma > 0] / sigma[sigma > 0]
    return free / np.hypot(one.free_energy_sigma, two.free_energy_sigma), np.sqrt((change**2).mean())


def test_weights_turn_one_gaussian_into_another(crystal):
    start, _ = positive_definite_start(crystal.harmonic())
    drawn = HarmonicDistribution(start)
    target = HarmonicDistribution(start.with_masses({"H": 1.3}), 150.0)
    ensemble = draw_ensemble(drawn, 6_000, np.random.SeedSequence(1), crystal)
    assert ensemble.is_drawn_from(HarmonicDistribution(start)) and (ensemble.weights(drawn) == 1).all()
    weights = ensemble.weights(target)
    moved = ensemble.displacements_from(target)
    masses = np.tile(target.dynamical.primitive.get_masses(), 2)
    moved = moved - (moved * masses[:, None]).sum(axis=1, keepdims=True) / masses.sum()  # no translation
    flat = moved.reshape(len(moved), -1)
    found = (weights[:, None] * flat).T @ flat / weights.sum()
    expected = target.covariance()
    assert np.abs(found - expected).max() < 0.06 * np.abs(expected).max()
    assert np.abs(flat.T @ flat / len(flat) - expected).max() > 0.09 * np.abs(expected).max()


def test_a_near_isotope_takes_over_the_ensemble(natural, crystal, tmp_path):
    result, source = natural
    heavier = continue_run(source, crystal, tmp_path / "new", masses={"S": 33.97})
    assert heavier.converged, heavier.verdict
    assert heavier.populations[0].reused and not heavier.populations[-1].reused
    assert heavier.force_calls_saved == 200 + 600 and heavier.hessian_kong_liu < 1
    assert heavier.force_calls == 201 * (len(heavier.populations) - 1)
    assert "not tested yet" not in heavier.verdict
    assert heavier.static_energy == result.static_energy
    assert heavier.centroids.get_masses()[0] == 33.97
    start = crystal.harmonic().with_masses({"S": 33.97})
    scratch = run_sscha(start, crystal, dataclasses.replace(SETTINGS, seed=6), tmp_path / "scratch")
    free, frequencies = differences(heavier, scratch)
    assert abs(free) < 3 and frequencies < 2
    sigma = np.hypot(heavier.hessian_sigma_cm, scratch.hessian_sigma_cm)
    change = (heavier.hessian_frequencies() - scratch.hessian_frequencies())[sigma > 0] / sigma[sigma > 0]
    assert np.sqrt((change**2).mean()) < 2


def test_a_far_isotope_is_drawn_anew_and_ends_right(natural, crystal, tmp_path):
    _, source = natural
    deuterium = continue_run(source, crystal, tmp_path / "D", masses={"H": 4 * 1.008})
    assert deuterium.force_calls_saved == 0 and not deuterium.populations[0].reused
    start = crystal.harmonic().with_masses({"H": 4 * 1.008})
    scratch = run_sscha(start, crystal, dataclasses.replace(SETTINGS, seed=7), tmp_path / "scratch")
    free, frequencies = differences(deuterium, scratch)
    assert deuterium.converged and abs(free) < 3 and frequencies < 2


def test_temperature_series_chains_and_resumes(natural, crystal, tmp_path):
    _, source = natural
    results = temperature_series(source, crystal, [50, 150], tmp_path)
    assert list(results) == [50.0, 150.0]
    assert all(result.converged for result in results.values())
    assert all(result.force_calls_saved == 800 for result in results.values())
    assert results[150.0].free_energy < results[50.0].free_energy + 3 * results[50.0].free_energy_sigma
    calls = crystal.calls
    again = temperature_series(source, crystal, [50, 150], tmp_path, resume=True)
    assert crystal.calls == calls
    assert again[150.0].as_dict() == results[150.0].as_dict()


def test_other_forces_and_another_origin_are_refused(natural, crystal, tmp_path):
    _, source = natural
    stiffer = BondCrystal(cscl(c=2.7), DIMS, [(6.5, -30.0, 300.0, -0.02), *STRONG[1:]])
    with pytest.raises(InputError, match="forces differ"):
        continue_run(source, stiffer, tmp_path / "wrong", masses={"S": 33.97})
    with pytest.raises(InputError, match="no atom of He"):
        continue_run(source, crystal, tmp_path / "none", masses={"He": 3.0})
    with pytest.raises(InputError, match="another folder"):
        continue_run(source, crystal, source, masses={"S": 33.97})
    short = dataclasses.replace(SETTINGS, max_populations=1, n_hessian_configurations=0)
    continue_run(source, crystal, tmp_path / "short", settings=short, temperature_k=50)
    other = run_sscha(crystal.harmonic(), crystal, short, tmp_path / "other")
    assert other.populations_settled is False
    with pytest.raises(InputError, match="continues from differs"):
        run_sscha(
            natural[0].auxiliary,
            crystal,
            dataclasses.replace(short, temperature_k=50.0),
            tmp_path / "short",
            resume=True,
        )

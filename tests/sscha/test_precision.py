"""Single precision of the forces: taken and refused by what it would do to averages, never by itself."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.sscha import SschaSettings, load_result, run_sscha
from himlip_ase.sscha.ensembles import precision
from himlip_ase.sscha.ensembles.partial_ensemble import begin_ensemble
from himlip_ase.sscha.ensembles.precision import COMPARED, SHARE, choose_precision
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.workers import potential_forces
from himlip_ase.sscha.results.summary import describe

from .toy import STRONG, BondCrystal, HarmonicCrystal, cscl

DIMS = (1, 1, 2)
SETTINGS = SschaSettings(
    n_configurations=60, n_hessian_configurations=80, seed=11, n_blocks=5, hessian_order="third"
)


class Rounded:
    """Results of a crystal, with as many bits of each number as are asked for."""

    def __init__(self, crystal, bits: int) -> None:
        self.crystal, self.bits, self.images = crystal, bits, 0

    def __call__(self, images):
        self.images += len(images)
        found = self.crystal(images)
        stresses = None if found.stresses is None else self.rounded(found.stresses)
        return Evaluation(self.rounded(found.energies), self.rounded(found.forces), stresses)

    def rounded(self, values):
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.rint(mantissa * 2**self.bits) / 2**self.bits, exponent)


class InBoth:
    """A crystal whose forces come in double and in a lower precision."""

    def __init__(self, crystal, bits: int = 24) -> None:
        self.crystal, self.single, self.images = crystal, Rounded(crystal, bits), 0

    def __call__(self, images):
        self.images += len(images)
        return self.crystal(images)


@pytest.fixture(scope="module")
def crystal():
    return BondCrystal(cscl(c=2.7), DIMS, STRONG)


@pytest.fixture(scope="module")
def harmonic(crystal):
    return crystal.harmonic()


@pytest.fixture(scope="module")
def double(crystal, harmonic, tmp_path_factory):
    return run_sscha(harmonic, InBoth(crystal), dataclasses.replace(SETTINGS, precision="double"),
                     tmp_path_factory.mktemp("double"))  # fmt: skip


def test_an_anharmonic_crystal_takes_it_and_nothing_moves_beyond_the_bound(
    crystal, harmonic, double, tmp_path, caplog
):
    forces = InBoth(crystal)
    with caplog.at_level(logging.INFO):
        found = run_sscha(harmonic, forces, SETTINGS, tmp_path / "run")
    ensembles = len(found.populations) + 1
    assert forces.images == ensembles * (COMPARED + 1)  # the compared ones and the centroids
    assert forces.single.images == found.force_calls - ensembles
    shifts = [record.rounding for record in found.populations] + [found.final_rounding]
    assert 0 < max(shifts) <= SHARE
    assert caplog.text.count("single precision: rounding to single shifts averages by up to") == ensembles
    assert any("single precision" in line for line in describe(found))
    assert abs(found.free_energy - double.free_energy) <= SHARE * double.free_energy_sigma
    moving = double.auxiliary_sigma_cm > 0
    apart = np.abs(found.frequencies() - double.frequencies())[moving]
    assert (apart <= SHARE * double.auxiliary_sigma_cm[moving]).all() and apart.max() > 0
    apart = np.abs(found.hessian_frequencies() - double.hessian_frequencies())[moving]
    assert (apart <= SHARE * double.hessian_sigma_cm[moving]).all()
    again = load_result(tmp_path / "run")
    assert again.final_rounding == found.final_rounding
    assert [record.rounding for record in again.populations] == shifts[:-1]


def test_double_is_double(double):
    assert double.final_rounding is None and {record.rounding for record in double.populations} == {None}


def test_a_harmonic_crystal_refuses_it(harmonic, tmp_path, caplog):
    """Nothing spreads about the auxiliary: rounding would be all there is to average."""
    exact = HarmonicCrystal(harmonic)
    forces = InBoth(exact)
    with caplog.at_level(logging.INFO):
        found = run_sscha(harmonic, forces, SETTINGS, tmp_path / "run")
    ensembles = len(found.populations) + 1
    assert forces.single.images == ensembles * COMPARED
    assert found.final_rounding > SHARE and "double precision: rounding" in caplog.text
    plain = run_sscha(harmonic, exact, SETTINGS, tmp_path / "plain")
    np.testing.assert_array_equal(found.auxiliary.matrices, plain.auxiliary.matrices)
    np.testing.assert_array_equal(found.hessian.matrices, plain.hessian.matrices)


def test_larger_ensembles_ask_for_more(crystal, harmonic):
    drawn = HarmonicDistribution(harmonic)
    coarse = InBoth(crystal, bits=12)
    shifts = []
    for n in (40, 4000):
        partial = begin_ensemble(drawn, n, 3)
        partial = dataclasses.replace(
            partial, displacements=np.concatenate([begin_ensemble(drawn, 40, 3).displacements[:-1],
                                                   partial.displacements[40:]])
        )  # fmt: skip
        _, chosen, shift = choose_precision(partial, drawn, coarse)
        shifts.append(shift)
        assert (chosen is coarse.single) == (shift <= SHARE)
    assert shifts[1] == pytest.approx(10 * shifts[0])
    assert shifts[0] <= SHARE < shifts[1]


def test_one_soft_mode_is_enough(crystal, harmonic):
    """An error along a single mode, small beside the forces of all others, decides."""
    drawn = HarmonicDistribution(harmonic)

    class OneWrong(InBoth):
        def __call__(self, images):
            return self.crystal(images)

    forces = OneWrong(crystal)
    stiff = dataclasses.replace(begin_ensemble(drawn, 200, 1))
    fine = choose_precision(stiff, drawn, forces)[2]
    flat = HarmonicCrystal(harmonic)

    class Flattened:
        """The crystal without anharmonic forces along z."""

        def __call__(self, images):
            found, plain = crystal(images), flat(images)
            found.forces[..., 2] = plain.forces[..., 2]
            return found

    assert choose_precision(stiff, drawn, InBoth(Flattened()))[2] > 1e3 * fine


def test_a_resumed_run_decides_as_an_unbroken_one(crystal, harmonic, tmp_path):
    class Stopping(InBoth):
        def __init__(self):
            super().__init__(crystal)
            self.single = self.stop

        def stop(self, images):
            if len(images) != COMPARED:
                raise KeyboardInterrupt
            return Rounded(crystal, 24)(images)

    unbroken = run_sscha(harmonic, InBoth(crystal), SETTINGS, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        run_sscha(harmonic, Stopping(), SETTINGS, tmp_path / "run")
    resumed = run_sscha(harmonic, InBoth(crystal), SETTINGS, tmp_path / "run", resume=True)
    np.testing.assert_array_equal(resumed.auxiliary.matrices, unbroken.auxiliary.matrices)
    assert resumed.final_rounding == unbroken.final_rounding


def test_runs_and_results_from_before_are_read(crystal, harmonic, tmp_path):
    place = tmp_path / "run"
    run_sscha(harmonic, crystal, dataclasses.replace(SETTINGS, precision="double"), place)
    state = place / "state" / "run.json"
    old = json.loads(state.read_text())
    del old["settings"]["precision"]
    state.write_text(json.dumps({name: value for name, value in old.items() if name != "checksum"}))
    result = json.loads((place / "result.json").read_text())
    del result["settings"]["precision"], result["final_rounding"]
    for record in result["populations"]:
        del record["rounding"]
    result.pop("checksum", None)
    (place / "result.json").write_text(json.dumps(result))
    found = run_sscha(harmonic, InBoth(crystal), SETTINGS, place, resume=True)
    assert found.final_rounding is None and found.populations[0].rounding is None


def test_networks_have_both(monkeypatch):
    monkeypatch.setattr("himlip_ase.potential.fused.compiled_here", lambda: False)
    images = [cscl()]
    images[0].symbols = "HS"
    with potential_forces("himlip-h3s-1") as forces:
        double, single = forces(images), forces.single(images)
    apart = np.abs(np.array(double.forces) - single.forces)
    assert np.abs(double.energies - single.energies).max() < 1e-3
    assert 0 < np.abs(double.stresses - single.stresses).max() < 1e-4 and apart.max() < 1e-3


def test_other_words_are_refused():
    with pytest.raises(InputError, match=r"precision is 'single'; give one of auto, double"):
        SschaSettings(precision="single")
    assert precision.SHARE == 0.1

"""Whole runs of a small anharmonic crystal: verdict, files, resuming, refusals."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys

import numpy as np
import pytest

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock, write_json
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.sscha import SschaSettings, load_result, run_sscha
from himlip_ase.sscha.convergence.verdict import FreshTest
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.native_engine import NativeEngine
from himlip_ase.sscha.results.plots import write_figures
from himlip_ase.sscha.results.summary import describe
from himlip_ase.sscha.run import final_ensemble as final

from .toy import STRONG, BondCrystal, HarmonicCrystal, cscl

DIMS = (1, 1, 2)
SETTINGS = SschaSettings(
    n_configurations=60, n_hessian_configurations=80, seed=11, n_blocks=5, hessian_order="third"
)


class Killed(BaseException):
    """Nothing catches it, like a signal."""


@pytest.fixture(scope="module")
def crystal():
    return BondCrystal(cscl(c=2.7), DIMS, STRONG)


@pytest.fixture(scope="module")
def harmonic(crystal):
    return crystal.harmonic()


@pytest.fixture(scope="module")
def unbroken(crystal, harmonic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    calls = crystal.calls
    result = run_sscha(harmonic, crystal, SETTINGS, folder)
    return result, folder, crystal.calls - calls


def same(one, two):
    for name in ("matrices", "qpoints"):
        assert np.array_equal(getattr(one.auxiliary, name), getattr(two.auxiliary, name))
        assert np.array_equal(getattr(one.hessian, name), getattr(two.hessian, name))
    assert one.as_dict() == two.as_dict()
    for name, array in vars(one.history).items():
        assert np.array_equal(array, getattr(two.history, name))


def test_converges_and_says_why(unbroken, harmonic):
    result, _, calls = unbroken
    assert result.converged and result.populations_settled
    assert "within the 2 allowed" in result.verdict
    assert calls == len(result.populations) + 2  # batches of at most 64 configurations
    assert result.force_calls == len(result.populations) * 61 + 81
    assert result.hessian_kong_liu == pytest.approx(1)
    assert result.populations[0].fresh_rms_z > 2  # the harmonic start is not the minimum
    assert result.populations[-1].fresh_rms_z < 2
    assert 0 < result.free_energy_sigma < 0.05 * result.free_energy
    assert result.free_energy < HarmonicDistribution(result.auxiliary).free_energy() * 1.5
    optical = result.frequencies()[:, 3:] - harmonic.frequencies()[:, 3:]
    assert (np.abs(optical) > 3 * result.auxiliary_sigma_cm[:, 3:]).any()
    lower = result.frequencies() - result.hessian_frequencies()
    assert (lower[result.hessian_sigma_cm > 0] > 0).all()  # the third-order bubble only softens


def test_files_are_what_was_returned(unbroken, tmp_path):
    result, folder, _ = unbroken
    same(load_result(folder), result)
    json.loads((folder / "result.json").read_text())
    assert (folder / "log.txt").read_text().count("INFO population") == len(result.populations)
    for name in ("auxiliary", "hessian"):
        read = read_dyn(folder / f"{name}.dyn")
        np.testing.assert_allclose(read.frequencies(), getattr(result, name).frequencies(), atol=0.05)
    paths = write_figures(result, tmp_path)
    assert all(path.stat().st_size > 500 for path in paths if path.suffix != ".csv")
    history = (tmp_path / "sscha_history.csv").read_text().splitlines()
    assert len(history) == 1 + len(result.history.free_energy)
    with pytest.raises(InputError, match="overwrite"):
        write_figures(result, tmp_path)
    with pytest.raises(InputError, match="overwrite"):
        result.save(folder)
    assert describe(result)[0].startswith("converged")


@pytest.mark.parametrize("where", ["forces 1", "forces 2", "minimiser 2", "record 1", "forces last", "end"])
def test_killed_and_resumed_equals_unbroken(where, unbroken, crystal, harmonic, tmp_path, monkeypatch):
    stage, _, which = where.partition(" ")
    count = 0
    expected = unbroken[2]

    def killer(function, at):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == at:
                raise Killed
            return function(*args, **kwargs)

        return call

    evaluate = crystal
    with monkeypatch.context() as patch:
        if stage == "forces":
            evaluate = killer(crystal, expected if which == "last" else int(which))
        elif stage == "minimiser":
            patch.setattr(NativeEngine, "minimise", killer(NativeEngine.minimise, int(which)))
        elif stage == "record":
            patch.setattr("himlip_ase.sscha.run.checkpoints.write_json", killer(write_json, 2))
        else:
            patch.setattr("himlip_ase.sscha.run.final_ensemble.estimate_hessian", killer(None, 1))
        with pytest.raises(Killed):
            run_sscha(harmonic, evaluate, SETTINGS, tmp_path)
    with pytest.raises(InputError, match="resume"):
        run_sscha(harmonic, crystal, SETTINGS, tmp_path)
    same(run_sscha(harmonic, crystal, SETTINGS, tmp_path, resume=True), unbroken[0])


def test_resuming_with_something_else_is_refused(crystal, harmonic, tmp_path):
    short = dataclasses.replace(SETTINGS, max_populations=1, n_hessian_configurations=0)
    result = run_sscha(harmonic, crystal, short, tmp_path)
    assert not result.converged and not result.populations_settled
    assert "stopped after 1 populations" in result.verdict and result.hessian is None
    with pytest.raises(InputError, match="seed was 11, now 12"):
        run_sscha(harmonic, crystal, dataclasses.replace(short, seed=12), tmp_path, resume=True)
    other = harmonic.with_masses({"H": 2.014})
    with pytest.raises(InputError, match="starting dynamical matrices"):
        run_sscha(other, crystal, short, tmp_path, resume=True)
    longer = dataclasses.replace(short, max_populations=2)
    stiffer = BondCrystal(cscl(c=2.7), DIMS, [(6.5, -30.0, 300.0, -0.02), *STRONG[1:]])
    with FolderLock(tmp_path), pytest.raises(InputError, match="in use"):
        run_sscha(harmonic, crystal, longer, tmp_path, resume=True)
    assert len(run_sscha(harmonic, crystal, longer, tmp_path, resume=True).populations) == 2
    (tmp_path / "result.json").unlink()
    with pytest.raises(InputError, match="forces differ"):  # every population is there
        run_sscha(harmonic, stiffer, longer, tmp_path, resume=True)
    (tmp_path / "state" / "population_002.json").unlink()
    with pytest.raises(InputError, match="forces differ"):  # the ensemble is there, not its minimisation
        run_sscha(harmonic, stiffer, longer, tmp_path, resume=True)
    (tmp_path / "state" / "population_002_ensemble.npz").unlink()
    with pytest.raises(InputError, match="forces differ"):  # a new ensemble would be drawn
        run_sscha(harmonic, stiffer, longer, tmp_path, resume=True)


def test_a_final_ensemble_that_disagrees_becomes_a_population(crystal, harmonic, tmp_path, monkeypatch):
    fresh_test, tests = final.fresh_test, []

    def first_fails(*args):
        tests.append(fresh_test(*args))
        return FreshTest(9.0, 9.0, 99.0, 0.0) if len(tests) == 1 else tests[-1]

    monkeypatch.setattr(final, "fresh_test", first_fails)
    calls = crystal.calls
    result = run_sscha(harmonic, crystal, SETTINGS, tmp_path)
    assert result.converged and len(tests) == 2
    sizes = [record.n_configurations for record in result.populations]
    assert sizes[:3] == [60, 60, 80] and set(sizes[3:]) <= {80}
    assert result.force_calls == sum(sizes) + len(sizes) + 81
    assert crystal.calls - calls == sum(-(-(n + 1) // 64) for n in [*sizes, 80])


def test_populations_grow_until_the_error_bar_asked_for(crystal, harmonic, tmp_path):
    asked = dataclasses.replace(SETTINGS, n_hessian_configurations=0, frequency_error_cm=20.0)
    result = run_sscha(harmonic, crystal, asked, tmp_path / "grown")
    sizes = [record.n_configurations for record in result.populations]
    assert result.converged and result.auxiliary_sigma_cm.max() <= 20.0
    assert sizes == sorted(sizes) and sizes[0] == 60 and sizes[-1] > 60 and sizes[-1] % 10 == 0
    assert all(later <= 4 * before for before, later in itertools.pairwise(sizes))
    few = dataclasses.replace(asked, frequency_error_cm=5.0, max_configurations=80)
    short = run_sscha(harmonic, crystal, few, tmp_path / "short")
    assert not short.converged and "max_configurations = 80 does not reach" in short.verdict


def test_nothing_but_the_option_needs_python_sscha(crystal, harmonic, tmp_path, monkeypatch):
    for name in ("sscha", "sscha.Ensemble", "cellconstructor", "cellconstructor.Phonons"):
        monkeypatch.setitem(sys.modules, name, None)  # an import raises
    assert run_sscha(harmonic, crystal, SETTINGS, tmp_path / "native").converged
    with pytest.raises(InputError, match=r"himlip-ase\[sscha\]"):
        run_sscha(harmonic, crystal, dataclasses.replace(SETTINGS, engine="python-sscha"), tmp_path / "other")


@pytest.mark.peer
def test_both_engines_end_at_the_same_minimum(unbroken, crystal, harmonic, tmp_path):
    pytest.importorskip("sscha")
    native = unbroken[0]
    other = run_sscha(harmonic, crystal, dataclasses.replace(SETTINGS, engine="python-sscha"), tmp_path)
    assert other.engine.startswith("python-sscha") and other.converged
    error = np.hypot(native.free_energy_sigma, other.free_energy_sigma)
    assert abs(native.free_energy - other.free_energy) < 3 * error
    z = (native.frequencies() - other.frequencies())[native.auxiliary_sigma_cm > 0]
    z /= np.sqrt(2) * native.auxiliary_sigma_cm[native.auxiliary_sigma_cm > 0]
    assert np.sqrt((z**2).mean()) < 2


@pytest.mark.peer
def test_a_grid_without_the_crystals_symmetry_is_explained(tmp_path):
    pytest.importorskip("sscha")
    crystal = BondCrystal(cscl(), (1, 1, 2), STRONG)
    with pytest.raises(InputError, match="grid lacks rotations"):
        run_sscha(crystal.harmonic(), crystal, dataclasses.replace(SETTINGS, engine="python-sscha"), tmp_path)


def test_the_hessian_can_be_added_later(unbroken, crystal, harmonic, tmp_path):
    without = dataclasses.replace(SETTINGS, n_hessian_configurations=0)
    assert run_sscha(harmonic, crystal, without, tmp_path).hessian is None
    calls = crystal.calls
    same(run_sscha(harmonic, crystal, SETTINGS, tmp_path, resume=True), unbroken[0])
    assert crystal.calls == calls + 3  # one old configuration checked, one ensemble in two batches


def test_a_foreign_result_is_not_written_over(unbroken, crystal, harmonic, tmp_path):
    unbroken[0].save(tmp_path)
    with pytest.raises(InputError, match="without its state"):
        run_sscha(harmonic, crystal, SETTINGS, tmp_path)


def test_non_finite_forces_stop_the_run(harmonic, tmp_path):
    crystal = HarmonicCrystal(harmonic)

    def broken(images):
        result = crystal(images)
        result.forces[3, 0, 0] = np.nan
        return result

    with pytest.raises(CalculationError, match="not finite"):
        run_sscha(harmonic, broken, SETTINGS, tmp_path)
    assert not (tmp_path / "result.json").exists()

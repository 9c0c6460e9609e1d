"""Kills at any moment, full disks, damaged files, two processes: nothing lost, identical end, clear words."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.sscha import SschaSettings, load_result, run_sscha
from himlip_ase.sscha.ensembles.evaluation import from_calculator, from_executor
from himlip_ase.sscha.run.checkpoints import pack_run, unpack_run

from .toy import STRONG, AsCalculator, BondCrystal, cscl

DIMS = (1, 1, 2)
SETTINGS = SschaSettings(n_configurations=60, n_hessian_configurations=80, seed=11, n_blocks=5)
SCRIPT = """
import sys, time
from tests.sscha.test_faults import SETTINGS, toy
from himlip_ase.sscha import run_sscha

class Slow:
    chunk = 4
    def __init__(self): self.crystal = toy()
    def __call__(self, images):
        time.sleep(0.01)
        return self.crystal(images)

crystal = Slow()
run_sscha(crystal.crystal.harmonic(), crystal, SETTINGS, sys.argv[1], resume=sys.argv[2] == "resume")
"""


def toy() -> BondCrystal:
    return BondCrystal(cscl(c=2.7), DIMS, STRONG)


class InFours:
    """The toy's forces, four configurations a call."""

    chunk = 4

    def __init__(self) -> None:
        self.crystal, self.images, self.calls = toy(), 0, 0
        self.stop_at: int | None = None
        self.error: BaseException = KeyboardInterrupt()

    def __call__(self, images):
        self.calls += 1
        if self.calls == self.stop_at:
            raise self.error
        self.images += len(images)
        return self.crystal(images)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    forces = InFours()
    return run_sscha(forces.crystal.harmonic(), forces, SETTINGS, folder), folder, forces.images


def assert_same(one, two):
    assert one.as_dict() == two.as_dict()
    assert np.array_equal(one.auxiliary.matrices, two.auxiliary.matrices)
    assert np.array_equal(one.hessian.matrices, two.hessian.matrices)
    for name, array in vars(one.history).items():
        assert np.array_equal(array, getattr(two.history, name))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CalculationError("job 17 failed")], ids=["^C", "job"])
def test_stopped_among_the_forces_loses_one_chunk(error, unbroken, tmp_path):
    forces = InFours()
    forces.stop_at, forces.error = 24, error
    with pytest.raises(type(error)):
        run_sscha(forces.crystal.harmonic(), forces, SETTINGS, tmp_path)
    done = forces.images
    again = InFours()
    assert_same(run_sscha(again.crystal.harmonic(), again, SETTINGS, tmp_path, resume=True), unbroken[0])
    assert done + again.images == unbroken[2] + 1  # one configuration is computed again, to compare
    assert not list((tmp_path / "state").glob("*_partial*"))


def test_resuming_incomplete_forces_with_another_potential_is_refused(tmp_path):
    forces = InFours()
    forces.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        run_sscha(forces.crystal.harmonic(), forces, SETTINGS, tmp_path)
    other = BondCrystal(cscl(c=2.7), DIMS, [(6.5, -30.0, 300.0, -0.02), *STRONG[1:]])
    with pytest.raises(InputError, match="forces differ"):
        run_sscha(forces.crystal.harmonic(), other, SETTINGS, tmp_path, resume=True)


def _start(folder: Path, how: str) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), how], cwd=root, env=environment)


def _killed_after(folder: Path, files: int, delay: float) -> bool:
    """Run until so many files are in the state, and a delay, then kill -9; whether it was still running."""
    state = folder / "state"
    process = _start(folder, "resume" if (state / "run.json").exists() else "new")
    while process.poll() is None and len(list(state.glob("*"))) < files:
        time.sleep(0.002)
    time.sleep(delay)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def test_kill_9_and_resume_ends_identically(unbroken, tmp_path):
    assert _killed_after(tmp_path, 3, 0.05)
    forces = InFours()
    assert_same(run_sscha(forces.crystal.harmonic(), forces, SETTINGS, tmp_path, resume=True), unbroken[0])


@pytest.mark.slow
def test_kill_9_at_ten_random_moments_ends_identically(unbroken, tmp_path):
    generator = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    kills = 0
    for moment in range(10):
        folder = tmp_path / str(moment)
        for _ in range(int(generator.integers(1, 4))):
            have = len(list((folder / "state").glob("*")))
            kills += _killed_after(folder, have + int(generator.integers(0, 4)), generator.uniform(0, 0.6))
        process = _start(folder, "resume" if (folder / "state" / "run.json").exists() else "new")
        assert process.wait(timeout=120) == 0
        assert_same(load_result(folder), unbroken[0])
    assert kills >= 10


def test_fault_38_a_second_process_is_refused(tmp_path):
    process = _start(tmp_path, "new")
    try:
        while not (tmp_path / "state" / "run.json").exists():
            assert process.poll() is None
            time.sleep(0.002)
        forces = InFours()
        with pytest.raises(InputError, match="in use by another process"):
            run_sscha(forces.crystal.harmonic(), forces, SETTINGS, tmp_path, resume=True)
        assert forces.calls == 0
    finally:
        process.kill()
        process.wait()


def test_fault_36_a_full_disk_leaves_no_partial_file_and_can_be_resumed(unbroken, tmp_path, monkeypatch):
    forces, count, sync = InFours(), 0, os.fsync

    def full(descriptor):
        nonlocal count
        count += 1
        if count > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run_sscha(forces.crystal.harmonic(), forces, SETTINGS, tmp_path)
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]
    again = InFours()
    assert_same(run_sscha(again.crystal.harmonic(), again, SETTINGS, tmp_path, resume=True), unbroken[0])


@pytest.mark.parametrize(
    "name", ["population_001.json", "population_001.npz", "hessian_002_80_ensemble.npz", "run.json"]
)
def test_a_truncated_file_is_named_with_what_to_do(name, unbroken, tmp_path):
    shutil.copytree(unbroken[1], tmp_path / "copy")
    (tmp_path / "copy" / "result.json").unlink()
    path = tmp_path / "copy" / "state" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    forces = InFours()
    with pytest.raises(CalculationError, match=rf"{name}.*damaged.*--resume"):
        run_sscha(forces.crystal.harmonic(), forces, SETTINGS, tmp_path / "copy", resume=True)
    if name.startswith("population"):
        for file in (tmp_path / "copy" / "state").glob("population_001*"):
            file.unlink()
        again = InFours()
        result = run_sscha(again.crystal.harmonic(), again, SETTINGS, tmp_path / "copy", resume=True)
        assert_same(result, unbroken[0])


def test_one_file_of_a_run_and_back(unbroken, tmp_path):
    pack_run(unbroken[1], tmp_path / "run.zip")
    unpack_run(tmp_path / "run.zip", tmp_path / "back")
    forces = InFours()
    result = run_sscha(forces.crystal.harmonic(), forces, SETTINGS, tmp_path / "back", resume=True)
    assert forces.calls == 0
    assert_same(result, unbroken[0])
    with pytest.raises(InputError, match="holds no SSCHA run"):
        pack_run(tmp_path, tmp_path / "none.zip")
    whole = (tmp_path / "run.zip").read_bytes()
    (tmp_path / "short.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="packed SSCHA run"):
        unpack_run(tmp_path / "short.zip", tmp_path / "short")


def test_an_ase_calculator_or_an_executor_gives_the_same_run(unbroken, tmp_path):
    harmonic = toy().harmonic()
    serial = from_calculator(AsCalculator(toy()))
    assert serial.chunk == 1
    assert_same(run_sscha(harmonic, serial, SETTINGS, tmp_path / "calculator"), unbroken[0])
    with ThreadPoolExecutor(2) as executor:
        jobs = from_executor(executor, AsCalculator(toy()))
        assert_same(run_sscha(harmonic, jobs, SETTINGS, tmp_path / "executor"), unbroken[0])


def test_jobs_that_failed_are_the_only_ones_repeated(unbroken, tmp_path):
    harmonic, crystal, done = toy().harmonic(), toy(), []

    def job(image):
        if len(done) == 29:
            raise RuntimeError("out of time")
        done.append(1)
        result = crystal([image])
        return result.energies[0], result.forces[0], result.stresses[0]

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(CalculationError, match="the others are kept"):
            run_sscha(harmonic, from_executor(executor, job), SETTINGS, tmp_path)
        done.append(1)  # past the failure
        result = run_sscha(harmonic, from_executor(executor, job), SETTINGS, tmp_path, resume=True)
    assert_same(result, unbroken[0])
    assert len(done) == unbroken[2] + 2  # the entry above, and one configuration compared

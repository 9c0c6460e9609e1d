"""Where jobs run: here, on a Dask cluster that loses a worker, as SLURM jobs that are only shown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from ase.build import bulk
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.ase_calculator.engine import AseCalculator
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.espresso.single_points import single_points
from himlip_ase.dft.executors import EXECUTORS, Dask, Local, Slurm
from himlip_ase.dft.single_points import run_jobs
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.labels.displacements import rattle

TOY = "tests.dft.toy_calculators:Counted"
needs_dask = pytest.mark.skipif(
    any(not __import__("importlib.util").util.find_spec(name) for name in ("distributed", "dask_jobqueue")),
    reason="needs the extra [cluster]",
)


def toy(tmp_path, **options):
    """Log, engine and six small structures."""
    log = tmp_path / "log"
    engine = AseCalculator(TOY, {"log": str(log), **options})
    return log, engine, rattle(bulk("Cu", cubic=True), 6, 0.05, seed=1)


def lines(log, what):
    """{structure: count} of the lines that say `what`, and the processes that wrote them."""
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return Counter(row[2] for row in rows if row[0] == what), [int(row[1]) for row in rows if row[0] == what]


def kill_one_worker(log):
    """Kill the process that began the third calculation, while it is in it."""
    deadline = time.monotonic() + 60
    while len(lines(log, "begin")[1]) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(lines(log, "begin")[1][-1], signal.SIGKILL)


@needs_dask
def test_a_killed_dask_worker_loses_nothing_and_nothing_is_done_twice(tmp_path):
    log, engine, frames = toy(tmp_path, seconds=0.5)
    jobs = engine.single_points(frames, tmp_path / "runs")
    with Dask().opened(2, programs=False) as executor:
        killer = threading.Thread(target=kill_one_worker, args=(log,))
        killer.start()
        results = run_jobs(jobs, executor=executor)
        killer.join()
    assert [result.energy for result in results] == [job.finished().energy for job in jobs]
    begun, finished = lines(log, "begin")[0], lines(log, "end")[0]
    assert len(finished) == 6 and set(finished.values()) == {1}, "each calculation ends once"
    assert sum(begun.values()) == 7, "only the one that was killed began twice"


@needs_dask
def test_a_killed_worker_takes_its_program_along(tmp_path, aluminium, settings, good_output):
    """pw.x of a worker that dies ends with it, and its run is done once more on another."""
    log, program = tmp_path / "log", tmp_path / "pw.x"
    (tmp_path / "good").write_text(good_output)
    program.write_text(
        f"#!/bin/sh\necho begin $PPID $$ >> {log}\nsleep 1\ncat {tmp_path}/good\necho end $PPID $$ >> {log}\n"
    )
    program.chmod(0o755)
    jobs = single_points([aluminium] * 4, tmp_path / "runs", settings, launcher=Launcher(pw=str(program)))
    with Dask().opened(2) as executor:
        killer = threading.Thread(target=kill_one_worker, args=(log,))
        killer.start()
        results = run_jobs(jobs, executor=executor)
        killer.join()
    rows = [line.split() for line in log.read_text().splitlines()]
    assert len(results) == 4 and [row[0] for row in rows].count("begin") == 5
    ended = {row[2] for row in rows if row[0] == "end"}
    assert len(ended) == 4, "one of the five was stopped with its worker"
    assert not list((tmp_path / "runs").glob("*/pw.failed*.out"))


@needs_dask
def test_a_failed_job_that_is_tried_again_runs_again(tmp_path):
    stop = tmp_path / "stop"
    stop.touch()
    log, engine, frames = toy(tmp_path, fail=str(stop))
    jobs = engine.single_points(frames[:2], tmp_path / "runs")
    with Dask().opened(1, programs=False) as executor:
        with pytest.raises(CalculationError, match="2 of 2 runs"):
            run_jobs(jobs, executor=executor)
        stop.unlink()
        assert len(run_jobs(jobs, executor=executor, resume=True)) == 2
        # a scheduler that is there already is joined by its address
        address = executor.inner._client.scheduler.address
        others = engine.single_points(frames[2:3], tmp_path / "others")
        with Dask(scheduler=address).opened(1, programs=False) as joined:
            assert len(run_jobs(others, executor=joined)) == 1
    assert sum(lines(log, "begin")[0].values()) == 2 + 2 + 1


@needs_dask
def test_no_scheduler_at_the_address_is_said(monkeypatch):
    monkeypatch.setattr("himlip_ase.dft.executors.CONNECT", "1s")
    with pytest.raises(InputError, match="dask scheduler"), Dask("tcp://127.0.0.1:9").opened(1):
        pass


def test_a_killed_process_of_a_pool_is_told_and_resumed(tmp_path):
    log, engine, frames = toy(tmp_path, seconds=0.3)
    jobs = engine.single_points(frames, tmp_path / "runs")
    with Local().opened(2, programs=False) as executor:
        killer = threading.Thread(target=kill_one_worker, args=(log,))
        killer.start()
        with pytest.raises(CalculationError, match=r"worker ended[\s\S]*--resume"):
            run_jobs(jobs, executor=executor)
        killer.join()
    with Local().opened(2, programs=False) as executor:
        run_jobs(jobs, executor=executor, resume=True)
    ended = sorted(lines(log, "end")[0].values())
    # a broken pool ends its other process too, which may be between the end of a calculation and its file
    assert len(ended) == 6 and ended[:5] == [1] * 5 and ended[5] <= 2


@needs_dask
def test_the_slurm_script_is_shown_and_nothing_runs(tmp_path):
    bulk("Cu").write(tmp_path / "cu.extxyz")
    choice = (
        "{name: slurm, cores: 16, memory: 8GB, queue: long, walltime: '02:30:00', prologue: [module load qe]}"
    )
    emt = ["--engine", "ase", "--calculator", "ase.calculators.emt:EMT"]
    words = ["label", "rattle", str(tmp_path / "cu.extxyz"), "--out", str(tmp_path / "runs"), *emt]
    result = CliRunner().invoke(app, [*words, "--executor", choice, "--workers", "3", "--dry-run"])
    assert result.exit_code == 0, result.output
    for expected in ("#SBATCH -p long", "#SBATCH --ntasks=16", "--mem=8G", "-t 02:30:00", "module load qe",
                     "--nthreads 1", "3 such jobs", "30 single points"):  # fmt: skip
        assert expected in result.output
    assert not (tmp_path / "runs").exists()


def test_a_script_without_main_guard_may_open_a_pool(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from himlip_ase.dft.executors import Local\nprint('once')\n"
        "with Local().opened(2, programs=False) as pool:\n    print(pool.submit(abs, -3).result())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["once", "3"], done.stderr


@pytest.mark.parametrize("kind", EXECUTORS, ids=lambda kind: kind.name)
def test_workers_are_counted_from_one(kind):
    with pytest.raises(InputError, match="workers"), kind().opened(0):
        pass


def test_impossible_cores_are_refused():
    with pytest.raises(InputError, match="cores"):
        Slurm(cores=0)


def test_processes_of_a_pool_end_with_a_killed_parent(tmp_path):
    code = (
        "import os, time\nfrom himlip_ase.dft.executors import Local\n"
        "with Local().opened(2, programs=False) as pool:\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n    time.sleep(90)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{worker}")

"""Before a run: all faults in one message, the cost, and nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.espresso.preflight import recommended_cutoff
from himlip_ase.dft.espresso.response import irreducible_count, response_k_points
from himlip_ase.dft.jobs import Task
from himlip_ase.errors import InputError
from himlip_ase.pipeline.config import load_config
from himlip_ase.pipeline.estimate import RunningEstimate, plan_left
from himlip_ase.pipeline.preflight import LEARN, Plan, preflight
from himlip_ase.symmetry.standard_cell import standard_cell

needs_pw = pytest.mark.skipif(
    shutil.which("pw.x") is None, reason="needs pw.x; Debian: apt install quantum-espresso"
)
UPF = '<UPF version="2.0.1">\n<PP_HEADER\n element="{element}"\n wfc_cutoff="{cutoff}"\n/>\n'


@pytest.fixture
def folder(tmp_path):
    """A conventional cell of aluminium, a toy pseudopotential that asks for 40 Ry, and a run file."""
    write(tmp_path / "Al.cif", bulk("Al", "fcc", a=4.05, cubic=True))
    (tmp_path / "pseudo").mkdir()
    (tmp_path / "pseudo" / "Al.upf").write_text(UPF.format(element="Al", cutoff="4.0E+01"))
    (tmp_path / "run.yaml").write_text(
        "name: Al\nstructure: Al.cif\npressure_gpa: 0\npseudopotentials: pseudo\nq_grid: [2, 2, 2]\n"
        "qe: {ecutwfc_ry: 20, k_grid: [6, 6, 6]}\nharmonic: {dense_k_grid: [9, 9, 9]}\n"
    )
    return tmp_path


def test_all_faults_stand_in_one_message_and_no_folder_is_left(folder):
    result = CliRunner().invoke(app, ["run", str(folder / "run.yaml"), "--folder", str(folder / "out")])
    assert result.exit_code != 0
    text = " ".join((result.output + result.stderr).split())
    assert "40 Ry" in text and "qe.ecutwfc_ry" in text
    assert "harmonic.dense_k_grid" in text and "[12, 12, 12]" in text
    assert not (folder / "out").exists()


def test_no_fault_hides_another(folder):
    """A prefix, both programs, one element's file, the other's cutoff and a grid: six faults, one message."""
    write(folder / "AlH.cif", bulk("AlH", "rocksalt", a=3.9))
    (folder / "run.yaml").write_text(
        "name: AlH\nstructure: AlH.cif\npseudopotentials: pseudo\nq_grid: [2, 2, 2]\n"
        "qe: {ecutwfc_ry: 20, k_grid: [6, 6, 6]}\nharmonic: {dense_k_grid: [9, 9, 9]}\n"
        "launcher: {prefix: nompirun -n 4, pw: nopw.x, ph: noph.x}\n"
    )
    with pytest.raises(InputError) as error:
        preflight(load_config(folder / "run.yaml"), folder / "out")
    text = str(error.value)
    for fault in (
        "'nompirun'",
        "nopw.x and noph.x are not",
        "no pseudopotential of H",
        "40 Ry",
        "[12, 12, 12]",
    ):
        assert fault in text
    assert not (folder / "out").exists()


def test_missing_labels_are_told_before_anything_is_made(folder):
    (folder / "run.yaml").write_text("name: Al\nlabels: {folder: nowhere}\nq_grid: [2, 2, 2]\n")
    with pytest.raises(InputError, match="nowhere does not exist"):
        preflight(load_config(folder / "run.yaml"), folder / "out")


def test_any_calculator_is_planned_by_its_jobs(folder):
    (folder / "run.yaml").write_text(
        "name: Al\nstructure: Al.cif\npressure_gpa: 0\nq_grid: [2, 2, 2]\n"
        "engine: {name: ase, calculator: 'ase.calculators.emt:EMT'}\nlabels: {validation: 3}\n"
    )
    plan = preflight(load_config(folder / "run.yaml"), folder / "out")
    assert plan.cell.operations == 48 and len(plan.cell.atoms) == 1
    jobs = {task.name: (task.jobs, task.atoms) for task in plan.tasks}
    assert jobs["harmonic"] == (2, 8) and jobs["validation"] == (3, 8) and "doublewell" not in jobs
    assert plan.core_hours is None and "nothing of its time" in plan.table()
    assert not (folder / "out").exists()


def test_time_is_shared_by_the_workers_and_scaled_by_what_was_seen():
    cell = standard_cell(bulk("Al", "fcc", a=4.05))
    plan = Plan(
        cell, (Task("scf", 1, 1, 8, None, 1.0, 10.0, 5.0), Task("set", 10, 4, 8, None, 10.0, 10.0, 5.0)), 4
    )
    assert plan.core_hours == 11.0
    assert plan.wall_hours == pytest.approx(1.0 + 10.0 / 4)
    assert plan.scaled(2.0).core_hours == 22.0


def test_a_stopped_run_is_judged_by_its_own_pace(tmp_path, caplog):
    sizes = (1, 2, 8, None)
    tasks = [Task(name, *sizes, hours, 10.0, 5.0) for name, hours in (("scf", 1.0), ("ph.x", 10.0))]
    plan = Plan(standard_cell(bulk("Al", "fcc", a=4.05)), (*tasks, Task(LEARN, *sizes, 100.0, 10.0, 5.0)), 1)
    record = tmp_path / "forecast.json"
    estimate = RunningEstimate(plan, record, "a", shown=False)
    estimate.finished("scf", 3600 * 2.0, 3600 * 3.0)  # three times slower, with few iterations
    left = {task.name: task.core_hours for task in plan_left(plan, record, "a").tasks}
    assert left == {"ph.x": 30.0, LEARN: 300.0}
    assert plan_left(plan, record, "b") == plan  # a changed run file
    assert estimate.core_hours == 32.0  # of the labels: the loop comes later and may end early
    with caplog.at_level("INFO", "himlip_ase"):
        estimate.finished("ph.x", 3600 * 20.0)
        estimate.close()
    assert "took 22 core-hours; 11 were expected before, 32 after" in caplog.text
    assert RunningEstimate(plan, record, "b", shown=False).left() == plan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (UPF.format(element="Al", cutoff="3.5d+01"), 35.0),
        ("<PP_INFO>\nSuggested minimum cutoff for wavefunctions:  29. Ry\n</PP_INFO>", 29.0),
        ("Suggested minimum cutoff for wavefunctions:   0. Ry", None),
        ("<PP_HEADER/>", None),
    ],
)
def test_recommended_cutoff_of_a_upf_file(tmp_path, text, expected):
    path = tmp_path / "X.upf"
    path.write_text(text)
    assert recommended_cutoff(path) == expected


def test_irreducible_points_are_those_of_the_point_group():
    aluminium = bulk("Al", "fcc", a=4.05)
    # Monkhorst-Pack 4×4×4, Γ-centred, fcc: 8 points; without symmetry all 64, with time reversal alone 36
    assert response_k_points(aluminium, (4, 4, 4), (1, 1, 1)) == [8]
    assert irreducible_count((4, 4, 4), [np.eye(3, dtype=int)]) == 64
    assert irreducible_count((4, 4, 4), [np.eye(3, dtype=int), -np.eye(3, dtype=int)]) == 36
    # shifted by half a step no point is its own opposite
    assert irreducible_count((4, 4, 4), [np.eye(3, dtype=int), -np.eye(3, dtype=int)], shifted=True) == 32


def test_irreducible_q_points_of_fcc():
    assert len(response_k_points(bulk("Al", "fcc", a=4.05), (4, 4, 4), (2, 2, 2))) == 3
    assert len(response_k_points(bulk("Al", "fcc", a=4.05), (4, 4, 4), (4, 4, 4))) == 8


@needs_pw
def test_dry_run_shows_jobs_and_cost_and_leaves_nothing(folder):
    name = "Al.pz-vbc.UPF"
    source = next((p for p in ("/usr/share/espresso/pseudo",) if Path(p, name).is_file()), None)
    if source is None:
        pytest.skip("needs Al.pz-vbc.UPF; Debian: apt install quantum-espresso-data")
    (folder / "pseudo" / "Al.upf").unlink()
    shutil.copy(f"{source}/{name}", folder / "pseudo")
    (folder / "run.yaml").write_text(
        "name: Al\nstructure: Al.cif\npressure_gpa: 0\npseudopotentials: pseudo\nq_grid: [2, 2, 2]\n"
        "qe: {ecutwfc_ry: 12, k_grid: [4, 4, 4]}\nharmonic: {dense_k_grid: [8, 8, 8]}\n"
        "labels: {quantum: {quantum111: null, quantum211: null, quantum221: null}, validation: 1}\n"
    )
    result = CliRunner().invoke(
        app, ["run", str(folder / "run.yaml"), "--folder", str(folder / "out"), "--dry-run"]
    )
    assert result.exit_code == 0, result.output
    assert "Fm-3m (no. 225), 48 operations; made primitive (4 → 1 atoms)" in result.output
    for word in ("relax", "ph.x", "rattle040", "validation", "core-hours", "wall time"):
        assert word in result.output
    assert not (folder / "out").exists()

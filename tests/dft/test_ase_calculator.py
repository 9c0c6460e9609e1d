"""Any ASE calculator as an engine: labels, relaxation and harmonic matrices as ASE and phonopy give them."""

from __future__ import annotations

import json

import numpy as np
import phonopy
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.ase_calculator.engine import AseCalculator
from himlip_ase.dft.ase_calculator.job import AseJob, CalculatorSpec
from himlip_ase.dft.executors import Local
from himlip_ase.dft.publish import collect
from himlip_ase.dft.single_points import run_jobs
from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.labels.displacements import rattle
from himlip_ase.phonons.qe import read_dyn

EMT_NAME = "ase.calculators.emt:EMT"
TOYS = "tests.dft.toy_calculators"


@pytest.fixture
def engine():
    return AseCalculator(EMT_NAME)


@pytest.fixture
def here():
    with Local().opened(1, programs=False) as executor:
        yield executor


@pytest.fixture(scope="module")
def alloy():
    """B2-ordered, two atoms, cubic; not at its equilibrium volume."""
    return bulk("CuAu", crystalstructure="cesiumchloride", a=3.2)


def test_labels_are_what_the_calculator_gives(tmp_path, engine, here, alloy):
    frames = rattle(alloy, 3, 0.1, seed=1)
    frames[1].set_constraint(FixAtoms([0]))
    frames[2].set_masses([2.5, 190.0])
    run_jobs(engine.single_points(frames, tmp_path / "runs", generator={"method": "test"}), executor=here)
    labels = read(collect(tmp_path / "runs", "rattled", tmp_path / "labels"), index=":")
    for frame, label in zip(frames, labels, strict=True):
        frame.calc = EMT()
        assert label.info["REF_energy"] == pytest.approx(frame.get_potential_energy(), abs=1e-10)
        forces = frame.get_forces(apply_constraint=False)
        assert label.arrays["REF_forces"] == pytest.approx(forces, abs=1e-7)
        assert label.info["REF_stress"] == pytest.approx(frame.get_stress(), abs=1e-9)
    assert labels[2].get_masses() == pytest.approx([2.5, 190.0])
    record = json.loads((tmp_path / "labels" / "rattled.json").read_text())
    assert record["settings"] == {"calculator": EMT_NAME, "arguments": {}}
    assert record["generator"] == {"method": "test"} and record["count"] == 3
    assert record["code"].startswith(EMT_NAME) and "ase 3" in record["code"]


def test_energy_of_a_metal_is_the_free_energy_and_files_stay_apart(tmp_path, here, alloy):
    engine = AseCalculator(f"{TOYS}:Metal")
    results = run_jobs(engine.single_points([alloy, alloy], tmp_path / "runs"), executor=here)
    assert [r.energy for r in results] == [-1.5, -1.5] and results[0].stress is None
    assert (tmp_path / "runs" / "001" / "calculator" / "scratch.txt").is_file()
    (label,) = read(collect(tmp_path / "runs", "metal", tmp_path / "labels"), index=":1")
    assert "REF_stress" not in label.info and label.info["REF_energy"] == -1.5
    with pytest.raises(InputError, match="no stress"):
        engine.relax(alloy, 0.0, tmp_path / "relax", here)


def test_relaxation_meets_the_pressure_and_is_walked_again_for_nothing(tmp_path, here):
    log = tmp_path / "log"
    engine = AseCalculator(f"{TOYS}:Counted", {"log": str(log)})
    crystal = bulk("Cu", "hcp", a=2.6, c=4.4)  # cell and one internal scale
    found = engine.relax(crystal, 3.0, tmp_path / "relax", here)
    assert found.pressure_gpa == pytest.approx(3.0, abs=0.2) and found.stress_spread_gpa < 0.2
    final = found.atoms.copy()
    final.calc = EMT()
    assert -final.get_stress()[:3].mean() / 0.0062415091 == pytest.approx(3.0, abs=0.2)
    written = read(tmp_path / "relax" / "crystal.extxyz")
    assert written.info["pressure_gpa"] == pytest.approx(found.pressure_gpa, abs=1e-3)
    calls = len(log.read_text().splitlines())
    (tmp_path / "relax" / "relaxed" / "result.json").unlink()  # stopped before the last step
    again = engine.relax(crystal, 3.0, tmp_path / "relax", here, resume=True)
    assert len(log.read_text().splitlines()) == calls + 2 and again.energy == found.energy
    with pytest.raises(InputError, match="--resume"):
        engine.relax(crystal, 3.0, tmp_path / "relax", here)
    with pytest.raises(NotConvergedError, match="--max-runs"):
        engine.relax(crystal, 40.0, tmp_path / "other", here, max_runs=2)


def test_harmonic_matrices_are_phonopys(tmp_path, engine, here, alloy):
    """Against phonopy alone, with forces of the same calculator."""
    heavy = alloy.copy()
    heavy.set_masses([63.5, 200.0])
    engine.harmonic(heavy, (2, 2, 2), tmp_path / "harmonic", here)
    collect(tmp_path / "harmonic", "harmonic", tmp_path / "labels")
    ours = read_dyn(tmp_path / "labels" / "harmonic" / "dyn0")

    unit = phonopy.structure.atoms.PhonopyAtoms(
        symbols=["Cu", "Au"], cell=alloy.cell, positions=alloy.positions, masses=[63.5, 200.0]
    )
    theirs = phonopy.Phonopy(unit, 2 * np.eye(3, dtype=int), primitive_matrix="P")
    theirs.generate_displacements(distance=0.01, is_plusminus=True)
    forces = []
    for cell in theirs.supercells_with_displacements:
        image = Atoms(cell.symbols, positions=cell.positions, cell=cell.cell, pbc=True, calculator=EMT())
        forces.append(image.get_forces())
    theirs.forces = forces
    theirs.produce_force_constants()
    theirs.symmetrize_force_constants()
    frequencies = np.sort(theirs.run_qpoints(ours.qpoints).frequencies) * 33.35641
    assert ours.frequencies() == pytest.approx(frequencies, abs=0.05)
    with pytest.raises(InputError, match="holds a harmonic run"):
        engine.harmonic(heavy, (2, 2, 2), tmp_path / "harmonic", here)
    with pytest.raises(InputError, match="something else"):
        engine.harmonic(heavy, (1, 1, 2), tmp_path / "harmonic", here, resume=True)


def test_a_folder_keeps_to_what_it_was_asked_for(tmp_path, engine, here, alloy):
    jobs = engine.single_points([alloy], tmp_path / "runs")
    run_jobs(jobs, executor=here)
    moved = alloy.copy()
    moved.positions[0, 0] += 1e-5
    for other in (
        engine.single_points([moved], tmp_path / "runs"),
        [AseJob(jobs[0].folder, alloy, _toy("Metal"))],
    ):
        with pytest.raises(InputError, match="asks for another"):
            run_jobs(other, executor=here, resume=True)
    (jobs[0].folder / "result.json").write_text('{"energy": 1.0')
    with pytest.raises(InputError, match=r"result\.json is damaged.*--resume"):
        run_jobs(jobs, executor=here, resume=True)


def test_what_did_not_converge_or_finish_is_no_label(tmp_path, here, alloy):
    stop = tmp_path / "stop"
    stop.touch()
    engine = AseCalculator(f"{TOYS}:Counted", {"log": str(tmp_path / "log"), "fail": str(stop)})
    jobs = engine.single_points([alloy], tmp_path / "runs")
    with pytest.raises(CalculationError, match="did not converge"):
        run_jobs(jobs, executor=here)
    with pytest.raises(CalculationError, match="cannot be labels"):
        collect(tmp_path / "runs", "x", tmp_path / "labels")
    stop.unlink()
    assert len(run_jobs(jobs, executor=here, resume=True)) == 1
    with pytest.raises(NotConvergedError, match="scf"):
        AseJob(tmp_path / "unconverged", alloy, _toy("Unconverged")).run()


def _toy(name: str) -> CalculatorSpec:
    return CalculatorSpec(f"{TOYS}:{name}")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("EMT", {}, "module:factory"),
        ("no_such_module:EMT", {}, "PYTHONPATH"),
        ("ase.calculators.emt:EMTT", {}, "PYTHONPATH"),
        (f"{TOYS}:Counted", {"zzz": 1}, "zzz"),
        (EMT_NAME, {"a": np.eye(2)}, "plain values"),
        (f"{TOYS}:not_a_calculator", {}, "not an ASE calculator"),
    ],
)
def test_calculators_that_cannot_be_made_are_explained(name, arguments, message):
    with pytest.raises(InputError, match=message):
        CalculatorSpec(name, arguments).build()


def test_command_line(tmp_path, alloy):
    """relax → harmonic → rattle → double well → collect without any DFT code."""

    def himlip(*words, code=0):
        result = CliRunner().invoke(app, ["-q", "label", *map(str, words)])
        assert result.exit_code == code, result.output
        return result.output

    alloy.write(tmp_path / "start.extxyz")
    emt = ["--engine", "ase", "--calculator", EMT_NAME]
    crystal = tmp_path / "relax" / "crystal.extxyz"
    himlip("relax", tmp_path / "start.extxyz", "--pressure", 0, "--out", tmp_path / "relax", *emt)
    himlip("harmonic", crystal, "--q", 1, 1, 2, "--out", tmp_path / "harmonic", *emt)
    himlip("rattle", crystal, "--count", 2, "--stdev", 0.1, "--out", tmp_path / "rattled", *emt)
    well = ["--amplitude", 0.1, "--amplitude", 0.2]
    himlip(
        "doublewell", crystal, "--dyn", tmp_path / "harmonic" / "dyn0", *well, "--out", tmp_path / "dw", *emt
    )
    for name in ("harmonic", "rattled", "dw"):
        himlip("collect", tmp_path / name, "--out", tmp_path / "labels")
    assert {p.name for p in (tmp_path / "labels").glob("*.extxyz")} == {
        "crystal.extxyz",
        "rattled.extxyz",
        "dw.extxyz",
    }
    assert len(read(tmp_path / "labels" / "dw.extxyz", index=":")) == 2
    refused = himlip("rattle", crystal, "--out", tmp_path / "x", *emt, "--ecutwfc", 40, code=2)
    assert "--ecutwfc is an option of the engine espresso" in refused
    assert "calculator" in himlip("rattle", crystal, "--out", tmp_path / "x", "--engine", "ase", code=2)

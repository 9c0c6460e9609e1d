"""Outputs of pw.x that are easily misread: each with the right value, or refused with its line.

The data are runs of version 6.7 on two atoms of silicon, hydrogen or oxygen, and of 7.2 on silicon, hydrogen,
iron and platinum, without the band energies; ``v72.json`` holds what those of 7.2 wrote into their XML.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.espresso.input_reading import read_pw_input
from himlip_ase.dft.espresso.inputs import QESettings, pw_input
from himlip_ase.dft.espresso.runs import read_run
from himlip_ase.dft.publish import collect, read_runs
from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.labels.espresso_ends import OutOfTimeError
from himlip_ase.labels.pw_output import parse_pw_output
from himlip_ase.labels.readers import read_labels
from himlip_ase.pw_structure import element_of_label
from himlip_ase.structures import read_structure
from himlip_ase.units import BOHR_ANGSTROM, RY_EV
from tests.dft.conftest import DATA

RY_BOHR = RY_EV / BOHR_ANGSTROM


def text_of(name: str, suffix: str = "out") -> str:
    """Input or output of one of the runs."""
    return gzip.decompress((DATA / "pw" / f"{name}.{suffix}.gz").read_bytes()).decode()


def output_of(name: str):
    return parse_pw_output(text_of(name), f"{name}.out")


def folder_of(place: Path, *names: str) -> Path:
    """A folder of runs, one subfolder each."""
    for name in names:
        (place / name).mkdir(parents=True)
        for suffix in ("in", "out"):
            (place / name / f"pw.{suffix}").write_text(text_of(name, suffix))
    return place


@pytest.fixture
def any_pseudopotential(monkeypatch):
    monkeypatch.setattr(
        "himlip_ase.dft.espresso.engine.record_pseudopotentials", lambda runs, out, pseudo_dir=None: {}
    )


def test_case_P1_every_ionic_step_has_its_own_numbers(tmp_path, any_pseudopotential) -> None:
    """Printed at the first geometry: −15.61148033 Ry and 0.03864781 Ry/bohr; four scf cycles in all."""
    path = collect(folder_of(tmp_path / "runs", "relax"), "relax", tmp_path / "labels")
    labels = read(path, index=":")
    printed = [-15.61148033, -15.61432200, -15.61446589, -15.61446630]
    assert [a.info["REF_energy"] for a in labels] == pytest.approx(np.multiply(printed, RY_EV), abs=1e-6)
    assert labels[0].arrays["REF_forces"][1, 2] == pytest.approx(-0.03864781 * RY_BOHR, abs=1e-6)
    assert [a.info["frame"] for a in labels] == [f"relax.{k}" for k in range(4)]
    by_training = read_labels(tmp_path / "runs" / "relax" / "pw.out")
    assert [f.energy for f in by_training] == pytest.approx([a.info["REF_energy"] for a in labels], abs=1e-7)
    for ours, theirs in zip(labels, by_training, strict=True):
        assert ours.arrays["REF_forces"] == pytest.approx(theirs.forces, abs=1e-7)
        assert np.abs(ours.positions - theirs.atoms.positions).max() < 1e-5


@pytest.mark.parametrize("name", ["relax", "vcrelax", "md"])
def test_case_P1_energies_forces_and_stresses_belong_to_their_structures(name: str) -> None:
    """dE = −F·du + V σ:ε between neighbouring steps, by the trapezoidal rule."""
    output = output_of(name)
    assert len(output.steps) == {"relax": 4, "vcrelax": 4, "md": 3}[name]
    changes, predicted = [], []
    for a, b in zip(output.steps, output.steps[1:], strict=False):
        deformation = np.linalg.solve(a.cell, b.cell)
        strain = (deformation + deformation.T) / 2 - np.eye(3)
        moved = b.positions - a.positions @ deformation
        work = 0.0
        for step in (a, b):
            xx, yy, zz, yz, xz, xy = step.stress
            tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            volume = abs(np.linalg.det(step.cell))
            work += (volume * (tensor * strain).sum() - (step.forces * moved).sum()) / 2
        changes.append(b.energy - a.energy)
        predicted.append(work)
    assert np.abs(changes).max() > 0.01
    assert predicted == pytest.approx(changes, abs=0.1 * np.abs(changes).max())


def test_case_P2_a_hybrid_has_the_energy_of_its_last_line() -> None:
    final, first = (
        re.search(rf"^{mark}\s+total energy\s+=\s+(\S+)", text_of("hybrid"), re.M) for mark in ("!!", "!")
    )
    output = output_of("hybrid")
    assert output.energy == pytest.approx(float(final[1]) * RY_EV, abs=1e-6)
    assert abs(output.energy - float(first[1]) * RY_EV) > 0.05
    stopped = text_of("hybrid").replace(
        "     EXX self-consistency reached", "     Calculation (EXX) stopped after iteration #    3"
    )
    with pytest.raises(OutOfTimeError, match=r"line \d+: Calculation \(EXX\) stopped"):
        parse_pw_output(stopped)
    with pytest.raises(NotConvergedError, match="exact exchange"):
        parse_pw_output(re.sub(r"(?m)^!!.*\n", "", text_of("hybrid")))


def test_case_P2_a_hybrid_of_version_5_ends_with_one_mark() -> None:
    """No line before has one; the error of the exchange stands below it, and no accuracy of the scf."""
    text = re.sub(r"(?m)^!    total energy.*\n|^     estimated scf accuracy.*\n", "", text_of("hybrid"))
    text = re.sub(r"(?m)^!!   total", "!    total", text).replace("v.6.7MaX", "v.5.3.0 (svn rev. 11957)")
    output = parse_pw_output(text)
    assert (output.energy, output.version) == (output_of("hybrid").energy, "5.3.0")
    assert output.accuracy_ry == 1.7e-10
    with pytest.raises(NotConvergedError, match="exact exchange"):
        parse_pw_output(text.replace("EXX self-consistency reached", ""))


def test_headings_of_versions_5_and_6_0() -> None:
    """The revision after the version, a fraction of exchange of zero, a warning that names a card."""
    text = text_of("magnetic").replace("v.6.7MaX starts", "v.6.0 (svn rev. 13188M) starts")
    warning = "     Message from routine read_cards :\n     ATOMIC_POSITIONS: units set to alat\n"
    text = text.replace("     Current dimensions", f"{warning}\n     Current dimensions")
    text = re.sub(
        r"(?m)^(     Exchange-correlation.*)$", r"\1\n     EXX-fraction              =        0.00", text
    )
    output = parse_pw_output(text)
    assert (output.energy, output.version) == (output_of("magnetic").energy, "6.0")


def test_the_first_positions_of_a_continued_run_are_not_those_of_its_input(tmp_path, caplog) -> None:
    """pw.x echoes the positions of the input and takes those that the folder has."""
    words = (
        "     Atomic positions and unit cell read from directory:\n     ./out/x.save/\n"
        "     Atomic positions from file used, from input discarded\n"
    )
    whole, continued = (
        output_of("md"),
        text_of("md").replace("     Initial potential", words + "     Initial", 1),
    )
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        output = parse_pw_output(continued)
    assert "the run continues another" in caplog.text
    assert [s.energy for s in output.steps] == [s.energy for s in whole.steps[1:]]
    single = text_of("magnetic").replace("     Initial potential", words + "     Initial", 1)
    with pytest.raises(CalculationError, match=r"line \d+: the run continues another.*from_scratch"):
        parse_pw_output(single)
    assert words in single and words in continued


def test_headings_of_versions_7(tmp_path) -> None:
    """Memory reports, GPUs, a sentence over the terms of the energy, stresses of 3D-RISM and MBD."""
    text = text_of("vcrelax").replace("v.6.7MaX starts", "v.7.5 starts")
    memory = (
        "---- Real-time Memory Report at c_bands before calling an iterative solver\n"
        "           102 MiB given to the printing process from OS\n"
        "     GPU memory used/free/total (MiB): 1500 / 95780 / 97280\n------------------\n"
    )
    zeros = "      0.00      0.00      0.00\n"
    more = "".join(f"     {name} stress (kbar){zeros}{24 * ' '}{zeros}\n" for name in ("MDB    ", "3D-RISM"))
    for old, new in (
        ("     ethr = ", f"{memory}     ethr = "),
        ("     The total energy is the sum of", "     The total energy is F=E-TS. E is the sum of"),
        ("     Parallel version (MPI), running on", "     Parallel version (MPI & OpenMP), running on"),
        ("     Initial potential", "     GPU acceleration is ACTIVE.  1 visible GPU\n     Initial potential"),
        ("\n     BFGS Geometry Opt", f"\n{more}\n     BFGS Geometry Opt"),
    ):
        text = text.replace(old, new)
    output = parse_pw_output(text)
    assert output.version == "7.5" and len(output.steps) == 4
    for ours, theirs in zip(output.steps, output_of("vcrelax").steps, strict=True):
        assert ours.energy == theirs.energy and ours.accuracy_ry == theirs.accuracy_ry
        for name in ("cell", "positions", "forces", "stress"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("name", ["vcrelax", "vcmd", "hybrid", "hubbard", "spin_orbit"])
def test_version_7_2_prints_what_stands_in_its_xml(name: str) -> None:
    """Every energy; forces, stress, cell and positions of the last step, as it rounds them."""
    output = output_of(f"v72_{name}")
    xml = json.loads((DATA / "pw" / "v72.json").read_text())[f"v72_{name}"]
    assert output.version == "7.2"
    energies = [step.energy / (2 * RY_EV) for step in output.steps]
    assert energies == pytest.approx(xml["energies"], abs=6e-9)
    last, force = output.steps[-1], 2 * RY_BOHR
    assert np.abs(last.cell / BOHR_ANGSTROM - xml["cell"]).max() < 5e-6
    assert np.abs(last.positions / BOHR_ANGSTROM - xml["positions"]).max() < 1e-6
    assert np.abs(last.forces / force - xml["forces"]).max() < 6e-9
    printed = np.array(xml["stress"]).ravel()[[0, 4, 8, 5, 2, 1]]
    assert np.abs(-last.stress / (force / BOHR_ANGSTROM**2) - printed).max() < 6e-9


def test_forces_are_held_against_their_norm(caplog) -> None:
    """pw.x leaves fixed components out of "Total force": only a norm that is too large says something."""
    text = text_of("relax")
    assert parse_pw_output(text) and not caplog.text
    assert "Total force =     0.068871" in text and "-0.02095196   -0.03864781" in text
    parse_pw_output(text.replace("Total force =     0.068871", "Total force =     0.038648"))
    assert not caplog.text
    parse_pw_output(text.replace("-0.02095196   -0.03864781", "-0.02095196   -0.01864781"))
    assert re.search(r"line \d+: the forces above have a norm of 0\.\d+ Ry/bohr, printed is", caplog.text)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("conv_thr=1e-9", "conv_thr=1e-7", "conv_thr_ry 1e-09"),
        ("ecutwfc=12.0", "ecutwfc=14.0", "ecutwfc_ry 12"),
    ],
)
def test_an_input_beside_the_output_of_another_run_is_refused(tmp_path, old, new, named) -> None:
    folder = folder_of(tmp_path, "relax") / "relax"
    assert read_run(folder).output.printed == {"ecutwfc_ry": 12.0, "conv_thr_ry": 1e-9}
    text = (folder / "pw.in").read_text()
    assert old in text
    (folder / "pw.in").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=f"pw.out was run with {named}, pw.in has"):
        read_run(folder)


def test_the_new_basis_after_a_vc_relax_is_told(caplog) -> None:
    """−0.005 Ry between the last step and the scf after it, which has one cell with it."""
    before, after = text_of("vcrelax").split("     Final scf calculation")
    words = (
        "!    total energy              =     -15.62086236 Ry\n"
        "     estimated scf accuracy    <          1.0E-12 Ry\n"
    )
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        output_of("vcrelax")  # which ended before that scf
        assert not caplog.text
        after = after.replace("     Writing output data file", words + "     Writing output data file")
        steps = parse_pw_output(f"{before}     Final scf calculation{after}").steps
    assert len(steps) == 5 and np.allclose(steps[-1].cell, steps[-2].cell, atol=1e-4)
    assert f"{-0.005 * RY_EV / 2:+.4f} eV/atom at the same cell" in caplog.text
    assert "plane waves of its first cell" in caplog.text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("input", "ecutwfc=12.0", "ecutwfc=12.0, vdw_corr='dft-d'"), "vdw_corr"),
        (("input", "ecutwfc=12.0", "ecutwfc=12.0, tot_charge=1.0"), "tot_charge"),
        (("input", "ecutwfc=12.0", "ecutwfc=12.0, noncolin=.true."), "noncolin"),
        (("input", "ecutwfc=12.0", "ecutwfc=12.0, assume_isolated='mt'"), "assume_isolated"),
        (("input", "ecutwfc=12.0", "ecutwfc=12.0, Hubbard_U(1)=2.0"), "hubbard_u of Si"),
        (("input", "2 2 2 0 0 0", "2 2 2 1 1 1"), "k_offset"),
        (("input", "conv_thr=1e-9", "conv_thr=1e-9, real_space=.true."), "real_space"),
        (("output", "SLA  PZ   NOGX NOGC", "PBESOL"), "exchange_correlation"),
    ],
)
def test_case_P3_one_set_has_one_energy_surface(tmp_path, change, named) -> None:
    where, old, new = change
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for suffix, kind in (("in", "input"), ("out", "output")):
            text = text_of("relax", suffix)
            assert kind != where or old in text
            (tmp_path / name / f"pw.{suffix}").write_text(
                text.replace(old, new) if (name, kind) == ("b", where) else text
            )
    with pytest.raises(InputError, match=f"differ in .*'{named}'.*one accuracy"):
        read_runs(tmp_path)


def test_case_P3_what_is_written_and_what_is_default_are_one(tmp_path) -> None:
    for name, extra in (("a", ""), ("b", ', vdw_corr="none", noncolin=.false., nbnd=8, tot_charge=0.0')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pw.in").write_text(
            text_of("relax", "in").replace("ecutwfc=12.0", f"ecutwfc=12.0{extra}")
        )
        (tmp_path / name / "pw.out").write_text(text_of("relax"))
    assert len(read_runs(tmp_path)[0]) == 8


def test_case_P3_double_quotes_are_quotes(tmp_path) -> None:
    """ASE ends a namelist at a slash inside them."""
    single, double = text_of("relax", "in"), text_of("relax", "in").replace("'", '"')
    for name, text in (("single", single), ("double", double)):
        (tmp_path / f"{name}.in").write_text(text)
    first, second = (read_pw_input(tmp_path / f"{name}.in") for name in ("single", "double"))
    assert first.settings == second.settings and first.pseudo_dir == second.pseudo_dir == tmp_path / "pseudo"


def test_case_P4_masses_of_isotopes_are_kept(tmp_path, pseudo) -> None:
    assert read_pw_input_text(text_of("labels", "in"), tmp_path).get_masses().tolist() == [
        1.008,
        2.014,
        1.008,
        3.016,
    ]
    assert output_of("labels").structure(output_of("labels").steps[0]).get_masses().tolist() == [
        1.008,
        2.014,
        1.008,
        3.016,
    ]

    settings = QESettings(ecutwfc_ry=15.0, k_grid=(2, 2, 2), pseudo_dir=pseudo)
    crystal = bulk("Al", a=4.0).repeat((2, 1, 1))
    natural = pw_input(crystal, settings)
    crystal.set_masses([26.0, 26.0])
    one = pw_input(crystal, settings)
    assert re.search(r"(?m)^Al 26\.0+ Al\.upf$", one) and "ntyp             = 1" in one
    crystal.set_masses([26.0, crystal.get_masses()[1] + 2])
    two = pw_input(crystal, settings)
    assert "ntyp             = 2" in two and "Al0 26.0" in two and "Al1 28.0" in two
    for text, masses in (
        (natural, bulk("Al").get_masses().repeat(2)),
        (one, [26.0, 26.0]),
        (two, [26.0, 28.0]),
    ):
        again = read_pw_input_text(text, tmp_path)
        assert again.get_masses() == pytest.approx(masses, abs=1e-5)
        assert again.positions == pytest.approx(crystal.positions, abs=1e-8)
    assert not read_pw_input_text(natural, tmp_path).has("masses")
    (tmp_path / "deuterium.pw.in").write_text(text_of("labels", "in"))
    assert read_structure(tmp_path / "deuterium.pw.in").get_masses()[1] == 2.014


def read_pw_input_text(text: str, folder: Path) -> Atoms:
    (folder / "one.in").write_text(text)
    return read_pw_input(folder / "one.in").atoms


@pytest.mark.parametrize(
    ("name", "formula"),
    [("dftu", "O2"), ("spinorbit", "Si2"), ("dipole", "H2"), ("magnetic", "H2"), ("labels", "H4")],
)
def test_case_P5_headings_and_labels_of_species(name: str, formula: str, tmp_path) -> None:
    """DFT+U, spin-orbit, dipole, magnetic; species D, H2, H_1, h: read by every door."""
    output = output_of(name)
    printed = re.findall(r"^!\s+total energy\s+=\s+(\S+) Ry", text_of(name), re.M)[-1]
    assert output.energy == pytest.approx(float(printed) * RY_EV, abs=1e-6)
    assert Atoms(list(output.symbols)).get_chemical_formula() == formula
    assert output.forces.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-2)
    folder_of(tmp_path, name)
    (frame,) = read_labels(tmp_path / name / "pw.out")
    assert (frame.energy, frame.atoms.get_chemical_formula()) == (output.energy, formula)
    assert read_pw_input(tmp_path / name / "pw.in").atoms.get_chemical_formula() == formula


@pytest.mark.parametrize(
    ("label", "element"),
    [
        ("D", "H"),
        ("T", "H"),
        ("H2", "H"),
        ("H_1", "H"),
        ("Fe1", "Fe"),
        ("fe", "Fe"),
        ("As-h", "As"),
        ("Zz", None),
    ],
)
def test_case_P5_elements_of_labels(label: str, element: str | None) -> None:
    assert element_of_label(label) == element


def test_case_P5_one_bad_file_never_ends_a_folder(tmp_path, any_pseudopotential) -> None:
    folder_of(tmp_path / "runs", "magnetic", "loose")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "pw.in").write_bytes(b"\x00\xff" * 40)
    (tmp_path / "runs" / "broken" / "pw.out").write_text(text_of("magnetic"))
    words = ["label", "collect", str(tmp_path / "runs"), "--out", str(tmp_path / "labels")]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1 and "2 of 3 runs" in refused.output
    taken = CliRunner().invoke(app, [*words, "--partial"])
    assert taken.exit_code == 0, taken.output
    assert "left out 2 of 3 runs" in taken.output and "broken" in taken.output and "loose" in taken.output
    assert len(read(tmp_path / "labels" / "runs.extxyz", index=":")) == 1


@pytest.mark.parametrize(
    ("name", "change", "kind", "message"),
    [
        ("outoftime", None, OutOfTimeError, r"line \d+: Maximum CPU time exceeded"),
        ("loose", None, NotConvergedError, r"line \d+: .*accuracy is 2\.7e-04 Ry, asked for was 1\.0e-10"),
        ("md", (r"(!    total energy +=).*", r"\1   NaN Ry"), CalculationError, r"line \d+: not a finite"),
        ("md", (r"(atom    2 type  1   force =).*", r"\1 **** 0.0 0.0"), CalculationError, r"line \d+.*\*"),
        ("md", (r"(atom    1 type  1   force =).*\n", ""), CalculationError, "1 of 2 forces"),
        ("magnetic", (r"\Z", "\n     Program PWSCF v.6.7MaX starts on\n"), CalculationError, "second run"),
        ("vcrelax", (r"CELL_PARAMETERS \(angstrom\)", "CELL_PARAMETERS (furlong)"), CalculationError, "unit"),
        ("magnetic", (r"JOB DONE", ""), CalculationError, "JOB DONE"),
    ],
)  # fmt: skip
def test_case_P6_what_is_no_label_is_refused_by_every_door(name, change, kind, message, tmp_path):
    text = text_of(name)
    if change is not None:
        changed = re.sub(*change, text, count=1)
        assert changed != text
        text = changed
    with pytest.raises(kind, match=message):
        parse_pw_output(text, "pw.out")
    (tmp_path / "pw.out").write_text(text)
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "pw.out")

"""Reading pw.x outputs: the right numbers and signs, and nothing from a run that failed."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io import read

from himlip_ase.errors import CalculationError, NotConvergedError
from himlip_ase.labels.espresso_ends import seconds
from himlip_ase.labels.pw_output import check_same_crystal, parse_pw_output, read_pw_output
from himlip_ase.units import EV_PER_ANGSTROM3_GPA
from tests.dft.conftest import DATA, FAULTS, faulty


def test_agrees_with_ase():
    output = read_pw_output(DATA / "al2.out")
    reference = read(DATA / "al2.out", format="espresso-out")
    # ASE converts with CODATA 2006 and from kbar with two decimals
    assert output.energy == pytest.approx(reference.get_potential_energy(), rel=2e-7)
    assert output.forces == pytest.approx(reference.get_forces(), abs=1e-6)
    assert output.stress == pytest.approx(reference.get_stress(), abs=1e-5)
    assert output.volume == pytest.approx(reference.get_volume(), rel=1e-5)


def test_signs_and_bookkeeping():
    output = read_pw_output(DATA / "al2.out")
    assert output.pressure_gpa == pytest.approx(10.74, abs=0.01)  # pw.x prints P= 107.4 kbar
    assert (output.stress[:3] < 0).all(), "a compressed crystal has a negative stress in ASE's convention"
    assert output.stress[:3].mean() * EV_PER_ANGSTROM3_GPA == pytest.approx(-output.pressure_gpa)
    assert output.forces.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)
    assert (output.n_processes, output.version) == (1, "6.7MaX")
    assert output.n_kpoints == 20 and output.iterations == 7
    assert output.accuracy_ry < 1e-10
    assert 0 < output.core_seconds < 5


def test_stress_components_are_voigt():
    text = (DATA / "al2.out").read_text()
    start = text.index("(kbar)     P=")
    head, rest = text[:start], text[start:].splitlines(keepends=True)
    rows = [
        "   0.001   0.004   0.005  0 0 0\n",
        "   0.004   0.002   0.006  0 0 0\n",
        "   0.005   0.006   0.003  0 0 0\n",
    ]
    stress = parse_pw_output(head + rest[0] + "".join(rows) + "".join(rest[4:])).stress
    assert stress / stress[0] == pytest.approx([1, 2, 3, 6, 5, 4])


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_output_is_refused(fault):
    text = faulty((DATA / "al2.out").read_text(), fault)
    with pytest.raises(CalculationError, match=r"x\.out"):
        parse_pw_output(text, "x.out")
    if fault in ("unconverged", "out of time"):
        with pytest.raises(NotConvergedError):
            parse_pw_output(text)


def test_forces_of_a_verbose_output_are_the_total_ones():
    text = (DATA / "al2.out").read_text()
    extra = (
        "     The non-local contrib.  to forces\n"
        "     atom    1 type  1   force =     9.0    9.0    9.0\n"
        "     atom    2 type  1   force =     9.0    9.0    9.0\n"
    )
    verbose = text.replace("     Total force =", extra + "     Total force =")
    assert (parse_pw_output(verbose).forces == parse_pw_output(text).forces).all()


def test_output_of_another_crystal_is_refused(aluminium):
    output = read_pw_output(DATA / "al2.out")
    check_same_crystal(aluminium, output, "pw.out")
    shifted = aluminium.copy()
    shifted.positions[1] += shifted.cell[0]  # a lattice translation is the same crystal
    check_same_crystal(shifted, output, "pw.out")
    moved, larger, other = aluminium.copy(), aluminium.copy(), aluminium.copy()
    moved.positions[1, 2] += 0.01
    larger.set_cell(larger.cell * 1.01, scale_atoms=True)
    other.symbols[0] = "Si"
    for wrong, word in ((moved, "atom 1"), (larger, "cell"), (other, "AlSi")):
        with pytest.raises(CalculationError, match=word):
            check_same_crystal(wrong, output, "pw.out")


@pytest.mark.parametrize(
    ("text", "value"),
    [("47.16s", 47.16), ("6m22.82s", 382.82), ("2m 3.10s", 123.1), ("1h 2m", 3720), ("1d 1h 0m", 90000)],
)
def test_times(text, value):
    assert seconds(text) == pytest.approx(value)

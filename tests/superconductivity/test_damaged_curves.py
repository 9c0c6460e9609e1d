"""Damaged α²F files are refused by line, or told."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.superconductivity import read_alpha2f
from himlip_ase.superconductivity.electronic_dos import read_electronic_dos
from himlip_ase.superconductivity.number_rows import fortran_number
from tests.superconductivity.curves import (
    CURVE,
    LAMBDA,
    MEV,
    abinit,
    alpha2f_x,
    columns_of,
    epw,
    lambda_x,
    matdyn,
    plain,
    rows,
)


def test_case_T2_d_exponents_and_comments_behind_a_row(tmp_path: Path) -> None:
    path = tmp_path / "curve.dat"
    path.write_text("\n".join(line.replace("E", "D") for line in rows("meV", CURVE)) + "\n")
    assert read_alpha2f(path, "meV").lambda_total == pytest.approx(LAMBDA, rel=1e-6)
    text = plain()
    lines = text.split("\n")
    lines[200] += "  ! the peak"
    lines[350] += "  # shoulder"
    path.write_text("\n".join(lines))
    assert read_alpha2f(path).lambda_total == pytest.approx(LAMBDA, rel=1e-4)
    assert [fortran_number(w) for w in ("1.5D-02", "-.5e1", "0.123-101", "2.", "1e5x", "E5")] == [
        0.015,
        -5.0,
        0.123e-101,
        2.0,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (plain((231, "  23.00000 ********")), "line 231.*overflowed"),
        (plain((231, "  23.00000        NaN")), "line 231.*overflowed"),
        (plain((231, "********** ********")), "line 231.*overflowed"),
        (plain((231, "  23.00000")), "line 231: 1 numbers where other rows hold 2"),
        (plain((231, "  23.00000 abc")), "line 231.*no row of numbers"),
        (plain((231, "here the disk was full")), "line 231: words between the rows"),
        (plain((231, "#  23.00000  0.43")), r"1 rows are missing between line 230 \(22.9 meV\) and line 232"),
        (plain(last=231), "ends at 23 meV .line 231. with 9[0-9]% of its peak.*truncated"),
        (plain((231, "  22.00000  0.4")), "line 231: the first column must ascend"),
        ("# meV\n" + "\n".join(rows("meV", CURVE)[200:]) + "\n", "rows before are missing"),
        ("# nothing\n", "no rows"),
        (plain(last=481)[:-3], "stops within line 481, where α²F is 0.0[0-9]+ of its peak"),
        (plain(head="1000"), "announces 1000 rows and holds 600"),
        (matdyn().rsplit("  lambda", 1)[0], "no line 'lambda"),
        (epw().rsplit(" Integrated", 1)[0], "no line 'Integrated"),
        (alpha2f_x().replace(f"{len(MEV):12d}", f"{len(MEV) + 5:12d}"), "announces 605 rows and holds 600"),
        (abinit().replace(f"points : {len(MEV):8d}", "points :      900"), "announces 900 rows"),
        (matdyn().replace(f"{LAMBDA:.8f}", f"{1.2 * LAMBDA:.8f}"), "quotes λ"),
        (lambda_x((0.005, 0.01, 0.02), (1.0, 0.9)), "names 3 broadenings.*2 columns"),
        (plain() + "\n" + plain(), "2 curves, in lines 2 to 601 and lines 604 to 1203"),
    ],
)  # fmt: skip
def test_case_T2_damaged_curves_are_refused_by_line(text: str, words: str, tmp_path: Path) -> None:
    name = "a2F.dat" if text.split("\n")[0].strip() == str(len(MEV) + 5) else "curve.dat"
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_alpha2f(tmp_path / name)


def test_every_dropped_row_of_the_peaks_is_noticed(tmp_path: Path) -> None:
    lines = plain().split("\n")
    for number in range(100, 500, 37):
        (tmp_path / "curve.dat").write_text("\n".join(lines[:number] + lines[number + 1 :]))
        with pytest.raises(InputError, match=f"missing between line {number} "):
            read_alpha2f(tmp_path / "curve.dat")


def test_a_row_cut_to_zero_is_no_end_of_the_curve(tmp_path: Path) -> None:
    """``0.1234`` cut to ``0.`` would say that the curve ends there."""
    path = tmp_path / "curve.dat"
    lines = plain().split("\n")[:300]
    path.write_text("\n".join([*lines[:-1], lines[-1].split()[0] + " 0."]))
    with pytest.raises(InputError, match="stops within line 300, which is shorter"):
        read_alpha2f(path, "meV")


def test_a_frequency_off_the_even_grid_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "curve.dat"
    lines = plain().split("\n")
    path.write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        read_alpha2f(path, "meV")
        assert "even grid" not in caplog.text
        words = lines[300].split()
        lines[300] = " ".join([f"{float(words[0]) + 1e-3:.6f}", *words[1:]])
        path.write_text("\n".join(lines))
        read_alpha2f(path, "meV")
    assert "curve.dat, line 301" in caplog.text and "does not lie on the even grid" in caplog.text


def test_a_density_that_its_integral_contradicts_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    energies = np.linspace(-5, 5, 401)
    density = 1 + 0.5 * np.sin(2 * energies)
    lines = ["#  E (eV)   dos(E)     Int dos(E) EFermi =    0.250 eV"]
    columns = (energies, density, np.cumsum(density) * 0.025)
    lines += ["{:8.3f} {:11.4E} {:11.4E}".format(*row) for row in zip(*columns, strict=True)]
    path = tmp_path / "x.dos"
    path.write_text("\n".join(lines) + "\n")
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        read_electronic_dos(path)
        assert not caplog.text
        row = lines[120].split()
        lines[120] = " ".join([row[0], "1.0000E-02", row[2]])
        path.write_text("\n".join(lines) + "\n")
        read_electronic_dos(path)
    assert "x.dos, row 120: the density does not fit its integral" in caplog.text


@pytest.mark.parametrize("separator", [";", "\t", "  "])
def test_decimal_commas_are_refused_by_line(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(columns_of("omega (meV);a2F", 1, separator=separator).replace(".", ","))
    with pytest.raises(InputError, match=r"line 2: .* has decimal commas"):
        read_alpha2f(path)

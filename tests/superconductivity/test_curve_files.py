"""α²F and N(ε) of other programs: units and columns from headers; damaged files refused by line.

The numbers behind the files are made here, so that the right λ and Tc are known.
"""

from __future__ import annotations

import gzip
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from himlip_ase import units
from himlip_ase.cli import tc as command
from himlip_ase.errors import InputError
from himlip_ase.superconductivity import TcOptions, critical_temperature, read_alpha2f, read_alpha2f_table
from himlip_ase.superconductivity.curve_formats import FORMATS, CurveFormat
from himlip_ase.superconductivity.electronic_dos import ElectronicDos, read_electronic_dos
from himlip_ase.superconductivity.number_rows import fortran_number
from himlip_ase.superconductivity.spectrum import spectrum_from_curve
from himlip_ase.superconductivity.tc_entries import Tc
from himlip_ase.units import HARTREE_EV

MEV = np.linspace(0.1, 60.0, 600)
CURVE = 0.45 * np.exp(-(((MEV - 22) / 4) ** 2)) + 0.3 * np.exp(-(((MEV - 40) / 5) ** 2))
TO_MEV = {
    "meV": 1.0,
    "THz": 1e3 / units.EV_THZ,
    "cm-1": 1e3 / units.EV_CM,
    "Ry": 1e3 * units.RY_EV,
    "Ha": 1e3 * units.HARTREE_EV,
    "eV": 1e3,
}


def tc_of(alpha2f: np.ndarray) -> tuple[float, float]:
    spectrum = spectrum_from_curve(MEV, alpha2f, "meV")
    entry = critical_temperature(spectrum, 0.1)
    assert isinstance(entry, Tc)
    return spectrum.lambda_total, entry.kelvin


LAMBDA, KELVIN = tc_of(CURVE)


def rows(unit: str, *columns: np.ndarray, form: str = "%16.8E") -> list[str]:
    table = np.column_stack([MEV / TO_MEV[unit], *columns])
    return [" ".join(form % value for value in row) for row in table]


def cumulative(alpha2f: np.ndarray) -> np.ndarray:
    return np.cumsum(2 * alpha2f / MEV) * (MEV[1] - MEV[0])


def matdyn() -> str:
    head = ["", " # Eliashberg function a2F (per both spin)", " #  frequencies in Rydberg  "]
    tail = [f"  lambda =  {LAMBDA:.8f}         Delta =   1.0E-05"]
    return "\n".join([*head, "", *rows("Ry", CURVE, 0.3 * CURVE, 0.1 * CURVE, 0.6 * CURVE), *tail, ""])


def wrapped_matdyn() -> str:
    lines = matdyn().split("\n")
    return "\n".join(
        f"{line[:33]}\n{line[33:]}" if len(line) > 60 and "#" not in line else line for line in lines
    )


def lambda_x(sigmas: tuple[float, ...] = (0.005,), factors: tuple[float, ...] = (1.0,)) -> str:
    head = " # E(THz)" + "".join(f"{sigma:12.4f}" for sigma in sigmas)
    body = rows("THz", *(factor * CURVE for factor in factors), form="%10.6f")
    return "\n".join([head, *body, ""])


def alpha2f_x() -> str:
    return "\n".join([f"{len(MEV):12d}", *rows("Ry", CURVE, 5 * CURVE, 5 * CURVE), ""])


def epw(widths: tuple[float, ...] = (0.5,), announced: int = 10) -> str:
    # recent versions announce 10 smearings and write one
    curves = [CURVE * (1 + 0.001 * i) for i in range(len(widths))]
    sums = [cumulative(curve) for curve in curves]
    tail = [
        " Integrated el-ph coupling",
        "  #         " + "".join(f"{c[-1]:12.7f}" for c in sums),
        " Phonon smearing (meV)",
        "  #         " + "".join(f"{w:12.7f}" for w in widths),
        "Electron smearing (eV)   0.1000000",
        "Fermi window (eV)   0.4000000",
    ]
    head = f" w[meV] a2f and integrated 2*a2f/w for {announced:4d} smearing values"
    return "\n".join([head, *rows("meV", *curves, *sums, form="%11.7f"), *tail, ""])


def abinit(spins: int = 1) -> str:
    head = [
        "#",
        "# ABINIT package : a2f file",
        "#",
        "# a2f function integrated over the FS. omega in a.u.",
        f"#  number of energy points : {len(MEV):8d}",
    ]
    block = ["# The DOS at Fermi level for spin  1 is  0.7", "#", *rows("Ha", CURVE), ""]
    return "\n".join([*head, *(block * spins)])


def elk() -> str:
    return "\n".join([*rows("Ha", CURVE, form="%18.10G"), ""])


def csv(unit: str = "THz") -> str:
    return "\n".join(
        [
            f"omega_{unit},alpha2F",
            *(line.replace(" ", ",").strip(",") for line in rows(unit, CURVE, form="%.8e")),
            "",
        ]
    )


WRITERS: dict[str, tuple[str, Callable[[], str], str]] = {
    "matdyn": ("a2F.dos3", matdyn, "Ry"),
    "wrapped matdyn": ("a2F.dos3", wrapped_matdyn, "Ry"),
    "lambda": ("alpha2F.dat", lambda_x, "THz"),
    "alpha2f": ("a2F.dat", alpha2f_x, "Ry"),
    "epw": ("pb.a2f", epw, "meV"),
    "abinit": ("t2_A2F", abinit, "Ha"),
    "elk": ("ALPHA2F.OUT", elk, "Ha"),
    "csv": ("curve.csv", csv, "THz"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_unit_and_columns_of_every_program(writer: str, tmp_path: Path) -> None:
    name, write, unit = WRITERS[writer]
    (tmp_path / name).write_text(write())
    table = read_alpha2f_table(tmp_path / name)
    assert table.unit == unit
    assert table.format == {"wrapped matdyn": "matdyn", "csv": "plain"}.get(writer, writer)
    entry = critical_temperature(table.spectrum(), 0.1)
    assert isinstance(entry, Tc)
    assert table.spectrum().lambda_total == pytest.approx(LAMBDA, rel=2e-4)
    assert entry.kelvin == pytest.approx(KELVIN, rel=1e-3)
    assert not any("does not say the unit" in text for text in table.spectrum().caveats)
    other = "cm-1" if unit != "cm-1" else "meV"
    with pytest.raises(InputError, match=f"in {unit}, as the file says"):
        read_alpha2f(tmp_path / name, other) if writer != "csv" else read_alpha2f(tmp_path / name, "Ry")
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(write().encode()))
    assert read_alpha2f(tmp_path / f"{name}.gz", unit).lambda_total == pytest.approx(LAMBDA, rel=2e-4)


def call(*arguments: object):
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_case_T1_thz_and_several_broadenings_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "alpha2F.dat"
    path.write_text(lambda_x((0.005, 0.01), (1.0, 0.9)))
    result = call("--alpha2f", path, "--mu-star", "0.1", "--method", "allen-dynes")
    assert result.exit_code == 0, result.exception
    assert f"{KELVIN:.2f} K" in result.output and "σ = 0.01 Ry: λ =" in result.output
    second = call("--alpha2f", path, "--mu-star", "0.1", "--method", "allen-dynes", "--alpha2f-column", "3")
    assert f"{tc_of(0.9 * CURVE)[1]:.2f} K" in second.output
    wrong = call("--alpha2f", path, "--alpha2f-column", "4")
    assert isinstance(wrong.exception, InputError) and "2 to 3" in str(wrong.exception)
    contradicted = call("--alpha2f", path, "--alpha2f-unit", "meV")
    assert isinstance(contradicted.exception, InputError) and "--alpha2f-unit" in str(contradicted.exception)


def test_all_broadenings_of_a_file_have_a_plateau(tmp_path: Path) -> None:
    sigmas = (0.005, 0.010, 0.015, 0.020, 0.025, 0.030)
    factors = (1.6, 1.2, 1.0, 1.01, 0.99, 0.7)
    path, out = tmp_path / "alpha2F.dat", tmp_path / "tc.json"
    path.write_text(lambda_x(sigmas, factors))
    result = call("--alpha2f", path, "--mu-star", "0.1", "--method", "allen-dynes", "--json", out)
    assert result.exit_code == 0, result.exception
    assert "plateau 0.015–0.025 Ry" in result.output and "used: 0.02 Ry" in result.output
    from himlip_ase.superconductivity import read_results

    (found,), _ = read_results(out)
    assert found.sigma_ry == 0.02 and found.plateau is not None and found.plateau.found
    assert found.plateau.lambdas == pytest.approx(LAMBDA * np.array(factors), rel=1e-3)
    entry = found.table.get("allen-dynes", 0.1)
    assert isinstance(entry, Tc)
    assert entry.kelvin == pytest.approx(tc_of(1.01 * CURVE)[1], rel=1e-3)
    spread = (tc_of(1.01 * CURVE)[1] - tc_of(0.99 * CURVE)[1]) / 2
    assert entry.uncertainty_kelvin == pytest.approx(spread, rel=0.01)
    given = call("--alpha2f", path, "--mu-star", "0.1", "--sigma", "0.03", "--method", "allen-dynes")
    assert f"{tc_of(0.7 * CURVE)[1]:.2f}" in given.output.split("note:")[0]
    none = call("--alpha2f", path, "--sigma", "0.07")
    assert isinstance(none.exception, InputError) and "0.005" in str(none.exception)


def plain(*changes: tuple[int, str], head: str = "# meV", last: int | None = None) -> str:
    lines = [head, *rows("meV", CURVE, form="%10.5f")][:last]
    for number, text in changes:
        lines[number - 1] = text
    return "\n".join([*lines, ""])


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


def test_a_unit_that_nobody_says_is_meant_as_mev_and_said(tmp_path: Path) -> None:
    path = tmp_path / "curve.dat"
    path.write_text(plain(head="# omega a2F (a.u.)"))
    spectrum = read_alpha2f(path)
    assert spectrum.lambda_total == pytest.approx(LAMBDA, rel=1e-4)
    assert any("does not say the unit" in text for text in spectrum.caveats)
    path.write_text("\n".join(rows("Ry", CURVE)) + "\n")
    with pytest.raises(InputError, match=r"no crystal has.*--alpha2f-unit"):
        read_alpha2f(path)
    assert read_alpha2f(path, "Ry").lambda_total == pytest.approx(LAMBDA, rel=1e-6)


def columns_of(head: str, *factors: float, unit: str = "meV", separator: str = " ") -> str:
    """Columns of α²F times a factor each, below a header."""
    table = [line.split() for line in rows(unit, CURVE)]
    made = [separator.join([w, *(f"{f * float(a):.8f}" for f in factors)]) for w, a in table]
    return "\n".join([head, *made]) + "\n"


@pytest.mark.parametrize(
    ("head", "factors"),
    [
        ("# E(meV) a2F_tr a2F", (0.5, 1)),
        ("# omega (meV)  lambda(omega)  alpha2F", (3, 1)),
        ("# E [meV], alpha2F(band 1), alpha2F(total)".replace("band 1", "band1"), (0.3, 1)),
        ("# w(meV) w(THz) a2F", (0.2, 1)),
    ],
)
def test_the_column_of_a2f_is_the_one_that_its_header_names(head: str, factors, tmp_path: Path) -> None:
    path = tmp_path / "curve.dat"
    path.write_text(columns_of(head, *factors))
    assert read_alpha2f(path).lambda_total == pytest.approx(LAMBDA, rel=1e-4)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("# E(meV) a2F_up a2F_dn", r"2 α²F.*--alpha2f-column 2 is a2F_up"),
        ("# E (meV)  a2F up  a2F dn", r"choose one.*--alpha2f-column 2"),
        ("# omega (rad/ps) a2F a2F_tr", "frequencies are in rad/ps.*convert"),
        ("# omega (2π THz) a2F a2F_tr", "frequencies are in 2π THz.*convert"),
        ("# linewidth [GHz] a2F a2F_tr", "frequencies are in GHz.*convert"),
    ],
)
def test_spins_in_columns_and_units_of_angles_are_refused(head: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "curve.dat"
    path.write_text(columns_of(head, 0.5, 0.5))
    with pytest.raises(InputError, match=message):
        read_alpha2f(path)


@pytest.mark.parametrize("separator", [";", "\t", "  "])
def test_decimal_commas_are_refused_by_line(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(columns_of("omega (meV);a2F", 1, separator=separator).replace(".", ","))
    with pytest.raises(InputError, match=r"line 2: .* has decimal commas"):
        read_alpha2f(path)


def test_epw_with_as_many_smearings_as_it_announces(tmp_path: Path) -> None:
    path = tmp_path / "pb.a2f"
    path.write_text(epw((0.5, 0.6, 0.7), 3))
    table = read_alpha2f_table(path)
    assert [column.width for column in table.columns] == [0.5, 0.6, 0.7] and table.width_unit == ""
    assert [s.lambda_total for s in table.spectra] == pytest.approx(
        [LAMBDA, 1.001 * LAMBDA, 1.002 * LAMBDA], rel=1e-3
    )
    output = call("--alpha2f", path, "--mu-star", "0.1", "--method", "allen-dynes").output
    assert "phonon smearing 0.6 meV" in output and f"{KELVIN:.2f} K" in output


def test_case_T3_two_spins_of_the_density_of_states_are_added(tmp_path: Path) -> None:
    energies = np.linspace(-5, 5, 401)
    up, down = 1 + 0.5 * np.sin(2 * energies), 1 + 0.5 * np.cos(3 * energies)
    both, total = tmp_path / "spin.dos", tmp_path / "total.dos"
    for path, head, columns in (
        (both, "#  E (eV)   dosup(E)     dosdw(E)   Int dos(E) EFermi =    0.250 eV", (up, down, 0 * up)),
        (total, "#  E (eV)   dos(E)     Int dos(E) EFermi =    0.250 eV", (up + down, 0 * up)),
    ):
        table = np.column_stack([energies, *columns])
        path.write_text(head + "\n" + "\n".join(" ".join(f"{v:13.6E}" for v in row) for row in table) + "\n")
    added, whole = read_electronic_dos(both), read_electronic_dos(total)
    assert added.values == pytest.approx(whole.values, rel=1e-5)
    assert added.energies_ev == pytest.approx(whole.energies_ev)
    curve = tmp_path / "curve.dat"
    curve.write_text(plain())
    outputs = [call("--alpha2f", curve, "--mu-star", "0.1", "--dos", path).output for path in (both, total)]
    lines = [next(line for line in out.splitlines() if "N(ε)" in line) for out in outputs]
    assert lines[0] == lines[1]
    text = both.read_text().replace(f"{up[200]:13.6E}", "*************")
    both.write_text(text)
    with pytest.raises(InputError, match=r"line 202.*overflowed"):
        read_electronic_dos(both)


def test_a_density_of_states_in_the_unit_of_its_header(tmp_path: Path) -> None:
    energies = np.linspace(-5, 5, 101)
    values = 1 + 0.5 * np.sin(2 * energies)

    def density(head: str, unit: float) -> ElectronicDos:
        table = [f"{unit * (e + 1):.8f} {v:.8f}" for e, v in zip(energies, values, strict=True)]
        (tmp_path / "dos").write_text("\n".join([head, *table]) + "\n")
        return read_electronic_dos(tmp_path / "dos")

    whole = density("# E (eV) dos(E) EFermi = 1.0 eV", 1.0)
    for head in (
        "# Fermi energy : 0.0367493222\n# energy(Ha)   DOS",
        "# E [Hartree] DOS, EFermi = 0.0367493222",
    ):
        found = density(head, 1 / HARTREE_EV)
        assert found.energies_ev == pytest.approx(whole.energies_ev, abs=1e-6)
        assert found.values == pytest.approx(whole.values, abs=1e-7)
    with pytest.raises(InputError, match="energies in kJ; write them in eV"):
        density("# E (kJ) dos", 1.0)


def test_case_T4_two_spin_blocks_of_abinit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run_A2F"
    path.write_text(abinit(spins=2))
    result = call("--alpha2f", path)
    message = str(result.exception)
    assert isinstance(result.exception, InputError)
    assert "--alpha2f-column 2 is spin 1 (lines 8 to 607)" in message
    assert "--alpha2f-column 3 is spin 2 (lines 611 to 1210)" in message
    chosen = call("--alpha2f", path, "--alpha2f-column", "3", "--mu-star", "0.1", "--method", "allen-dynes")
    assert f"{KELVIN:.2f} K" in chosen.output


def test_a_dummy_format_is_in_the_help_and_read(tmp_path: Path) -> None:
    plain_format = FORMATS["plain"]
    entry = CurveFormat("dummy", "files of a dummy code", lambda r: "DUMMY" in r.head, plain_format.layout)
    with FORMATS.added(entry):
        assert "files of a dummy code" in " ".join(call("--help").output.replace("│", " ").split())
    assert "dummy" not in FORMATS


def test_mu_star_at_another_cutoff() -> None:
    from himlip_ase.superconductivity import Spectrum, eliashberg_tc

    einstein = Spectrum(np.array([0.02]), np.array([0.5]))
    # 3.995 K: Einstein mode of 20 meV, λ = 0.5, μ* = 0.1 at 30 ω, by a code that takes μ* at its own cutoff
    assert eliashberg_tc(einstein, 0.1, 30, mu_star_at=30) == pytest.approx(3.995, abs=1e-3)
    assert eliashberg_tc(einstein, 0.1) == pytest.approx(2.742, abs=1e-3)
    entry = critical_temperature(einstein, 0.1, "eliashberg", mu_star_at=30)
    assert isinstance(entry, Tc) and entry.kelvin == pytest.approx(3.995, rel=3e-3) and entry.mu_star == 0.1
    there = 1 / (10 + np.log(30))
    for method in ("mcmillan", "allen-dynes", "sisso"):
        meant = critical_temperature(einstein, 0.1, method, mu_star_at=30)
        moved = critical_temperature(einstein, float(there), method)
        assert isinstance(meant, Tc) and isinstance(moved, Tc)
        assert meant.kelvin == pytest.approx(moved.kelvin, rel=1e-12)


def test_mu_star_at_on_the_command_line_and_in_a_run(tmp_path: Path) -> None:
    from himlip_ase.pipeline.config import parse_config

    path, out = tmp_path / "curve.dat", tmp_path / "tc.json"
    path.write_text(plain())
    result = call("--alpha2f", path, "--mu-star", "0.1", "--mu-star-at", "15", "--json", out, "--gap")
    assert result.exit_code == 0, result.exception
    assert "meant at 15 times the highest phonon; at the highest phonon 0.10 is 0.0787" in result.output
    from himlip_ase.superconductivity import read_results

    (found,), _ = read_results(out)
    assert found.table.mu_star_at == 15 and found.gap is not None
    entry = found.table.get("eliashberg", 0.1)
    assert isinstance(entry, Tc) and found.gap.tc_kelvin == pytest.approx(entry.kelvin, rel=1e-6)
    assert parse_config("structure: x.cif\ntc: {mu_star_at: 15}").tc.mu_star_at == 15
    with pytest.raises(InputError, match="mu_star_at"):
        TcOptions(mu_star_at=0)


@pytest.mark.parametrize("coupling", [0.5, 1.0, 2.5])
def test_the_number_of_frequencies_does_not_move_tc(coupling: float) -> None:
    from himlip_ase.superconductivity import Spectrum, eliashberg_tc

    # μ* stays at the highest phonon, and the sums converge
    spectrum = Spectrum(np.array([0.05, 0.1]), np.array([0.4, 0.6]) * coupling)
    high = eliashberg_tc(spectrum, 0.12, 60)
    for cutoff, least in ((4, 4), (4, 64), (8, 4), (15, 4), (15, 64), (15, 256)):
        assert eliashberg_tc(spectrum, 0.12, cutoff, min_frequencies=least) == pytest.approx(high, rel=3e-3)


@pytest.mark.skipif(shutil.which("q2r.x") is None, reason="q2r.x is not installed")
def test_sscha_phonons_reach_epw_through_q2r(tmp_path: Path) -> None:
    from himlip_ase.phonons.q2r import read_q2r
    from himlip_ase.phonons.qe import write_dyn
    from tests.superconductivity.material import toy

    phonons, _ = toy((2, 2, 2))
    write_dyn(phonons, tmp_path / "hessian.dyn")
    page = (Path(__file__).parents[2] / "docs" / "superconductivity.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("q2r.x <<<")]
    recipe = line.split('"')[1].replace("state/sscha/", "").replace("zasr='simple'", "zasr='no'") + "\n"
    done = subprocess.run(["q2r.x"], input=recipe, text=True, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-500:]
    again = read_q2r(tmp_path / "ifc.q2r").dynamical_matrices()
    assert again.frequencies() == pytest.approx(phonons.frequencies(), abs=1e-2)

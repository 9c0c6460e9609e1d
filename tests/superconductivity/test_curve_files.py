"""α²F of other programs: units and columns from headers, broadenings, spins."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.superconductivity import critical_temperature, read_alpha2f, read_alpha2f_table
from himlip_ase.superconductivity.curve_formats import FORMATS, CurveFormat
from himlip_ase.superconductivity.tc_entries import Tc
from tests.superconductivity.curves import (
    CURVE,
    KELVIN,
    LAMBDA,
    abinit,
    alpha2f_x,
    call,
    columns_of,
    csv,
    elk,
    epw,
    lambda_x,
    matdyn,
    plain,
    rows,
    tc_of,
    wrapped_matdyn,
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

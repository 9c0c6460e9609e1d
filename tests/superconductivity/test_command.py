"""himlip tc and its Python twin, on the Al run and on a curve."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from himlip_ase.cli import tc as command
from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity import TcOptions, analyse, format_table
from himlip_ase.superconductivity.elph_matrices import read_elph
from himlip_ase.superconductivity.output_files import write_figures
from himlip_ase.superconductivity.plateau import sigma_plateau
from himlip_ase.superconductivity.tc_entries import NoTc, Tc
from tests.superconductivity.material import AL, al_phonons, al_primitive, needs_al


def call(*arguments: str):
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, list(arguments), catch_exceptions=True)


@pytest.fixture
def curve(tmp_path: Path) -> Path:
    omega = np.linspace(0, 200, 801)
    alpha2f = 0.6 * np.exp(-(((omega - 120) / 30) ** 2))
    rows = [f"{w:.4f} {a:.8f} 0.0" for w, a in zip(omega, alpha2f, strict=True)]
    (tmp_path / "a2f.dat").write_text("# meV a2F\n" + "\n".join(rows) + "\n")
    return tmp_path / "a2f.dat"


def test_curve_from_another_code(curve: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = call("--alpha2f", str(curve), "--mu-star", "0.10", "0.13", "--json", str(out), "--gap")
    assert result.exit_code == 0, result.output
    data = json.loads(out.read_text())
    assert data["schema"].startswith("himlip-tc/")
    entries = data["analyses"][0]["tc"]
    assert [(e["method"], e["mu_star"]) for e in entries][:2] == [("mcmillan", 0.10), ("allen-dynes", 0.10)]
    assert len(entries) == 8 and all(e["value"] > 0 for e in entries)
    assert 3.5 < data["analyses"][0]["gap"]["two_delta_over_kTc"] < 6
    again = call("--alpha2f", str(curve), "--json", str(out))
    assert isinstance(again.exception, InputError) and "--overwrite" in str(again.exception)
    assert json.loads(out.read_text()) == data
    assert call("--alpha2f", str(curve), "--json", str(out), "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "--dyn PREFIX"),
        (("--alpha2f", "no.dat"), "does not exist"),
        (("--dyn", "a", "--elph", "b", "--alpha2f", "c"), "--dyn is of matrices, and --alpha2f stands alone"),
        (("--alpha2f", "c", "--mesh", "8", "8", "8"), "--mesh is of matrices"),
        (("--alpha2f", "c", "--integration", "sum"), "--integration is of matrices"),
        (("--alpha2f", "c", "--gamma-weight", "excluded"), "--gamma-weight is of matrices"),
        (("--alpha2f", "c", "--max-strain", "0.1"), "--max-strain is of matrices"),
        (("--alpha2f", "c", "--isotopes"), "--isotopes is of matrices"),
        (
            ("--dyn", "a", "--elph", "b", "--alpha2f-unit", "meV"),
            "--alpha2f-unit is of an α²F file; type --alpha2f FILE",
        ),
        (("--elph", "b", "--alpha2f-column", "3"), "--alpha2f-column is of an α²F file"),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], text: str) -> None:
    result = call(*arguments)
    assert isinstance(result.exception, InputError) and text in str(result.exception)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ((), "--sigma chooses among broadenings in Ry, and a2f.dat has none"),
        (("--alpha2f-column", "2"), "--sigma and --alpha2f-column both choose a curve"),
    ],
)
def test_sigma_chooses_among_several_curves_only(curve: Path, more: tuple[str, ...], text: str) -> None:
    result = call("--alpha2f", str(curve), "--sigma", "0.02", *more)
    assert isinstance(result.exception, InputError) and text in str(result.exception)


@pytest.fixture
def al_folder(tmp_path: Path) -> Path:
    for path in AL.glob("al.dyn*"):
        data = path.read_bytes()
        (tmp_path / path.name.removesuffix(".gz")).write_bytes(
            gzip.decompress(data) if path.suffix == ".gz" else data
        )
    shutil.copytree(AL / "elph_dir", tmp_path / "elph_dir")
    return tmp_path


@needs_al
def test_al_from_the_command_line(al_folder: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "tc.json", tmp_path / "figures"
    arguments = ["--dyn", str(al_folder / "al.dyn"), "--elph", str(al_folder / "elph_dir"), "--sigma", "0.02"]
    result = call(*arguments, "--mu-star", "0.10", "--json", str(out), "--figures", str(figures))
    assert result.exit_code == 0, (result.output, result.exception)
    item = json.loads(out.read_text())["analyses"][0]
    assert item["lambda"]["value"] == pytest.approx(0.39772, abs=1e-3) and item["lambda"]["uncertainty"] > 0
    assert item["tc"][0]["value"] == pytest.approx(1.365, abs=0.015)
    assert item["masses_amu"]["Al"] == pytest.approx(26.98, abs=1e-2)
    assert {p.name for p in figures.iterdir()} >= {
        "alpha2f.png",
        "alpha2f_phonons.dat",
        "tc_mu_star.png",
        "tc.txt",
    }
    heavy = call(*arguments, "--mu-star", "0.10", "--mass", "Al=53.96", "--json", str(out), "--overwrite")
    assert heavy.exit_code == 0
    heavier = json.loads(out.read_text())["analyses"][0]
    assert heavier["omega_log"]["value"] == pytest.approx(item["omega_log"]["value"] / np.sqrt(2), rel=1e-4)
    bad = call(*arguments, "--mass", "Al")
    assert isinstance(bad.exception, InputError) and "H=2.014" in str(bad.exception)


@needs_al
def test_harmonic_and_anharmonic_side_by_side() -> None:
    elph, harmonic = read_elph(AL, al_primitive()), al_phonons()
    coarse_q = commensurate_qpoints((2, 2, 2))
    stiffer = DynamicalMatrices(
        harmonic.primitive,
        (2, 2, 2),
        coarse_q,
        np.array([1.1 * harmonic.matrices[harmonic.index(q)] for q in coarse_q]),
    )
    first = analyse("harmonic", elph, harmonic, harmonic, TcOptions((0.1,)))
    second = analyse("anharmonic", elph, stiffer, harmonic, TcOptions((0.1,)))
    assert second.table.lambda_total < first.table.lambda_total
    assert second.table.omega_log_k > first.table.omega_log_k
    text = format_table([first, second])
    assert "Γ counted" in text and "σ: plateau" in text
    with pytest.raises(InputError, match="harmonic"):
        analyse("anharmonic", elph, stiffer)


@needs_al
def test_sigma_plateau_of_al() -> None:
    plateau = sigma_plateau(read_elph(AL, al_primitive()), al_phonons(), 0.1, "mcmillan")
    assert plateau.found and plateau.window == pytest.approx((0.025, 0.05))
    assert 0 < plateau.lambda_spread < 0.03 and plateau.tc_spread_kelvin > 0
    none = sigma_plateau(read_elph(AL, al_primitive()), al_phonons(), 0.1, tolerance=1e-4)
    assert not none.found


@needs_al
def test_uncertainty_holds_sigma_and_gamma() -> None:
    result = analyse("Al", read_elph(AL, al_primitive()), al_phonons(), None, TcOptions((0.1,))).table.get(
        "mcmillan", 0.1
    )
    assert isinstance(result, Tc)
    assert "Γ" in result.uncertainty_source and "σ" in result.uncertainty_source
    assert result.uncertainty_kelvin is not None and result.uncertainty_kelvin > 0


@needs_al
def test_figures_of_a_refusal_are_still_written(tmp_path: Path) -> None:
    elph = read_elph(AL, al_primitive())
    item = analyse("Al", elph, al_phonons(), None, TcOptions((0.35,)))
    assert all(isinstance(entry, NoTc) for entry in item.table.results)
    paths = write_figures(tmp_path / "f", [item])
    assert all(p.stat().st_size > 0 for p in paths)
    with pytest.raises(InputError, match="exists"):
        write_figures(tmp_path / "f", [item])


@needs_al
def test_dense_mesh_isotopes_and_all_outputs(al_folder: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "tc.json", tmp_path / "figures"
    arguments = [
        "--dyn",
        str(al_folder / "al.dyn"),
        "--elph",
        str(al_folder / "elph_dir"),
        "--mu-star",
        "0.08",
    ]
    dense = ["--mesh", "6", "6", "6", "--integration", "gaussian", "--isotopes", "--mass", "Al=27.0"]
    result = call(*arguments, *dense, "--json", str(out), "--figures", str(figures))
    assert result.exit_code == 0, (result.output, result.exception)
    data = json.loads(out.read_text())
    effects = data["isotope_coefficients"]
    assert [e["method"] for e in effects] == ["mcmillan", "allen-dynes", "sisso", "eliashberg"]
    assert all(e["total"] == pytest.approx(0.5, abs=1e-3) for e in effects if e["total"] is not None)
    assert "isotope coefficient, McMillan" in result.output and "Gaussians of adaptive width" in result.output
    parts = data["analyses"][0]["tc"][0]["uncertainty_parts"]
    assert any("interpolated against plain" in part["source"] for part in parts)
    assert (figures / "uncertainty_phonons.png").stat().st_size > 5000
    wrong = call(*arguments, "--mesh", "6", "6", "6", "--integration", "simpson")
    assert isinstance(wrong.exception, InputError) and "tetrahedron" in str(wrong.exception)


def test_density_of_states_on_the_command_line(curve: Path, tmp_path: Path) -> None:
    energies = np.linspace(-5, 5, 201)
    flat, peaked = tmp_path / "flat.dos", tmp_path / "peak.dos"
    for path, values in ((flat, np.ones(201)), (peaked, 1 + np.exp(-((energies / 0.2) ** 2)))):
        np.savetxt(path, np.column_stack([energies, values]))
    found = {}
    for path in (flat, peaked):
        out = tmp_path / f"{path.stem}.json"
        result = call("--alpha2f", str(curve), "--mu-star", "0.1", "--dos", str(path), "--json", str(out))
        assert result.exit_code == 0, (result.output, result.exception)
        item = json.loads(out.read_text())["analyses"][0]
        found[path] = item["tc_energy_dependent_dos"][0]["value"], item["tc"][3]["value"]
    assert found[flat][0] == pytest.approx(found[flat][1], rel=1e-8)
    assert found[peaked][0] < found[peaked][1]

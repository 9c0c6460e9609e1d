"""λ_qν that ph.x prints with lambda_tetra and simple, against alpha2f.x and against a grid made here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from ase import Atoms
from typer.testing import CliRunner

from himlip_ase.cli import tc as command
from himlip_ase.errors import InputError
from himlip_ase.superconductivity import critical_temperature, mode_coupling, read_printed_modes
from himlip_ase.superconductivity.tc_entries import NoTc, Tc
from tests.superconductivity.material import al_primitive
from tests.superconductivity.test_qe_outputs import reference


def call(*arguments: object):
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_tetrahedra_of_ph_x_give_what_alpha2f_x_prints() -> None:
    folder = reference("tetra_example")
    modes = read_printed_modes(folder)
    assert modes.dims == (4, 4, 4) and modes.sigma_ry == () and len(modes.spectra) == 1
    (spectrum,) = modes.spectra
    # lambda.out of alpha2f.x: λ 0.3977875, ω_log 305.752546 K, Tc(McMillan) 1.243563 K at μ* = 0.1
    assert spectrum.lambda_total == pytest.approx(0.3977875, abs=2e-5)
    assert spectrum.omega_log_k == pytest.approx(305.752546, abs=0.02)
    entry = critical_temperature(spectrum, 0.1, "mcmillan")
    assert isinstance(entry, Tc) and entry.kelvin == pytest.approx(1.243563, abs=3e-4)


def test_the_command_takes_them_without_dyn_and_refuses_masses() -> None:
    folder = reference("tetra_example")
    result = call("--elph", folder, "--mu-star", "0.1")
    assert result.exit_code == 0, result.exception
    assert "λ = 0.3978" in result.output and "1.24 K" in result.output
    heavy = call("--elph", folder, "--mass", "Al=30")
    assert isinstance(heavy.exception, InputError) and "interpolated" in str(heavy.exception)
    for words in (
        ("--mesh", 8, 8, 8),
        ("--integration", "sum"),
        ("--max-strain", 0.1),
        ("--gamma-weight", "counted"),
    ):
        dense = call("--elph", folder, *words)
        assert isinstance(dense.exception, InputError)
        assert str(dense.exception).startswith(f"{words[0]} needs a2Fq2r files")
    broad = call("--elph", folder, "--sigma", 0.02)
    assert isinstance(broad.exception, InputError) and "holds tetrahedra" in str(broad.exception)
    with_dyn = call("--elph", folder, "--dyn", folder / "al.dyn0")
    assert isinstance(with_dyn.exception, InputError) and "leave --dyn out" in str(with_dyn.exception)


def write_run(folder: Path, kind: str, soft: bool = False) -> tuple[float, float]:
    """A simple cubic 2×2×2 run of one atom: four stars of 1, 3, 3 and 1 points; λ and ω_log (K) of it."""
    from himlip_ase.lattice import commensurate_qpoints
    from himlip_ase.phonons.force_constants import DynamicalMatrices
    from himlip_ase.phonons.qe import write_dyn
    from himlip_ase.units import RY_KELVIN

    atoms = Atoms("Al", cell=np.eye(3) * 3.0, pbc=True)
    grid = commensurate_qpoints((2, 2, 2))
    matrices = np.array([(1 + 2 * (np.abs(q) > 0).sum()) * np.eye(3) for q in grid]).astype(complex)
    write_dyn(DynamicalMatrices(atoms, (2, 2, 2), grid, matrices), folder / "al.dyn")
    stars = [line.split() for line in (folder / "al.dyn0").read_text().split("\n")[2:] if line.strip()]
    total = log = 0.0
    for number, words in enumerate(stars, start=1):
        q = np.array(words, dtype=float)
        kinds = int((np.abs(q) > 0.1).sum())
        weight = {0: 1, 1: 3, 2: 3, 3: 1}[kinds]
        omega2 = [1e-6 * (1 + kinds), 2e-6, 3e-6]
        if soft and kinds == 3:
            omega2[0] = -4e-6
        lambdas = [0.0 if kinds == 0 else 0.2 * kinds, 0.1, 0.05]
        if soft and kinds == 3:
            lambdas[0] = -0.6
        lines = [f"{q[0]:15.8f}{q[1]:15.8f}{q[2]:15.8f}" + ("" if kind == "tetra" else f"{2:8d}") + f"{3:8d}"]
        lines.append("".join(f"{w:14.6E}" for w in omega2))
        for factor, sigma in ((1.0, 0.01), (2.0, 0.02))[: 1 if kind == "tetra" else 2]:
            title = (
                "Tetrahedron method"
                if kind == "tetra"
                else f"Gaussian Broadening:   {sigma:.3f} Ry, ngauss=   0"
            )
            lines += [f"     {title}", "     DOS =  2.720593 states/spin/Ry/Unit Cell at Ef=  7.970584 eV"]
            lines += [
                f"     lambda({i:5d})={factor * value:8.4f}   gamma={1.0:8.2f} GHz"
                for i, value in enumerate(lambdas, 1)
            ]
        (folder / f"al.dyn{number}.elph.{number}").write_text("\n".join(lines) + "\n")
        for w2, value in zip(omega2, lambdas, strict=True):
            if w2 > 0 and value:
                total += weight * value / 8
                log += weight * value / 8 * 0.5 * np.log(w2)
    return total, float(np.exp(log / total)) * RY_KELVIN


def test_stars_weigh_the_points_of_an_unshifted_grid(tmp_path: Path) -> None:
    total, log = write_run(tmp_path, "tetra")
    (spectrum,) = read_printed_modes(tmp_path).spectra
    assert spectrum.lambda_total == pytest.approx(total, rel=1e-12)
    assert spectrum.omega_log_k == pytest.approx(log, rel=1e-6)


def test_broadenings_of_simple_are_listed(tmp_path: Path) -> None:
    total, _ = write_run(tmp_path, "simple")
    modes = read_printed_modes(tmp_path)
    assert modes.sigma_ry == (0.01, 0.02)
    assert [s.lambda_total for s in modes.spectra] == pytest.approx([total, 2 * total])
    output = call("--elph", tmp_path, "--mu-star", "0.1", "--method", "mcmillan").output
    assert "σ = 0.02 Ry: λ =" in output


def test_imaginary_modes_are_a_problem_and_not_summed(tmp_path: Path) -> None:
    total, _ = write_run(tmp_path, "tetra", soft=True)
    (spectrum,) = read_printed_modes(tmp_path).spectra
    assert [problem.kind for problem in spectrum.problems] == ["imaginary"]
    assert spectrum.lambda_total == pytest.approx(total)
    assert isinstance(critical_temperature(spectrum, 0.1), NoTc)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    write_run(tmp_path, "tetra")
    path = tmp_path / "al.dyn2.elph.2"
    text = path.read_text()
    for broken, words in (
        (text.rsplit("     lambda", 1)[0], "truncated"),
        (text.replace("0.1000", "******"), r"al\.dyn2\.elph\.2, line 6"),
        (text.replace("0.50000000", "0.25000000"), "another run"),
        ("", "empty"),
    ):
        path.write_text(broken)
        with pytest.raises(InputError, match=words):
            read_printed_modes(tmp_path)
    path.write_text(text)
    shutil.copy(tmp_path / "al.dyn3", tmp_path / "kept")
    shutil.copy(tmp_path / "al.dyn2", tmp_path / "al.dyn3")
    with pytest.raises(InputError, match=r"another q-point too|belong to no star"):
        read_printed_modes(tmp_path)
    (tmp_path / "al.dyn3").unlink()
    with pytest.raises(InputError, match=r"al\.dyn3 is not there"):
        read_printed_modes(tmp_path)
    shutil.copy(tmp_path / "kept", tmp_path / "al.dyn3")
    (tmp_path / "al.dyn4.elph.4").unlink()
    with pytest.raises(InputError, match=r"3 .*files, al\.dyn0 lists 4"):
        read_printed_modes(tmp_path)


def test_matrices_are_still_asked_for_where_phonons_are_given() -> None:
    from himlip_ase.superconductivity import read_elph

    with pytest.raises(InputError, match=r"lambda_tetra.*himlip tc --elph"):
        read_elph(reference("tetra_example"), al_primitive())
    assert callable(mode_coupling)


def test_weights_of_a_shifted_grid_whose_stars_leave_it() -> None:
    """The stars of a shifted fcc grid hold more points than the grid, as ph.x writes them."""
    from itertools import permutations, product

    from himlip_ase.superconductivity.printed_modes import _OneQ, _weights

    cell = al_primitive().cell.array
    inverse = np.linalg.inv(cell)
    grid = np.array([(np.array(n) + 0.5) / 2 for n in product(range(2), repeat=3)])
    turns = [
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]

    def images(q: np.ndarray) -> np.ndarray:
        turned = np.array([cell @ (turn @ (inverse @ q)) for turn in turns])
        return np.unique(np.round(turned % 1, 6) % 1, axis=0)

    stars: list[np.ndarray] = []
    for q in grid:
        if not any(np.abs((star - q + 0.5) % 1 - 0.5).max(axis=1).min() < 1e-5 for star in stars):
            stars.append(images(q))
    assert sum(len(star) for star in stars) > len(grid)
    points = [
        _OneQ(Path(f"al.dyn{n}.elph.{n}"), star, np.ones(3), (), np.ones((1, 3)))
        for n, star in enumerate(stars, 1)
    ]
    # the first point of each star must lie on the grid, as ph.x writes it
    for point in points:
        steps = 2 * point.star - 0.5
        inside = np.abs(steps - np.rint(steps)).max(axis=1) < 1e-5
        point.star[:] = np.concatenate([point.star[inside], point.star[~inside]])
    weights = _weights(points, (2, 2, 2))
    assert weights.sum() == pytest.approx(1)
    expected = [
        sum(np.abs((star - q + 0.5) % 1 - 0.5).max(axis=1).min() < 1e-5 for q in grid) / 8 for star in stars
    ]
    assert weights == pytest.approx(expected)

"""Quantum ESPRESSO's reference output of several versions and crystals, as Debian installs it."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.superconductivity import formulas
from himlip_ase.superconductivity.curve_files import read_alpha2f
from himlip_ase.superconductivity.elph_matrices import read_elph
from himlip_ase.units import RY_EV, RY_KELVIN
from tests.superconductivity.material import AL, al_primitive, needs_al

EXAMPLES = Path("/usr/share/doc/quantum-espresso/examples/PHonon")


def reference(name: str) -> Path:
    folder = EXAMPLES / name / "reference"
    if not folder.is_dir():
        pytest.skip("needs Debian's quantum-espresso-data")
    return folder


@pytest.mark.parametrize(
    ("place", "prefix", "dims", "symbols", "highest"),
    [
        ("GRID_recover_example", "alas.dyn", (4, 4, 4), ["Al", "As"], 412.67),
        ("example19", "diam.dyn", (3, 3, 3), ["C", "C"], 1344.30),
        ("example17", "bn.disp.dyn", (8, 8, 1), ["B", "N"], 1514.76),
    ],
)
def test_phonons_of_other_crystals(place, prefix, dims, symbols, highest) -> None:
    folder = reference(place)
    phonons = read_dyn(folder / prefix)
    assert phonons.dims == dims and phonons.primitive.get_chemical_symbols() == symbols
    # the largest frequency that ph.x itself prints into these files
    printed = []
    for path in folder.glob(f"{prefix}[1-9]*"):
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        printed += [float(line.split("=")[-1].split()[0]) for line in text.split("\n") if "freq (" in line]
    assert phonons.frequencies().max() == pytest.approx(max(printed), abs=0.01)
    assert max(printed) == pytest.approx(highest, abs=0.01)
    with pytest.raises(InputError, match="no a2Fq2r"):
        read_elph(folder, phonons.primitive)


def test_modes_of_the_tetrahedron_run_are_refused_with_the_reason() -> None:
    folder = reference("tetra_example")
    with pytest.raises(InputError, match=r"lambda_tetra.*Cartesian matrices.*leave --dyn out"):
        read_elph(folder, al_primitive())


def test_alpha2f_x_of_the_tetrahedron_run() -> None:
    # alpha2f.x prints λ = 0.394844 and ω_log = 1.962538e-3 Ry, integrated over the optimised tetrahedra
    spectrum = read_alpha2f(reference("tetra_example") / "a2F.dat.gz", "Ry")
    assert spectrum.lambda_total == pytest.approx(0.394844, abs=1e-3)
    assert spectrum.omega_log_ev == pytest.approx(1.962538e-3 * RY_EV, rel=1e-4)


def test_mcmillan_as_alpha2f_x_prints_it() -> None:
    text = (reference("tetra_example") / "lambda.out").read_text()
    found: dict[str, str] = {}
    for line in text.split("\n"):
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())  # λ comes twice: first of the q-sum, to which Tc belongs
    lam, omega = float(found["lambda"]), float(found["omegalog[Ryd]"]) * RY_KELVIN
    assert omega == pytest.approx(float(found["omegalog[K]"]), rel=1e-5)
    assert formulas.mcmillan(lam, omega, 0.1) == pytest.approx(float(found["Tc(McMillan)"]), rel=1e-5)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(AL / "elph_dir", tmp_path / "elph_dir")
    shutil.copy(AL / "al.dyn1", tmp_path)
    return tmp_path / "elph_dir"


@needs_al
def test_a_star_whose_members_disagree_is_named(run: Path) -> None:
    path = run / "a2Fq2r.54.3"
    head, first, *rest = path.read_text().split("     Dynamical  Matrix in cartesian axes")
    lines = first.split("\n")
    place = next(i for i, line in enumerate(lines) if "q =" not in line and line.count(".") == 6)
    lines[place] = lines[place].replace(lines[place].split()[0], "9.87654321", 1)
    path.write_text("     Dynamical  Matrix in cartesian axes".join([head, "\n".join(lines), *rest]))
    with pytest.raises(InputError, match=r"images|Hermitian|G\(q\)"):
        read_elph(run, al_primitive())


@needs_al
def test_real_space_files_of_another_run_are_named(run: Path) -> None:
    path = run / "a2Fmatdyn.63.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    head, _, body = text.partition("\n")
    words = head.split()
    words[2] = f"{1.01 * float(words[2]):.8f}"
    path.write_bytes(gzip.compress((" ".join(words) + "\n" + body).encode()))
    with pytest.raises(InputError, match=r"a2Fmatdyn\.63\.gz has N\(E_F\)"):
        read_elph(run, al_primitive())


@needs_al
def test_linewidths_in_mev() -> None:
    from himlip_ase.superconductivity.coupling import mode_coupling
    from tests.superconductivity.material import al_phonons

    coupling = mode_coupling(read_elph(AL, al_primitive()), al_phonons(), 0.02)
    assert coupling.gammas_mev == pytest.approx(coupling.gammas_ghz * 4.135667696e-3)
    # γ = π N(E_F) λ ω², all in Ry
    omega = coupling.frequencies_cm / 109737.31568
    gamma = np.pi * coupling.dos_per_spin_per_ry * coupling.lambdas * omega**2 * RY_EV * 1e3
    assert coupling.gammas_mev[coupling.summed] == pytest.approx(gamma[coupling.summed], rel=1e-5)


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

"""SSCHA → q2r.x → EPW's ``lifc``: the recipe of docs/sscha.md, its file read as EPW reads it, and by EPW."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from himlip_ase.cli.sscha import register
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn, write_dyn
from himlip_ase.sscha import SschaSettings, run_sscha
from himlip_ase.units import RY_PER_BOHR2_EV_PER_ANGSTROM2

from .crystals import random_matrices, triclinic
from .toy import BondCrystal, cscl

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not shutil.which("q2r.x"), reason="q2r.x is not installed"),
]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "sscha.md"


def q2r(folder: Path, prefix: str) -> Path:
    """The command of the page."""
    recipe = re.search(r"echo \"(&input fildyn.*?)\" \| q2r.x", PAGE.read_text(encoding="utf-8"))[1]
    done = subprocess.run(
        ["q2r.x"],
        input=recipe.replace("hessian.dyn", prefix) + "\n",
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "JOB DONE" in done.stdout, done.stdout + done.stderr
    return folder / "ifc.q2r"


def read_like_epw(path: Path, nat: int, grid: tuple[int, int, int]) -> np.ndarray:
    """Force constants (nr1, nr2, nr3, 3, 3, nat, nat) in Ry/bohr², with EPW's own number of atoms and grid.

    EPW skips cell, masses and the grid of the file: it takes those of its input and of the pw.x run.
    """
    lines = iter(path.read_text().splitlines())
    ntyp, found_nat, ibrav = (int(x) for x in next(lines).split()[:3])
    assert found_nat == nat
    for _ in range((3 if ibrav == 0 else 0) + ntyp + nat):
        next(lines)
    assert next(lines).strip() == "F"  # no effective charges
    assert tuple(int(x) for x in next(lines).split()) == grid
    constants = np.zeros((*grid, 3, 3, nat, nat))
    for i in range(3):
        for j in range(3):
            for a in range(nat):
                for b in range(nat):
                    assert [int(x) for x in next(lines).split()] == [i + 1, j + 1, a + 1, b + 1]
                    for place in range(int(np.prod(grid))):
                        m1, m2, m3, value = next(lines).split()
                        here = place % grid[0], place // grid[0] % grid[1], place // (grid[0] * grid[1])
                        assert (int(m1) - 1, int(m2) - 1, int(m3) - 1) == here
                        constants[(*here, i, j, a, b)] = float(value)
    return constants


def frequencies(constants: np.ndarray, dynamical: DynamicalMatrices) -> np.ndarray:
    """Of D(q) = Σ_R C(R) exp(-2πi q·R) on the grid, cm⁻¹."""
    grid, nat = constants.shape[:3], constants.shape[-1]
    cells = np.indices(grid).reshape(3, -1).T
    phases = np.exp(-2j * np.pi * dynamical.qpoints @ cells.T)
    blocks = np.tensordot(phases, constants.reshape(len(cells), 3, 3, nat, nat), 1)
    matrices = blocks.transpose(0, 3, 1, 4, 2).reshape(len(phases), 3 * nat, 3 * nat)
    matrices = matrices * RY_PER_BOHR2_EV_PER_ANGSTROM2
    return DynamicalMatrices(dynamical.primitive, dynamical.dims, dynamical.qpoints, matrices).frequencies()


def test_a_run_reaches_epw(tmp_path):
    crystal = BondCrystal(
        cscl(c=2.7), (1, 1, 2), [(6.0, -20.0, 120.0, -0.02), (2.0, 0, 0, 0.02), (1, 0, 0, 0)]
    )
    settings = SschaSettings(
        n_configurations=40, n_hessian_configurations=40, n_blocks=4, max_populations=1, hessian_order="third"
    )
    result = run_sscha(crystal.harmonic(), crystal, settings, tmp_path / "run")
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(
        app, ["sscha", "export", str(tmp_path / "run"), "--to", "qe", "--out", str(tmp_path / "qe")]
    )
    assert done.exit_code == 0, done.output
    for prefix, dynamical in (("hessian.dyn", result.hessian), ("auxiliary.dyn", result.auxiliary)):
        found = read_like_epw(q2r(tmp_path / "qe", prefix), 2, (1, 1, 2))
        np.testing.assert_allclose(frequencies(found, dynamical), dynamical.frequencies(), atol=0.01)
    assert np.abs(result.hessian.frequencies() - result.auxiliary.frequencies()).max() > 1


def test_order_of_cells_and_atoms_without_any_symmetry(tmp_path):
    dynamical = random_matrices(triclinic(), (3, 2, 1), seed=4)
    write_dyn(dynamical, tmp_path / "hessian.dyn")
    found = read_like_epw(q2r(tmp_path, "hessian.dyn"), 3, (3, 2, 1))
    np.testing.assert_allclose(frequencies(found, dynamical), dynamical.frequencies(), atol=0.01)


# -- epw.x itself -------------------------------------------------------------------------------------------

PSEUDO = Path("/usr/share/espresso/pseudo/C_3.98148.UPF")
DIAMOND = f"""
&control
  calculation = 'SCF', prefix = 'c', pseudo_dir = '{PSEUDO.parent}', outdir = './'
/
&system
  ibrav = 2, celldm(1) = 6.64245, nat = 2, ntyp = 1, ecutwfc = 22, nbnd = 4
  occupations = 'smearing', smearing = 'mp', degauss = 0.02
/
&electrons
  conv_thr = 1d-11
/
ATOMIC_SPECIES
C 12.01078 {PSEUDO.name}
ATOMIC_POSITIONS alat
C 0 0 0
C 0.25 0.25 0.25
"""
PHONONS = """
&inputph
  prefix = 'c', fildyn = 'c.dyn', fildvscf = 'dvscf', ldisp = .true., tr2_ph = 1d-14
  nq1 = 2, nq2 = 2, nq3 = 2
/
"""
EPW = """--
&inputepw
  prefix = 'c', amass(1) = 12.01078, outdir = './', dvscf_dir = 'save'
  elph = .true., epwwrite = .true., wannierize = .true., nbndsub = 4, num_iter = 100
  proj(1) = 'f=0,0,0:l=-3'
  lifc = .true., asr_typ = 'crystal'
  band_plot = .true., filqf = 'path', filkf = 'path'
  nk1 = 2, nk2 = 2, nk3 = 2, nq1 = 2, nq2 = 2, nq3 = 2
/
"""
PATH = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0], [0.25, 0, 0], [0.13, 0.07, 0.31], [0.25, 0.25, 0]])
MEV_CM = 8.065544


def run(program: str, text: str, folder: Path) -> None:
    done = subprocess.run(
        [program], input=text, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    (folder / f"{program}.out").write_text(done.stdout)
    assert done.returncode == 0 and "Error" not in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("epw.x") and shutil.which("ph.x") and PSEUDO.is_file()), reason="epw.x is not installed"
)
def test_epw_takes_the_phonons_of_the_file(tmp_path):
    """Diamond by ph.x, its matrices times 1.21: EPW's frequencies are those of the file, not ph.x's."""
    run("pw.x", DIAMOND.replace("SCF", "scf") + "K_POINTS automatic\n2 2 2 1 1 1\n", tmp_path)
    run("ph.x", PHONONS, tmp_path)
    save = tmp_path / "save"
    save.mkdir()
    shutil.copytree(tmp_path / "_ph0" / "c.phsave", save / "c.phsave")
    for k in (1, 2, 3):
        source = tmp_path / "_ph0" if k == 1 else tmp_path / "_ph0" / f"c.q_{k}"
        shutil.copy(source / "c.dvscf1", save / f"c.dvscf_q{k}")
        shutil.copy(tmp_path / f"c.dyn{k}", save / f"c.dyn_q{k}")
    points = "".join(f"{i / 2} {j / 2} {k / 2} 0.125\n" for i, j, k in np.ndindex(2, 2, 2))
    run("pw.x", DIAMOND.replace("SCF", "nscf") + "K_POINTS crystal\n8\n" + points, tmp_path)
    own = read_dyn(tmp_path / "c.dyn")
    stiff = own.with_matrices(1.21 * own.matrices)
    write_dyn(stiff, tmp_path / "hessian.dyn")
    shutil.copy(q2r(tmp_path, "hessian.dyn"), save)
    lines = "".join(f"{a} {b} {c} 1\n" for a, b, c in PATH)
    (tmp_path / "path").write_text(f"{len(PATH)} crystal\n{lines}")
    run("epw.x", EPW, tmp_path)
    words = (tmp_path / "phband.freq").read_text().split("/", 1)[1].split()
    found = np.array(words, dtype=float).reshape(len(PATH), 9)[:, 3:] * MEV_CM
    wanted = stiff.with_acoustic_sum_rule().force_constants().frequencies(PATH)
    np.testing.assert_allclose(found, wanted, atol=0.02)
    assert abs(found - wanted / 1.1).max() > 50

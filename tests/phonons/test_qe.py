"""Quantum ESPRESSO files, against q2r.x and matdyn.x where they are installed."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.phonons.q2r import read_q2r
from himlip_ase.phonons.qe import read_dyn, stars, write_dyn
from himlip_ase.phonons.qe_lattice import SUPPORTED, ibrav_cell
from himlip_ase.units import AMU_RY

from .springs import triclinic, zincblende
from .test_force_constants import build

EXAMPLES = Path("/usr/share/doc/quantum-espresso/examples/PHonon")
H3S = Path(__file__).parents[2] / "examples/h3s/labels_k12/harmonic"
needs_qe = pytest.mark.skipif(
    not (shutil.which("q2r.x") and shutil.which("matdyn.x")), reason="q2r.x and matdyn.x are not installed"
)


def run(program: str, text: str, folder: Path) -> None:
    (folder / f"{program}.in").write_text(text)
    done = subprocess.run(
        [program, "-in", f"{program}.in"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert "JOB DONE" in done.stdout, done.stdout + done.stderr


def matdyn(folder: Path, fildyn: str, qpoints: np.ndarray) -> np.ndarray:
    """Frequencies (cm⁻¹) at fractional q-points by q2r.x and matdyn.x, without any sum rule."""
    run("q2r.x", f"&input fildyn='{fildyn}', zasr='no', flfrc='x.fc' /\n", folder)
    lines = "\n".join(" ".join(f"{x:.12f}" for x in q) for q in qpoints)
    head = "&input asr='no', flfrc='x.fc', flfrq='x.freq', q_in_cryst_coord=.true. /"
    run("matdyn.x", f"{head}\n{len(qpoints)}\n{lines}\n", folder)
    first, *rest = (folder / "x.freq").read_text().splitlines()
    modes = int(re.search(r"nbnd=\s*(\d+)", first).group(1))
    return np.array([float(x) for line in rest for x in line.split()]).reshape(len(qpoints), 3 + modes)[:, 3:]


def copy_example(source: Path, name: str, target: Path) -> Path:
    """Unpack dyn files, without the dielectric part that would make matdyn.x add a non-analytic term."""
    if not (source / f"{name}0").exists():
        pytest.skip(f"{source} is not installed (Debian: quantum-espresso-data)")
    for path in sorted(source.glob(f"{name}[0-9]*")):
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
        head, found, tail = text.partition("     Dielectric Tensor")
        if found:
            text = head + "     Diagonalizing" + tail.partition("     Diagonalizing")[2]
        (target / path.name.removesuffix(".gz")).write_text(text)
    return target / name


@needs_qe
@pytest.mark.parametrize(
    ("folder", "name"),
    [("Recover_example/reference_1", "al.dyn"), ("GRID_recover_example/reference_2", "alas.dyn")],
)
def test_ph_output_gives_the_frequencies_of_matdyn(folder, name, tmp_path):
    fc = read_dyn(copy_example(EXAMPLES / folder, name, tmp_path)).force_constants()
    qpoints = np.vstack([np.random.default_rng(0).random((6, 3)), fc.dynamical_matrices().qpoints[:4]])
    reference = matdyn(tmp_path, name, qpoints)
    assert np.abs(fc.frequencies(qpoints) - reference).max() < 1e-3
    assert np.abs(read_q2r(tmp_path / "x.fc").compact - fc.compact).max() < 1e-8


@needs_qe
@pytest.mark.parametrize(("make", "dims"), [(triclinic, (2, 1, 3)), (zincblende, (2, 2, 2))])
def test_qe_reads_what_is_written(make, dims, tmp_path):
    _, fc = build(make, dims)
    fc = fc.with_masses(np.linspace(2, 7, len(fc.primitive)))
    write_dyn(fc.dynamical_matrices(), tmp_path / "dyn")
    qpoints = np.vstack([np.random.default_rng(1).random((6, 3)), fc.dynamical_matrices().qpoints[1:]])
    assert np.abs(fc.frequencies(qpoints) - matdyn(tmp_path, "dyn", qpoints)).max() < 1e-3
    assert np.abs(read_q2r(tmp_path / "x.fc").compact - fc.compact).max() < 1e-9


@pytest.mark.skipif(not (H3S / "dyn0").exists(), reason="the H3S labels are not here")
def test_h3s_files_hold_their_own_frequencies():
    dm = read_dyn(H3S / "dyn")
    assert dm.dims == (2, 2, 2)
    assert dm.primitive.get_chemical_symbols() == ["S", "H", "H", "H"]
    text = (H3S / "dyn1").read_text()
    printed = [float(x) for x in re.findall(r"=\s*(-?[\d.]+) \[cm-1\]", text)]
    assert np.abs(dm.frequencies()[0] - printed).max() < 0.01


@pytest.mark.parametrize(
    ("make", "dims"), [(triclinic, (2, 1, 3)), (zincblende, (3, 2, 2)), (zincblende, (1, 1, 1))]
)
def test_round_trip_keeps_crystal_masses_and_frequencies(make, dims, tmp_path):
    _, fc = build(make, dims)
    masses = np.linspace(2.014, 9, len(fc.primitive))
    dm = fc.with_masses(masses).dynamical_matrices()
    paths = write_dyn(dm, tmp_path / "dyn")
    back = read_dyn(tmp_path / "dyn0")
    assert back.dims == dims
    assert back.primitive.get_chemical_symbols() == dm.primitive.get_chemical_symbols()
    assert np.abs(back.primitive.positions - dm.primitive.positions).max() < 1e-9
    assert np.abs(np.asarray(back.primitive.cell) - np.asarray(dm.primitive.cell)).max() < 1e-9
    assert np.abs(back.primitive.get_masses() - masses).max() < 1e-9
    assert np.abs(back.matrices - dm.matrices).max() < 1e-9
    assert np.abs(back.frequencies() - dm.frequencies()).max() < 0.01
    # and as python-sscha leaves them: no dyn0, and compressed
    paths[0].unlink()
    for path in paths[1:]:
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert np.abs(read_dyn(tmp_path / "dyn").matrices - back.matrices).max() == 0


def test_masses_stand_in_the_file_in_rydberg_units_and_matrices_in_ry_per_bohr2(tmp_path):
    _, fc = build(zincblende, (1, 1, 1))
    write_dyn(fc.with_masses([10.0, 20.0]).dynamical_matrices(), tmp_path / "dyn")
    lines = (tmp_path / "dyn1").read_text().splitlines()
    assert float(lines[7].split()[-1]) == pytest.approx(9114.442, abs=1e-2)
    assert pytest.approx(911.44424, abs=1e-4) == AMU_RY
    first = float(lines[lines.index("    1    1", 12) + 1].split()[0])
    # 1 Ry/bohr² = 13.605693 eV / (0.52917721 Å)²
    assert first * 13.605693 / 0.52917721**2 == pytest.approx(fc.compact[0, 0, 0, 0], rel=1e-6)


def test_stars_follow_the_crystal():
    _, fc = build(zincblende, (2, 2, 2))
    assert sorted(len(s) for s in stars(fc.dynamical_matrices())) == [1, 3, 4]
    _, fc = build(triclinic, (2, 1, 3))
    assert sorted(len(s) for s in stars(fc.dynamical_matrices())) == [1, 1, 2, 2]


@pytest.fixture
def written(tmp_path):
    _, fc = build(triclinic, (2, 1, 3))
    write_dyn(fc.dynamical_matrices(), tmp_path / "dyn")
    return tmp_path


@pytest.mark.parametrize("keep", [3, 12, 14, 15, 16, 30, 50])
def test_truncated_file_is_named_with_its_line(written, keep):
    path = written / "dyn3"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:keep]) + "\n")
    with pytest.raises(InputError, match=rf"dyn3.*{keep}.*truncated|dyn3.*dynamical matrix"):
        read_dyn(written / "dyn")


def test_file_cut_between_two_q_leaves_a_named_hole(written):
    text = (written / "dyn3").read_text()
    second = text.index("Dynamical  Matrix", text.index("Dynamical  Matrix") + 10)
    (written / "dyn3").write_text(text[: second - 5])
    with pytest.raises(InputError, match=r"1 of the 6 q-points .*missing: \(0, 0, 0\.666667\)"):
        read_dyn(written / "dyn")


def test_faulty_files_are_named(written):
    path = written / "dyn2"
    good = path.read_text()

    def expect(text: str | None, match: str) -> None:
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        with pytest.raises(InputError, match=match):
            read_dyn(written / "dyn")
        path.write_text(good)

    expect("", r"dyn2 is empty")
    expect(None, r"dyn2 does not exist.*4 files")
    expect(
        good.replace("'O  '", "'S  '"),
        r"dyn2 and .*dyn1 do not belong .*one holds HLiO, the other HLiS",
    )
    expect(good.replace("'H  '", "'Xq '"), r"dyn2, line 8.*Xq")
    lines = good.splitlines()
    row = lines.index("    1    1", 14) + 1
    expect(
        "\n".join([*lines[:row], lines[row].replace("0.0", "*.*", 1), *lines[row + 1 :]]),
        rf"dyn2, line {row + 1}",
    )
    expect("\n".join([*lines[:row], "NaN 0 0 0 0 0", *lines[row + 1 :]]), rf"dyn2, line {row + 1}")
    expect("<?xml version='1.0'?>\n<Root/>", r"XML")
    expect("hello\n", r"dyn2, line 1: expected 'Dynamical matrix file'")
    scaled = good.replace("  3    3   0", "  3    4   0")
    expect(scaled, r"dyn2, line 14")
    (written / "dyn0").write_text("2 1 3\n")
    with pytest.raises(InputError, match="dyn0 ends after line 1"):
        read_dyn(written / "dyn")
    with pytest.raises(InputError, match=r"neither .*nowhere0"):
        read_dyn(written / "nowhere")


def test_corrupt_gzip_is_an_input_error(written):
    (written / "dyn2").unlink()
    (written / "dyn2.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(InputError, match=r"dyn2\.gz cannot be read"):
        read_dyn(written / "dyn")


def test_nothing_is_written_over(written):
    _, fc = build(triclinic, (2, 1, 3))
    before = {p.name: p.read_bytes() for p in written.iterdir()}
    (written / "dyn0").unlink()
    with pytest.raises(InputError, match="exists already"):
        write_dyn(fc.with_masses({"H": 3.0}).dynamical_matrices(), written / "dyn")
    after = {p.name: p.read_bytes() for p in written.iterdir()}
    assert after == {k: v for k, v in before.items() if k != "dyn0"}
    write_dyn(fc.with_masses({"H": 3.0}).dynamical_matrices(), written / "dyn", overwrite=True)
    assert read_dyn(written / "dyn").primitive.get_masses()[0] == pytest.approx(3.0)


@pytest.mark.parametrize("ibrav", SUPPORTED)
def test_ibrav_lattices_have_the_right_volume(ibrav):
    c4, c5, c6 = 0.1, (-0.2 if ibrav in (-12, -13, 14) else 0.0), 0.15
    a, b, c = 3.0, 3.0 * 1.2, 3.0 * 1.7
    cell = ibrav_cell(ibrav, [a, 1.2, 1.7, c4, c5, c6])
    volume = {
        1: a**3, 2: a**3 / 4, 3: a**3 / 2, -3: a**3 / 2, 4: a * a * c * np.sqrt(3) / 2, 6: a * a * c, 7: a * a
        * c / 2, 5: a**3 * np.sqrt(1 - 3 * c4**2 + 2 * c4**3), -5: a**3 * np.sqrt(1 - 3 * c4**2 + 2 * c4**3),
        8: a * b * c, 9: a * b * c / 2, -9: a * b * c / 2, 91: a * b * c / 2, 10: a * b * c / 4, 11: a * b * c
        / 2, 12: a * b * c * np.sqrt(1 - c4**2), 13: a * b * c * np.sqrt(1 - c4**2) / 2,
        -12: a * b * c * np.sqrt(1 - c5**2), -13: a * b * c * np.sqrt(1 - c5**2) / 2,
        14: a * b * c * np.sqrt(1 + 2 * c4 * c5 * c6 - c4**2 - c5**2 - c6**2),
    }[ibrav]  # fmt: skip
    assert np.linalg.det(cell) == pytest.approx(volume)
    with pytest.raises(InputError, match="celldm"):
        ibrav_cell(ibrav, [-1.0, 1.2, 1.7, c4, c5, c6])


def test_deuterium_is_hydrogen_in_dyn_files(tmp_path):
    """ph.x writes the label of the species, pw.x takes ``D``."""
    dm = build(triclinic, (1, 1, 1))[1].dynamical_matrices().with_masses([2.0141, 6.9, 16.0])
    path = write_dyn(dm, tmp_path / "dyn")[1]
    path.write_text(re.sub(r"'H *'", "'D  '", path.read_text()))
    back = read_dyn(tmp_path / "dyn").primitive
    assert back.symbols[0] == "H" and back.get_masses()[0] == pytest.approx(2.0141, abs=1e-4)


def test_isotopes_of_one_element_have_labels_of_their_own(tmp_path):
    _, fc = build(zincblende, (2, 1, 1))
    atoms = fc.primitive.copy()
    atoms.symbols[:] = "H"
    dm = replace(fc.dynamical_matrices(), primitive=atoms).with_masses([1.008, 2.0141])
    write_dyn(dm, tmp_path / "dyn")
    labels = re.findall(r"'(.{3})'", (tmp_path / "dyn1").read_text())
    assert len(set(labels)) == 2
    back = read_dyn(tmp_path / "dyn")
    assert back.primitive.get_chemical_symbols() == ["H", "H"]
    assert back.primitive.get_masses() == pytest.approx([1.008, 2.0141])

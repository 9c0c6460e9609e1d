"""The whole chain with the real Quantum ESPRESSO, on aluminium with a pseudopotential that Debian ships."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from himlip_ase.cli.app import app

pytestmark = pytest.mark.skipif(
    shutil.which("pw.x") is None,
    reason="needs pw.x; Debian: apt install quantum-espresso quantum-espresso-data",
)
ACCURACY = ["--ecutwfc", "12", "--k", "4", "4", "4", "--degauss", "0.05"]


@pytest.fixture(scope="module")
def pseudo(tmp_path_factory):
    """A folder with the aluminium of quantum-espresso-data alone."""
    name = "Al.pz-vbc.UPF"
    for folder in (os.environ.get("ESPRESSO_PSEUDO", ""), "/usr/share/espresso/pseudo"):
        if folder and (Path(folder) / name).is_file():
            target = tmp_path_factory.mktemp("pseudo")
            shutil.copy(Path(folder) / name, target)
            return target
    raise FileNotFoundError(f"{name} is missing; Debian: apt install quantum-espresso-data")


def himlip(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_labels_end_to_end(tmp_path, pseudo):
    """himlip label relax → rattle → collect; the labels obey the energy-force relation."""
    bulk("Al", a=3.9).write(tmp_path / "start.extxyz")
    runs, labels = tmp_path / "runs", tmp_path / "labels"
    options = ["--pseudo", pseudo, *ACCURACY]
    himlip("label", "relax", tmp_path / "start.extxyz", "--out", runs / "relax", "--pressure", 10, *options)
    crystal = read(runs / "relax" / "crystal.extxyz")
    assert crystal.info["pressure_gpa"] == pytest.approx(10, abs=0.2)

    size = ["--count", 1, "--stdev", 0.15, "--dims", 1, 1, 2]
    himlip("label", "rattle", runs / "relax" / "crystal.extxyz", "--out", runs / "rattled", *size, *options)
    himlip("label", "collect", runs / "rattled", "--out", labels)
    frame = read(labels / "rattled.extxyz")
    assert list(frame.info["k_grid"]) == [4, 4, 2], "the supercell has the k-density of the primitive cell"
    assert np.abs(frame.arrays["REF_forces"]).max() > 0.1

    # central difference of the energy along the forces, through `himlip label supercell`
    forces = frame.arrays["REF_forces"]
    step, direction = 0.02, forces / np.linalg.norm(forces)
    shifted = [frame.copy() for _ in range(2)]
    for image, sign in zip(shifted, (1, -1), strict=True):
        image.positions += sign * step * direction
        image.arrays.pop("REF_forces")
        image.info.clear()
    write(tmp_path / "shifted.extxyz", shifted)
    reference = ["--reference", runs / "relax" / "crystal.extxyz"]
    himlip("label", "supercell", tmp_path / "shifted.extxyz", "--out", runs / "shifted", *reference, *options)
    himlip("label", "collect", runs / "shifted", "--out", labels)
    plus, minus = (image.info["REF_energy"] for image in read(labels / "shifted.extxyz", index=":"))
    assert -(plus - minus) / (2 * step) == pytest.approx(np.linalg.norm(forces), rel=5e-3)

    record = json.loads((labels / "shifted.json").read_text())
    assert record["code"].startswith("pw.x") and record["count"] == 2 and record["core_seconds"] > 0
    assert json.loads((labels / "pseudopotentials.json").read_text())["Al"]["file"] == "Al.pz-vbc.UPF"


def test_harmonic_end_to_end(tmp_path, pseudo):
    """himlip label harmonic → collect: the whole grid, acoustic modes near zero, real elsewhere."""
    if shutil.which("ph.x") is None:
        pytest.skip("needs ph.x; Debian: apt install quantum-espresso")
    from himlip_ase.phonons.qe import read_dyn

    bulk("Al", a=3.9).write(tmp_path / "al.extxyz")
    grids = ["--q", 2, 2, 2, "--k-dense", 8, 8, 8, "--n-sigma", 3, "--sigma", 0.02]
    options = ["--pseudo", pseudo, *ACCURACY]
    himlip("label", "harmonic", tmp_path / "al.extxyz", "--out", tmp_path / "harmonic", *grids, *options)
    himlip("label", "collect", tmp_path / "harmonic", "--out", tmp_path / "labels")
    matrices = read_dyn(tmp_path / "labels" / "harmonic" / "dyn0")
    frequencies = matrices.frequencies()
    gamma = matrices.index((0, 0, 0))
    assert np.abs(frequencies[gamma]).max() < 40
    assert np.delete(frequencies, gamma, axis=0).min() > 100
    assert len(list((tmp_path / "labels" / "harmonic" / "elph_dir").glob("a2Fq2r.*.gz"))) == 9

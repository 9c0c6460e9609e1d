"""A label command that cannot start says all that is wrong with its own options, and leaves no folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from himlip_ase.cli.app import app

UPF = '<UPF version="2.0.1">\n<PP_HEADER\n element="{element}"\n wfc_cutoff="{cutoff}"\n/>\n'
COMMANDS = {
    "relax": ["{crystal}", "--pressure", "0"],
    "harmonic": ["{crystal}", "--q", "2", "2", "2", "--k-dense", "9", "9", "9"],
    "rattle": ["{crystal}"],
    "supercell": ["{crystal}", "--reference", "{crystal}"],
    "doublewell": ["{crystal}", "--dyn", "{folder}/dyn0"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "AlCu.extxyz", bulk("AlCu", "cesiumchloride", a=2.9))
    (tmp_path / "pseudo").mkdir()
    (tmp_path / "pseudo" / "Al.upf").write_text(UPF.format(element="Al", cutoff="90."))
    return tmp_path


def failed(folder: Path, command: str, *more: str) -> str:
    words = [
        word.format(crystal=folder / "AlCu.extxyz", folder=folder) for word in (*COMMANDS[command], *more)
    ]
    before = sorted(path for path in folder.rglob("*"))
    result = CliRunner().invoke(
        app,
        ["-q", "label", command, *words, "--out", str(folder / "out"), "--pseudo", str(folder / "pseudo")],
    )
    assert result.exit_code == 2, result.output
    assert sorted(path for path in folder.rglob("*")) == before
    return " ".join((result.output + result.stderr).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_all_faults_stand_in_one_message_and_nothing_is_left(folder: Path, command: str, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    told = failed(folder, command, "--prefix", "nompirun -n 2", "--workers", "0", "--executor", "slurm")
    for word in ("no pseudopotential of Cu", "--pseudo FOLDER", "nompirun", "--workers is 0", "sbatch"):
        assert word in told, word
    for key in ("qe.", "harmonic.", "pseudopotentials:", "--folder"):
        assert key not in told.replace("pseudopotentials: pass", ""), key


@pytest.mark.parametrize("command", COMMANDS)
def test_low_cutoffs_and_odd_numbers_are_told_with_the_options_of_the_command(folder, command) -> None:
    told = failed(folder, command, "--smearing", "hot", "--ecutwfc", "-3", "--k", "0", "1", "1")
    for word in ("--smearing is 'hot'", "--ecutwfc is -3", "--k is 0 1 1"):
        assert word in told
    (folder / "pseudo" / "Cu.upf").write_text(UPF.format(element="Cu", cutoff="40."))
    told = failed(folder, command)
    assert "asks for a cutoff of 90 Ry, --ecutwfc is 60" in told
    if command == "harmonic":
        assert "--k-dense 9×9×9 is no multiple of --k, 12×12×12" in told and "set it to 24 24 24" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_a_structure_that_is_not_there_is_one_fault_among_others(folder: Path, command: str) -> None:
    (folder / "AlCu.extxyz").unlink()
    told = failed(folder, command, "--workers", "0")
    assert "AlCu.extxyz" in told and "--workers is 0" in told


def test_collect_wants_one_place_to_write_to(folder: Path) -> None:
    (folder / "runs").mkdir()
    result = CliRunner().invoke(app, ["label", "collect", str(folder / "runs")])
    assert result.exit_code == 2 and "--run RUN" in result.output + result.stderr
    result = CliRunner().invoke(app, ["label", "collect", str(folder / "runs"), "--out", str(folder / "out")])
    assert result.exit_code == 2 and not (folder / "out").exists()

"""What pw.x says that it will do, and that it finds every operation of a turned cell."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from himlip_ase.dft.espresso.dry_run import dry_run, read_dry_run
from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.symmetry.standard_cell import standard_cell

from ..symmetry.crystals import CRYSTALS, as_primitive_cif

needs_pw = pytest.mark.skipif(
    shutil.which("pw.x") is None,
    reason="needs pw.x; Debian: apt install quantum-espresso quantum-espresso-data",
)
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Aluminium's pseudopotential for every element: symmetry asks only which atoms are alike."""
    name = "Al.pz-vbc.UPF"
    for folder in (os.environ.get("ESPRESSO_PSEUDO", ""), "/usr/share/espresso/pseudo"):
        if folder and (Path(folder) / name).is_file():
            target = tmp_path_factory.mktemp("pseudo")
            text = (Path(folder) / name).read_text()
            break
    else:
        raise FileNotFoundError(f"{name} is missing; Debian: apt install quantum-espresso-data")
    for symbol in ("H", "S", "Ca", "Pd", "La", "Al"):
        (target / f"{symbol}.upf").write_text(
            text.replace('"Al"', f'"{symbol}"').replace(" Al ", f" {symbol} ")
        )
    return QESettings(ecutwfc_ry=12, k_grid=(4, 4, 4), degauss_ry=0.05, pseudo_dir=target)


@needs_pw
@pytest.mark.parametrize("name", CRYSTALS)
def test_pw_finds_every_operation_of_the_standard_cell(name, settings):
    given = as_primitive_cif(CRYSTALS[name][0])
    found = standard_cell(given)
    assert dry_run(found.atoms, settings).operations == found.operations
    if found.turned:
        assert dry_run(given, settings).operations < found.operations


@needs_pw
def test_a_dry_run_computes_nothing_and_leaves_nothing(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = dry_run(standard_cell(CRYSTALS["PdH"][0]).atoms, settings)
    assert found.k_points == 8 and found.bands > 0 and found.plane_waves > 0 and found.ram_mb > 0
    assert not any(tmp_path.iterdir())


@needs_pw
def test_what_pw_refuses_is_told_in_its_own_words(settings):
    broken = QESettings(
        ecutwfc_ry=12,
        k_grid=(4, 4, 4),
        pseudo_dir=settings.pseudo_dir,
        extra={"system": {"nbnd": 1}},
    )
    with pytest.raises(CalculationError, match="too few bands"):
        dry_run(standard_cell(CRYSTALS["PdH"][0]).atoms, broken)


def test_missing_executable_is_named(settings, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"pw\.x is not on the PATH"):
        dry_run(standard_cell(CRYSTALS["PdH"][0]).atoms, settings)


def test_a_truncated_head_is_refused():
    text = (DATA / "al2.out").read_text()
    whole = read_dry_run(text)
    assert whole.k_points > 0 and whole.plane_waves > 0
    with pytest.raises(CalculationError, match="number of k-points"):
        read_dry_run(text[: text.index("number of k points=")])

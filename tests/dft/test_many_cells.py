"""Large sets of different cells: a k-grid for each by its spacing, and compact records."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.espresso.k_grids import k_grid_of_spacing
from himlip_ase.dft.espresso.single_points import run_single_points, single_points
from himlip_ase.dft.publish import collect
from himlip_ase.errors import InputError

HYDRIDES = Path(__file__).parents[2] / "examples" / "hydrides"


def test_k_grid_of_a_spacing() -> None:
    cubic = Atoms("H", cell=[2.0, 4.0, 8.0], pbc=True)
    assert k_grid_of_spacing(cubic, 2 * np.pi / 16) == (8, 4, 2)
    assert k_grid_of_spacing(cubic, 100.0) == (1, 1, 1)
    h3s = Atoms("H", cell=1.53242 * (np.ones((3, 3)) - 2 * np.eye(3)), pbc=True)
    assert k_grid_of_spacing(h3s, 0.25) == (12, 12, 12)
    for skewed in (bulk("Cu"), bulk("Mg"), bulk("Cu").repeat((1, 2, 3))):
        grid = np.array(k_grid_of_spacing(skewed, 0.3))
        spacings = 2 * np.pi * np.linalg.norm(skewed.cell.reciprocal(), axis=1) / grid
        assert (spacings <= 0.3 + 1e-5).all()
        assert (spacings * grid / np.maximum(grid - 1, 1) > 0.3).all(), "one point fewer would be too coarse"
    with pytest.raises(InputError, match="positive"):
        k_grid_of_spacing(cubic, 0.0)


def test_compact_record_keeps_one_input_and_the_tags(fake_pw, tmp_path, aluminium, settings) -> None:
    aluminium.info.update(system="Al", prototype="fcc", kind="rattle", unrelated=3)
    points = single_points([aluminium] * 3, tmp_path / "runs", settings, k_spacing=0.5)
    run_single_points(points, fake_pw.launcher)
    path = collect(tmp_path / "runs", "coarse", tmp_path / "labels", compact=True)
    frames = read(path, index=":")
    assert {f.info["prototype"] for f in frames} == {"fcc"} and "unrelated" not in frames[0].info
    assert tuple(frames[0].info["k_grid"]) == k_grid_of_spacing(aluminium, 0.5)
    assert [p.name for p in (tmp_path / "labels" / "inputs").iterdir()] == ["coarse_000.in"]
    record = json.loads((tmp_path / "labels" / "coarse.json").read_text())
    assert record["count"] == 3 and record["frames"] == [] and record["retried"] == []


def test_cells_without_symmetry_are_run_without(tmp_path, aluminium, settings) -> None:
    """pw.x would use the symmetries of the lattice, and can then have more k-points than the grid."""
    disordered = aluminium.repeat((2, 1, 1))
    disordered.rattle(0.1, seed=1)
    points = single_points([aluminium, disordered], tmp_path / "runs", settings, nosym=False)
    assert ["nosym" in point.text for point in points] == [False, True]


def test_density_of_k_points_has_to_be_said_once(tmp_path, aluminium, pseudo) -> None:
    aluminium.write(tmp_path / "al.extxyz")
    common = [
        "label",
        "supercell",
        str(tmp_path / "al.extxyz"),
        "--out",
        str(tmp_path / "x"),
        "--pseudo",
        str(pseudo),
    ]
    for extra in ([], ["--k-spacing", "0.4", "--reference", str(tmp_path / "al.extxyz")]):
        result = CliRunner().invoke(app, [*common, *extra])
        assert result.exit_code == 2 and "--k-spacing" in result.output


def test_shifted_mesh_is_written_and_kept_in_the_record(fake_pw, tmp_path, aluminium, settings) -> None:
    points = single_points([aluminium], tmp_path / "runs", settings, k_spacing=0.5, k_shift=True)
    grid = " ".join(map(str, k_grid_of_spacing(aluminium, 0.5)))
    card = points[0].text.split("K_POINTS automatic\n")[1].split("\n")[0]
    assert " ".join(card.split()) == f"{grid} 1 1 1"
    run_single_points(points, fake_pw.launcher)
    collect(tmp_path / "runs", "shifted", tmp_path / "labels")
    record = json.loads((tmp_path / "labels" / "shifted.json").read_text())
    assert record["settings"]["k_offset"] == [1, 1, 1]


def test_the_hydride_cells_are_balanced_and_reasonable(monkeypatch) -> None:
    """Shares of every system in a short beginning; no pair too close; volumes in the stated range."""
    monkeypatch.syspath_prepend(str(HYDRIDES))
    for name in ("cells", "prototypes"):
        sys.modules.pop(name, None)
    import cells
    import prototypes

    for found in prototypes.prototypes():
        ratio = found.atoms.cell.volume / prototypes.volume_at_reference(found.atoms)
        assert ratio == pytest.approx(1.0, abs=1e-6), found.name
    made = cells.cells(40, seed=5)
    shares = [sum(a.info["system"] == s for a in made) for s in cells.SHARES]
    assert all(abs(n - 40 * share) <= 2 for n, share in zip(shares, cells.SHARES.values(), strict=True))
    assert not any(cells.too_close(a) for a in made)
    assert max(len(a) for a in made) <= cells.LARGEST
    for a in made:
        if a.info["kind"] == "ideal":
            assert 0.8 <= a.cell.volume / prototypes.volume_at_reference(a) <= 1.2
    again = cells.cells(20, seed=5)
    assert all(
        np.array_equal(a.positions, b.positions) for a, b in zip(again, cells.cells(20, 5), strict=True)
    )

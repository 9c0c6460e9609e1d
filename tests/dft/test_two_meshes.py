"""The mean of one set of labels on two k-meshes."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase.dft.finished_runs import FinishedRun
from himlip_ase.dft.label_folder import write_set
from himlip_ase.dft.two_meshes import SPREAD, mean_of_meshes
from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping
from himlip_ase.labels.readers import open_labels
from himlip_ase.structures import read_structures

PSEUDO = {"Al": {"file": "Al.upf", "sha256": "0" * 64}}


def true_forces(atoms):
    """A force field of no importance: what an infinite mesh would give."""
    return 0.3 * np.sin(atoms.positions)


def published(folder, name, cells, errors, *, offset=None, pseudo=PSEUDO, grid=(3, 3, 3), **settings):
    """A set whose forces are wrong by `errors` of each cell."""
    chosen = {"ecutwfc_ry": 30.0, "degauss_ry": 0.05, **({"k_offset": offset} if offset else {}), **settings}
    runs = [
        FinishedRun(
            f"{number:03d}", folder, atoms, -10.0 * len(atoms) + error.sum(), true_forces(atoms) + error,
            np.full(6, 1e-3), 60.0, "pw.x 6.7MaX", chosen, {"k_grid": np.array(grid)},
            {"k_grid": list(grid), "core_seconds": 60.0},
        )
        for number, (atoms, error) in enumerate(zip(cells, errors, strict=True))
    ]  # fmt: skip
    inputs = {f"{name}_{run.name}.in": f"K_POINTS of {name} {run.name}" for run in runs}
    return write_set(runs, name, folder, inputs, {"pseudopotentials": pseudo})


@pytest.fixture
def cells():
    rng = np.random.default_rng(3)
    made = [bulk("Al", cubic=True) for _ in range(3)]
    for atoms in made:
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    return made


def test_opposite_errors_leave_the_mean_and_stand_in_the_half_difference(tmp_path, cells, caplog):
    errors = [np.random.default_rng(k).normal(0, 0.05, (4, 3)) for k in range(3)]
    first = published(tmp_path, "shifted", cells, errors, offset=[1, 1, 1])
    second = published(tmp_path, "gamma", cells[::-1], [-error for error in errors[::-1]])  # in another order
    made = mean_of_meshes(first, second, "learn", tmp_path / "labels")
    with caplog.at_level("WARNING"):
        frames = open_labels([tmp_path / "labels"], ["learn"])
    assert "type it if it is the label" not in caplog.text
    for atoms, error, frame, raw in zip(cells, errors, frames, read_structures(made.path), strict=True):
        np.testing.assert_allclose(frame.forces, true_forces(atoms), atol=1e-7)
        assert frame.energy == pytest.approx(-40.0)
        np.testing.assert_allclose(raw.arrays[SPREAD["forces"]], error, atol=1e-7)
        assert raw.info["core_seconds"] == 120.0
    assert made.forces == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert made.energy == pytest.approx(np.sqrt(np.mean([(e.sum() / 4) ** 2 for e in errors])))
    record = read_mapping(made.path.with_suffix(".json"))
    assert record["settings"]["k_offset"] == [[1, 1, 1], [0, 0, 0]]
    assert [entry["set"] for entry in record["mean_of"]] == ["shifted", "gamma"]
    assert (tmp_path / "labels/inputs/learn_000.in").read_text() == "K_POINTS of shifted 000"
    assert (tmp_path / "labels/inputs/learn_000_second.in").read_text() == "K_POINTS of gamma 002"


def test_a_set_may_be_put_in_the_place_of_its_first_mesh_but_only_when_asked(tmp_path, cells):
    zero = [np.zeros((4, 3))] * 3
    first = published(tmp_path, "learn", cells, zero, offset=[1, 1, 1])
    second = published(tmp_path / "other", "gamma", cells, zero)
    with pytest.raises(InputError, match="--overwrite"):
        mean_of_meshes(first, second, "learn", tmp_path)
    assert (tmp_path / "inputs/learn_002.in").is_file()
    assert not (tmp_path / "inputs/learn_002_second.in").exists()
    other = published(tmp_path, "learn_more", cells, zero)
    mean_of_meshes(first, second, "learn", tmp_path, overwrite=True)
    assert len(list((tmp_path / "inputs").glob(f"{other.stem}_*"))) == 3  # of a set whose name begins alike
    assert (tmp_path / "inputs/learn_002_second.in").is_file()
    with pytest.raises(InputError, match="mean of two meshes already"):
        mean_of_meshes(first, second, "again", tmp_path)


def test_what_is_no_second_mesh_is_refused(tmp_path, cells):
    zero = [np.zeros((4, 3))] * 3
    first = published(tmp_path / "a", "learn", cells, zero, offset=[1, 1, 1])

    def refused(match, name, some=cells, pseudo=PSEUDO, **settings):
        other = published(tmp_path / name, name, some, zero[: len(some)], pseudo=pseudo, **settings)
        with pytest.raises(InputError, match=match):
            mean_of_meshes(first, other, "mean", tmp_path / "out")
        assert not (tmp_path / "out/mean.extxyz").exists()

    refused("degauss_ry", "wider", degauss_ry=0.1)
    refused("shifted by .*half", "same", offset=[1, 1, 1])
    refused("shifted by .*half", "sideways", offset=[1, 0, 0])
    refused("k-meshes of 3×3×3 and 5×5×5 points", "denser", grid=[5, 5, 5])
    refused("has no label of .*#2", "fewer", some=cells[:2])
    refused("Al_other", "pseudo", pseudo={"Al": {"file": "Al_other.upf", "sha256": "1" * 64}})
    moved = [atoms.copy() for atoms in cells]
    moved[1].positions[0, 0] += 1e-3
    refused("has no label of .*#1", "moved", some=moved)
    with pytest.raises(InputError, match="is no set of labels"):
        mean_of_meshes(tmp_path / "a/inputs/learn_000.in", first, "mean", tmp_path / "out")

"""Labelling runs: one file, nothing lost, nothing silently left out; the stub needs no quantum chemistry."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

from himlip_ase.cli.app import run_command
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.labels.molecules.labeller import check_molecule, obey_sum_rule
from himlip_ase.labels.molecules.run import label_molecules, record_path
from himlip_ase.labels.molecules.xtb import GFN2
from himlip_ase.labels.readers import read_labels
from tests.hint.toy import toy_hessian, toy_labels
from tests.labels.molecules.stub import Stub

NAMES = ("H2O", "NH3", "CH4", "HCN")


def _molecules() -> list[Atoms]:
    rng = np.random.default_rng(0)
    images = [molecule(name) for name in NAMES]
    for atoms in images:
        atoms.positions *= 2  # the toy's bonds are long
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    return images


def test_labels_are_those_of_the_method(tmp_path: Path) -> None:
    images = _molecules()
    images[1].info["set"] = "special"
    labels = label_molecules(images, Stub(), tmp_path / "x.h5", set_name="mine")
    frames = read_labels(tmp_path / "x.h5")
    assert labels.labelled == [0, 1, 2, 3] and not labels.failed and not labels.missing
    assert [f.set for f in frames] == ["mine", "special", "mine", "mine"]
    for atoms, frame in zip(images, frames, strict=True):
        energy, forces, _ = toy_labels(atoms)
        assert frame.energy == energy and not frame.atoms.pbc.any() and frame.hessian is not None
        np.testing.assert_array_equal(frame.forces, forces)
        np.testing.assert_array_equal(frame.hessian.matrix, toy_hessian(atoms))
    record = json.loads(record_path(tmp_path / "x.h5").read_text())
    assert record["settings"]["method"] == "Morse pairs" and "4 Hessians" in record["counts"]
    assert not (tmp_path / "x.h5.parts").exists()


def test_without_hessians(tmp_path: Path) -> None:
    label_molecules(_molecules(), Stub(), tmp_path / "x.h5", hessian=False)
    assert all(f.hessian is None and f.forces is not None for f in read_labels(tmp_path / "x.h5"))


def test_a_failure_is_logged_recorded_left_out_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "x.h5"
    with caplog.at_level(logging.ERROR):
        labels = label_molecules(_molecules(), Stub(refuse=("H3N",)), out)
    assert labels.failed == {1: "H3N did not converge"} and labels.labelled == [0, 2, 3]
    assert "structure 1 is left out: H3N did not converge" in caplog.text
    assert json.loads(record_path(out).read_text())["failed"] == {"1": "H3N did not converge"}
    assert [f.atoms.get_chemical_formula() for f in read_labels(out)] == ["H2O", "CH4", "CHN"]
    again = Stub()
    assert label_molecules(_molecules(), again, out, resume=True).labelled == [0, 1, 2, 3]
    assert again.calls == ["H3N"] and len(read_labels(out)) == 4


def test_a_stopped_run_continues_where_it_was(tmp_path: Path) -> None:
    class Stopped(Stub):
        def calculate(self, atoms: Atoms, hessian: bool):  # type: ignore[no-untyped-def]
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().calculate(atoms, hessian)

    out = tmp_path / "x.h5"
    with pytest.raises(KeyboardInterrupt):
        label_molecules(_molecules(), Stopped(), out)
    assert not out.exists()
    with pytest.raises(InputError, match="--resume"):
        label_molecules(_molecules(), Stub(), out)
    rest = Stub()
    label_molecules(_molecules(), rest, out, resume=True)
    whole = label_molecules(_molecules(), Stub(), tmp_path / "y.h5")
    assert rest.calls == ["CH4", "CHN"]
    for one, other in zip(read_labels(out), read_labels(whole.path), strict=True):
        assert one.energy == other.energy
        np.testing.assert_array_equal(one.hessian.matrix, other.hessian.matrix)  # type: ignore[union-attr]
    finished = Stub()
    assert label_molecules(_molecules(), finished, out, resume=True).labelled == [0, 1, 2, 3]
    assert finished.calls == []


def test_time_that_does_not_suffice_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "x.h5"
    with pytest.raises(CalculationError, match="no time"):
        label_molecules(_molecules(), Stub(), out, max_minutes=-1.0)
    clock = iter([0.0, 0.0, 0.0, 100.0, 100.0])
    monkeypatch.setattr("himlip_ase.labels.molecules.run.time.monotonic", lambda: next(clock))
    labels = label_molecules(_molecules(), Stub(), out, resume=True, max_minutes=1.0)
    assert labels.labelled == [0, 1] and labels.missing == [2, 3] and len(read_labels(out)) == 2
    assert json.loads(record_path(out).read_text())["not_begun"] == ["2-3"]
    monkeypatch.undo()
    assert label_molecules(_molecules(), Stub(), out, resume=True).labelled == [0, 1, 2, 3]


def test_other_structures_are_not_continued(tmp_path: Path) -> None:
    images, out = _molecules(), tmp_path / "x.h5"
    label_molecules(images, Stub(refuse=("CHN",)), out)
    images[0].positions[0, 0] += 1e-3
    with pytest.raises(InputError, match="other structures or other settings"):
        label_molecules(images, Stub(), out, resume=True)
    assert len(label_molecules(images, Stub(), out, overwrite=True).labelled) == 4


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("Cu"), "periodic"),
        (Atoms("CH3", positions=np.eye(4, 3)), "9 electrons"),
        (Atoms("H2", positions=[[0, 0, np.nan], [0, 0, 1]]), "finite"),
    ],
)
def test_what_is_no_closed_shell_molecule_is_refused(atoms: Atoms, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_molecule(atoms)


def test_sum_rule_is_exact_and_leaves_a_good_hessian_alone() -> None:
    atoms = _molecules()[1]
    matrix = toy_hessian(atoms)
    fixed, deviation = obey_sum_rule(matrix)
    assert deviation < 1e-12
    np.testing.assert_allclose(fixed, matrix, atol=1e-12)
    spoilt = matrix.copy()
    for i in range(len(atoms)):  # as integration grids do: the blocks of an atom with itself
        spoilt[i, :, i, :] += np.diag([1.0, -2.0, 0.5])
    mended, deviation = obey_sum_rule(spoilt)
    assert deviation == pytest.approx(2.0)
    np.testing.assert_allclose(mended, matrix, atol=1e-12)
    rough, _ = obey_sum_rule(matrix + np.random.default_rng(0).normal(0, 0.1, matrix.shape))
    assert np.abs(rough.sum(axis=2)).max() < 1e-12
    np.testing.assert_allclose(rough, rough.transpose(2, 3, 0, 1), atol=1e-12)


def test_a_hessian_that_fails_the_checks_is_left_out(tmp_path: Path) -> None:
    class Wrong(Stub):
        def calculate(self, atoms: Atoms, hessian: bool):  # type: ignore[no-untyped-def]
            result = super().calculate(atoms, hessian)
            if len(atoms) == 3 and result.hessian is not None:
                result.hessian[0, 0, 1, 0] += 100.0
            return result

    labels = label_molecules(_molecules(), Wrong(), tmp_path / "x.h5")
    assert set(labels.failed) == {0, 3} and "not symmetric" in labels.failed[0]


def test_command_without_the_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def missing(_: str) -> str:
        from importlib.metadata import PackageNotFoundError

        raise PackageNotFoundError

    monkeypatch.setattr("himlip_ase.labels.molecules.labeller.version", missing)
    write(tmp_path / "in.extxyz", _molecules())
    with pytest.raises(SystemExit):
        run_command("label", ["molecules", str(tmp_path / "in.extxyz"), "--out", str(tmp_path / "x.h5")])
    assert "pip install tblite" in capsys.readouterr().err


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(GFN2, "settings", property(lambda self: {"method": "stub"}))
    monkeypatch.setattr(GFN2, "calculate", lambda self, *what: Stub(("CH4",)).calculate(*what))
    write(tmp_path / "in.extxyz", _molecules())
    run_command("label", ["molecules", str(tmp_path / "in.extxyz"), "--out", str(tmp_path / "x.h5")])
    said = capsys.readouterr().out
    assert "wrote 3 of 4 molecules" in said and "1 failed" in said
    assert {f.set for f in read_labels(tmp_path / "x.h5")} == {"in"}
    with pytest.raises(SystemExit):
        run_command("label", ["molecules", str(tmp_path / "in.extxyz"), "--out", "x.h5", "--method", "am1"])

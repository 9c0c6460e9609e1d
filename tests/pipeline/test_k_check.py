"""What a run says about the k-mesh of its labels, and what it withholds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.espresso.k_check_record import KCheck, write_k_check
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.pipeline.coupling_labels import k_refusal
from himlip_ase.pipeline.labels import LabelFolder, quote_k_check
from himlip_ase.pipeline.stages import Outcome

LABELS = Path(__file__).parents[2] / "examples" / "h3s" / "labels_k12"


def checked(folder: Path, factor: float) -> LabelFolder:
    """H3S labels whose k-check found all force constants larger by a factor on the denser mesh."""
    shutil.copytree(LABELS / "harmonic", folder / "harmonic", ignore=shutil.ignore_patterns("elph_dir"))
    labels = LabelFolder(folder)
    own = labels.harmonic
    denser = DynamicalMatrices(own.primitive, own.dims, own.qpoints, factor * own.matrices)
    write_dyn(denser, folder / "denser")
    place = folder / "harmonic" / "k_check"
    place.mkdir()
    shutil.copyfile(folder / "denser2", place / "dyn_18x18x18")
    q = own.qpoints[1]
    meshes = ((12, 12, 12), (18, 18, 18))
    matrices = np.array([m.matrices[m.index(q)] for m in (own, denser)])
    write_k_check(KCheck(own.primitive, q[None], meshes, matrices[None]), own, folder / "harmonic")
    return labels


def test_a_mesh_that_does_is_quoted_without_complaint(tmp_path: Path) -> None:
    labels = checked(tmp_path, 1.001)
    outcome = Outcome()
    quote_k_check(outcome, labels)
    assert 0 < outcome.figures["k_check.shift"].value < 1 and not outcome.notes
    assert outcome.figures["k_error.median"].value <= outcome.figures["k_error.largest"].value < 10
    assert k_refusal(labels, "harmonic") == "" == k_refusal(labels, "harmonic444")


def test_a_check_does_not_speak_for_a_run_on_a_coarser_mesh(tmp_path: Path) -> None:
    """24³ against 30³ k says nothing good of matrices on 12³, and nothing bad of denser ones."""
    labels = checked(tmp_path, 1.001)
    for run, mesh in (("harmonic444", [8, 8, 8]), ("harmonic333", [12, 12, 14])):
        (tmp_path / run).mkdir()
        (tmp_path / run / "provenance.json").write_text(json.dumps({"k_grid": mesh}))
    assert labels.k_check_for("harmonic444") is None and labels.k_check_for("harmonic333") is not None
    worse = checked(tmp_path / "worse", 1.2)
    shutil.copytree(tmp_path / "harmonic444", tmp_path / "worse" / "harmonic444")
    assert worse.k_check_for("harmonic444") is not None and k_refusal(worse, "harmonic444")


def test_a_mesh_that_does_not_withholds_the_harmonic_tc(tmp_path: Path) -> None:
    labels = checked(tmp_path, 1.2)
    outcome = Outcome()
    quote_k_check(outcome, labels)
    assert outcome.figures["k_check.shift"].value > 100
    assert "not converged" in outcome.notes[0] and "12×12×12" in outcome.notes[0]
    for run in ("harmonic", "harmonic444"):
        assert "from 12×12×12 to 18×18×18 k" in k_refusal(labels, run)


def test_labels_without_a_check_say_how_to_get_one() -> None:
    outcome = Outcome()
    quote_k_check(outcome, LabelFolder(LABELS))
    figure = outcome.figures["k_check.shift"]
    assert figure.value is None and "--check-k" in figure.how


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--check-k-mesh", "18", "18", "18"], "add --check-k"),
        (["--check-k", "--engine", "{name: ase, calculator: 'ase.calculators.emt:EMT'}"], "espresso"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path: Path, options: list[str], says: str) -> None:
    words = ["label", "harmonic", str(LABELS / "crystal.extxyz"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*words, "--q", "2", "2", "2", *options])
    assert result.exit_code != 0 and says in result.output + str(result.exception)
    assert not (tmp_path / "run").exists()

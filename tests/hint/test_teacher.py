"""Any ASE calculator as a teacher: from its labels to a base model, then to labels of a better method."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.ase_calculator.job import CalculatorSpec
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.programs import NOT_SAID, calculator_of, with_one_zero
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.potential.checkpoint import load_model, read_card
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.widening import restricted_to

EMT = "ase.calculators.emt:EMT"
ZERO = {"Cu": -5012.5, "Au": -1803.25}
"""eV; what pw.x adds to EMT's energies of the elements, as pseudopotentials do."""
SMALL = "network: {elements: [Cu, Au], channels: 4, hidden: 8, layers: 1, cutoff: 4.0}\n"


def told(*words):
    """Output of a command that succeeds."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Labels and a Hessian of a teacher, and ``dft.extxyz``: the same surface with another zero."""
    folder = tmp_path_factory.mktemp("teacher")
    write(folder / "crystal.extxyz", bulk("CuAu", crystalstructure="cesiumchloride", a=3.05))
    engine = ("--engine", "ase", "--calculator", EMT)
    for name, seed in (("cheap", 1), ("good", 2)):
        words = ("--out", folder / name, "--count", 6, "--stdev", 0.1, "--seed", seed)
        told("label", "rattle", folder / "crystal.extxyz", *words, *engine)
    told(
        "label", "harmonic", folder / "crystal.extxyz", "--out", folder / "matrices", "--q", 1, 1, 2, *engine
    )
    told("label", "collect", folder / "cheap", "--out", folder / "teacher")
    told("label", "collect", folder / "matrices", "--out", folder / "teacher")
    told("label", "collect", folder / "good", "--out", folder / "other")
    good = read(folder / "other" / "good.extxyz", ":")
    for atoms in good:
        atoms.info["REF_energy"] += sum(ZERO[symbol] for symbol in atoms.symbols)
        atoms.info["code"] = "pw.x 6.7MaX"
    write(folder / "dft.extxyz", good, format="extxyz")
    (folder / "small.yaml").write_text(SMALL + "training: {validation_fraction: 0}\n")
    return folder


def test_the_path_of_the_page(labels):
    """Pre-train on the teacher, fine-tune on other labels: cards name both, energies have the second zero."""
    base, tuned = labels / "base", labels / "tuned"
    words = ("--config", labels / "small.yaml", "--epochs", 3)
    matrices = labels / "teacher" / "harmonic" / "dyn"
    told("pretrain", "--labels", labels / "teacher", "--hessian", matrices, *words, "--out", base)
    card = read_card(base)
    (teacher,) = card["taught_by"]
    assert teacher.startswith(f"{EMT} (ase ") and card["labels"]["codes"] == {teacher: 8}
    told("finetune", "--labels", labels / "dft.extxyz", "--base", base, *words, "--no-plots", "--out", tuned)
    card = read_card(tuned)
    assert card["taught_by"] == [teacher, "pw.x 6.7MaX"] and card["labels"]["codes"] == {"pw.x 6.7MaX": 6}
    model = load_model(tuned)
    frames = read_labels(labels / "dft.extxyz")
    found = evaluate(model, [frame.atoms for frame in frames]).energies
    assert found == pytest.approx([frame.energy for frame in frames], abs=0.5)  # of 6800 eV a cell
    assert restricted_to(model, ["Cu"]).taught_by == model.taught_by


def test_energies_of_a_calculator_are_left_out_beside_dft(labels, caplog):
    """In one training, however they are mixed, kept on disk or replayed; forces and stresses stay."""
    cheap, good = read_labels(labels / "teacher" / "cheap.extxyz"), read_labels(labels / "dft.extxyz")
    write_labels(labels / "both.h5", [*cheap, *good], overwrite=True)
    for mixed in ([*cheap, *good], LabelStore(labels / "both.h5")):
        caplog.clear()
        prepared = prepare_labels(mixed)
        assert "energies of 6 frames of ase.calculators.emt:EMT are left out" in caplog.text
        counts, held = prepared.counts, prepared.held_counts
        assert counts.energies + held.energies == 6 and counts.forces + held.forces == 12
        assert set(prepared.codes) == {cheap[0].code, "pw.x 6.7MaX"}
        for frame in prepared.training:
            assert (frame.energy is None) == (calculator_of(frame.code) == EMT) and frame.stress is not None
    assert [frame.energy for frame in with_one_zero(cheap, beside=good)] == [None] * 6
    assert with_one_zero(good, beside=good) is good and with_one_zero(cheap) is cheap
    told(
        "finetune", "--labels", labels / "dft.extxyz", "--replay", labels / "teacher" / "cheap.extxyz",
        "--config", labels / "small.yaml", "--epochs", 3, "--no-plots", "--out", labels / "replayed",
    )  # fmt: skip
    model = load_model(labels / "replayed")
    found = evaluate(model, [frame.atoms for frame in good]).energies
    assert found == pytest.approx([frame.energy for frame in good], abs=1.0)


def test_labels_that_name_no_program_keep_their_energies(labels):
    """They may be DFT's of elsewhere, and stand beside pw.x's as before; a calculator's stand back."""
    cheap = read_labels(labels / "teacher" / "cheap.extxyz")[0]
    unknown = LabelledFrame(cheap.atoms, -1.0, cheap.forces)
    good = read_labels(labels / "dft.extxyz")[0]
    assert with_one_zero([unknown, good]) == [unknown, good]
    assert [frame.energy for frame in with_one_zero([cheap, unknown])] == [None, -1.0]
    assert prepare_labels([unknown]).codes == {NOT_SAID: 1}


def test_who_taught_stands_on_frames_and_hessians(labels, tmp_path):
    """The calculator behind a factory of one's own, its version, and the weights that it was given."""
    assert read_hessian(labels / "teacher" / "harmonic" / "dyn").code.startswith(f"{EMT} (ase ")
    assert all(frame.code.startswith(EMT) for frame in read_labels(labels / "teacher"))
    weights = tmp_path / "tuned.safetensors"
    weights.write_bytes(b"weights")
    spec = CalculatorSpec("tests.dft.toy_calculators:Counted", {"log": str(weights)})
    assert spec.code(spec.build()).startswith("tests.dft.toy_calculators:Counted")
    assert "tuned.safetensors " in spec.code(spec.build())
    first = spec.code(spec.build())
    weights.write_bytes(b"other weights")
    assert spec.code(spec.build()) != first
    record = json.loads((labels / "teacher" / "cheap.json").read_text())
    assert record["code"] == read_labels(labels / "teacher" / "cheap.extxyz")[0].code
    assert np.isfinite(record["core_seconds"])

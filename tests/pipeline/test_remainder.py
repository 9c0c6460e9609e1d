"""A run whose potential learns several Hessians, and gets a harmonic remainder."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest

from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.pipeline import gate_checks
from himlip_ase.pipeline.config import parse_config
from himlip_ase.pipeline.finetune import STAGE, load_trained
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.stages import Context
from himlip_ase.potential.checkpoint import read_card, save_model
from himlip_ase.potential.lattice_potential import LatticePotential, network_of
from tests.hint.test_remainder import PRIMITIVE, label, untrained
from tests.hint.toy import rattled, toy_frame

SMALL = """
  base: null
  compare: false
  network: {cutoff: 4.5, n_radial: 4, channels: 2, edge_features: 2, hidden: 8, layers: 1}
  training: {epochs: 1, batch_size: 4, device: cpu, polish: {rounds: 0}}
"""


def context(folder: Path, finetune: str) -> Context:
    labels = folder / "labels"
    labels.mkdir()
    PRIMITIVE.write(labels / "crystal.extxyz")
    for name, dims in (("harmonic", (2, 2, 2)), ("harmonic333", (3, 3, 3))):
        (labels / name).mkdir()
        write_dyn(label(dims).force_constants.dynamical_matrices(), labels / name / "dyn")
    for name, number in (("rattle", 4), ("validation", 2)):
        images = []
        for image in rattled(PRIMITIVE.repeat((2, 2, 2)), number, 0.05, seed=number):
            frame = toy_frame(image)
            image.info |= {"REF_energy": frame.energy, "REF_stress": frame.stress, "set": name}
            image.arrays["REF_forces"] = frame.forces
            images.append(image)
        ase.io.write(labels / f"{name}.extxyz", images)
    save_model(untrained(), folder / "known.safetensors", {"licence": "CC0"})
    config = parse_config(f"labels: {{folder: labels}}\nfinetune: {finetune}\n", folder)
    return Context(config, RunFolder(folder / "run"))


def test_several_hessians_are_learnt_and_judged(tmp_path: Path) -> None:
    found = context(tmp_path, f"\n  hessians: [harmonic, harmonic333]{SMALL}")
    place = found.of("finetune")
    place.mkdir(parents=True)
    outcome = STAGE.run(found, place)
    learnt = read_mapping(place / "model" / "report.json")["labels"]["hessians"]
    assert [item["atoms"] for item in learnt] == [8, 27]
    figure = outcome.figures["harmonic333.harmonic_rmse.with_hessian"]
    assert figure.value > 0 and "3×3×3" in figure.how
    assert "hessians" in STAGE.inputs(found)[0]


def test_a_finished_model_gets_a_remainder_that_the_card_and_the_report_name(
    tmp_path: Path, monkeypatch
) -> None:
    found = context(tmp_path, "{model: known.safetensors, remainder: true}")
    place = found.of("finetune")
    place.mkdir(parents=True)
    outcome = STAGE.run(found, place)
    model = load_trained(found)
    assert isinstance(model, LatticePotential)
    assert read_card(place / "model.safetensors")["remainder"]["matrices"] == "harmonic/dyn0"
    assert "remainder" not in read_card(place / "network.safetensors")
    without = outcome.figures["harmonic_rmse.without_remainder"]
    assert without.value > 1 and "by construction" in without.how
    assert outcome.figures["validation.remainder_force_rms"].value > 0
    assert any("harmonic remainder" in note for note in outcome.notes)
    # a second go, as after a kill, gives the same
    STAGE.run(found, place)
    again = load_trained(found)
    assert isinstance(again, LatticePotential) and not isinstance(network_of(again), LatticePotential)
    monkeypatch.setattr(
        RunFolder, "read_record", lambda self, stage: outcome if stage == "finetune" else None
    )
    check = gate_checks._harmonic(found.config.gate, found)
    assert check.value == without.value and "network" in check.why


def test_what_is_not_there_or_does_not_go_together_is_said(tmp_path: Path) -> None:
    found = context(tmp_path, "{model: known.safetensors, hessians: [harmonic444]}")
    place = found.of("finetune")
    place.mkdir(parents=True)
    with pytest.raises(InputError, match="harmonic, harmonic333"):
        STAGE.run(found, place)
    for rest in ("labels: {folder: labels}\nlearn: {enabled: true}", "structure: crystal.cif"):
        with pytest.raises(InputError, match=r"learn: {enabled: false}"):
            parse_config(f"finetune: {{remainder: true}}\n{rest}", tmp_path)


def test_runs_of_earlier_versions_are_not_done_again(tmp_path: Path) -> None:
    found = context(tmp_path, "{model: known.safetensors}")
    assert len(STAGE.inputs(found)) == 3

"""A run whose potential has its head fitted in closed form instead of being trained."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings
from himlip_ase.hint.last_layer.closed_form_run import finetune_closed_form
from himlip_ase.hint.last_layer.cross_fit import SummedLabels
from himlip_ase.hint.last_layer.posterior import Noise
from himlip_ase.hint.last_layer.twin_weights import load_twins
from himlip_ase.hint.last_layer.uncertain_calculator import UncertainCalculator
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.pipeline import gate_checks
from himlip_ase.pipeline.config import parse_config
from himlip_ase.pipeline.dry_run import dry_run
from himlip_ase.pipeline.finetune import STAGE, load_trained
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.preflight import preflight
from himlip_ase.pipeline.run_sections import FinetuneSection
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.stages import Context, run_stages
from himlip_ase.potential.checkpoint import load_model, read_card, save_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.lattice_potential import LatticePotential
from himlip_ase.potential.network import HiMLIP
from himlip_ase.potential.widening import restricted_to
from himlip_ase.sscha.learn.rounds import load_base
from himlip_ase.sscha.learn.settings import LearnSettings
from tests.hint.test_remainder import PRIMITIVE, SHAPE
from tests.hint.toy import rattled, toy_frame
from tests.pipeline.test_remainder import context

NOISE = "[0.01, 0.1, 0.01, 0.02]"
FIT = f"closed_form: {{head: wide, noise: {NOISE}}}"
REPLAYED = f"closed_form: {{head: wide, noise: {NOISE}, replay: [base_labels.extxyz]}}"
CELL = PRIMITIVE.repeat((2, 1, 1))


def write_labels(path: Path, images: list[Atoms], name: str) -> None:
    """Cells with energies of another level of theory, 1 eV too high."""
    for image in images:
        frame = toy_frame(image)
        image.info |= {"REF_energy": frame.energy + 1, "REF_stress": frame.stress, "set": name}
        image.arrays["REF_forces"] = frame.forces
    ase.io.write(path, images)


def prepared(folder: Path, finetune: str = FIT) -> Context:
    """Labels of copper, a base that knows hydrogen too, and labels of that base: five of Cu, two of CuH."""
    save_model(HiMLIP(replace(SHAPE, elements=("H", "Cu")), seed=1), folder / "base.safetensors")
    others = rattled(bulk("CuH", "rocksalt", a=3.9), 2, 0.05)
    write_labels(folder / "base_labels.extxyz", [*rattled(CELL, 5, 0.1, seed=9), *others], "coarse")
    return context(folder, f"{{base: {folder}/base.safetensors, compare: false, {finetune}}}")


def asked(found: Context, folder: Path, finetune: str) -> Context:
    """The same run with another section."""
    config = parse_config(f"labels: {{folder: labels}}\nfinetune: {{compare: false, {finetune}}}", folder)
    return Context(config, found.folder)


def fitted(found: Context) -> HiMLIP:
    """The model of the stage, which is run."""
    STAGE.inputs(found)
    found.of("finetune").mkdir(parents=True, exist_ok=True)
    STAGE.run(found, found.of("finetune"))
    model = load_trained(found)
    assert isinstance(model, HiMLIP)
    return model


def forces(model: HiMLIP) -> np.ndarray:
    return np.concatenate([one.reshape(-1) for one in evaluate(model, rattled(CELL, 3, 0.1, seed=5)).forces])


def test_the_model_is_that_of_the_fit_on_the_same_frames(tmp_path: Path, caplog) -> None:
    found = prepared(tmp_path, REPLAYED)
    with caplog.at_level(logging.INFO, "himlip_ase"):
        model = fitted(found)
    assert "replayed: 5 of 7 frames; 2 hold other elements than Cu" in caplog.text
    labels = label_folder(found).path
    settings = replace(found.config.finetune.training, validation_fraction=0.0)
    alone = finetune_closed_form(
        read_labels(labels / "rattle.extxyz"),
        [read_hessian(labels / "harmonic")],
        restricted_to(load_model(tmp_path / "base.safetensors"), ["Cu"]),
        ClosedFormSettings(head="wide", noise=Noise(0.01, 0.1, 0.01, 0.02)),
        settings,
        replay=read_labels(tmp_path / "base_labels.extxyz")[:5],
    )
    assert model.elements == ("Cu",) and model.config == alone.model.config
    assert np.abs(forces(model) - forces(alone.model)).max() < 1e-6
    assert np.abs(forces(model)).max() > 0.1
    place = found.of("finetune")
    assert read_card(place / "model.safetensors")["base"] == "base.safetensors"
    twins = load_twins(place / "model.safetensors")
    assert len(twins) == len(read_labels(labels / "rattle.extxyz"))
    assert all(1e-6 < np.abs(forces(twin) - forces(model)).max() < 10 for twin in twins)
    sure = UncertainCalculator(place / "model.safetensors").uncertainty(CELL)
    assert (sure.forces > 0).all()


def test_the_report_says_how_the_potential_came_about(tmp_path: Path) -> None:
    found = prepared(tmp_path, FIT)
    notes = run_stages(found, [STAGE])["notes"]
    assert notes == [
        "The potential's head was fitted in closed form in this run, beginning with the model "
        "base.safetensors (as finetune.base says)."
    ]


def test_the_gate_advises_what_changes_a_fit(tmp_path: Path) -> None:
    found = prepared(tmp_path, FIT)
    trained = asked(found, tmp_path, "base: null")
    fit, training = (gate_checks._harmonic(one.config.gate, one).what_to_do for one in (found, trained))
    assert "noise" in fit and "polish" not in fit and "polish" in training


def test_validation_is_never_learnt(tmp_path: Path) -> None:
    found = prepared(tmp_path, FIT)
    before = fitted(found).state_dict()
    path = label_folder(found).path / "validation.extxyz"
    images = ase.io.read(path, ":")
    for image in images:
        image.arrays["REF_forces"] *= 3
    ase.io.write(path, images)
    after = fitted(found).state_dict()
    assert all(bool((before[name] == after[name]).all()) for name in before)

    named = asked(found, tmp_path, f"base: {tmp_path}/base.safetensors, {FIT}, train_sets: [validation]")
    with pytest.raises(InputError, match=r"finetune\.train_sets: 'validation'"):
        fitted(named)


def test_validation_is_not_learnt_by_way_of_the_replay(tmp_path: Path, caplog) -> None:
    found = prepared(tmp_path, REPLAYED)
    images = ase.io.read(label_folder(found).path / "validation.extxyz", ":")
    path = tmp_path / "base_labels.extxyz"
    ase.io.write(path, [*ase.io.read(path, ":"), *images])
    with caplog.at_level(logging.INFO, "himlip_ase"):
        fitted(found)
    assert "replayed: 5 of 9 frames" in caplog.text and "2 are of sets that judge" in caplog.text
    for image in images:
        image.info["set"] = "renamed"
    ase.io.write(path, images)
    with pytest.raises(InputError, match=r"finetune\.closed_form\.replay: 2 frames .* validation"):
        fitted(found)


def test_a_training_by_gradients_that_replays_forgets_less(tmp_path: Path, caplog) -> None:
    """Labels that pull one way, and those of the base: what is replayed is foretold better afterwards."""
    training = "training: {epochs: 150, learning_rate: 0.01, ema: 0, polish: {rounds: 0}, replay_every: 1}"
    missed = {}
    for replay in ("", "replay: [base_labels.extxyz], "):
        place = tmp_path / f"run{len(missed)}"
        place.mkdir()
        found = prepared(place, f"{replay}{training}")
        with caplog.at_level(logging.INFO, "himlip_ase"):
            model = fitted(found)
        frames = read_labels(place / "base_labels.extxyz")[:5]
        off = [
            ours - frame.forces
            for ours, frame in zip(evaluate(model, [f.atoms for f in frames]).forces, frames, strict=True)
        ]
        missed[replay] = float(np.sqrt(np.mean(np.square(off))))
    assert "replayed: 5 of 7 frames; 2 hold other elements than Cu" in caplog.text
    assert missed["replay: [base_labels.extxyz], "] < 0.8 * missed[""]


def test_a_replay_that_is_not_there_is_told_before_the_training(tmp_path: Path) -> None:
    found = prepared(tmp_path, "replay: [nowhere.extxyz]")
    for check in (STAGE.inputs, lambda context: preflight(context.config, tmp_path / "new")):
        with pytest.raises(InputError, match=r"finetune\.replay: .*nowhere\.extxyz does not exist"):
            check(found)
    with pytest.raises(InputError, match=r"closed_form\.replay"):
        asked(found, tmp_path, f"replay: [base_labels.extxyz], {FIT}")


def test_a_changed_replay_is_learnt_anew_and_a_moved_one_is_not(tmp_path: Path) -> None:
    found = prepared(tmp_path, REPLAYED)
    mark = found.folder.state / "finetune.json"

    def stamp(context: Context) -> int:
        run_stages(context, [STAGE])
        return mark.stat().st_mtime_ns

    first = stamp(found)
    assert stamp(found) == first
    moved = asked(
        found, tmp_path, f"base: {tmp_path}/base.safetensors, {REPLAYED.replace('base_labels', 'moved')}"
    )
    path = (tmp_path / "base_labels.extxyz").rename(tmp_path / "moved.extxyz")
    assert stamp(moved) == first
    ase.io.write(path, ase.io.read(path, ":")[1:])
    assert stamp(moved) != first


def test_runs_of_earlier_versions_are_not_done_again(tmp_path: Path) -> None:
    found = prepared(tmp_path, "base: null")
    assert "closed_form" not in STAGE.inputs(found)[0]
    known = asked(found, tmp_path, "model: known.safetensors")
    both = asked(found, tmp_path, f"model: known.safetensors, {FIT}")
    assert STAGE.inputs(both) == STAGE.inputs(known) and len(STAGE.inputs(both)) == 3
    fitted(both)
    assert not (found.of("finetune") / "posterior.safetensors").exists()


@pytest.mark.parametrize(
    ("finetune", "says"),
    [
        ("base: null", r"finetune\.closed_form: .*finetune\.base: MODEL"),
        ("base: auto", r"does not know Cu.*finetune\.base: MODEL"),
        ("network: {channels: 4}", r"finetune\.network asks.*finetune\.base: MODEL"),
        ("base: himlip-h3s-1", r"finetune\.base: himlip-h3s-1 does not know Cu"),
        ("base: nowhere", r"finetune\.base: no model 'nowhere'"),
        ("base: 'mace:small.model'", r"finetune\.base: mace:.*small\.model is no Hi-MLIP"),
    ],
)
def test_a_base_that_cannot_be_fitted_is_told_with_its_key(tmp_path: Path, finetune: str, says: str) -> None:
    found = asked(prepared(tmp_path), tmp_path, f"{finetune}, {FIT}")
    for check in (STAGE.inputs, lambda context: preflight(context.config, tmp_path / "new")):
        with pytest.raises(InputError, match=says) as caught:
            check(found)
        assert "finetune.closed_form" in str(caught.value) or "nowhere" in finetune


def test_replay_without_a_frame_of_the_crystal_or_a_file_is_refused(tmp_path: Path) -> None:
    found = prepared(tmp_path, REPLAYED)
    path = tmp_path / "base_labels.extxyz"
    write_labels(path, rattled(bulk("CuH", "rocksalt", a=3.9), 2, 0.05), "coarse")
    with pytest.raises(InputError, match=r"finetune\.closed_form\.replay: none of 2 frames"):
        fitted(found)
    path.unlink()
    with pytest.raises(
        InputError, match=r"finetune\.closed_form\.replay: .*base_labels.extxyz does not exist"
    ):
        STAGE.inputs(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("noise: [0.01, 0.1]", r"finetune\.closed_form\.noise': give four widths"),
        ("noise: [0.01, -0.1, 0.01, 0.02]", r"finetune\.closed_form\.noise\.1'"),
        ("head: broad", r"finetune\.closed_form\.head'"),
        ("prior: zero", r"prior: zero is for head: readout"),
        ("nois: 1", r"finetune\.closed_form\.nois'; did you mean 'noise'"),
    ],
)
def test_errors_name_the_key(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_config(f"structure: a.cif\nfinetune: {{closed_form: {{{text}}}}}")


def test_paths_start_at_the_file_and_the_closed_form_is_off_by_default() -> None:
    config = parse_config(
        "structure: a.cif\nfinetune: {closed_form: {replay: [../b, /c/d.extxyz]}}", "/runs/pdh"
    )
    assert config.finetune.closed_form is not None
    assert config.finetune.closed_form.replay == [Path("/runs/b"), Path("/c/d.extxyz")]
    assert FinetuneSection().closed_form is None


def test_a_dry_run_tells_of_a_fit_and_not_of_epochs(tmp_path: Path) -> None:
    found = prepared(tmp_path)
    told = dry_run(found.config, tmp_path / "new")
    assert "finetune fits the wide head in closed form: no epochs" in told
    twice = found.config.model_copy(
        update={"finetune": found.config.finetune.model_copy(update={"compare": True})}
    )
    assert "twice (finetune.compare)" in dry_run(twice, tmp_path / "new")
    trained = asked(found, tmp_path, "base: null").config
    assert "closed form" not in dry_run(trained, tmp_path / "new")


def test_the_hessian_is_compared_and_a_remainder_added_on_top(tmp_path: Path) -> None:
    found = prepared(tmp_path, f"{FIT}, remainder: true").config
    config = found.model_copy(update={"finetune": found.finetune.model_copy(update={"compare": True})})
    there = Context(config, RunFolder(tmp_path / "run", resume=True))
    place = there.of("finetune")
    place.mkdir(parents=True, exist_ok=True)
    outcome = STAGE.run(there, place)
    assert isinstance(load_trained(there), LatticePotential)
    assert load_twins(place / "model.safetensors") == []  # the network's, which is not the model any more
    without = load_trained(there, without_hessian=True)
    assert isinstance(without, HiMLIP)
    network = load_model(place / "network.safetensors")
    assert np.abs(forces(network) - forces(without)).max() > 1e-3
    for key in ("with_hessian", "without_hessian"):
        assert outcome.figures[f"validation.force_rmse.{key}"].value > 0
    assert outcome.figures["harmonic_rmse.without_remainder"].value > 0
    UncertainCalculator(place / "model.safetensors").uncertainty(PRIMITIVE.repeat((2, 2, 2)))


def test_the_learning_loop_refits_the_fitted_model(tmp_path: Path) -> None:
    found = prepared(tmp_path)
    fitted(found)
    labels = label_folder(found)
    frames, hessians = labels.frames(["rattle"]), [read_hessian(labels.path / "harmonic")]
    base = load_base(found.of("finetune") / "model.safetensors", frames, hessians)
    sums = SummedLabels(base, frames, hessians, LearnSettings(head="wide").closed_form)
    for image in rattled(PRIMITIVE.repeat((2, 2, 2)), 2, 0.05, seed=4):
        sums.add([toy_frame(image)])
    assert np.isfinite(forces(sums.fit(2).model)).all()

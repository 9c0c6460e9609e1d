"""The YAML file of a run: checked key by key, plain values only, flags win."""

from __future__ import annotations

from pathlib import Path

import pytest

from himlip_ase.errors import InputError
from himlip_ase.pipeline.config import build_config, load_config, parse_assignments, parse_config


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "structure: a.cif\nsscha: {n_configuration: 30}",
            "'sscha.n_configuration'; did you mean 'n_configurations'",
        ),
        (
            "structure: a.cif\nfinetune: {training: {loss: {hesian: 1}}}",
            "'finetune.training.loss.hesian'; did you mean 'hessian'",
        ),
        ("structure: a.cif\nqe: {ecutwfc: 60}", "did you mean 'ecutwfc_ry'"),
        ("strcture: a.cif", "did you mean 'structure'"),
        ("structure: a.cif\nlabels: {rattle: {soft: {numbr: 3}}}", "did you mean 'number'"),
        ("structure: a.cif\nzzz: 1", "allowed: name, structure"),
        ("structure: a.cif\ntc: {published: [{wht: Tc}]}", "'tc.published.0.wht'; did you mean 'what'"),
    ],
)
def test_fault_35_unknown_keys_are_refused_with_the_nearest_one(text: str, hint: str) -> None:
    with pytest.raises(InputError, match="unknown key") as caught:
        parse_config(text)
    assert hint in str(caught.value)


def test_fault_35_python_tags_are_refused_and_not_executed(tmp_path: Path) -> None:
    victim = tmp_path / "made"
    text = f"structure: !!python/object/apply:os.mkdir ['{victim}']"
    with pytest.raises(InputError, match="only plain values"):
        parse_config(text)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("structure: a\npressure_gpa: .nan", "pressure_gpa"),
        ("structure: a\nq_grid: [2, 2]", "q_grid"),
        ("structure: a\nq_grid: [0, 2, 2]", "q_grid"),
        ("structure: a\nqe: {ecutwfc_ry: -60}", "ecutwfc_ry"),
        ("structure: a\nsscha: {n_configurations: 3}", "even number"),
        ("structure: a\nsscha: {kong_liu: 1.5}", "kong_liu"),
        ("structure: a\ntc: {mu_star: []}", "mu_star"),
        ("- a list", "key: value"),
        ("a: [", "not valid YAML"),
        ("", "structure"),
    ],
)
def test_bad_values_are_named(text: str, where: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(text)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learn: {rounds: 5}", "switch it on with `learn: {enabled: true}`"),
        ("learn: {enabled: true, refit: closed_form, training: {epochs: 3}}", "is of refit: gradients"),
        ("learn: {enabled: true, refit: gradients, head: wide}", "is of refit: closed_form"),
        ("finetune: {base: himlip-hydride-2, network: {channels: 8}}", "is the shape of fresh weights"),
        ("finetune: {model_without_hessian: a.safetensors}", "beside finetune.model"),
        ("finetune: {remainder: true}\nanharmonic: {corrected_by: [learn]}", "without its remainder"),
    ],
)
def test_nothing_told_is_left_unused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(f"labels: {{folder: there}}\n{text}")
    assert message in str(caught.value)


def test_a_head_that_chooses_configurations_is_told_of_beside_gradients() -> None:
    """The posterior is that of a head, however the potential learns."""
    learn = _config("learn: {refit: gradients, choice: posterior, head: wide}").learn
    assert (learn.refit, learn.head) == ("gradients", "wide")


def test_flags_win_and_paths_start_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "crystal.yaml"
    path.write_text("structure: cells/a.cif\npressure_gpa: 150\nsscha: {n_configurations: 500}\n")
    config = load_config(path, {"sscha.n_configurations": 40, "q_grid": [3, 3, 3]})
    assert config.structure == tmp_path / "cells/a.cif"
    assert (config.pressure_gpa, config.sscha.n_configurations, config.q_grid) == (150.0, 40, (3, 3, 3))


def test_a_model_of_the_package_is_named_in_the_file_or_by_a_flag() -> None:
    named = parse_config("structure: a.cif\nfinetune: {model: himlip-h3s-2}").finetune.model
    flagged = parse_config("structure: a.cif", overrides={"finetune.model": "himlip-h3s-2"}).finetune.model
    assert named is not None and named.is_file() and flagged == named


@pytest.mark.parametrize(
    ("base", "placed"),
    [
        ("../models/mine.safetensors", "/models/mine.safetensors"),
        ("mine.safetensors", "/data/mine.safetensors"),
        ("mace:foundation/small.model", "mace:/data/foundation/small.model"),
        ("himlip-hydride-1", "himlip-hydride-1"),
        ("auto", "auto"),
    ],
)
def test_a_base_that_is_a_path_starts_at_the_file(base: str, placed: str) -> None:
    assert parse_config(f"structure: a.cif\nfinetune: {{base: '{base}'}}", "/data").finetune.base == placed


def test_resolved_configuration_reads_back_the_same() -> None:
    config = parse_config("structure: a.cif\nlabels: {rattle: {soft: {amplitude_angstrom: 0.1}}}", "/data")
    assert build_config(config.resolved()) == config


def test_assignments_are_plain_yaml() -> None:
    assert parse_assignments(["a.b=3", "c=[1, 2]", "d=1e-3"]) == {"a.b": 3, "c": [1, 2], "d": "1e-3"}
    for bad in ("nothing", "=3", "a=!!python/name:os.system"):
        with pytest.raises(InputError, match="--set"):
            parse_assignments([bad])


def test_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"h3s\.yaml"):
        load_config(tmp_path / "absent.yaml")


def _config(text: str = "{}"):
    return parse_config(f"structure: a.cif\n{text}" if text != "{}" else "structure: a.cif")


def test_naming_one_key_drops_no_other() -> None:
    """`finetune.training.epochs` used to switch the refinement off."""
    plain = _config().finetune.training
    assert plain.polish.rounds > 0
    named = _config("finetune: {training: {epochs: 20}}").finetune.training
    assert named.epochs == 20 and named.polish == plain.polish
    deeper = _config("finetune: {training: {polish: {iterations: 7}}}").finetune.training
    assert deeper.polish.rounds == plain.polish.rounds and deeper.epochs == plain.epochs
    labels = _config("labels: {quantum: {quantum211: {number: 2}, mine: {}}}").labels
    assert labels.quantum_sets["quantum211"].supercell == (2, 1, 1)
    assert labels.quantum_sets["quantum211"].number == 2 and len(labels.quantum_sets) == 4
    assert build_config(_config("finetune: {training: {epochs: 20}}").resolved()).finetune.training == named


def test_what_is_switched_off_is_named() -> None:
    config = _config("finetune: {training: {polish: {rounds: 0}}, compare: false}\nlabels: {validation: 0}")
    assert config.finetune.off() == ["finetune.compare: False", "finetune.training.polish.rounds: 0"]
    assert config.labels.off() == ["labels.validation: 0"]
    other = _config("labels: {quantum: {quantum211: null}}").labels
    assert other.off() == ["labels.quantum.quantum211: null"]
    assert _config().finetune.off() == [] and _config().labels.off() == []

"""AlphaNet's own files: read as data, with the configuration that says the shape of their network."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from himlip_ase.errors import InputError
from himlip_ase.potential.alphanet import LAST_NUMBER, trained_elements
from himlip_ase.potential.alphanet_arguments import DEFAULTS, arguments_of
from himlip_ase.potential.alphanet_library import INSTALL, NETWORK, import_alphanet
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.graph import build_graph
from tests.potential.alphanet_zoo import (
    REASON,
    SECTION,
    alphanet_potential,
    has_alphanet,
    needs_its_calculator,
    weights,
    write_files,
)
from tests.potential.zoo import h3s, rattled


def energy(model: Any) -> float:
    return float(model(build_graph(rattled(h3s()), model.elements, model.cutoff)).detach())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for files of a small AlphaNet."""
    if not has_alphanet():
        pytest.skip(REASON)
    return tmp_path


def test_the_one_configuration_beside_the_weights_is_taken(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "other.json").write_text(json.dumps({"train": {}}))
    path = write_files(folder)
    with caplog.at_level(logging.WARNING, logger="himlip_ase"):
        model = load_model(f"alphanet:{path}")
    assert energy(model) == energy(alphanet_potential())
    origin = model.config.origin
    assert origin["file"] == "small.ckpt" and origin["configuration"] == "shape.json"
    assert "GPL-3" in model.provenance["licence"] and str(folder) not in json.dumps(model.provenance)
    (warning,) = caplog.records
    assert all(word in warning.message for word in ("cutoff", "50th", "axes", "periodic image", "supercell"))


def test_of_several_configurations_one_must_be_named(folder: Path) -> None:
    path = write_files(folder)
    (folder / "larger.json").write_text(json.dumps({"model": SECTION | {"hidden_channels": 32}}))
    with pytest.raises(InputError, match=r"which of larger.json, shape.json .*small.ckpt#larger.json"):
        load_model(f"alphanet:{path}")
    assert energy(load_model(f"alphanet:{path}#shape.json")) == energy(alphanet_potential())
    with pytest.raises(InputError, match=r"do not fit .*of another shape"):
        load_model(f"alphanet:{path}#larger.json")
    (folder / "small.json").write_text((folder / "shape.json").read_text())
    assert load_model(f"alphanet:{path}").config.origin["configuration"] == "small.json"


def test_checkpoints_of_a_training_are_read_too(folder: Path) -> None:
    """Lightning puts a name before all weights, and other things beside them."""
    path = write_files(folder)
    state = {f"model.model.{name}": tensor for name, tensor in weights().items()}
    torch.save({"state_dict": state, "epoch": 3, "optimizer_states": [{}]}, path)
    assert energy(load_model(f"alphanet:{path}")) == energy(alphanet_potential())


def test_nothing_of_a_file_is_run(folder: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "harm"),)

    path = write_files(folder)
    torch.save({"model.z_emb.weight": torch.zeros(2, 2), "harm": Harm()}, path)
    with pytest.raises(InputError, match="was not opened"):
        load_model(f"alphanet:{path}")
    assert not (folder / "harm").exists()


def test_a_frozen_model_is_refused(folder: Path) -> None:
    path = write_files(folder)
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(InputError, match=r"frozen .*give the .ckpt"):
        load_model(f"alphanet:{path}")


def test_elements_that_no_training_saw_are_not_offered() -> None:
    """Their factor and offset are still those of elements that the network has no features for."""
    a, b = torch.ones(108), torch.ones(108)
    assert len(trained_elements({"a": a, "b": b})) == LAST_NUMBER
    a[[1, 16]] += torch.tensor([0.1, -0.3])
    b[8] = 0.5
    assert trained_elements({"a": a, "b": b}) == ("H", "O", "S")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hiden_channels": 3}, "did you mean 'hidden_channels'"),
        ({"hidden_channels": "176"}, "hidden_channels is '176'"),
        ({"readout": "mean"}, "readout = 'sum'"),
        ({"use_sigmoid": True}, "use_sigmoid = False"),
        ({"num_layers": 2.5}, "num_layers is 2.5"),
    ],
)
def test_configurations_of_no_energy_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        arguments_of(SECTION | change)


def test_a_configuration_is_not_completed_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AlphaNet's own settings read environment variables of the names of their keys."""
    monkeypatch.setenv("CHI2", "7")
    assert arguments_of({})["chi2"] == DEFAULTS["chi2"] == 6


@needs_its_calculator
def test_defaults_are_those_of_alphanet(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in DEFAULTS:
        monkeypatch.delenv(key.upper(), raising=False)
    fields = import_alphanet("alphanet.config").AlphaConfig.model_fields
    assert {key: field.default for key, field in fields.items() if key != "device"} == DEFAULTS


def test_a_missing_library_is_said_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, NETWORK, raising=False)
    monkeypatch.setitem(sys.modules, "torch_geometric.nn.conv", None)
    with pytest.raises(InputError) as raised:
        import_alphanet()
    assert INSTALL in str(raised.value)


def test_another_package_of_the_same_name_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ModuleType("alphanet")
    other.__path__ = [str(tmp_path)]
    for name in [name for name in sys.modules if name.split(".")[0] == "alphanet"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "alphanet", other)
    monkeypatch.setitem(sys.modules, "torch_geometric.nn.conv", ModuleType("conv"))
    with pytest.raises(InputError, match="not msc-alphanet"):
        import_alphanet()


def test_a_missing_file_and_a_missing_configuration(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no AlphaNet weights at .*none.ckpt"):
        load_model(f"alphanet:{tmp_path / 'none.ckpt'}")
    path = tmp_path / "alone.ckpt"
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"no configuration .*alone.ckpt#CONFIG.json"):
        load_model(f"alphanet:{path}")
    with pytest.raises(InputError, match=r"no configuration .*none.json; it is looked for beside alone.ckpt"):
        load_model(f"alphanet:{path}#none.json")
    (tmp_path / "text.json").write_text("[1, 2")
    with pytest.raises(InputError, match='section "model"'):
        load_model(f"alphanet:{path}#text.json")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "odd.ckpt"
    (tmp_path / "c.json").write_text(json.dumps({"model": SECTION}))
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"holds no AlphaNet .*it holds x"):
        load_model(f"alphanet:{path}")
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"not a whole file written by torch\.save"):
        load_model(f"alphanet:{path}")


def test_a_bare_ckpt_is_never_opened_but_explained(tmp_path: Path) -> None:
    (tmp_path / "w.ckpt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"alphanet:.*w.ckpt"):
        load_model(tmp_path / "w.ckpt")

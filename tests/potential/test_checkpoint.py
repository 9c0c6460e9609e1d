"""Models come back exactly, and nothing else is ever opened."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from himlip_ase.errors import InputError
from himlip_ase.potential import checkpoint
from himlip_ase.potential.checkpoint import load_model, read_card, save_model
from himlip_ase.potential.evaluate import evaluate

from .zoo import h3s, rattled, small_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    card = {
        "data": "none",
        "licence": "MIT",
        "validity": "tests",
        "metrics": {"force_rmse_ev_per_angstrom": 1.0},
    }
    return save_model(small_model(), tmp_path / "toy.safetensors", card)


def test_round_trip_is_exact(saved: Path) -> None:
    atoms = rattled(h3s())
    again = load_model(saved)
    assert again.config == small_model().config
    for name, tensor in small_model().state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    first, second = evaluate(small_model(), atoms), evaluate(again, atoms)
    assert first.energies[0] == second.energies[0]
    assert np.array_equal(first.forces[0], second.forces[0])


def test_card_says_what_it_describes(saved: Path) -> None:
    card = read_card(saved)
    assert card["licence"] == "MIT" and card["parameters"] == small_model().n_parameters
    assert card["config"]["cutoff"] == small_model().cutoff
    assert len(card["sha256"]) == 64


def test_nothing_is_overwritten_unasked(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(InputError, match="overwrite"):
        save_model(small_model(seed=1), saved)
    assert saved.read_bytes() == before
    save_model(small_model(seed=1), saved, overwrite=True)
    assert load_model(saved).n_parameters == small_model().n_parameters
    assert saved.read_bytes() != before


def test_a_damaged_copy_is_refused(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-9] ^= 1
    saved.write_bytes(data)
    with pytest.raises(InputError, match="sha256"):
        load_model(saved)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", None], ids=["empty", "html", "truncated"])
def test_files_that_are_no_models_are_refused(saved: Path, content: bytes | None) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2] if content is None else content)
    saved.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="safetensors"):
        load_model(saved)


def test_weights_without_a_card_load_with_a_warning(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved.with_suffix(".json").unlink()
    load_model(saved)
    assert "no card" in caplog.text


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="not a Hi-MLIP model"):
        load_model(tmp_path / "x.safetensors")


class Bomb:
    """Runs code when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.model", "model.PT", "model.safetensors"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    witness = tmp_path / "executed"
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(witness)))
    with pytest.raises(InputError):
        load_model(tmp_path / name)
    assert not witness.exists()


def test_unknown_names_list_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoint, "MODELS", tmp_path)
    with pytest.raises(InputError, match="no default model"):
        load_model()
    save_model(small_model(), tmp_path / "h3s-1.safetensors", {})
    with pytest.raises(InputError, match=r"h3s-1"):
        load_model("h3s")
    (tmp_path / "default.json").write_text(json.dumps({"model": "h3s-1"}))
    assert load_model().elements == load_model("h3s-1").elements == ("H", "S")
    for name in ("../h3s-1", "h3s-1/", "/h3s-1"):
        with pytest.raises(InputError):
            load_model(name)


def test_a_folder_is_taken_for_its_model(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path / "model.safetensors", {})
    assert load_model(tmp_path).n_parameters == small_model().n_parameters


def test_a_kill_between_weights_and_card_leaves_a_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        save_model(small_model(seed=1), saved, overwrite=True)
    again = load_model(saved)
    assert torch.equal(again.layers[0].density.mix, small_model(seed=1).layers[0].density.mix)


def test_weights_of_another_version_are_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    config = json.dumps({**read_card(saved)["config"], "wings": 2})
    save_file(load_file(saved), saved, metadata={"format": small_model().format, "config": config})
    saved.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="wings"):
        load_model(saved)

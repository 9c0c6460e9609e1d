"""Models of other packages by prefix, wherever a model is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from himlip_ase.cli.finetune import fetch_base
from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.twin_weights import learnt_by
from himlip_ase.pipeline.closed_form import _base_faults
from himlip_ase.potential.foreign_models import FOREIGN_MODELS, placed, split_foreign
from himlip_ase.reactions.calculators import calculator_by_name


def test_only_known_prefixes_are_foreign() -> None:
    kind, text = split_foreign("alphanet:/w/a.ckpt#b.json") or pytest.fail("none")
    assert (kind.name, text) == ("alphanet", "/w/a.ckpt#b.json")
    assert all(split_foreign(f"{kind.prefix}x") == (kind, "x") for kind in FOREIGN_MODELS)
    for name in (None, "himlip-h3s-2", Path("mace/x.safetensors"), "my.module:factory", "mace"):
        assert split_foreign(name) is None


@pytest.mark.parametrize("prefix", ["mace:", "alphanet:", ""])
def test_paths_of_a_file_start_at_its_folder(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "plain").write_bytes(b"")
    here = tmp_path.resolve()
    assert placed(f"{prefix}plain", tmp_path) == f"{prefix}{here}/plain"
    assert placed(f"{prefix}sub/x", tmp_path) == f"{prefix}{here}/sub/x"
    assert placed(f"{prefix}w.ckpt#c.json", tmp_path) == f"{prefix}{here}/w.ckpt#c.json"
    assert placed(f"{prefix}w.model#head", tmp_path) == f"{prefix}{here}/w.model#head"
    assert placed(f"{prefix}medium-v0.2", tmp_path) == f"{prefix}medium-v0.2"
    assert placed(f"{prefix}/abs/w.ckpt", tmp_path) == f"{prefix}/abs/w.ckpt"


def test_every_place_that_names_a_model_asks_the_same_table(tmp_path: Path) -> None:
    """None takes an AlphaNet for a factory, a name to download, or a network with a head to fit."""
    name = f"alphanet:{tmp_path / 'none.ckpt'}"
    with pytest.raises(InputError, match="no AlphaNet weights"):
        calculator_by_name(name)
    with pytest.raises(InputError, match=r"--download .*mace:"):
        fetch_base(name)
    (fault,) = _base_faults(name, ["H"])
    assert "no Hi-MLIP network" in fault
    assert learnt_by(name) == {}

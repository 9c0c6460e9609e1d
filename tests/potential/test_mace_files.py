"""MACE's own files: read without being run, found by name, never downloaded unasked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.potential import mace_files
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.mace import MACEPotential
from tests.potential.mace_zoo import SHAPES, mace_calculator, mace_module, mace_potential, needs_mace
from tests.potential.zoo import h3s, rattled

pytestmark = needs_mace


def energy(model: Any, atoms: Atoms | None = None) -> float:
    graph = build_graph(atoms or rattled(h3s()), model.elements, model.cutoff)
    return float(model(graph).detach())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(mace_module(), tmp_path / "small.model")
    return tmp_path / "small.model"


def test_a_file_gives_the_module_that_was_saved(saved: Path) -> None:
    model = load_model(f"mace:{saved}")
    assert isinstance(model, MACEPotential)
    for name, tensor in mace_module().state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor), name
    assert energy(model) == energy(mace_potential())
    assert model.config.origin["sha256"] == mace_files.sha256_file(saved)
    assert "sha256" in model.provenance["origin"] and str(saved.parent) not in model.provenance["origin"]


def test_single_precision_keeps_its_weights_and_gets_exact_symmetry(tmp_path: Path) -> None:
    """MACE's own conversion leaves coupling constants rounded: the energy then depends on the axes."""
    module = mace_module(dtype=torch.float32, correlation=3)
    torch.save(module, tmp_path / "single.model")
    model = load_model(f"mace:{tmp_path / 'single.model'}")
    peer = mace_calculator(module)
    atoms, turned = rattled(h3s()), rattled(h3s())
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    theirs = peer.get_potential_energy(atoms)
    assert energy(model, atoms) == pytest.approx(theirs, rel=1e-6)
    assert energy(model, turned) == pytest.approx(energy(model, atoms), rel=1e-13)
    assert abs(peer.get_potential_energy(turned) - theirs) > 1e-12 * abs(theirs), "nothing was gained"


@pytest.mark.parametrize("shape", SHAPES)
def test_architectures_of_published_models(tmp_path: Path, shape: str) -> None:
    module = mace_module(shape=shape, heads=2 if shape == "MACE-MH-1" else 1)
    torch.save(module, tmp_path / "m.model")
    model = load_model(f"mace:{tmp_path / 'm.model'}#Default")
    own, theirs = rattled(h3s()), rattled(h3s())
    own.calc, theirs.calc = HiMLIPCalculator(model), mace_calculator(module)
    assert own.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(own.get_forces(), theirs.get_forces(), atol=1e-10)
    assert np.abs(theirs.get_forces()).max() > 0.01


def test_a_plain_mace_is_one_of_scale_one(tmp_path: Path) -> None:
    module = mace_module("MACE")
    torch.save(module, tmp_path / "plain.model")
    peer = mace_calculator(module)
    model = load_model(f"mace:{tmp_path / 'plain.model'}")
    assert energy(model) == pytest.approx(peer.get_potential_energy(rattled(h3s())), abs=1e-10)


class Bomb:
    """Runs code when unpickled by a loader that builds what a file asks for."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def test_fault_34_nothing_in_a_file_is_run(tmp_path: Path, saved: Path) -> None:
    from torch.fx.graph_module import reduce_graph_module

    witness = tmp_path / "witness"
    code = f"import pathlib\npathlib.Path({str(witness)!r}).touch()\ndef forward(self): pass"
    bombs = {
        "path": Bomb(Path.touch, witness),
        "system": Bomb(os.system, f"touch {witness}"),
        "graph": Bomb(reduce_graph_module, {"_code": code}, ""),
    }
    for name, bomb in bombs.items():
        torch.save(bomb, tmp_path / f"{name}.model")
        with pytest.raises(InputError, match=r"asks for|not a MACE model"):
            load_model(f"mace:{tmp_path / name}.model")
        assert not witness.exists()
    whole = saved.read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("page", b"<html>not found</html>")):
        (tmp_path / f"{name}.model").write_bytes(content)
        with pytest.raises(InputError, match="not a whole file"):
            load_model(f"mace:{tmp_path / name}.model")
    torch.save({"model": mace_module().state_dict()}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="checkpoint of a training"):
        load_model(f"mace:{tmp_path / 'checkpoint.pt'}")


def test_names_are_looked_up_in_the_cache_of_mace_and_nowhere_else(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = mace_files.import_mace("mace.calculators.foundations_models")
    calls = []

    def download(name: str) -> str:
        calls.append(name)
        target = tmp_path / "cache" / "mace" / "20231210mace128L0_energy_epoch249model"
        target.parent.mkdir(parents=True, exist_ok=True)
        if len(calls) == 1:
            target.write_text("<html>")
            raise RuntimeError("no network")
        target.write_bytes(saved.read_bytes())
        return str(target)

    monkeypatch.setattr(library, "download_mace_mp_checkpoint", download)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="--download"):
        load_model("mace:small")
    with pytest.raises(InputError, match="medium-omat-0"):
        load_model("mace:smal")
    assert not calls
    with pytest.raises(InputError, match="no network"):
        mace_files.download_mace("small")
    with pytest.raises(InputError, match="--download"):
        load_model("mace:small")
    mace_files.download_mace("small")
    model = load_model("mace:small#Default")
    assert model.provenance["licence"] == "MIT"
    mace_files.download_mace("small")
    assert len(calls) == 2


def test_licences_of_published_models() -> None:
    for name in ("small", "medium", "medium-0b3", "medium-mpa-0", "mace-mpa-0-medium.model"):
        assert mace_files.licence_of(name) == "MIT", name
    for name in (
        "medium-omat-0",
        "mace-omat-0-small.model",
        "mace-matpes-r2scan-0",
        "MACE-OFF23_small.model",
    ):
        assert mace_files.licence_of(name).startswith("ASL"), name
    assert mace_files.licence_of("mine.model").startswith("unknown")

"""MACE networks as potentials: the same numbers as MACE's own calculator, and exact derivatives of them."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.potential import products
from himlip_ase.potential.checkpoint import load_model, read_card, save_model
from himlip_ase.potential.derivatives import hessian_vector_product
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.mace import MACEPotential
from himlip_ase.testing import check_calculator
from tests.potential.mace_zoo import (
    mace_calculator,
    mace_module,
    mace_potential,
    needs_mace,
    with_calculator,
)
from tests.potential.weight_gradients import parts_with_right_gradients
from tests.potential.zoo import conventional, h2s, h3s, rattled, tiny

pytestmark = needs_mace


def test_energies_forces_stresses_and_hessians_are_those_of_mace() -> None:
    """Crystals smaller than the cutoff, one atom in a cell, a molecule; one by one and as a batch."""
    images = [rattled(h3s()), tiny(), conventional(), h2s()]
    calc, peer = HiMLIPCalculator(mace_potential()), mace_calculator(mace_module())
    batch = calc.evaluate(images)
    for index, atoms in enumerate(images):
        own, theirs = with_calculator(atoms, calc), with_calculator(atoms, peer)
        energy, forces = theirs.get_potential_energy(), theirs.get_forces()
        assert own.get_potential_energy() == pytest.approx(energy, abs=1e-10)
        assert batch.energies[index] == pytest.approx(energy, abs=1e-10)
        np.testing.assert_allclose(own.get_forces(), forces, atol=1e-10)
        np.testing.assert_allclose(batch.forces[index], forces, atol=1e-10)
        if atoms.pbc.all():
            np.testing.assert_allclose(own.get_stress(), theirs.get_stress(), atol=1e-10)
            np.testing.assert_allclose(batch.stresses[index], theirs.get_stress(), atol=1e-10)
    assert np.abs(forces).max() > 0.1
    matrix = np.asarray(peer.get_hessian(theirs)).reshape(3, 3, 3, 3)
    np.testing.assert_allclose(calc.get_hessian(images[-1]), matrix, atol=1e-10)
    assert np.abs(matrix).max() > 1


def test_derivatives_and_symmetries_by_the_conformance_suite() -> None:
    """Everything but what no MACE has: a third derivative at its cutoff."""
    checks = (
        "forces = −dE/dx", "stress = dE/dε / V", "Hessian = −dF/dx", "Hessian is symmetric",
        "Hessian obeys the acoustic sum rule", "rotation", "inversion", "permutation of atoms",
        "choice of periodic images", "supercell is extensive", "slab with mixed periodicity",
        "molecule without a cell", "isolated atom has no force", "Hessian across the cutoff",
        "coincident atoms give no NaN", "deepcopy",
    )  # fmt: skip
    report = check_calculator(HiMLIPCalculator(mace_potential()), h3s(), only=checks)
    report.raise_for_failures()
    assert not report.skipped


def test_gradients_of_a_hessian_product_by_the_weights_are_finite_differences() -> None:
    """Third derivatives through MACE's scatter sums and e3nn's generated code."""
    model = copy.deepcopy(mace_potential())
    graph = build_graph(rattled(h3s()), model.elements, model.cutoff)
    assert {"node_embedding", "interactions", "products", "readouts"} <= parts_with_right_gradients(
        model, graph
    )


def test_calls_repeat_to_the_bit() -> None:
    """TorchScript would round its first calls differently, and a resumed training would drift."""
    model = copy.deepcopy(mace_potential())
    graph = build_graph(rattled(h3s()), model.elements, model.cutoff)
    vectors = torch.ones(4, 3, dtype=torch.float64)
    first, *later = [hessian_vector_product(model, graph, vectors, True).detach() for _ in range(4)]
    assert all(torch.equal(first, other) for other in later)


def test_saved_copied_and_pickled_models_are_the_same(tmp_path: Path) -> None:
    model = copy.deepcopy(mace_potential())
    model.energy_shift += 0.25
    model.network.requires_grad_(False)
    model.get_parameter("network.node_embedding.linear.weight").requires_grad_(True)
    path = save_model(model, tmp_path / "m.safetensors", {"metrics": {}})
    graph = build_graph(rattled(h3s()), model.elements, model.cutoff)
    energy = model(graph).detach()
    for other in (load_model(path), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(other, MACEPotential)
        assert torch.equal(other(graph), energy)
    assert sum(p.requires_grad for p in copy.deepcopy(model).parameters()) == 1
    card = read_card(path)
    assert card["architecture"] == "MACE" and card["licence"] == "unknown"
    assert card["config"]["elements"] == ["H", "S"]
    single = HiMLIPCalculator(path, dtype="float32")
    assert single.get_potential_energy(rattled(h3s())) == pytest.approx(float(energy), rel=1e-4)
    theirs = mace_calculator(model.to_mace())
    assert theirs.get_potential_energy(rattled(h3s())) == pytest.approx(float(energy), abs=1e-10)


def test_batches_are_smaller_for_larger_networks_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(mace_potential())
    assert 8_000 < model.batch_pairs < 16_000
    calc = HiMLIPCalculator(model)
    images = [rattled(h3s(), seed=seed) for seed in range(3)]
    together, matrix = calc.evaluate(images), calc.get_hessian(images[0])
    groups = []
    real = products._products_of
    monkeypatch.setattr(
        products, "_products_of", lambda m, group: groups.append(len(group)) or real(m, group)
    )
    calc = HiMLIPCalculator(model)
    calc.model.batch_pairs = 300
    np.testing.assert_allclose(calc.get_hessian(images[0]), matrix, atol=1e-11)
    assert groups[0] < 12 and len(groups) > 1
    np.testing.assert_allclose(calc.evaluate(images).energies, together.energies, atol=1e-11)


def test_heads_are_chosen_by_name() -> None:
    module = mace_module(heads=2)
    graph = build_graph(rattled(h3s()), ("H", "S"), 3.5)
    first, second = (float(MACEPotential.of(module, head)(graph)) for head in ("Default", "other"))
    peer = mace_calculator(module)
    assert first == pytest.approx(peer.get_potential_energy(rattled(h3s())), abs=1e-10)
    assert abs(second - first) > 1
    with pytest.raises(InputError, match="Default, other"):
        MACEPotential.of(module, "pbe")


def test_without_mace_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = save_model(mace_potential(), tmp_path / "m.safetensors")
    monkeypatch.setitem(sys.modules, "mace.modules", None)
    with pytest.raises(InputError, match=r"pip install 'himlip-ase\[mace\]'"):
        load_model(path)


def test_the_import_leaves_safe_loading_on(tmp_path: Path) -> None:
    """In a process of its own: `import mace` by itself makes torch run pickles."""
    program = f"""
import pathlib, pickle, sys, warnings
warnings.simplefilter("ignore")
import torch

class Bomb:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(sys.argv[1]),)

if sys.argv[2] == "ours":
    from himlip_ase.potential.mace_library import import_mace
    import_mace("mace.calculators")
    import_mace("mace.calculators.foundations_models")
else:
    import mace
torch.save(Bomb(), {str(tmp_path / "bomb.pt")!r})
try:
    torch.load({str(tmp_path / "bomb.pt")!r})
except pickle.UnpicklingError:
    print("refused")
"""
    for way, refused in (("ours", True), ("plain", False)):
        witness = tmp_path / way
        said = subprocess.run(
            [sys.executable, "-c", program, str(witness), way], capture_output=True, text=True, check=True
        ).stdout
        assert ("refused" in said) == refused
        assert witness.exists() == (not refused), "the guard would guard against nothing"

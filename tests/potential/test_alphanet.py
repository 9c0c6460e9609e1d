"""AlphaNets as potentials: the numbers of AlphaNet's own calculator, its faults, and exact derivatives."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.potential.alphanet import AlphaNetPotential
from himlip_ase.potential.checkpoint import load_model, read_card, save_model
from himlip_ase.potential.graph import build_graph
from himlip_ase.testing import check_calculator
from tests.potential.alphanet_zoo import (
    CUTOFF,
    alphanet_calculator,
    alphanet_potential,
    ask,
    needs_alphanet,
    needs_its_calculator,
)
from tests.potential.weight_gradients import parts_with_right_gradients
from tests.potential.zoo import conventional, h2s, h3s, rattled, slab, tiny

pytestmark = needs_alphanet


def copper() -> Atoms:
    """Four atoms, each with fewer neighbours than the 50 that AlphaNet lists, and none near a cell's face."""
    atoms = rattled(bulk("Cu", cubic=True))
    atoms.positions += 0.25 * atoms.cell.array.sum(axis=0)
    return atoms


@needs_its_calculator
def test_energies_forces_and_stresses_are_those_of_alphanet(tmp_path: Path) -> None:
    """Small cells, atoms outside the cell, 50 neighbours of more, molecules; as a batch too."""
    peer, calc = alphanet_calculator(tmp_path), HiMLIPCalculator(alphanet_potential())
    outside = copper()
    outside.positions += [0.9, -14.0, 3.3]
    rocksalt = rattled(bulk("NaCl", "rocksalt", a=4.4))
    images = [copper(), outside, rocksalt, conventional(), tiny(), h2s(), Atoms("O")]
    images.append(rattled(molecule("CH3CH2OH")))
    batch = calc.evaluate(images)
    for index, atoms in enumerate(images):
        energy, forces, stress = ask(peer, atoms)
        own_energy, own_forces, own_stress = ask(calc, atoms)
        assert own_energy == pytest.approx(energy, abs=1e-9), index
        assert batch.energies[index] == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(own_forces, forces, atol=1e-9)
        np.testing.assert_allclose(batch.forces[index], forces, atol=1e-9)
        if stress is not None:
            np.testing.assert_allclose(own_stress, stress, atol=1e-9)
            np.testing.assert_allclose(batch.stresses[index], stress, atol=1e-9)
    assert np.abs(forces).max() > 0.1
    assert build_graph(conventional(), ["H", "S"], CUTOFF).mask.sum(dim=1).max() > 50


def test_what_holds_of_the_conformance_suite() -> None:
    checks = (
        "force of dimers = −dE/dr", "Hessian is symmetric", "Hessian obeys the acoustic sum rule",
        "net force is zero", "inversion", "permutation of atoms", "choice of periodic images",
        "isolated atom has no force", "coincident atoms give no NaN", "repeated calculations agree",
        "deepcopy", "pickle", "returned arrays are copies", "NaN, infinite or no positions are refused",
    )  # fmt: skip
    report = check_calculator(HiMLIPCalculator(alphanet_potential()), copper(), only=checks)
    report.raise_for_failures()
    assert not report.skipped


def test_what_the_warning_says_is_so() -> None:
    """Each with a deviation far above rounding."""
    calc = HiMLIPCalculator(alphanet_potential())
    checks = ("rotation", "supercell is extensive", "translation", "energy across the cutoff",
              "Hessian across the cutoff")  # fmt: skip
    report = check_calculator(calc, bulk("Cu", cubic=True), only=checks)
    assert {check.name for check in report.failures} == set(checks), report
    assert min(check.value or 0 for check in report.failures) > 1e-6, report


def test_the_energy_depends_on_where_in_its_cell_a_crystal_lies() -> None:
    atoms = copper()
    moved = atoms.copy()
    moved.positions += 0.5 * atoms.cell.array[0]
    energies = HiMLIPCalculator(alphanet_potential()).evaluate([atoms, moved]).energies
    assert abs(energies[1] - energies[0]) > 1e-8


def test_forces_and_hessians_are_derivatives_of_the_energy() -> None:
    """Finite differences that are small beside the distance to the next kink."""
    calc, atoms, step = HiMLIPCalculator(alphanet_potential()), copper(), 1e-6
    vector = np.random.default_rng(3).normal(size=(4, 3))
    images = [atoms.copy() for _ in range(2)]
    for sign, image in zip((1, -1), images, strict=True):
        image.positions += sign * step * vector
    found = calc.evaluate(images)
    slope = (found.energies[0] - found.energies[1]) / (2 * step)
    bend = -(found.forces[0] - found.forces[1]) / (2 * step)
    forces = calc.evaluate([atoms]).forces[0]
    assert -np.sum(forces * vector) == pytest.approx(slope, rel=1e-5)
    product = calc.hessian_vector_product(atoms, vector)
    np.testing.assert_allclose(product, bend, atol=1e-5 * np.abs(bend).max())
    np.testing.assert_allclose(np.einsum("iajb,jb->ia", calc.get_hessian(atoms), vector), product, atol=1e-10)


def test_gradients_of_a_hessian_product_by_the_weights_are_finite_differences() -> None:
    """Third derivatives through every part; torch's own layer_norm has wrong ones."""
    model = copy.deepcopy(alphanet_potential())
    graph = build_graph(copper(), model.elements, model.cutoff)
    assert {
        "z_emb",
        "radial_emb",
        "S_vector",
        "message_layers",
        "FTEs",
        "kernels_real",
        "last_layer",
    } <= parts_with_right_gradients(model, graph)


def test_saved_copied_and_pickled_models_are_the_same(tmp_path: Path) -> None:
    model = copy.deepcopy(alphanet_potential())
    model.energy_shift += 0.25
    model.taught_by = ("pw.x 7.2",)
    model.network.requires_grad_(False)
    model.get_parameter("network.last_layer.weight").requires_grad_(True)
    path = save_model(model, tmp_path / "m.safetensors", {"metrics": {}})
    graph = build_graph(copper(), model.elements, model.cutoff)
    energy = model(graph).detach()
    for other in (load_model(path), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(other, AlphaNetPotential)
        assert torch.equal(other(graph), energy)
    assert copy.deepcopy(model).taught_by == model.taught_by
    assert sum(p.requires_grad for p in copy.deepcopy(model).parameters()) == 1
    card = read_card(path)
    assert card["architecture"] == "AlphaNet" and card["licence"] == "unknown"
    assert any("cutoff" in limit for limit in card["limits"])
    single = HiMLIPCalculator(path, dtype="float32")
    assert ask(single, copper())[0] == pytest.approx(float(energy), rel=1e-5)


def test_training_mode_has_no_dropout() -> None:
    model = copy.deepcopy(alphanet_potential()).train()
    graph = build_graph(copper(), model.elements, model.cutoff)
    assert torch.equal(model(graph), model(graph))


def test_slabs_are_refused_with_what_to_do() -> None:
    calc = HiMLIPCalculator(alphanet_potential())
    with pytest.raises(InputError, match=r"atoms.pbc = True"):
        ask(calc, slab())
    with pytest.raises(InputError, match=r"structure 1 .*atoms.pbc = True"):
        calc.evaluate([h3s(), slab()])


def test_the_import_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """Nothing printed, no git run, no stand-in left, no other default type; and none before it is needed."""
    code = (
        "import sys, torch; from himlip_ase import HiMLIPCalculator\n"
        "assert 'torch_geometric' not in sys.modules and 'alphanet' not in sys.modules\n"
        "random = torch.random.get_rng_state()\n"
        "from tests.potential.alphanet_zoo import alphanet_potential\n"
        "alphanet_potential()\n"
        "assert torch.equal(random, torch.random.get_rng_state())\n"
        "assert torch.get_default_dtype() == torch.float32 and 'torch_scatter' not in sys.modules\n"
        "assert 'alphanet.config' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""

"""The compiled passes against the recorded derivatives of plain torch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from himlip_ase.potential.derivatives import energy_forces_stress, hessian_vector_product
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.interface import Potential

from .zoo import ZOO, h3s, rattled, small_model

pytest.importorskip("numba", reason="the compiled passes need numba: pip install 'himlip-ase[fast]'")

from himlip_ase.potential.fused import fused_forces
from himlip_ase.potential.fused.forces import FusedForces


def recorded(model: Potential, graph):
    """By plain torch."""
    return energy_forces_stress(model, graph, create_graph=True)


def agree(model, images, relative=1e-12):
    graph = build_graph(images, model.elements, model.cutoff, dtype=next(model.parameters()).dtype)
    energies, forces, virials = FusedForces(model)(graph)
    expected = recorded(model, graph)
    for found, known in ((energies, expected.energies), (forces, expected.forces)):
        scale = max(float(known.detach().abs().max()), 1.0)
        assert float((found - known).detach().abs().max()) <= relative * scale
    stresses = 0.5 * (virials + virials.transpose(1, 2)) / graph.volumes[:, None, None]
    assert torch.allclose(stresses, expected.stresses, rtol=0, atol=relative * 10, equal_nan=True)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", ZOO)
def test_same_numbers_as_plain_torch(name, layers):
    agree(small_model(layers), ZOO[name]())


def test_batches_of_unlike_structures():
    agree(small_model(), [build() for build in ZOO.values()])


def test_close_atoms_and_pairs_beyond_the_cutoff():
    close = rattled(h3s())
    close.positions[1] = close.positions[0] + (0.4, 0.1, 0.2)
    agree(small_model(), [close, h3s().repeat((3, 1, 1))])


def test_single_precision_is_torchs_single_precision():
    agree(copy.deepcopy(small_model()).float(), rattled(h3s()), relative=2e-5)


def test_threads_change_nothing():
    model, atoms = small_model(), rattled(h3s().repeat((3, 3, 2)))
    graph = build_graph(atoms, model.elements, model.cutoff)
    one = FusedForces(model)(graph)
    torch.set_num_threads(2)
    try:
        two = FusedForces(model)(graph)
    finally:
        torch.set_num_threads(1)
    for first, second in zip(one, two, strict=True):
        assert torch.equal(first, second)


def test_changed_weights_are_seen():
    model = small_model()
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert fused_forces(model) is None, "weights that are being trained are left to torch"
    for parameter in frozen:
        parameter.requires_grad_(False)
    graph = build_graph(rattled(h3s()), model.elements, model.cutoff)
    shift = model.energy_shift.clone()
    try:
        before = energy_forces_stress(model, graph).energies
        model.energy_shift += 1.0
        after = energy_forces_stress(model, graph).energies
        np.testing.assert_allclose((after - before).numpy(), 4.0, rtol=1e-12)
    finally:
        model.energy_shift.copy_(shift)
        for parameter in frozen:
            parameter.requires_grad_(True)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", ZOO)
def test_products_are_those_of_recorded_gradients(name, layers):
    from himlip_ase.potential.fused.products import FusedProducts

    model = small_model(layers)
    graph = build_graph(ZOO[name](), model.elements, model.cutoff)
    products = FusedProducts(FusedForces(model), graph)
    generator = torch.Generator().manual_seed(4)
    for _ in range(2):
        vector = torch.randn(graph.positions.shape, dtype=torch.float64, generator=generator)
        expected = hessian_vector_product(model, graph, vector, create_graph=True).detach()
        scale = max(float(expected.abs().max()), 1.0)
        assert float((products(vector) - expected).abs().max()) <= 1e-12 * scale


def test_a_batch_of_unlike_structures_has_products_of_its_own():
    from himlip_ase.potential.fused.products import FusedProducts

    model = small_model()
    images = [build() for build in ZOO.values()]
    graph = build_graph(images, model.elements, model.cutoff)
    vector = torch.randn(
        graph.positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4)
    )
    found = FusedProducts(FusedForces(model), graph)(vector).split([len(atoms) for atoms in images])
    for atoms, part, own in zip(images, found, vector.split([len(a) for a in images]), strict=True):
        single = build_graph(atoms, model.elements, model.cutoff)
        expected = FusedProducts(FusedForces(model), single)(own)
        assert torch.allclose(part, expected, rtol=1e-12, atol=1e-12)

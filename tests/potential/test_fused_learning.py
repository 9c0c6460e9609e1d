"""Derivatives by the weights from compiled passes, against those of what plain torch records."""

from __future__ import annotations

import copy

import pytest
import torch

from himlip_ase.potential.derivatives import energy_forces_stress, trainable_derivatives
from himlip_ase.potential.graph import build_graph

from .zoo import ZOO, conventional, h3s, rattled, small_model

pytest.importorskip("numba", reason="the compiled passes need numba: pip install 'himlip-ase[fast]'")

from himlip_ase.potential.fused import fused_learning

CRYSTALS = ("crystal", "skewed", "tiny_cell", "conventional")


def gradients(derivatives, model, graph, stress):
    """By all parameters, of a loss that every component of every result is in."""
    generator = torch.Generator().manual_seed(2)
    found = derivatives(model, graph, stress)
    loss = found.energies.new_zeros(())
    for values in (found.energies, found.forces, found.stresses):
        if values is not None:
            loss = loss + (values * torch.randn(values.shape, dtype=values.dtype, generator=generator)).sum()
            loss = loss + (values**2).sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def recorded(model, graph, stress):
    return energy_forces_stress(model, graph, stress, create_graph=True)


def agree(model, images, stress):
    assert fused_learning(model)
    graph = build_graph(images, model.elements, model.cutoff)
    known = gradients(recorded, model, graph, stress)
    found = gradients(trainable_derivatives, model, graph, stress)
    for name, expected in known.items():
        scale = max(1.0, float(expected.abs().max()))
        assert float((found[name] - expected).abs().max()) <= 1e-12 * scale, name


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", CRYSTALS)
def test_same_gradients_as_plain_torch(name, layers):
    agree(small_model(layers), ZOO[name](), stress=True)


def test_molecules_and_crystals_in_one_batch():
    agree(small_model(), [build() for build in ZOO.values()], stress=False)
    agree(small_model(), [ZOO[name]() for name in CRYSTALS], stress=True)


def test_a_channel_that_is_shut_opens_again():
    model = copy.deepcopy(small_model())
    with torch.no_grad():
        model.layers[0].density.gate[:, :, :3] = 0
        model.layers[1].density.gate[0, 2] = 0
    agree(model, [rattled(h3s()), conventional()], stress=True)


def test_numbers_are_those_of_forces():
    model = small_model()
    graph = build_graph([rattled(h3s()), conventional()], model.elements, model.cutoff)
    known, found = recorded(model, graph, True), trainable_derivatives(model, graph)
    for one, other in (
        (known.energies, found.energies), (known.forces, found.forces), (known.stresses, found.stresses),
    ):  # fmt: skip
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_differentiating_twice_is_refused():
    model = small_model()
    graph = build_graph(rattled(h3s()), model.elements, model.cutoff)
    loss = (trainable_derivatives(model, graph).forces ** 2).sum()
    weight = next(model.parameters())
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()

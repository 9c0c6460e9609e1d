"""Gradients of a Hessian product by the weights, which training with Hessians needs, against differences."""

from __future__ import annotations

import pytest
import torch

from himlip_ase.potential.derivatives import hessian_vector_product
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.interface import Potential


def parts_with_right_gradients(model: Potential, graph: Graph) -> set[str]:
    """Parts of the network whose largest gradient is a central difference to 1e-6; fails where one is not."""
    vectors = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(create_graph: bool) -> torch.Tensor:
        return (hessian_vector_product(model, graph, vectors, create_graph) ** 2).sum()

    loss(True).backward()
    checked = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is None or not parameter.grad.numel() or float(parameter.grad.abs().max()) < 1e-3:
            continue
        place, flat = int(parameter.grad.abs().argmax()), parameter.data.view(-1)
        kept, step, values = float(flat[place]), 1e-5, []
        for sign in (1, -1):
            flat[place] = kept + sign * step
            values.append(float(loss(False)))
        flat[place] = kept
        numeric = (values[0] - values[1]) / (2 * step)
        assert float(parameter.grad.view(-1)[place]) == pytest.approx(numeric, rel=1e-6), name
        checked.add(name.split(".")[1])
    return checked

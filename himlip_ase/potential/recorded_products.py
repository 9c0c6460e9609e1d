"""Hessian-vector products of one structure, one after another, from one recorded gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.interface import Potential


def recorded_products(model: Potential, atoms: Atoms) -> Callable[[np.ndarray], np.ndarray]:
    """Products of the Hessian of a structure, for algorithms that ask for few at a time, many times.

    The gradient is recorded once, so that a product costs a backward pass and no more; the record stays in
    memory as long as the function does.

    Parameters
    ----------
    model : Potential
    atoms : Atoms

    Returns
    -------
    callable
        (K, N, 3) → (K, N, 3) in eV/Å² times the unit of the vectors; it raises `CalculationError` for a
        product that is not finite.

    Raises
    ------
    InputError
        A structure that the model cannot take.
    """
    reference = next(model.parameters())
    graph = build_graph(atoms, model.elements, model.cutoff, device=reference.device, dtype=reference.dtype)
    positions = graph.positions.detach().requires_grad_(True)
    with frozen(model), torch.enable_grad():
        energy = model(replace(graph, positions=positions)).sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)

    def products(vectors: np.ndarray) -> np.ndarray:
        found = np.zeros(np.shape(vectors))
        if gradient.requires_grad:
            for row, vector in enumerate(vectors):
                direction = torch.as_tensor(vector).to(positions)
                (product,) = torch.autograd.grad(gradient, positions, direction, retain_graph=True)
                found[row] = product.cpu().numpy()
        if not np.isfinite(found).all():
            raise CalculationError(
                "non-finite Hessian-vector product; check the structure for colliding atoms"
            )
        return found

    return products

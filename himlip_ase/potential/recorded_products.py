"""Hessian-vector products of one structure, one after another, from one recorded gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError

if TYPE_CHECKING:
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.symmetry.irreducible import Products


def repeated_products(calculator: Any, atoms: Atoms) -> Products:
    """Products of the Hessian of a structure, for algorithms that ask for few at a time, many times.

    The gradient of a `HiMLIPCalculator` is recorded once, so that a product costs a backward pass and no
    more; the record stays in memory as long as the function does. Any other calculator
    is asked for ``hessian_vector_product(atoms, v)`` each time.
    """
    from himlip_ase.calculator import HiMLIPCalculator

    if type(calculator).hessian_vector_product is HiMLIPCalculator.hessian_vector_product:
        return _recorded(calculator, atoms)
    return lambda vectors: calculator.hessian_vector_product(atoms, vectors)


def _recorded(calculator: HiMLIPCalculator, atoms: Atoms) -> Products:
    import torch

    from himlip_ase.potential.evaluate import frozen
    from himlip_ase.potential.graph import build_graph

    # the calculator's own checks, on a product that costs nothing
    calculator.hessian_vector_product(atoms, np.zeros((0, len(atoms), 3)))
    model, device = calculator.model, calculator.device
    graph = build_graph(atoms, model.elements, model.cutoff, device=device)
    positions = graph.positions.detach().requires_grad_(True)
    with frozen(model), torch.enable_grad():
        energy = model(replace(graph, positions=positions)).sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)

    def products(vectors: np.ndarray) -> np.ndarray:
        found = np.zeros(np.shape(vectors))
        if gradient.requires_grad:
            for row, vector in enumerate(vectors):
                direction = torch.as_tensor(vector, dtype=positions.dtype, device=device)
                (product,) = torch.autograd.grad(gradient, positions, direction, retain_graph=True)
                found[row] = product.cpu().numpy()
        if not np.isfinite(found).all():
            raise CalculationError(
                "non-finite Hessian-vector product; check the structure for colliding atoms"
            )
        return found

    return products

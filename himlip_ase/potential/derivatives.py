"""Forces, stress, Hessian-vector products and Hessians by automatic differentiation.

All curvature is reverse-over-reverse: the gradient of (∂E/∂x)·v. Rows are taken in batches by repeating the
structure, which gives exact rows in one backward pass without any rule for vectorised autodiff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from ase import Atoms
from torch import Tensor

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.potential.graph import Graph, build_graph
from himlip_ase.potential.network import HiMLIP

ROW_ATOMS = 1024
"""Atoms per batch of Hessian rows: bounds memory, and is large enough to hide the cost of a call."""


@dataclass(frozen=True)
class Derivatives:
    """Energy and first derivatives of a batch.

    Attributes
    ----------
    energies : Tensor (B,)
        eV.
    forces : Tensor (N, 3)
        −∂E/∂x in eV/Å.
    stresses : Tensor (B, 3, 3) or None
        (1/V) ∂E/∂ε in eV/Å³, positive in tension; NaN where there is no volume.
    """

    energies: Tensor
    forces: Tensor
    stresses: Tensor | None


def energy_forces_stress(
    model: HiMLIP, graph: Graph, stress: bool = True, create_graph: bool = False
) -> Derivatives:
    """Energy, forces and stress of a batch.

    Parameters
    ----------
    model : HiMLIP
    graph : Graph
    stress : bool
        Whether to differentiate with respect to strain.
    create_graph : bool
        Keep the results differentiable (for training).
    """
    positions = graph.positions.detach().requires_grad_(True)
    variables = [positions]
    strain = None
    if stress:
        strain = positions.new_zeros(graph.n_frames, 3, 3).requires_grad_(True)
        variables.append(strain)
    with torch.enable_grad():
        energies = model(replace(graph, positions=positions), _symmetric(strain))
        gradients = torch.autograd.grad(energies.sum(), variables, create_graph=create_graph)
    stresses = gradients[1] / graph.volumes[:, None, None] if stress else None
    if not create_graph:
        energies = energies.detach()
    return Derivatives(energies, -gradients[0], stresses)


def _symmetric(strain: Tensor | None) -> Tensor | None:
    return None if strain is None else 0.5 * (strain + strain.transpose(1, 2))


def hessian_vector_product(
    model: HiMLIP, graph: Graph, vectors: Tensor, create_graph: bool = False
) -> Tensor:
    """Products of the Hessian of the summed energy with given vectors.

    Parameters
    ----------
    model : HiMLIP
    graph : Graph
    vectors : Tensor (N, 3) or (K, N, 3)
        Å or any unit; one product per leading index.
    create_graph : bool
        Keep the result differentiable with respect to the parameters (for training).

    Returns
    -------
    Tensor
        Same shape as `vectors`, eV/Å² times their unit.
    """
    n_atoms = len(graph.positions)
    if vectors.shape[-2:] != (n_atoms, 3) or vectors.dim() not in (2, 3):
        raise InputError(
            f"vectors must have shape ({n_atoms}, 3) or (K, {n_atoms}, 3), got {tuple(vectors.shape)}"
        )
    stack = vectors.reshape(-1, n_atoms, 3).to(graph.positions)
    batch = graph.replicate(len(stack)) if len(stack) > 1 else graph
    positions = batch.positions.detach().requires_grad_(True)
    with torch.enable_grad():
        energies = model(replace(batch, positions=positions))
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)
        (product,) = torch.autograd.grad(
            (gradient * stack.reshape(-1, 3)).sum(), positions, create_graph=create_graph
        )
    return product.reshape(vectors.shape)


def hessian(
    model: HiMLIP,
    atoms: Atoms,
    indices: Sequence[int] | None = None,
    row_atoms: int = ROW_ATOMS,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Second derivatives of the energy of one structure; constraints are ignored.

    Parameters
    ----------
    model : HiMLIP
    atoms : Atoms
    indices : sequence of int, optional
        Atoms whose rows are wanted; all by default.
    row_atoms : int
        Atoms per batch of rows; halved and tried again when memory runs out.

    Returns
    -------
    Tensor (n, 3, N, 3)
        eV/Å², rows of `indices` against all atoms.

    Raises
    ------
    CalculationError
        A non-finite element.
    """
    graph = build_graph(atoms, model.elements, model.cutoff, device=device, dtype=dtype)
    rows = range(len(atoms)) if indices is None else [int(index) for index in indices]
    directions = torch.zeros(3 * len(rows), len(atoms), 3, dtype=dtype, device=graph.positions.device)
    for row, atom in enumerate(rows):
        for axis in range(3):
            directions[3 * row + axis, atom, axis] = 1
    chunk = max(1, row_atoms // len(atoms))
    products: list[Tensor] = []
    start = 0
    while start < len(directions):
        try:
            products.append(hessian_vector_product(model, graph, directions[start : start + chunk]))
        except RuntimeError as error:
            if "memory" not in str(error).lower() or chunk == 1:
                raise
            chunk = max(1, chunk // 2)
            continue
        start += chunk
    result = torch.cat(products).reshape(len(rows), 3, len(atoms), 3)
    if not torch.isfinite(result).all():
        raise CalculationError(
            "the Hessian contains non-finite elements; check the structure for colliding atoms"
        )
    return result

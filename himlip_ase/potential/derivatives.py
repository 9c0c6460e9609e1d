"""Forces, stress, Hessian-vector products and Hessians by automatic differentiation.

Products are reverse-over-reverse, the gradient of (∂E/∂x)·v, which was measured to be the fastest; all rows
of a structure of up to `DENSE_ATOMS` atoms come at once (`himlip_ase.potential.dense_hessian`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from ase import Atoms
from torch import Tensor

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.potential.dense_hessian import dense_hessian, dense_hessian_bytes
from himlip_ase.potential.fused import fused_forces, fused_learning
from himlip_ase.potential.graph import Graph, build_graph
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.lattice_potential import LatticePotential
from himlip_ase.potential.memory import budget_bytes, is_out_of_memory
from himlip_ase.potential.network import HiMLIP
from himlip_ase.potential.products import hessian_products

logger = logging.getLogger(__name__)

DENSE_ATOMS = 160
"""Largest structure whose Hessian is worked out at once: beyond it products are cheaper."""

DENSE_SHARE = 0.6
"""Share of a structure's rows from which on all of them at once cost less than those by products."""

ROW_ATOMS = 1024
"""Atoms of a batch of copies of one structure, where their derivatives are recorded for training."""


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
    model: Potential, graph: Graph, stress: bool = True, create_graph: bool = False
) -> Derivatives:
    """Energy, forces and stress of a batch.

    Parameters
    ----------
    model : Potential
    graph : Graph
    stress : bool
        Whether to differentiate with respect to strain.
    create_graph : bool
        Keep the results differentiable (for training).

    Returns
    -------
    Derivatives
        eV, eV/Å, eV/Å³.
    """
    if isinstance(model, LatticePotential) and not create_graph:
        return _with_remainder(model, graph, energy_forces_stress(model.network, graph, stress))
    fused = None if create_graph else fused_forces(model)
    if fused is not None:
        energies, forces, virials = fused(graph)
        symmetric = 0.5 * (virials + virials.transpose(1, 2))
        stresses = symmetric / graph.volumes[:, None, None] if stress else None
        return Derivatives(energies, forces, stresses)
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


def _with_remainder(model: LatticePotential, graph: Graph, plain: Derivatives) -> Derivatives:
    """The derivatives of a network with those of its harmonic remainder, which are closed forms."""
    energies, forces, virials = model.remainder.energy_forces_virials(graph)
    stresses = plain.stresses
    if stresses is not None:
        stresses = stresses + virials.to(stresses) / graph.volumes[:, None, None]
    return Derivatives(
        plain.energies + energies.to(plain.energies), plain.forces + forces.to(plain.forces), stresses
    )


def trainable_derivatives(model: Potential, graph: Graph, stress: bool = True) -> Derivatives:
    """Energy, forces and stress of a batch, differentiable by the model's parameters once.

    Parameters
    ----------
    model : Potential
    graph : Graph
    stress : bool
        Whether the stress is wanted.

    Returns
    -------
    Derivatives
        The numbers of `energy_forces_stress`; where compiled passes serve, at a fraction of the cost and
        memory of differentiating its results.
    """
    if not fused_learning(model):
        return energy_forces_stress(model, graph, stress, create_graph=True)
    from himlip_ase.potential.fused.learning import learnable

    energies, forces, virials = learnable(model, graph)
    if not stress:
        return Derivatives(energies, forces, None)
    symmetric = 0.5 * (virials + virials.transpose(1, 2))
    return Derivatives(energies, forces, symmetric / graph.volumes[:, None, None])


def _symmetric(strain: Tensor | None) -> Tensor | None:
    return None if strain is None else 0.5 * (strain + strain.transpose(1, 2))


def hessian_vector_product(
    model: Potential, graph: Graph, vectors: Tensor, create_graph: bool = False
) -> Tensor:
    """Products of the Hessian of the summed energy with given vectors.

    Parameters
    ----------
    model : Potential
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
    if not create_graph:
        return hessian_products(model, [graph], [stack])[0].reshape(vectors.shape)
    batch = graph.replicate(len(stack)) if len(stack) > 1 else graph
    positions = batch.positions.detach().requires_grad_(True)
    with torch.enable_grad():
        energies = model(replace(batch, positions=positions))
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)
        (product,) = torch.autograd.grad(
            (gradient * stack.reshape(-1, 3)).sum(), positions, create_graph=True
        )
    return product.reshape(vectors.shape)


def hessian(
    model: Potential,
    atoms: Atoms,
    indices: Sequence[int] | None = None,
    memory_gb: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Second derivatives of the energy of one structure; constraints are ignored.

    Parameters
    ----------
    model : Potential
    atoms : Atoms
    indices : sequence of int, optional
        Atoms whose rows are wanted; all by default.
    memory_gb : float, optional
        See `hessian_products`.

    Returns
    -------
    Tensor (n, 3, N, 3)
        eV/Å², rows of `indices` against all atoms.

    Raises
    ------
    CalculationError
        A non-finite element.
    """
    return hessians(model, [atoms], None if indices is None else [indices], memory_gb, device, dtype)[0]


def hessians(
    model: Potential,
    images: Sequence[Atoms],
    indices: Sequence[Sequence[int]] | None = None,
    memory_gb: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """Second derivatives of several structures, small ones together.

    Parameters
    ----------
    images : sequence of Atoms
    indices : sequence of sequences of int, optional
        Rows that are wanted of each structure.

    Other parameters and errors as for `hessian`.

    Returns
    -------
    list of Tensor (n, 3, N, 3)
        eV/Å².
    """
    graphs = [
        build_graph(atoms, model.elements, model.cutoff, device=device, dtype=dtype) for atoms in images
    ]
    wanted = indices if indices is not None else [range(len(atoms)) for atoms in images]
    if isinstance(model, LatticePotential):
        plain = hessians(model.network, images, wanted, memory_gb, device, dtype)
        return [
            rows + model.remainder.products(graph, _unit_vectors(graph.positions, own)).reshape(rows.shape)
            for rows, graph, own in zip(plain, graphs, wanted, strict=True)
        ]
    found: dict[int, Tensor] = {}
    for index, (graph, rows) in enumerate(zip(graphs, wanted, strict=True)):
        if _pays_dense(model, graph, len(rows), memory_gb):
            n_atoms = len(graph.positions)
            try:
                found[index] = dense_hessian(model, graph).view(n_atoms, 3, n_atoms, 3)[list(rows)]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                logger.warning(
                    "out of memory with all rows of %d atoms at once; going on by products", n_atoms
                )
    left = [index for index in range(len(graphs)) if index not in found]
    directions = [_unit_vectors(graphs[index].positions, wanted[index]) for index in left]
    products = hessian_products(model, [graphs[index] for index in left], directions, memory_gb)
    found |= {
        index: rows.reshape(-1, 3, rows.shape[1], 3) for index, rows in zip(left, products, strict=True)
    }
    for index, values in sorted(found.items()):
        if not torch.isfinite(values).all():
            name = f" of structure {index}" if len(graphs) > 1 else ""
            raise CalculationError(
                f"the Hessian{name} contains non-finite elements; check the structure for colliding atoms"
            )
    return [found[index] for index in range(len(graphs))]


def _pays_dense(model: Potential, graph: Graph, n_rows: int, memory_gb: float | None) -> TypeGuard[HiMLIP]:
    """Whether all of a Hessian at once is cheaper than `n_rows` of it by products, and fits."""
    # That of a single atom is zero, and products of it are so to the bit
    if not isinstance(model, HiMLIP) or not 1 < len(graph.positions) <= DENSE_ATOMS:
        return False
    if n_rows < DENSE_SHARE * len(graph.positions):
        return False
    return dense_hessian_bytes(model, graph) <= budget_bytes(memory_gb, graph.positions.device)


def _unit_vectors(positions: Tensor, rows: Sequence[int]) -> Tensor:
    """Displacements of one atom along one axis, (3 n, N, 3)."""
    vectors = positions.new_zeros(len(rows), 3, len(positions), 3)
    for row, atom in enumerate(rows):
        vectors[row, :, int(atom)] = torch.eye(3, dtype=positions.dtype, device=positions.device)
    return vectors.flatten(0, 1)

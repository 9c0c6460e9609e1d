"""Many Hessian-vector products from few recorded gradients.

The gradient of the energy is recorded once; each backward pass through the record then gives exact products
without repeating what does not depend on the vectors. A record holds several structures, or several copies of
one, where they are small: a pass gives a product for each of them at once, since the energies of separate
structures have no mixed derivatives.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from himlip_ase.potential.fused import fused_forces
from himlip_ase.potential.graph import Graph, concatenate
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.lattice_potential import LatticePotential
from himlip_ase.potential.memory import SavedBytes, budget_bytes, is_out_of_memory

RECORD_ATOMS = 64
"""Atoms of a record: enough to hide the cost of a call; more would only take memory."""

WORKING_FACTOR = 1.5
"""Memory of a pass in units of what the record keeps."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Slot:
    """One structure in a record, and the products that are taken through it."""

    structure: int
    first: int
    graph: Graph
    vectors: Tensor

    @property
    def pairs(self) -> int:
        return self.graph.neighbours.numel()


def hessian_products(
    model: Potential,
    graphs: Sequence[Graph],
    vectors: Sequence[Tensor],
    memory_gb: float | None = None,
) -> list[Tensor]:
    """Products of the Hessians of several structures with several vectors each.

    Parameters
    ----------
    model : Potential
    graphs : sequence of Graph
        One structure (or a batch that stays together) each.
    vectors : sequence of Tensor (K, N, 3)
        For each of `graphs`; K may differ.
    memory_gb : float, optional
        Memory that the recorded gradients may take, GiB; half of what is free by default. The first record
        measures what is needed. When memory runs out all the same, records are halved; the values do not
        depend on it.

    Returns
    -------
    list of Tensor (K, N, 3)
        eV/Å² times the unit of the vectors.
    """
    if isinstance(model, LatticePotential):
        plain = hessian_products(model.network, graphs, vectors, memory_gb)
        own = [model.remainder.products(*pair) for pair in zip(graphs, vectors, strict=True)]
        return [one + other for one, other in zip(plain, own, strict=True)]
    results = [torch.empty_like(part) for part in vectors]
    # compiled passes take several vectors in one sweep; what is recorded takes a vector for each structure
    copied = fused_forces(model) is None
    waiting = deque(_slots(graphs, vectors, copied))
    budget = budget_bytes(memory_gb, graphs[0].positions.device) if waiting else 0
    bytes_per_pair, most = 0.0, len(waiting)
    while waiting:
        if bytes_per_pair:
            group = _next_group(waiting, most, budget / bytes_per_pair)
        else:
            few = max(1, model.batch_pairs // waiting[0].pairs)
            group = _next_group(waiting, min(most, few), None)
        try:
            products, kept = _products_of(model, group)
        except (RuntimeError, MemoryError) as error:
            if len(group) == 1 or not is_out_of_memory(error):
                raise
            most = len(group) // 2
            logger.warning("out of memory with %d structures in a record; going on with %d", len(group), most)
            waiting.extendleft(reversed(group))
            continue
        if not bytes_per_pair:
            bytes_per_pair = WORKING_FACTOR * kept / sum(slot.pairs for slot in group)
            logger.debug("%.0f bytes a pair of atoms, %.2f GiB allowed", bytes_per_pair, budget / 1024**3)
        for slot, product in zip(group, products, strict=True):
            results[slot.structure][slot.first : slot.first + len(product)] = product
    return results


def _slots(graphs: Sequence[Graph], vectors: Sequence[Tensor], copied: bool) -> list[_Slot]:
    """Structures, repeated (if they may be copied) where they are small and many products are wanted."""
    slots = []
    for structure, (graph, wanted) in enumerate(zip(graphs, vectors, strict=True)):
        if not wanted.numel():
            continue
        copies = min(len(wanted), max(1, RECORD_ATOMS // len(graph.positions))) if copied else 1
        first = 0
        for part in torch.tensor_split(wanted, copies):
            slots.append(_Slot(structure, first, graph, part))
            first += len(part)
    return slots


def _next_group(waiting: deque[_Slot], most: int, most_pairs: float | None) -> list[_Slot]:
    """The slots of the next record, taken from those that wait."""
    group = [waiting.popleft()]
    atoms, pairs = len(group[0].graph.positions), group[0].pairs
    if most_pairs is not None and pairs > most_pairs:
        logger.warning("one structure of %d atoms needs more memory than is allowed", atoms)
    while waiting and len(group) < most:
        atoms += len(waiting[0].graph.positions)
        pairs += waiting[0].pairs
        if atoms > RECORD_ATOMS or (most_pairs is not None and pairs > most_pairs):
            break
        group.append(waiting.popleft())
    return group


def _products_of(model: Potential, group: Sequence[_Slot]) -> tuple[list[Tensor], int]:
    """Products of all slots of one record, and the bytes that it kept."""
    graph = concatenate([slot.graph for slot in group]) if len(group) > 1 else group[0].graph
    product_with, kept = _recorded(model, graph)
    steps = max(len(slot.vectors) for slot in group)
    directions = [
        torch.cat([slot.vectors, slot.vectors.new_zeros(steps - len(slot.vectors), *slot.vectors.shape[1:])])
        for slot in group
    ]
    counts = [len(slot.graph.positions) for slot in group]
    products = product_with(torch.cat(directions, dim=1)).split(counts, dim=1)
    return [product[: len(slot.vectors)] for product, slot in zip(products, group, strict=True)], kept


def _recorded(model: Potential, graph: Graph) -> tuple[Callable[[Tensor], Tensor], int]:
    """What multiplies the Hessian of a graph with vectors (V, N, 3), and the bytes that its record keeps."""
    fused = fused_forces(model)
    if fused is not None:
        from himlip_ase.potential.fused.products import FusedProducts

        products = FusedProducts(fused, graph)
        return products, products.n_bytes
    positions = graph.positions.detach().requires_grad_(True)
    saved = SavedBytes()
    with torch.enable_grad(), saved.recording():
        energies = model(replace(graph, positions=positions))
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)

    def product_with(directions: Tensor) -> Tensor:
        if not gradient.requires_grad:
            return torch.zeros_like(directions)
        return torch.stack(
            [torch.autograd.grad(gradient, positions, v, retain_graph=True)[0] for v in directions]
        )

    return product_with, saved.total

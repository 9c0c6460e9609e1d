"""Hessian-vector products of the Hi-MLIP network: the change of the forces along vectors, pass by pass.

The forces are recorded once for a graph, with all that does not depend on the vectors; a sweep then takes as
many products as fit into the cache, forwards and back.  A product is exact: the derivative of every pass is
written down (`himlip_ase.potential.fused.pair_tangents`, `himlip_ase.potential.fused.sphere_tangents`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from himlip_ase.potential.fused import dense, geometry, pair_tangents
from himlip_ase.potential.fused.forces import FusedForces, Recorded, in_ranges
from himlip_ase.potential.fused.tangents import Change, Motion, Tangents, mixed_all
from himlip_ase.potential.graph import Graph

SWEEP_BYTES = 16 * 1024**2
"""Of what a sweep works on, for all of its vectors."""


class FusedProducts:
    """Products of the Hessian of one graph's summed energy with vectors.

    Parameters
    ----------
    forces : FusedForces
    graph : Graph
        One structure, or a batch that stays together.
    """

    @torch.no_grad()
    def __init__(self, forces: FusedForces, graph: Graph) -> None:
        self._forces = forces
        self._record = forces.recorded(graph)
        self._tangents = Tangents(forces, self._record)
        self._matrix, self._heard, self._pulled = self._pair_curvature()

    @property
    def n_bytes(self) -> int:
        """Bytes of what is kept, and of what a sweep works on."""
        found, record = self._record.pairs, self._record
        tables = [found.vectors, found.inverse, found.harmonic, found.radial, found.slope, self._matrix]
        tables += [*self._heard, *self._pulled, *(curves.integrals for curves in self._tangents.curves)]
        for forward, backward in zip(record.forwards, record.backwards, strict=True):
            tables += [forward.raw, backward.to_raw]
            if forward.edges is not None:
                tables += [forward.edges] * 3
        return sum(table.nbytes for table in tables) + self._sweep() * self._bytes_of_a_vector()

    @torch.no_grad()
    def __call__(self, vectors: Tensor) -> Tensor:
        """Products with vectors.

        Parameters
        ----------
        vectors : Tensor (N, 3) or (V, N, 3)

        Returns
        -------
        Tensor
            Of the same shape, eV/Å² times the unit of the vectors.
        """
        positions = self._record.graph.positions
        stack = vectors.to(positions.dtype).reshape(-1, len(positions), 3)
        products = torch.empty_like(stack)
        for part, out in zip(stack.split(self._sweep()), products.split(self._sweep()), strict=True):
            self._products(part.contiguous(), out)
        return products.reshape(vectors.shape)

    def _sweep(self) -> int:
        """Vectors of a sweep."""
        return max(1, SWEEP_BYTES // self._bytes_of_a_vector())

    def _bytes_of_a_vector(self) -> int:
        """What a sweep works on for each of its vectors."""
        (n_atoms, width), config = self._record.pairs.shape, self._forces.model.config
        a_pair = 2 * 16 + 10 + 2 * config.edge_features
        an_atom = 16 * (config.n_radial * config.edge_features + 8 * config.channels) * config.layers
        return n_atoms * (width * a_pair + an_atom) * self._record.graph.positions.element_size()

    def _products(self, vectors: Tensor, products: Tensor) -> None:
        """One sweep: forwards, back, and the forces of the changed pairs."""
        found = self._record.pairs
        motions = [self._tangents.motion(v) for v in vectors.numpy()]
        gradients = self._backward(motions, self._tangents.forward(motions))
        virials = products.new_empty(products.shape[1], 3, 3).numpy()
        for gradient, product in zip(gradients, products.numpy(), strict=True):
            in_ranges(
                found.shape[0], geometry.forces_of_pairs, found.counts, found.reverse, found.vectors,
                found.inverse, gradient, product, virials,
            )  # fmt: skip
        products.neg_()

    def _backward(self, motions: list[Motion], changes: list[Change]) -> np.ndarray:
        """Changes of ∂E/∂r of every pair vector, (V, N, M, 3)."""
        forces, record, passes = self._forces, self._record, self._tangents.passes
        found, n_atoms, n = record.pairs, record.pairs.shape[0], len(motions)

        def table(like: np.ndarray) -> np.ndarray:
            return np.zeros((n, *like.shape), dtype=like.dtype)

        along, outward, gradient, turned = map(
            table, (found.harmonic, found.inverse, found.vectors, found.vectors)
        )
        to_scalars = torch.zeros_like(changes[-1].scalars)
        to_density = torch.zeros(changes[-1].density.shape, dtype=to_scalars.dtype)
        for index in reversed(range(len(forces.layers))):
            weights, forward, backward = forces.layers[index], record.forwards[index], record.backwards[index]
            change = changes[index]
            _, to_inputs = self._tangents.invariants_adjoint(index, change, to_scalars, to_density)
            to_raw = mixed_all(to_density.numpy(), weights.unmix)
            if forward.edges is None:
                for v in range(n):
                    in_ranges(
                        n_atoms, forces.passes.of_species_adjoint, record.species, found.neighbours,
                        found.counts, found.radial, found.slope, found.harmonic, forces.edges, to_raw[v],
                        found.vectors, found.inverse, along[v], outward[v], gradient[v],
                    )  # fmt: skip
                    in_ranges(
                        n_atoms, pair_tangents.turned, found.counts, motions[v].moved, self._matrix, turned[v]
                    )
                break
            assert forward.said is not None and backward.edge_gradient is not None
            edge_gradient, edge_slope = table(forward.edges), np.empty_like(forward.edges)
            to_said = np.empty((n, *forward.said.shape), forward.said.dtype)
            for v in range(n):
                in_ranges(
                    n_atoms, forces.passes.of_bonds_adjoint, found.neighbours, found.counts, found.radial,
                    found.slope, found.harmonic, forward.said, forward.edges, to_raw[v], edge_gradient[v],
                    edge_slope, along[v], outward[v],
                )  # fmt: skip
                in_ranges(
                    n_atoms, passes.heard, found.neighbours, found.counts, motions[v].moved, change.said[v],
                    backward.edge_gradient, change.edges[v], self._heard[index], self._pulled[index],
                    edge_gradient[v], along[v], turned[v],
                )  # fmt: skip
                in_ranges(
                    n_atoms, pair_tangents.said_adjoint, found.counts, found.reverse, found.harmonic,
                    motions[v].harmonic_dot, backward.edge_gradient, edge_gradient[v], to_said[v],
                )  # fmt: skip
            to_scalars, to_density = torch.empty_like(to_scalars), torch.empty_like(to_density)
            for v in range(n):
                in_ranges(
                    n_atoms, dense.saying_adjoint, to_said[v], *weights.saying_adjoint, to_inputs[v].numpy(),
                    to_density[v].numpy(), to_scalars[v].numpy(),
                )  # fmt: skip
        gradient += turned
        return gradient

    def _pair_curvature(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """`matrix` of every pair, and of each layer `heard_gradient` and `pulled_gradient`.

        See `himlip_ase.potential.fused.pair_tangents`; empty in the first layer.
        """
        forces, record, passes = self._forces, self._record, self._tangents.passes
        found, n_atoms = record.pairs, record.pairs.shape[0]
        curvature, bend = _curvatures(forces, record)
        along_slope = np.zeros_like(found.harmonic)
        all_heard: list[np.ndarray] = []
        all_pulled: list[np.ndarray] = []
        for forward, backward in zip(record.forwards, record.backwards, strict=True):
            shape = (0,) if forward.edges is None else (*forward.edges.shape, 3)
            heard, pulled = np.empty(shape, found.inverse.dtype), np.empty(shape, found.inverse.dtype)
            if forward.edges is None:
                in_ranges(
                    n_atoms, passes.of_species_curvature, record.species, found.neighbours, found.counts,
                    found.slope, curvature, found.harmonic, forces.edges, backward.to_raw, along_slope, bend,
                )  # fmt: skip
            else:
                in_ranges(
                    n_atoms, passes.of_bonds_curvature, found.neighbours, found.counts, found.vectors,
                    found.inverse, found.radial, found.slope, curvature, found.harmonic, forward.said,
                    forward.edges, backward.to_raw, backward.edge_slope, along_slope, bend, heard, pulled,
                )  # fmt: skip
            all_heard.append(heard)
            all_pulled.append(pulled)
        matrix = np.empty((*found.shape, 6), found.inverse.dtype)
        in_ranges(
            n_atoms, pair_tangents.second_derivatives, found.counts, found.vectors, found.inverse,
            record.along, along_slope, record.outward, bend, matrix,
        )  # fmt: skip
        return matrix, all_heard, all_pulled


def _curvatures(forces: FusedForces, record: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """Second derivatives by the distance of the radial functions (N, M, K) and of the repulsion (N, M)."""
    found, cutoff = record.pairs, float(forces.model.cutoff)
    curvature, pair_curvature = np.empty_like(found.radial), np.empty_like(found.scaled)
    in_ranges(
        found.shape[0], pair_tangents.curvatures, record.species, found.neighbours, found.counts, cutoff,
        forces.waves, found.scaled, *forces.sines(found), curvature,
        *forces.repulsion, pair_curvature,
    )  # fmt: skip
    return curvature, pair_curvature

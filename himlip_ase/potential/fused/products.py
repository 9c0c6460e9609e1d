"""Hessian-vector products of the Hi-MLIP network: the change of the forces along vectors, pass by pass.

The forces are recorded once for a graph, with all that does not depend on the vectors; a sweep then takes as
many products as fit into the cache, forwards and back.  A product is exact: the derivative of every pass is
written down (`himlip_ase.potential.fused.pair_tangents`, `himlip_ase.potential.fused.sphere_tangents`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from himlip_ase.potential.fused import densities, geometry, pair_tangents
from himlip_ase.potential.fused.forces import FusedForces, Recorded, in_ranges
from himlip_ase.potential.fused.sphere_tangents import SLOPES, sphere_tangents
from himlip_ase.potential.graph import Graph

SWEEP_BYTES = 16 * 1024**2
"""Of what a sweep works on, for all of its vectors."""


@dataclass(frozen=True)
class Curves:
    """Second derivatives of one layer's functions of one variable, and slopes of its integrals.

    Attributes
    ----------
    input_slope, input_bend : Tensor (N, n_inputs)
        Slope of arsinh of the standardised inputs by the inputs; second derivative times the gradient.
    silu_slope, silu_bend : Tensor (N, hidden)
        The same of SiLU by the hidden values.
    integrals : ndarray (N, 16, 11 C)
        See `himlip_ase.potential.fused.sphere_tangents`.
    heard_gradient, pulled_gradient : ndarray (N, M, F, 3)
        See `himlip_ase.potential.fused.pair_tangents`; empty in the first layer.
    """

    input_slope: Tensor
    input_bend: Tensor
    silu_slope: Tensor
    silu_bend: Tensor
    integrals: np.ndarray
    heard_gradient: np.ndarray
    pulled_gradient: np.ndarray


@dataclass(frozen=True)
class Motion:
    """Changes of all pairs along one vector; see `himlip_ase.potential.fused.pair_tangents`."""

    moved: np.ndarray
    stretch: np.ndarray
    harmonic_dot: np.ndarray


@dataclass(frozen=True)
class Change:
    """Changes of one layer along the vectors of a sweep, (V, …)."""

    raw: np.ndarray
    density: np.ndarray
    inputs: Tensor
    hidden: Tensor
    scalars: Tensor
    said: np.ndarray
    edges: np.ndarray


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
        config = forces.model.config
        self._passes = pair_tangents.density_tangents(config.n_radial, config.edge_features)
        self._slopes, self._invariants, self._invariants_adjoint = sphere_tangents(config.channels)
        self._matrix, self._curves = self._curvature()

    @property
    def n_bytes(self) -> int:
        """Bytes of what is kept, and of what a sweep works on."""
        found, record = self._record.pairs, self._record
        tables = [found.vectors, found.inverse, found.harmonic, found.radial, found.slope, self._matrix]
        for forward, backward, curves in zip(record.forwards, record.backwards, self._curves, strict=True):
            tables += [curves.integrals, curves.heard_gradient, curves.pulled_gradient, backward.to_raw]
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
        graph, found = self._record.graph, self._record.pairs
        none = graph.positions.new_zeros(graph.n_frames, 3, 3).numpy()
        motions = [self._motion(v, none) for v in vectors.numpy()]
        gradients = self._backward(motions, self._forward(motions))
        virials = products.new_empty(products.shape[1], 3, 3).numpy()
        for gradient, product in zip(gradients, products.numpy(), strict=True):
            in_ranges(
                found.shape[0], geometry.forces_of_pairs, found.counts, found.reverse, found.vectors,
                found.inverse, gradient, product, virials,
            )  # fmt: skip
        products.neg_()

    def _motion(self, v: np.ndarray, strain: np.ndarray) -> Motion:
        found = self._record.pairs
        motion = Motion(
            np.empty_like(found.vectors), np.empty_like(found.inverse), np.empty_like(found.harmonic)
        )
        in_ranges(
            found.shape[0], pair_tangents.motions, self._record.graph.frame.numpy(), found.neighbours,
            found.counts, found.vectors, found.inverse, v, strain, motion.moved, motion.stretch,
            motion.harmonic_dot,
        )  # fmt: skip
        return motion

    def _forward(self, motions: list[Motion]) -> list[Change]:
        """Changes of all layers."""
        forces, record, passes = self._forces, self._record, self._passes
        found, n_atoms, n = record.pairs, record.pairs.shape[0], len(motions)
        changes: list[Change] = []
        for weights, forward, curves in zip(forces.layers, record.forwards, self._curves, strict=True):
            layer, network = weights.layer, weights.layer.network
            new = forward.density.new_empty
            raw = new(n, 16, n_atoms, weights.mix.shape[1]).numpy()
            said = edges = np.empty((n, 0))
            if layer.bonds is None:
                for motion, own in zip(motions, raw, strict=True):
                    in_ranges(
                        n_atoms, passes.of_species, record.species, found.neighbours, found.counts,
                        found.radial, found.slope, found.harmonic, motion.stretch, motion.harmonic_dot,
                        forces.edges, own,
                    )  # fmt: skip
            else:
                assert weights.mixing is not None and forward.edges is not None
                spoken = torch.matmul(torch.from_numpy(changes[-1].density), weights.mixing)
                spoken[:, 0] += changes[-1].scalars @ layer.bonds.scalars.weight.T
                said = spoken.permute(0, 2, 3, 1).contiguous().numpy()
                edges = new(n, *forward.edges.shape).numpy()
                for motion, spoken_now, heard, own in zip(motions, said, edges, raw, strict=True):
                    in_ranges(
                        n_atoms, passes.of_bonds, found.neighbours, found.counts, found.radial, found.slope,
                        found.harmonic, motion.moved, motion.stretch, motion.harmonic_dot, spoken_now,
                        forward.edges, curves.heard_gradient, heard, own,
                    )  # fmt: skip
            density = self._mixed(raw, weights.mix)
            inputs = new(n, *forward.standard.shape)
            in_ranges(
                n_atoms, self._invariants, record.species, weights.gates, forward.density.numpy(),
                curves.integrals, density, inputs.numpy(),
            )  # fmt: skip
            if changes:
                inputs[..., -changes[-1].scalars.shape[-1] :] = changes[-1].scalars
            hidden = (inputs * curves.input_slope) @ network.first.weight.T
            scalars = hidden + (hidden * curves.silu_slope) @ network.second.weight.T
            changes.append(Change(raw, density, inputs, hidden, scalars, said, edges))
        return changes

    def _backward(self, motions: list[Motion], changes: list[Change]) -> np.ndarray:
        """Changes of ∂E/∂r of every pair vector, (V, N, M, 3)."""
        forces, record, passes = self._forces, self._record, self._passes
        found, n_atoms, n = record.pairs, record.pairs.shape[0], len(motions)
        new = record.graph.positions.new_empty
        along, outward = np.zeros((n, *found.harmonic.shape)), np.zeros((n, *found.inverse.shape))
        gradient, turned = np.empty((n, *found.vectors.shape)), np.zeros((n, *found.vectors.shape))
        to_scalars: Tensor | None = None
        to_density: Tensor | None = None
        for index in reversed(range(len(forces.layers))):
            weights, forward, backward = forces.layers[index], record.forwards[index], record.backwards[index]
            change, curves = changes[index], self._curves[index]
            bonds, network = weights.layer.bonds, weights.layer.network
            down = curves.silu_bend * change.hidden
            if to_scalars is not None:
                down += to_scalars + (to_scalars @ network.second.weight) * curves.silu_slope
            to_inputs = (down @ network.first.weight) * curves.input_slope
            to_inputs.addcmul_(curves.input_bend, change.inputs)
            if to_density is None:
                to_density = torch.zeros(change.density.shape, dtype=down.dtype)
            in_ranges(
                n_atoms, self._invariants_adjoint, record.species, weights.gates, forward.density.numpy(),
                *forces.by_point, curves.integrals, change.density, backward.to_inputs.numpy(),
                to_inputs.numpy(), to_density.numpy(),
            )  # fmt: skip
            to_raw = self._mixed(to_density.numpy(), weights.unmix)
            if bonds is None:
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
            assert forward.edges is not None and backward.edge_gradient is not None
            assert forward.said is not None and weights.mixing is not None
            edge_gradient, edge_slope = np.empty((n, *forward.edges.shape)), np.empty(forward.edges.shape)
            to_said = new(n, *forward.said.shape)
            for v in range(n):
                in_ranges(
                    n_atoms, forces.passes.of_bonds_adjoint, found.neighbours, found.counts, found.radial,
                    found.slope, found.harmonic, forward.said, forward.edges, to_raw[v], edge_gradient[v],
                    edge_slope, along[v], outward[v],
                )  # fmt: skip
                in_ranges(
                    n_atoms, passes.heard, found.neighbours, found.counts, motions[v].moved, change.said[v],
                    backward.edge_gradient, change.edges[v], curves.heard_gradient, curves.pulled_gradient,
                    edge_gradient[v], along[v], turned[v],
                )  # fmt: skip
                in_ranges(
                    n_atoms, pair_tangents.said_adjoint, found.counts, found.reverse, found.harmonic,
                    motions[v].harmonic_dot, backward.edge_gradient, edge_gradient[v], to_said[v].numpy(),
                )  # fmt: skip
            hidden = forces.model.config.hidden
            to_scalars = to_inputs[..., -hidden:] + to_said[..., 0] @ bonds.scalars.weight
            to_density = torch.matmul(to_said.permute(0, 3, 1, 2), weights.mixing.transpose(1, 2))
        gradient += turned
        return gradient

    def _mixed(self, values: np.ndarray, matrices: Tensor) -> np.ndarray:
        """Σ_q values[v, s, i, q] matrices[s, q, c]."""
        found = np.empty((*values.shape[:3], matrices.shape[2]), dtype=values.dtype)
        for one, mixed in zip(values, found, strict=True):
            in_ranges(values.shape[2], densities.mixed, one, matrices.numpy(), mixed)
        return found

    def _curvature(self) -> tuple[np.ndarray, list[Curves]]:
        """∂²E/∂r∂r of every pair (N, M, 6), and what else is of second order, layer by layer."""
        forces, record, passes = self._forces, self._record, self._passes
        found, n_atoms = record.pairs, record.pairs.shape[0]
        curvature, bend = _curvatures(forces, record)
        along_slope = np.zeros_like(found.harmonic)
        curves = []
        for weights, forward, backward in zip(forces.layers, record.forwards, record.backwards, strict=True):
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
            network, channels = weights.layer.network, forces.model.config.channels
            integrals = np.empty((n_atoms, 16, SLOPES * channels), found.inverse.dtype)
            in_ranges(n_atoms, self._slopes, forward.density.numpy(), *forces.by_point, integrals)
            shrink = torch.from_numpy(weights.inverse_spread)[record.graph.species]
            inverse = torch.rsqrt(1 + forward.standard**2)
            sigmoid = torch.sigmoid(forward.hidden)
            change = sigmoid * (1 - sigmoid)
            to_active = backward.down @ network.second.weight
            curves.append(
                Curves(
                    inverse * shrink,
                    -backward.to_standard * forward.standard * inverse**3 * shrink**2,
                    sigmoid + forward.hidden * change,
                    to_active * change * (2 + forward.hidden * (1 - 2 * sigmoid)),
                    integrals, heard, pulled,
                )
            )  # fmt: skip
        matrix = np.empty((*found.shape, 6), found.inverse.dtype)
        in_ranges(
            n_atoms, pair_tangents.second_derivatives, found.counts, found.vectors, found.inverse,
            record.along, along_slope, record.outward, bend, matrix,
        )  # fmt: skip
        return matrix, curves


def _curvatures(forces: FusedForces, record: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """Second derivatives by the distance of the radial functions (N, M, K) and of the repulsion (N, M)."""
    found, model = record.pairs, forces.model
    repulsion, waves = model.repulsion, model.radial.wave_numbers.detach()
    scaled = 1 / (torch.from_numpy(found.inverse) * model.cutoff)
    phase = scaled[:, :, None] * waves
    curvature, pair_curvature = torch.empty_like(phase), torch.empty_like(scaled)
    in_ranges(
        found.shape[0], pair_tangents.curvatures, record.species, found.neighbours, found.counts,
        float(model.cutoff), waves.numpy(), scaled.numpy(), torch.sin(phase).numpy(),
        torch.cos(phase).numpy(), curvature.numpy(), repulsion.ranges.numpy(), repulsion.screening.numpy(),
        repulsion.coulomb.numpy(), repulsion.weights.numpy(), repulsion.decays.numpy(),
        pair_curvature.numpy(),
    )  # fmt: skip
    return curvature.numpy(), pair_curvature.numpy()

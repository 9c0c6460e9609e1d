"""Hessian-vector products of the Hi-MLIP network: the change of the forces along v, pass by pass.

The forces are recorded once for a graph; each product then repeats only what depends on v.  A product is
exact: the derivative of every pass is written down (`himlip_ase.potential.fused.pair_tangents`,
`himlip_ase.potential.fused.sphere_tangents`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from himlip_ase.potential.fused import geometry, pair_tangents, sphere_tangents
from himlip_ase.potential.fused.forces import FusedForces, Recorded, in_ranges
from himlip_ase.potential.graph import Graph


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
        self._curvature, self._pair_curvature = _curvatures(forces, self._record)

    @property
    def n_bytes(self) -> int:
        """Bytes of what is kept for all pairs."""
        found = self._record.pairs
        tables = (found.vectors, found.inverse, found.harmonic, found.radial, found.slope, self._curvature)
        edges = [forward.edges.nbytes * 4 for forward in self._record.forwards if forward.edges is not None]
        return sum(table.nbytes for table in tables) + sum(edges)

    @torch.no_grad()
    def __call__(self, vector: Tensor) -> Tensor:
        """Product with one vector.

        Parameters
        ----------
        vector : Tensor (N, 3)

        Returns
        -------
        Tensor (N, 3)
            eV/Å² times the unit of the vector.
        """
        record, v = self._record, vector.to(self._record.graph.positions.dtype).contiguous().numpy()
        densities, edges, said, hiddens, standards = self._forward(v)
        gradient = self._backward(v, densities, edges, said, hiddens, standards)
        product = torch.empty_like(record.graph.positions)
        virials = product.new_empty(len(product), 3, 3)
        found = record.pairs
        in_ranges(
            found.shape[0], geometry.forces_of_pairs, found.counts, found.reverse, found.vectors,
            found.inverse, gradient, product.numpy(), virials.numpy(),
        )  # fmt: skip
        return -product

    def _forward(
        self, v: np.ndarray
    ) -> tuple[list[Tensor], list[np.ndarray], list[np.ndarray], list[Tensor], list[Tensor]]:
        """Changes of densities, of what is heard and said, of hidden values, of standardised inputs."""
        forces, record = self._forces, self._record
        found, graph = record.pairs, record.graph
        n_atoms = found.shape[0]
        densities: list[Tensor] = []
        edges: list[np.ndarray] = []
        said: list[np.ndarray] = []
        hiddens: list[Tensor] = []
        standards: list[Tensor] = []
        scalars = graph.positions.new_empty(n_atoms, 0)
        common = (found.vectors, found.inverse, v, found.radial, found.slope, found.harmonic)
        for weights, forward in zip(forces.layers, record.forwards, strict=True):
            layer, network = weights.layer, weights.layer.network
            raw = scalars.new_empty(16, n_atoms, found.radial.shape[2] * forces.edges.shape[1])
            if layer.bonds is None:
                in_ranges(
                    n_atoms, self._passes.of_species, record.species, found.neighbours, found.counts, *common,
                    forces.edges, raw.numpy(),
                )  # fmt: skip
                edges.append(np.empty(0))
                said.append(np.empty(0))
            else:
                assert weights.mixing is not None and forward.edges is not None
                spoken = torch.bmm(densities[-1], weights.mixing)
                spoken[0] += scalars @ layer.bonds.scalars.weight.T
                said.append(spoken.permute(1, 2, 0).contiguous().numpy())
                edges.append(np.empty_like(forward.edges))
                in_ranges(
                    n_atoms, self._passes.of_bonds, found.neighbours, found.counts, *common, forward.said,
                    said[-1], forward.edges, edges[-1], raw.numpy(),
                )  # fmt: skip
            gate = torch.from_numpy(weights.gates)[graph.species].transpose(0, 1)[layer.density.degree]
            densities.append(torch.bmm(raw, weights.mix) * gate)
            inputs = torch.zeros_like(forward.standard)
            in_ranges(
                n_atoms, sphere_tangents.invariants, forward.density.numpy(), densities[-1].numpy(),
                *forces.quadrature, inputs.numpy(),
            )  # fmt: skip
            if scalars.shape[1]:
                inputs[:, -scalars.shape[1] :] = scalars
            standard = inputs * torch.from_numpy(weights.inverse_spread)[graph.species]
            hidden = (standard * torch.rsqrt(1 + forward.standard**2)) @ network.first.weight.T
            scalars = hidden + (_silu_slope(forward.hidden) * hidden) @ network.second.weight.T
            standards.append(standard)
            hiddens.append(hidden)
        return densities, edges, said, hiddens, standards

    def _backward(
        self,
        v: np.ndarray,
        densities: list[Tensor],
        edges: list[np.ndarray],
        said: list[np.ndarray],
        hiddens: list[Tensor],
        standards: list[Tensor],
    ) -> np.ndarray:
        """Change of ∂E/∂r of every pair vector."""
        forces, record = self._forces, self._record
        found, graph = record.pairs, record.graph
        n_atoms, width = found.shape
        gradient = np.zeros((n_atoms, width, 3), dtype=found.inverse.dtype)
        to_scalars: Tensor | None = None
        to_density: Tensor | None = None
        common = (
            found.vectors, found.inverse, v, found.radial, found.slope, self._curvature, found.harmonic,
        )  # fmt: skip
        for index in reversed(range(len(forces.layers))):
            weights, forward, backward = forces.layers[index], record.forwards[index], record.backwards[index]
            layer, network = weights.layer, weights.layer.network
            curve = _silu_curvature(forward.hidden) * hiddens[index]
            down = (backward.down @ network.second.weight) * curve
            if to_scalars is not None:
                down = down + to_scalars + (to_scalars @ network.second.weight) * _silu_slope(forward.hidden)
            square = 1 + forward.standard**2
            to_inputs = (down @ network.first.weight) * torch.rsqrt(square)
            to_inputs -= backward.to_standard * forward.standard * square**-1.5 * standards[index]
            to_inputs *= torch.from_numpy(weights.inverse_spread)[graph.species]
            if to_density is None:
                to_density = torch.zeros_like(forward.density)
            in_ranges(
                n_atoms, sphere_tangents.invariants_adjoint, record.species, weights.gates,
                forward.density.numpy(), densities[index].numpy(), *forces.quadrature,
                backward.to_inputs.numpy(), to_inputs.numpy(), to_density.numpy(),
            )  # fmt: skip
            to_raw = torch.bmm(to_density, weights.unmix).numpy()
            if layer.bonds is None:
                in_ranges(
                    n_atoms, self._passes.of_species_adjoint, record.species, found.neighbours, found.counts,
                    *common, forces.edges, backward.to_raw, to_raw, found.pair_slope, self._pair_curvature,
                    gradient,
                )  # fmt: skip
                break
            assert backward.edge_gradient is not None and weights.mixing is not None
            edge_gradient = np.empty_like(backward.edge_gradient)
            in_ranges(
                n_atoms, self._passes.of_bonds_adjoint, found.neighbours, found.counts, *common, forward.said,
                said[index], forward.edges, edges[index], backward.to_raw, to_raw, backward.edge_gradient,
                edge_gradient, gradient,
            )  # fmt: skip
            to_said = to_density.new_empty(n_atoms, edge_gradient.shape[2], 16)
            in_ranges(
                n_atoms, pair_tangents.said_adjoint, found.neighbours, found.counts, found.reverse,
                found.vectors, found.inverse, v, found.harmonic, backward.edge_gradient, edge_gradient,
                to_said.numpy(),
            )  # fmt: skip
            hidden = forces.model.config.hidden
            to_scalars = to_inputs[:, -hidden:] + to_said[:, :, 0] @ layer.bonds.scalars.weight
            to_density = torch.bmm(to_said.permute(2, 0, 1), weights.mixing.transpose(1, 2))
        return gradient


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


def _silu_slope(x: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(x)
    return sigmoid * (1 + x * (1 - sigmoid))


def _silu_curvature(x: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(x)
    return sigmoid * (1 - sigmoid) * (2 + x * (1 - 2 * sigmoid))

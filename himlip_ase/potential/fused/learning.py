"""Energies, forces and virials that are differentiable by the weights, once: what a step of training takes.

Of a loss L of energies E, forces F and virials, the gradient by the weights is that of Σ (∂L/∂E) E + Ė, with
the change Ė of the summed energy as atoms move along −∂L/∂F and frames are strained by ∂L/∂(virial).  So it
costs one sweep forwards and back along one vector, whatever the number of weights, and keeps no more than the
forces do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from himlip_ase.potential.fused import dense, pair_tangents, weight_passes
from himlip_ase.potential.fused.forces import FusedForces, Recorded, in_ranges
from himlip_ase.potential.fused.tangents import Change, Motion, Tangents, mixed_all
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.network import HiMLIP


def learnable(model: HiMLIP, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
    """Energies, forces and virials, differentiable by the parameters once, and by nothing else.

    Parameters
    ----------
    model : HiMLIP
        On the CPU.
    graph : Graph

    Returns
    -------
    tuple of Tensor
        As `himlip_ase.potential.fused.forces.FusedForces`.
    """
    energies, forces, virials = _Learnable.apply(model, graph, *model.parameters())
    return energies, forces, virials


class _Learnable(Function):
    @staticmethod
    def forward(ctx: Any, model: HiMLIP, graph: Graph, *parameters: Tensor) -> tuple[Tensor, ...]:
        forces = FusedForces(model, learning=True)
        record = forces.recorded(graph)
        results = forces.of_record(record)
        nothing = np.empty(0)
        ctx.kept = forces, replace(record, gradient=nothing, along=nothing, outward=nothing)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        forces, record = ctx.kept
        to_energies, to_forces, to_virials = (gradient.contiguous() for gradient in gradients)
        found = WeightGradients(forces, record)(to_energies, -to_forces, to_virials)
        return None, None, *(found[parameter] for parameter in forces.model.parameters())


class WeightGradients:
    """Derivatives by the weights of what is recorded of a graph.

    Parameters
    ----------
    forces : FusedForces
        Made for learning.
    record : Recorded
        By `forces`.
    """

    def __init__(self, forces: FusedForces, record: Recorded) -> None:
        self._forces, self._record = forces, record
        self._tangents = Tangents(forces, record)
        config = forces.model.config
        self._passes = weight_passes.weight_passes(config.n_radial, config.edge_features)
        n_species = len(config.elements)
        self._of_species = nn.functional.one_hot(record.graph.species, n_species).T.to(record.energies)

    @torch.no_grad()
    def __call__(self, to_energies: Tensor, v: Tensor, strain: Tensor) -> dict[Tensor, Tensor]:
        """Derivatives of Σ to_energies E + Ė.

        Parameters
        ----------
        to_energies : Tensor (B,)
        v : Tensor (N, 3)
            Along which atoms move.
        strain : Tensor (B, 3, 3)
            That comes with it.

        Returns
        -------
        dict
            Of every parameter of the model.
        """
        forces, record, model = self._forces, self._record, self._forces.model
        found, n_atoms, graph = record.pairs, record.pairs.shape[0], record.graph
        motion = self._tangents.motion(v.numpy(), strain.numpy())
        changes = self._tangents.forward([motion])
        gradients: dict[Tensor, Tensor] = {}
        radial, radial_dot = np.zeros_like(found.radial), np.zeros_like(found.radial)
        to_output = (model.energy_scale * to_energies)[graph.frame]
        to_scalars = torch.zeros_like(changes[-1].scalars)
        to_density = torch.zeros(changes[-1].density.shape, dtype=to_scalars.dtype)
        for index in reversed(range(len(forces.layers))):
            weights, forward, backward = forces.layers[index], record.forwards[index], record.backwards[index]
            change, layer = changes.pop(), weights.layer
            gradients |= self._of_readout(index, change, to_output)
            to_scalars = to_scalars + to_output[:, None] * layer.readout.weight[graph.species]
            to_hidden, to_inputs = self._tangents.invariants_adjoint(index, change, to_scalars, to_density)
            gradients |= self._of_network(index, change, to_scalars[0], to_hidden[0])
            gradients |= self._of_mixing(index, change, to_density[0])
            (to_raw,) = mixed_all(to_density.numpy(), weights.unmix)
            if forward.edges is None:
                edges = np.empty((n_atoms, *forces.edges.shape), dtype=found.inverse.dtype)
                in_ranges(
                    n_atoms, self._passes.of_species, record.species, found.neighbours, found.counts,
                    found.radial, found.slope, found.harmonic, motion.stretch, motion.harmonic_dot,
                    forces.edges, backward.to_raw, to_raw, radial, radial_dot, edges,
                )  # fmt: skip
                gradients[model.species_edge] = torch.from_numpy(edges).sum(0)
                break
            assert backward.edge_gradient is not None and forward.said is not None
            edge_gradient = np.empty_like(backward.edge_gradient)
            in_ranges(
                n_atoms, self._passes.of_bonds, found.counts, found.radial, found.slope, found.harmonic,
                motion.stretch, motion.harmonic_dot, forward.edges, change.edges[0], backward.to_raw, to_raw,
                radial, radial_dot, edge_gradient,
            )  # fmt: skip
            to_said = np.empty_like(forward.said)
            in_ranges(
                n_atoms, pair_tangents.said_adjoint, found.counts, found.reverse, found.harmonic,
                motion.harmonic_dot, backward.edge_gradient, edge_gradient, to_said,
            )  # fmt: skip
            gradients |= self._of_bonds(index, changes[-1], to_said)
            to_scalars, to_density = torch.empty_like(to_scalars), torch.empty_like(to_density)
            in_ranges(
                n_atoms, dense.saying_adjoint, to_said, *weights.saying_adjoint, to_inputs[0].numpy(),
                to_density[0].numpy(), to_scalars[0].numpy(),
            )  # fmt: skip
        gradients[model.radial.wave_numbers] = self._of_waves(motion, radial, radial_dot)
        return gradients

    def _of_readout(self, index: int, change: Change, to_output: Tensor) -> dict[Tensor, Tensor]:
        readout = self._forces.layers[index].layer.readout
        forward, scale = self._record.forwards[index], self._forces.model.energy_scale
        parts = to_output[:, None] * torch.from_numpy(forward.scalars) + scale * change.scalars[0]
        return {
            readout.weight: self._of_species @ parts,
            readout.bias: self._of_species @ to_output,
        }

    def _of_network(
        self, index: int, change: Change, to_scalars: Tensor, to_hidden: Tensor
    ) -> dict[Tensor, Tensor]:
        network, curves = self._forces.layers[index].layer.network, self._tangents.curves[index]
        forward, backward = self._record.forwards[index], self._record.backwards[index]
        hidden, bent = change.hidden[0], change.inputs[0]
        to_results, first = torch.from_numpy(backward.down), torch.from_numpy(forward.bent)
        down = torch.addcmul(to_results, to_results @ network.second.weight, curves.silu_slope)
        active = nn.functional.silu(torch.from_numpy(forward.hidden))
        return {
            network.second.weight: to_scalars.T @ active + to_results.T @ (curves.silu_slope * hidden),
            network.second.bias: to_scalars.sum(0),
            network.first.weight: to_hidden.T @ first + down.T @ (curves.input_slope * bent),
            network.first.bias: to_hidden.sum(0),
            network.species: self._of_species @ to_hidden,
        }

    def _of_mixing(self, index: int, change: Change, to_density: Tensor) -> dict[Tensor, Tensor]:
        """By the mixing of densities and its gates; `to_density` becomes that of ungated densities."""
        weights, record = self._forces.layers[index], self._record
        density, forward, backward = weights.layer.density, record.forwards[index], record.backwards[index]
        assert forward.mixed is not None and backward.to_density is not None and change.mixed is not None
        by_mix = to_density.new_empty(16, *density.mix.shape[1:])
        by_gate = to_density.new_empty(16, len(weights.gates), to_density.shape[2])
        in_ranges(
            16, weight_passes.of_mixing, record.species, weights.gates, forward.raw, change.raw[0],
            forward.mixed, change.mixed[0], backward.to_density, to_density.numpy(), by_mix.numpy(),
            by_gate.numpy(),
        )  # fmt: skip
        degrees = [slice(degree**2, (degree + 1) ** 2) for degree in range(len(density.mix))]
        gate = torch.stack([by_gate[part].sum(0) for part in degrees], 1)
        return {
            density.mix: torch.stack([by_mix[part].sum(0) for part in degrees]),
            density.gate: density.scale * gate.view_as(density.gate),
        }

    def _of_bonds(self, index: int, before: Change, to_said: np.ndarray) -> dict[Tensor, Tensor]:
        """By what atoms say, from the layer `before` to that of this index."""
        bonds, forward = self._forces.layers[index].layer.bonds, self._record.forwards[index - 1]
        to_said_before = self._record.backwards[index].to_said
        assert bonds is not None and to_said_before is not None
        mixing = np.empty((16, to_said.shape[1], forward.density.shape[2]), to_said.dtype)
        in_ranges(
            len(mixing), weight_passes.of_saying, forward.density, before.density[0], to_said_before, to_said,
            mixing,
        )  # fmt: skip
        with torch.enable_grad():
            tensors = bonds.tensors.weight.detach().requires_grad_(True)
            mix = bonds.mix.weight.detach().requires_grad_(True)
            by_mixing = torch.from_numpy(mixing).mT
            by_tensors, by_mix = torch.autograd.grad(bonds.mixing(tensors, mix), (tensors, mix), by_mixing)
        here, there = torch.from_numpy(to_said[..., 0]), torch.from_numpy(to_said_before[..., 0])
        return {
            bonds.tensors.weight: by_tensors,
            bonds.mix.weight: by_mix,
            bonds.scalars.weight: here.T @ torch.from_numpy(forward.scalars) + there.T @ before.scalars[0],
            bonds.scalars.bias: here.sum(0),
        }

    def _of_waves(self, motion: Motion, radial: np.ndarray, radial_dot: np.ndarray) -> Tensor:
        found, waves, cutoff = self._record.pairs, self._forces.waves, float(self._forces.model.cutoff)
        by_atom = np.empty((found.shape[0], len(waves)), waves.dtype)
        in_ranges(
            found.shape[0], weight_passes.of_waves, found.counts, cutoff, waves, found.scaled,
            *self._forces.sines(found), motion.stretch, radial, radial_dot, by_atom,
        )  # fmt: skip
        return torch.from_numpy(by_atom).sum(0)

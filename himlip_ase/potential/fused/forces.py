"""Energy and first derivatives of the Hi-MLIP network by hand-written passes, without recording anything.

The steps and their order are those of `himlip_ase.potential.network.HiMLIP.atomic_energies`, then their adjoints
in reverse: densities and what follows per pair by the compiled passes of this package, dense layers by BLAS.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from himlip_ase.potential.fused import pairs, sphere
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.network import HiMLIP, Layer

ATOMS_A_RANGE = 16
"""Fewer atoms are not worth a thread of their own."""


@dataclass
class _LayerRecord:
    """What the adjoint of one layer needs."""

    density: np.ndarray
    gate: Tensor
    standard: Tensor
    hidden: Tensor
    said: np.ndarray | None = None
    edges: np.ndarray | None = None


class FusedForces:
    """Energies, forces and virials of batches with fixed weights.

    Parameters
    ----------
    model : HiMLIP
        On the CPU; its weights as they are now.
    """

    def __init__(self, model: HiMLIP) -> None:
        self._model = model
        first = model.layers[0]
        assert isinstance(first, Layer)
        points = first.density.on_sphere.T  # (G, 16)
        half = _one_of_each_pair(points)
        self._on_sphere = first.density.on_sphere[:, half].contiguous().numpy()
        self._weights = first.density.weights[half].contiguous().numpy()
        self._mixes = [layer.density.mix.detach()[layer.density.degree].contiguous() for layer in model.layers]
        self._gates = [layer.density.gate.detach() for layer in model.layers]
        self._said = [None if layer.bonds is None else _mixing(layer.bonds) for layer in model.layers]

    def __call__(self, graph: Graph, strain: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Energies (B,) in eV, forces (N, 3) in eV/Å, and Σ r ⊗ ∂E/∂r of each structure (B, 3, 3) in eV."""
        with torch.no_grad():
            return self._run(graph, strain)

    def _run(self, graph: Graph, strain: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        model, config = self._model, self._model.config
        n_atoms, width = graph.neighbours.shape
        dtype = graph.positions.dtype
        species, neighbours = graph.species.numpy(), graph.neighbours.numpy()
        counts = graph.mask.sum(1).numpy()
        radial_basis, repulsion = model.radial, model.repulsion

        def empty(*shape: int) -> np.ndarray:
            return torch.empty(shape, dtype=dtype).numpy()

        if strain is None:
            strain = torch.zeros(graph.n_frames, 3, 3, dtype=dtype)
        vectors, inverse = empty(n_atoms, width, 3), empty(n_atoms, width)
        harmonic = empty(n_atoms, width, 16)
        radial, slope = empty(n_atoms, width, config.n_radial), empty(n_atoms, width, config.n_radial)
        pair_slope = empty(n_atoms, width)
        energies = model.energy_shift[graph.species].clone()
        _ranges(
            n_atoms, pairs.geometry, graph.positions.numpy(), strain.contiguous().numpy(), graph.frame.numpy(),
            species, neighbours, graph.offsets.numpy(), counts, float(model.cutoff),
            radial_basis.wave_numbers.detach().numpy(), repulsion.ranges.numpy(), repulsion.screening.numpy(),
            repulsion.coulomb.numpy(), repulsion.weights.numpy(), repulsion.decays.numpy(),
            vectors, inverse, harmonic, radial, slope, pair_slope, energies.numpy(),
        )  # fmt: skip
        records: list[_LayerRecord] = []
        scalars = torch.empty(0)
        n_raw = config.n_radial * config.edge_features
        raw = torch.empty(16, n_atoms, n_raw, dtype=dtype)
        for layer, mix, gates, mixing in zip(model.layers, self._mixes, self._gates, self._said, strict=True):
            assert isinstance(layer, Layer)
            said = edges = None
            if layer.bonds is None:
                _ranges(
                    n_atoms, pairs.density_of_species, species, neighbours, counts, radial, harmonic,
                    model.species_edge.detach().numpy(), raw.numpy(),
                )  # fmt: skip
            else:
                spoken = torch.bmm(torch.from_numpy(records[-1].density), mixing)
                spoken[0] += layer.bonds.scalars(scalars)
                said = spoken.transpose(0, 1).contiguous().numpy()
                edges = empty(n_atoms, width, config.edge_features)
                _ranges(
                    n_atoms, pairs.density_of_bonds, neighbours, counts, radial, harmonic, said, edges, raw.numpy()
                )
            gate = (layer.density.scale * gates[graph.species]).transpose(0, 1)[layer.density.degree]
            density = torch.bmm(raw, mix) * gate
            n_invariants = layer.density.n_invariants(config)
            inputs = torch.empty(n_atoms, n_invariants + (0 if layer.bonds is None else config.hidden), dtype=dtype)
            _ranges(
                n_atoms, sphere.invariants, density.numpy(), self._on_sphere, self._weights,
                inputs.numpy(),
            )  # fmt: skip
            if layer.bonds is not None:
                inputs[:, n_invariants:] = scalars
            network = layer.network
            standard = (inputs - network.centre[graph.species]) / network.spread[graph.species]
            hidden = network.first(torch.asinh(standard)) + network.species[graph.species]
            scalars = hidden + network.second(torch.nn.functional.silu(hidden))
            output = layer.readout(scalars).gather(1, graph.species[:, None])[:, 0]
            energies += model.energy_scale * output
            records.append(_LayerRecord(density.numpy(), gate, standard, hidden, said, edges))

        gradient = torch.zeros(n_atoms, width, 3, dtype=dtype).numpy()
        to_scalars: Tensor | None = None
        to_density: Tensor | None = None
        for index in reversed(range(len(records))):
            layer, record = model.layers[index], records[index]
            assert isinstance(layer, Layer)
            network = layer.network
            down = model.energy_scale * layer.readout.weight[graph.species]
            if to_scalars is not None:
                down = down + to_scalars
            sigmoid = torch.sigmoid(record.hidden)
            silu_slope = sigmoid * (1 + record.hidden * (1 - sigmoid))
            down = torch.addcmul(down, down @ network.second.weight, silu_slope)
            to_inputs = (down @ network.first.weight) * torch.rsqrt(1 + record.standard * record.standard)
            to_inputs /= network.spread[graph.species]
            to_scalars = None
            if layer.bonds is not None:
                to_scalars = to_inputs[:, -config.hidden :]
            if to_density is None:
                to_density = torch.zeros(16, n_atoms, record.density.shape[2], dtype=dtype)
            _ranges(
                n_atoms, sphere.invariants_adjoint, record.density, self._on_sphere, self._weights,
                to_inputs.numpy(), to_density.numpy(),
            )  # fmt: skip
            to_raw = torch.bmm(to_density * record.gate, self._mixes[index].transpose(1, 2))
            to_density = None
            if layer.bonds is None:
                _ranges(
                    n_atoms, pairs.density_of_species_adjoint, species, neighbours, counts, radial, slope, harmonic,
                    model.species_edge.detach().numpy(), to_raw.numpy(), vectors, inverse, pair_slope, gradient,
                )  # fmt: skip
                continue
            edge_gradient = np.zeros_like(record.edges)
            _ranges(
                n_atoms, pairs.density_of_bonds_adjoint, neighbours, counts, radial, slope, harmonic, record.said,
                record.edges, to_raw.numpy(), vectors, inverse, edge_gradient, gradient,
            )  # fmt: skip
            to_said = torch.empty(n_atoms, 16, config.edge_features, dtype=dtype)
            _ranges(
                n_atoms, pairs.said_adjoint, counts, graph.reverse.numpy(), harmonic, edge_gradient, to_said.numpy()
            )
            assert to_scalars is not None
            to_scalars = to_scalars + to_said[:, 0] @ layer.bonds.scalars.weight
            to_density = torch.bmm(to_said.transpose(0, 1), self._said[index].transpose(1, 2))
        forces = torch.empty(n_atoms, 3, dtype=dtype)
        virials = torch.empty(n_atoms, 3, 3, dtype=dtype)
        _ranges(
            n_atoms, pairs.forces_of_pairs, counts, graph.reverse.numpy(), vectors, inverse, graph.frame.numpy(),
            gradient, forces.numpy(), virials.numpy(),
        )  # fmt: skip
        total = torch.zeros(graph.n_frames, dtype=dtype).index_add(0, graph.frame, energies)
        virial = torch.zeros(graph.n_frames, 3, 3, dtype=dtype).index_add(0, graph.frame, virials)
        return total, forces, virial


def _mixing(bonds: Any) -> Tensor:
    """Densities to what an atom says of each degree, (16, 4 C, F)."""
    features = bonds.mix.out_features
    by_degree = bonds.mix.weight.detach().reshape(features, features, -1).permute(2, 1, 0)
    unseen = by_degree.new_zeros(4 - len(by_degree), features, features)
    mixing = torch.matmul(bonds.tensors.weight.detach().T, torch.cat([by_degree, unseen]))
    return mixing[bonds.degree].contiguous()


def _one_of_each_pair(points: Tensor) -> list[int]:
    """Indices of one quadrature point of each opposite pair."""
    directions = points[:, 1:4]
    chosen: list[int] = []
    for index in range(len(points)):
        if not any(torch.allclose(directions[index], -directions[other], atol=1e-9) for other in chosen):
            chosen.append(index)
    return chosen


def _ranges(n_atoms: int, function: Any, *arguments: Any) -> None:
    """One pass over all atoms, in as many ranges as torch may use threads."""
    threads = min(torch.get_num_threads(), max(1, n_atoms // ATOMS_A_RANGE))
    if threads == 1:
        function(0, n_atoms, *arguments)
        return
    edges = np.linspace(0, n_atoms, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda a, b: function(a, b, *arguments), edges[:-1], edges[1:]))

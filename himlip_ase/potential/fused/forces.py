"""Energy and first derivatives of the Hi-MLIP network by hand-written passes, without recording anything.

The steps and their order are those of `himlip_ase.potential.network.HiMLIP.atomic_energies`, then their
adjoints in reverse: densities and what follows per pair by the compiled passes of this package, dense layers
by BLAS.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from himlip_ase.potential.angular import harmonics_on_sphere
from himlip_ase.potential.fused import densities, geometry, sphere
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.network import HiMLIP, Layer

ATOMS_A_RANGE = 16
"""Fewer atoms are not worth a thread of their own."""


@dataclass(frozen=True)
class Weights:
    """What the passes take of one layer."""

    layer: Layer
    mix: Tensor
    unmix: Tensor
    gates: np.ndarray
    inverse_spread: np.ndarray
    mixing: Tensor | None

    def gate(self, species: Tensor) -> Tensor:
        """What each atom's mixed densities are multiplied with, (16, N, 4 C)."""
        return torch.from_numpy(self.gates)[species].transpose(0, 1)[self.layer.density.degree]

    @classmethod
    def of(cls, layer: Layer) -> Weights:
        """Weights of a layer as they are now."""
        density = layer.density
        mix = density.mix.detach()[density.degree]
        return cls(
            layer,
            mix,
            mix.transpose(1, 2).contiguous(),
            (density.scale * density.gate.detach()).contiguous().numpy(),
            (1 / layer.network.spread).contiguous().numpy(),
            None if layer.bonds is None else layer.bonds.mixing().detach().contiguous(),
        )


@dataclass(frozen=True)
class Pairs:
    """Geometry and radial functions of all pairs; see `himlip_ase.potential.fused.geometry`."""

    neighbours: np.ndarray
    reverse: np.ndarray
    counts: np.ndarray
    vectors: np.ndarray
    inverse: np.ndarray
    harmonic: np.ndarray
    radial: np.ndarray
    slope: np.ndarray
    pair_slope: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Atoms, and columns of the tables."""
        n_atoms, width = self.inverse.shape
        return n_atoms, width


@dataclass(frozen=True)
class Forward:
    """What the adjoint of one layer, and the derivatives by its weights, need of its forward pass.

    `mixed` are the densities before they are gated, `bent` arsinh of the standardised inputs; None unless
    derivatives by the weights are wanted.
    """

    raw: np.ndarray
    mixed: Tensor | None
    density: Tensor
    standard: Tensor
    bent: Tensor
    hidden: Tensor
    scalars: Tensor
    said: np.ndarray | None
    edges: np.ndarray | None


@dataclass(frozen=True)
class Backward:
    """What the change of one layer's adjoint needs of the adjoint itself.

    `down` is the gradient by the layer's scalars, `to_standard` that by arsinh of the standardised inputs,
    `to_inputs` that by the inputs, `to_density` that by the gated densities (None unless derivatives by the
    weights are wanted) and `to_said` that by what atoms say.
    """

    down: Tensor
    to_standard: Tensor
    to_inputs: Tensor
    to_density: Tensor | None
    to_raw: np.ndarray
    to_said: Tensor | None
    edge_gradient: np.ndarray | None
    edge_slope: np.ndarray | None


@dataclass(frozen=True)
class Recorded:
    """A graph's pairs and all that the passes found on the way to its forces."""

    graph: Graph
    species: np.ndarray
    pairs: Pairs
    forwards: list[Forward]
    backwards: list[Backward]
    energies: Tensor
    gradient: np.ndarray
    along: np.ndarray
    outward: np.ndarray


class FusedForces:
    """Energies, forces and virials of batches, with weights as they were when it was made.

    Parameters
    ----------
    model : HiMLIP
        On the CPU.
    learning : bool
        Whether what is recorded shall serve derivatives by the weights too.
    """

    def __init__(self, model: HiMLIP, learning: bool = False) -> None:
        self.model = model
        self.learning = learning
        self.layers = [Weights.of(layer) for layer in model.layers if isinstance(layer, Layer)]
        density = self.layers[0].layer.density
        half, order = _one_of_each_pair(), torch.as_tensor(sphere.ORDER)
        self.by_point = (
            density.on_sphere[order][:, half].T.contiguous().numpy(),
            density.weights[half].contiguous().numpy(),
        )
        self._invariants, self._invariants_adjoint = sphere.sphere_passes(model.config.channels)
        self.passes = densities.density_passes(model.config.n_radial, model.config.edge_features)
        self.edges = model.species_edge.detach().numpy()

    @torch.no_grad()
    def __call__(self, graph: Graph, strain: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Energies, forces and virials.

        Parameters
        ----------
        graph : Graph
            On the CPU, in the precision of the model.
        strain : Tensor (B, 3, 3), optional
            As `himlip_ase.potential.graph.Graph.displacements`.

        Returns
        -------
        energies : Tensor (B,)
            eV.
        forces : Tensor (N, 3)
            −∂E/∂x, eV/Å.
        virials : Tensor (B, 3, 3)
            ∂E/∂ε, eV.
        """
        return self.of_record(self.recorded(graph, strain))

    @torch.no_grad()
    def of_record(self, record: Recorded) -> tuple[Tensor, Tensor, Tensor]:
        """As a call, of what is recorded.

        Parameters
        ----------
        record : Recorded
        """
        graph, found, energies, gradient = record.graph, record.pairs, record.energies, record.gradient
        forces, virials = torch.empty_like(graph.positions), graph.positions.new_empty(len(energies), 3, 3)
        in_ranges(
            found.shape[0], geometry.forces_of_pairs, found.counts, found.reverse, found.vectors,
            found.inverse, gradient, forces.numpy(), virials.numpy(),
        )  # fmt: skip
        total = energies.new_zeros(graph.n_frames).index_add(0, graph.frame, energies)
        return total, forces, virials.new_zeros(graph.n_frames, 3, 3).index_add(0, graph.frame, virials)

    @torch.no_grad()
    def recorded(self, graph: Graph, strain: Tensor | None = None) -> Recorded:
        """All quantities of the passes: atomic energies, and ∂E/∂r of every pair vector.

        Parameters
        ----------
        graph : Graph
        strain : Tensor (B, 3, 3), optional
            As for a call.

        Returns
        -------
        Recorded
        """
        species = graph.species.numpy()
        found, energies = self._geometry(graph, strain)
        forwards: list[Forward] = []
        scalars = graph.positions.new_empty(len(energies), 0)
        for weights in self.layers:
            forward, scalars = self._forward(weights, found, graph, species, scalars, forwards)
            output = weights.layer.readout(scalars).gather(1, graph.species[:, None])[:, 0]
            energies += self.model.energy_scale * output
            forwards.append(forward)
        backwards, gradient, along, outward = self._backward(found, graph, species, forwards)
        return Recorded(graph, species, found, forwards, backwards, energies, gradient, along, outward)

    def gates_of(self, weights: Weights) -> np.ndarray:
        """Gates that the adjoint of the invariants applies; ones where its caller does.

        Parameters
        ----------
        weights : Weights
            Of a layer.

        Returns
        -------
        ndarray (elements, 4, 4 C)
        """
        return np.ones_like(weights.gates) if self.learning else weights.gates

    def _geometry(self, graph: Graph, strain: Tensor | None) -> tuple[Pairs, Tensor]:
        """Pairs, and each atom's energy without the network."""
        model, repulsion = self.model, self.model.repulsion
        n_atoms, width = graph.neighbours.shape
        width = -(-width // 4) * 4  # products go through pairs by two
        energies = model.energy_shift[graph.species]

        def table(*last: int) -> Tensor:
            return graph.positions.new_empty(n_atoms, width, *last)

        waves = model.radial.wave_numbers.detach()
        scaled = table()
        harmonic = table(16)
        counts = graph.mask.sum(1).numpy()
        vectors, inverse, pair_slope = table(3), table(), table()
        if strain is None:
            strain = graph.positions.new_zeros(graph.n_frames, 3, 3)
        in_ranges(
            n_atoms, geometry.geometry, graph.positions.numpy(), strain.contiguous().numpy(),
            graph.frame.numpy(), graph.species.numpy(), graph.neighbours.numpy(), graph.offsets.numpy(),
            counts, float(model.cutoff), repulsion.ranges.numpy(), repulsion.screening.numpy(),
            repulsion.coulomb.numpy(), repulsion.weights.numpy(), repulsion.decays.numpy(),
            vectors.numpy(), inverse.numpy(), harmonic.numpy(), scaled.numpy(), pair_slope.numpy(),
            energies.numpy(),
        )  # fmt: skip
        phase = scaled[:, :, None] * waves
        radial, slope = torch.sin(phase), torch.cos(phase)
        in_ranges(
            n_atoms, geometry.radial_functions, float(model.cutoff), waves.numpy(), scaled.numpy(),
            radial.numpy(), slope.numpy(),
        )  # fmt: skip
        return Pairs(
            graph.neighbours.numpy(), graph.reverse.numpy(), counts, vectors.numpy(), inverse.numpy(),
            harmonic.numpy(), radial.numpy(), slope.numpy(), pair_slope.numpy(),
        ), energies  # fmt: skip

    def _forward(
        self,
        weights: Weights,
        found: Pairs,
        graph: Graph,
        species: np.ndarray,
        scalars: Tensor,
        before: list[Forward],
    ) -> tuple[Forward, Tensor]:
        layer, passes = weights.layer, self.passes
        n_atoms, width = found.shape
        new = scalars.new_empty
        raw = new(16, n_atoms, found.radial.shape[2] * self.edges.shape[1])
        said = edges = None
        if layer.bonds is None:
            in_ranges(
                n_atoms, passes.of_species, species, found.neighbours, found.counts, found.radial,
                found.harmonic, self.edges, raw.numpy(),
            )  # fmt: skip
        else:
            assert weights.mixing is not None
            spoken = torch.bmm(before[-1].density, weights.mixing)
            spoken[0] += layer.bonds.scalars(scalars)
            said = spoken.permute(1, 2, 0).contiguous().numpy()
            edges = new(n_atoms, width, said.shape[1]).numpy()
            in_ranges(
                n_atoms, passes.of_bonds, found.neighbours, found.counts, found.radial, found.harmonic, said,
                edges, raw.numpy(),
            )  # fmt: skip
        density = new(16, n_atoms, weights.mix.shape[2])
        in_ranges(n_atoms, densities.mixed, raw.numpy(), weights.mix.numpy(), density.numpy())
        mixed = density.clone() if self.learning else None
        n_invariants = layer.density.n_invariants(self.model.config)
        inputs = new(n_atoms, n_invariants + scalars.shape[1])
        in_ranges(
            n_atoms,
            self._invariants,
            species,
            weights.gates,
            density.numpy(),
            *self.by_point,
            inputs.numpy(),
        )
        network, bent = layer.network, torch.empty_like(inputs)
        in_ranges(
            n_atoms, sphere.standardise, species, network.centre.numpy(), weights.inverse_spread,
            scalars.contiguous().numpy(), inputs.numpy(), bent.numpy(),
        )  # fmt: skip
        torch.copysign(torch.log1p(bent, out=bent), inputs, out=bent)
        hidden = network.first(bent) + network.species[graph.species]
        scalars = hidden + network.second(torch.nn.functional.silu(hidden))
        forward = Forward(raw.numpy(), mixed, density, inputs, bent, hidden, scalars, said, edges)
        return forward, scalars

    def _backward(
        self, found: Pairs, graph: Graph, species: np.ndarray, forwards: list[Forward]
    ) -> tuple[list[Backward], np.ndarray, np.ndarray, np.ndarray]:
        """The adjoints of the layers, and of every pair ∂E/∂r, ∂E/∂Y and ∂E/∂|r|."""
        backwards: list[Backward] = []
        model, passes = self.model, self.passes
        n_atoms, width = found.shape
        gradient = np.empty((n_atoms, width, 3), dtype=found.inverse.dtype)
        along, outward = np.zeros_like(found.harmonic), found.pair_slope.copy()
        to_scalars: Tensor | None = None
        to_density: Tensor | None = None
        for weights, forward in zip(reversed(self.layers), reversed(forwards), strict=True):
            network, bonds = weights.layer.network, weights.layer.bonds
            down = (model.energy_scale * weights.layer.readout.weight)[graph.species]
            if to_scalars is not None:
                down = down + to_scalars
            sigmoid = torch.sigmoid(forward.hidden)
            slope = sigmoid * (1 + forward.hidden * (1 - sigmoid))
            to_standard = torch.addcmul(down, down @ network.second.weight, slope) @ network.first.weight
            to_inputs = to_standard.clone()
            in_ranges(
                n_atoms, sphere.standardise_adjoint, species, weights.inverse_spread,
                forward.standard.numpy(), to_inputs.numpy(),
            )  # fmt: skip
            if to_density is None:
                to_density = torch.zeros_like(forward.density)
            in_ranges(
                n_atoms, self._invariants_adjoint, species, self.gates_of(weights), forward.density.numpy(),
                *self.by_point, to_inputs.numpy(), to_density.numpy(),
            )  # fmt: skip
            to_gated = None
            if self.learning:
                to_gated, to_density = to_density, to_density * weights.gate(graph.species)
            to_raw = to_density.new_empty(16, n_atoms, weights.unmix.shape[2]).numpy()
            in_ranges(n_atoms, densities.mixed, to_density.numpy(), weights.unmix.numpy(), to_raw)
            if bonds is None:
                in_ranges(
                    n_atoms, passes.of_species_adjoint, species, found.neighbours, found.counts, found.radial,
                    found.slope, found.harmonic, self.edges, to_raw, found.vectors, found.inverse, along,
                    outward, gradient,
                )  # fmt: skip
                backwards.append(Backward(down, to_standard, to_inputs, to_gated, to_raw, None, None, None))
                break
            assert forward.edges is not None and weights.mixing is not None
            edge_gradient, edge_slope = np.empty_like(forward.edges), np.empty_like(forward.edges)
            in_ranges(
                n_atoms, passes.of_bonds_adjoint, found.neighbours, found.counts, found.radial, found.slope,
                found.harmonic, forward.said, forward.edges, to_raw, edge_gradient, edge_slope, along,
                outward,
            )  # fmt: skip
            to_said = to_density.new_empty(n_atoms, edge_gradient.shape[2], 16)
            in_ranges(
                n_atoms, densities.said_adjoint, found.counts, found.reverse, found.harmonic, edge_gradient,
                to_said.numpy(),
            )  # fmt: skip
            backwards.append(
                Backward(down, to_standard, to_inputs, to_gated, to_raw, to_said, edge_gradient, edge_slope)
            )
            to_scalars = to_inputs[:, -model.config.hidden :] + to_said[:, :, 0] @ bonds.scalars.weight
            to_density = torch.bmm(to_said.permute(2, 0, 1), weights.mixing.transpose(1, 2))
        return backwards[::-1], gradient, along, outward


@cache
def _one_of_each_pair() -> list[int]:
    """Indices of one quadrature point of each opposite pair."""
    directions = harmonics_on_sphere()[0].T[:, 1:4]
    chosen: list[int] = []
    for index in range(len(directions)):
        if not any(torch.allclose(directions[index], -directions[other], atol=1e-9) for other in chosen):
            chosen.append(index)
    return chosen


def in_ranges(n_atoms: int, function: Any, *arguments: Any) -> None:
    """One pass over all atoms, in as many ranges as torch may use threads.

    Parameters
    ----------
    n_atoms : int
    function : callable
        Takes the bounds of a range and `arguments`.
    *arguments
        Of the pass.
    """
    threads = min(torch.get_num_threads(), max(1, n_atoms // ATOMS_A_RANGE))
    if threads == 1:
        function(0, n_atoms, *arguments)
        return
    edges = np.linspace(0, n_atoms, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda a, b: function(a, b, *arguments), edges[:-1], edges[1:]))

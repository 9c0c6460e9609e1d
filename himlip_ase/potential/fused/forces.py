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
from himlip_ase.potential.fused import dense, densities, geometry, sphere, waves
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.network import HiMLIP, Layer

ATOMS_A_RANGE = 16
"""Fewer atoms are not worth a thread of their own."""


@dataclass(frozen=True)
class Weights:
    """What the passes take of one layer, as arrays in the orders that they want."""

    layer: Layer
    mix: np.ndarray
    unmix: np.ndarray
    gates: np.ndarray
    centre: np.ndarray
    inverse_spread: np.ndarray
    network: tuple[np.ndarray, ...]
    network_adjoint: tuple[np.ndarray, ...]
    saying: tuple[np.ndarray, ...]
    saying_adjoint: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, layer: Layer) -> Weights:
        """Weights of a layer as they are now."""
        density, network, readout, bonds = layer.density, layer.network, layer.readout, layer.bonds
        mix = density.mix.detach()[density.degree]
        saying: tuple[Tensor, ...] = ()
        saying_adjoint: tuple[Tensor, ...] = ()
        if bonds is not None:
            mixing, head = bonds.mixing(), bonds.scalars.weight
            saying, saying_adjoint = (mixing, head.T, bonds.scalars.bias), (mixing.mT, head)
        return cls(
            layer,
            _array(mix),
            _array(mix.mT),
            _array(density.scale * density.gate),
            _array(network.centre),
            _array(1 / network.spread),
            _arrays(
                network.first.weight.T, network.first.bias + network.species, network.second.weight.T,
                network.second.bias, readout.weight, readout.bias,
            ),
            _arrays(network.first.weight, network.second.weight, readout.weight),
            _arrays(*saying),
            _arrays(*saying_adjoint),
        )  # fmt: skip

    def gate(self, species: Tensor) -> Tensor:
        """What each atom's mixed densities are multiplied with, (16, N, 4 C)."""
        return torch.from_numpy(self.gates)[species].transpose(0, 1)[self.layer.density.degree]


def _array(values: Tensor) -> np.ndarray:
    return values.detach().contiguous().numpy()


def _arrays(*values: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(_array(tensor) for tensor in values)


@dataclass(frozen=True)
class Pairs:
    """Geometry and radial functions of all pairs; see `himlip_ase.potential.fused.geometry`."""

    neighbours: np.ndarray
    reverse: np.ndarray
    counts: np.ndarray
    vectors: np.ndarray
    inverse: np.ndarray
    scaled: np.ndarray
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
    mixed: np.ndarray | None
    density: np.ndarray
    standard: np.ndarray
    bent: np.ndarray
    hidden: np.ndarray
    scalars: np.ndarray
    said: np.ndarray | None
    edges: np.ndarray | None


@dataclass(frozen=True)
class Backward:
    """What the change of one layer's adjoint needs of the adjoint itself.

    `down` is the gradient by the layer's scalars, `to_standard` that by arsinh of the standardised inputs,
    `to_inputs` that by the inputs, `to_density` that by the gated densities (None unless derivatives by the
    weights are wanted) and `to_said` that by what atoms say.
    """

    down: np.ndarray
    to_standard: np.ndarray
    to_inputs: np.ndarray
    to_density: np.ndarray | None
    to_raw: np.ndarray
    to_said: np.ndarray | None
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
        self.edges = _array(model.species_edge)
        self.energy_scale = self.edges.dtype.type(float(model.energy_scale))
        self.waves = _array(model.radial.wave_numbers)
        self._wave_table, self._waves = waves.wave_table(self.waves), waves.wave_passes(len(self.waves))
        repulsion = model.repulsion
        self.repulsion = _arrays(
            repulsion.ranges, repulsion.screening, repulsion.coulomb, repulsion.weights, repulsion.decays
        )

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
        found, energies = self._geometry(graph, species, strain)
        forwards: list[Forward] = []
        for weights in self.layers:
            forwards.append(self._forward(weights, found, species, forwards, energies))
        backwards, gradient, along, outward = self._backward(found, graph, species, forwards)
        return Recorded(
            graph, species, found, forwards, backwards, torch.from_numpy(energies), gradient, along, outward
        )

    def sines(self, found: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """sin κx and cos κx of all pairs and waves, (N, M, K).

        Parameters
        ----------
        found : Pairs

        Returns
        -------
        tuple of ndarray
        """
        sine, cosine = np.empty_like(found.radial), np.empty_like(found.radial)
        in_ranges(found.shape[0], self._waves.sines, self.waves, self._wave_table, found.scaled, sine, cosine)
        return sine, cosine

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

    def _geometry(self, graph: Graph, species: np.ndarray, strain: Tensor | None) -> tuple[Pairs, np.ndarray]:
        """Pairs, and each atom's energy without the network."""
        cutoff, neighbours, reverse = (
            float(self.model.cutoff),
            graph.neighbours.numpy(),
            graph.reverse.numpy(),
        )
        n_atoms, width = neighbours.shape
        width = -(-width // 4) * 4
        positions = graph.positions.numpy()
        energies = self.model.energy_shift[graph.species].numpy()

        def table(*last: int) -> np.ndarray:
            return np.empty((n_atoms, width, *last), dtype=positions.dtype)

        scaled, harmonic, vectors, inverse, pair_slope = table(), table(16), table(3), table(), table()
        counts = graph.mask.numpy().sum(1)
        if strain is None:
            strained = np.zeros((graph.n_frames, 3, 3), dtype=positions.dtype)
        else:
            strained = _array(strain)
        in_ranges(
            n_atoms, geometry.geometry, positions, strained, graph.frame.numpy(), species, neighbours,
            graph.offsets.numpy(), counts, cutoff, *self.repulsion, vectors, inverse, harmonic, scaled,
            pair_slope, energies,
        )  # fmt: skip
        radial, slope = table(len(self.waves)), table(len(self.waves))
        in_ranges(
            n_atoms, self._waves.radial_functions, cutoff, self.waves, self._wave_table, scaled, radial, slope
        )
        pairs = Pairs(
            neighbours, reverse, counts, vectors, inverse, scaled, harmonic, radial, slope, pair_slope
        )
        return pairs, energies

    def _forward(
        self,
        weights: Weights,
        found: Pairs,
        species: np.ndarray,
        before: list[Forward],
        energies: np.ndarray,
    ) -> Forward:
        """One layer, whose share is added to the energies."""
        passes, (n_atoms, width), real = self.passes, found.shape, found.inverse.dtype
        hidden_width, n_features = self.model.config.hidden, self.edges.shape[1]
        raw = np.empty((16, n_atoms, weights.mix.shape[1]), real)
        said = edges = None
        scalars = np.empty((n_atoms, 0), real)
        if not before:
            in_ranges(
                n_atoms, passes.of_species, species, found.neighbours, found.counts, found.radial,
                found.harmonic, self.edges, raw,
            )  # fmt: skip
        else:
            scalars, (mixing, head, shift) = before[-1].scalars, weights.saying
            said, edges = (
                np.empty((n_atoms, n_features, 16), real),
                np.empty((n_atoms, width, n_features), real),
            )
            in_ranges(n_atoms, dense.saying, before[-1].density, mixing, scalars, head, shift, said)
            in_ranges(
                n_atoms, passes.of_bonds, found.neighbours, found.counts, found.radial, found.harmonic, said,
                edges, raw,
            )  # fmt: skip
        density = np.empty((16, n_atoms, weights.mix.shape[2]), real)
        in_ranges(n_atoms, densities.mixed, raw, weights.mix, density)
        mixed = density.copy() if self.learning else None
        standard, bent = np.empty((2, n_atoms, weights.centre.shape[1]), real)
        in_ranges(n_atoms, self._invariants, species, weights.gates, density, *self.by_point, standard)
        in_ranges(
            n_atoms, sphere.standardise, species, weights.centre, weights.inverse_spread, scalars, standard,
            bent,
        )  # fmt: skip
        arsinh = torch.from_numpy(bent)
        torch.copysign(torch.log1p(arsinh, out=arsinh), torch.from_numpy(standard), out=arsinh)
        hidden, results = np.empty((2, n_atoms, hidden_width), real)
        in_ranges(
            n_atoms, dense.network, species, bent, *weights.network, self.energy_scale, hidden, results,
            energies,
        )  # fmt: skip
        return Forward(raw, mixed, density, standard, bent, hidden, results, said, edges)

    def _backward(
        self, found: Pairs, graph: Graph, species: np.ndarray, forwards: list[Forward]
    ) -> tuple[list[Backward], np.ndarray, np.ndarray, np.ndarray]:
        """The adjoints of the layers, and of every pair ∂E/∂r, ∂E/∂Y and ∂E/∂|r|."""
        backwards: list[Backward] = []
        passes, (n_atoms, width), real = self.passes, found.shape, found.inverse.dtype
        gradient = np.empty((n_atoms, width, 3), dtype=real)
        along, outward = np.zeros_like(found.harmonic), found.pair_slope.copy()
        down, to_density = np.zeros_like(forwards[-1].hidden), np.zeros_like(forwards[-1].density)
        for weights, forward in zip(reversed(self.layers), reversed(forwards), strict=True):
            to_standard, to_inputs = np.empty((2, *forward.standard.shape), real)
            first, second, readout = weights.network_adjoint
            in_ranges(
                n_atoms, dense.network_adjoint, species, forward.hidden, forward.standard, first, second,
                readout, self.energy_scale, weights.inverse_spread, down, to_standard, to_inputs,
            )  # fmt: skip
            in_ranges(
                n_atoms, self._invariants_adjoint, species, self.gates_of(weights), forward.density,
                *self.by_point, to_inputs, to_density,
            )  # fmt: skip
            to_gated = None
            if self.learning:
                to_gated, to_density = to_density, to_density * weights.gate(graph.species).numpy()
            to_raw = np.empty((16, n_atoms, weights.unmix.shape[2]), real)
            in_ranges(n_atoms, densities.mixed, to_density, weights.unmix, to_raw)
            if forward.edges is None:
                in_ranges(
                    n_atoms, passes.of_species_adjoint, species, found.neighbours, found.counts, found.radial,
                    found.slope, found.harmonic, self.edges, to_raw, found.vectors, found.inverse, along,
                    outward, gradient,
                )  # fmt: skip
                backwards.append(Backward(down, to_standard, to_inputs, to_gated, to_raw, None, None, None))
                break
            edge_gradient, edge_slope = np.empty_like(forward.edges), np.empty_like(forward.edges)
            in_ranges(
                n_atoms, passes.of_bonds_adjoint, found.neighbours, found.counts, found.radial, found.slope,
                found.harmonic, forward.said, forward.edges, to_raw, edge_gradient, edge_slope, along,
                outward,
            )  # fmt: skip
            to_said = np.empty_like(forward.said)
            in_ranges(
                n_atoms, densities.said_adjoint, found.counts, found.reverse, found.harmonic, edge_gradient,
                to_said,
            )  # fmt: skip
            backwards.append(
                Backward(down, to_standard, to_inputs, to_gated, to_raw, to_said, edge_gradient, edge_slope)
            )
            down, to_density = np.empty_like(down), np.empty_like(to_density)
            in_ranges(
                n_atoms, dense.saying_adjoint, to_said, *weights.saying_adjoint, to_inputs, to_density, down
            )
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

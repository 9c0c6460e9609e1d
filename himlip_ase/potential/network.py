"""The Hi-MLIP network: densities scalarised exactly on the sphere, and scalar messages along bonds.

Every step is a polynomial, a Bessel function under a C³ envelope or SiLU, so that the energy has the
derivatives that curvature needs; nothing depends on the choice of axes, images or order, and no neighbour is
ever dropped.

Layer by layer, each atom i collects the density of its neighbours j (Drautz, PRB 99, 014104 (2019), eq. 8)

    A_i,c,lm = Σ_j R_c(r_ij; q_ij) Y_lm(r̂_ij),

where q_ij is the species of j in the first layer and afterwards the scalars of j together with j's own
density seen along the bond, Σ_m h_j,c,lm Y_lm(r̂_ij): the exact, smooth counterpart of scalarising vectors in
edge frames. Invariants of body order two to five are integrals over the sphere of products of densities,
exact by Lebedev quadrature because the integrands are polynomials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from himlip_ase.errors import InputError
from himlip_ase.potential.angular import (
    L_MAX,
    degree_of_harmonic,
    derivative_of_harmonics,
    harmonics_on_sphere,
    solid_harmonics,
)
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.operators import arsinh, density, seen_from_the_other_end
from himlip_ase.potential.radial import RadialBasis, Repulsion
from himlip_ase.potential.sphere import N_FACTORS, sphere_integrals


@dataclass(frozen=True)
class HiMLIPConfig:
    """Shape of a Hi-MLIP network.

    Attributes
    ----------
    elements : tuple of str
        Chemical symbols, in the order of the species index.
    cutoff : float
        Å.
    n_radial : int
        Bessel functions.
    channels : int
        Density channels per factor.
    edge_features : int
        Scalars that a neighbour contributes to the density of a layer.
    hidden : int
        Width of the scalar networks and of the atoms' scalar features.
    bond_degree : int
        Highest degree l of a neighbour's density that is seen along the bond, 0 to 3.
    layers : int
        Density layers; the range of the model is layers × cutoff.
    mean_neighbours : float
        Normalises sums over neighbours.
    """

    elements: tuple[str, ...]
    cutoff: float = 4.5
    n_radial: int = 8
    channels: int = 16
    edge_features: int = 4
    hidden: int = 64
    bond_degree: int = 2
    layers: int = 2
    mean_neighbours: float = 60.0

    def __post_init__(self) -> None:
        unknown = [symbol for symbol in self.elements if symbol not in atomic_numbers]
        if unknown or not self.elements or len(set(self.elements)) != len(self.elements):
            raise InputError(f"elements must be distinct chemical symbols, got {self.elements}")
        if not 0 <= self.bond_degree <= L_MAX:
            raise InputError(f"bond_degree must lie between 0 and {L_MAX}, got {self.bond_degree}")
        if not 0 < self.cutoff < 20:
            raise InputError(f"cutoff must lie between 0 and 20 Å, got {self.cutoff}")


class DensityLayer(nn.Module):
    """Neighbour density of each atom and its invariants.

    Parameters
    ----------
    config : HiMLIPConfig
    """

    degree: Tensor
    weights: Tensor
    on_sphere: Tensor
    on_sphere_low: Tensor
    by_degree: Tensor

    def __init__(self, config: HiMLIPConfig) -> None:
        super().__init__()
        channels = config.channels
        n_raw = config.n_radial * config.edge_features
        self.channels = channels
        self.scale = config.mean_neighbours**-0.5
        self.mix = nn.Parameter(
            torch.randn(L_MAX + 1, n_raw, N_FACTORS * channels, dtype=torch.float64) / n_raw**0.5
        )
        self.gate = nn.Parameter(
            torch.ones(len(config.elements), L_MAX + 1, N_FACTORS * channels, dtype=torch.float64)
        )
        on_sphere, weights = harmonics_on_sphere()
        degree = degree_of_harmonic()
        self.register_buffer("degree", degree, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("on_sphere", on_sphere, persistent=False)
        self.register_buffer("on_sphere_low", on_sphere * (degree < L_MAX)[:, None], persistent=False)
        by_degree = torch.nn.functional.one_hot(degree, L_MAX + 1).to(torch.float64)
        self.register_buffer("by_degree", by_degree / (2 * degree[:, None] + 1), persistent=False)

    @staticmethod
    def n_invariants(config: HiMLIPConfig) -> int:
        """Number of invariants: every factor's l = 0, two pair products by degree, four integrals."""
        return config.channels * (N_FACTORS + 2 * (L_MAX + 1) + 4)

    def density(self, radial: Tensor, edge: Tensor, harmonics: Tensor, species: Tensor) -> Tensor:
        """Mixed densities of each atom.

        Parameters
        ----------
        radial : Tensor (N, n_radial, M)
        edge : Tensor (N, edge_features, M)
        harmonics : Tensor (N, 16, M)
        species : Tensor (N,)

        Returns
        -------
        Tensor (16, N, N_FACTORS · channels)
        """
        return self.mixed(density(radial, edge, harmonics).permute(2, 0, 1), species)

    def mixed(self, raw: Tensor, species: Tensor) -> Tensor:
        """Densities of the channels, (16, N, N_FACTORS · channels), of those of the basis functions.

        Parameters
        ----------
        raw : Tensor (16, N, n_radial · edge_features)
        species : Tensor (N,)

        Returns
        -------
        Tensor (16, N, N_FACTORS · channels)
        """
        gate = self.scale * self.gate[species].transpose(0, 1)
        return torch.bmm(raw, self.mix[self.degree]) * gate[self.degree]

    def invariants(self, density: Tensor) -> Tensor:
        """Invariants of body order two to five, (N, n_invariants), of densities (16, N, …)."""
        densities = density.permute(1, 2, 0).contiguous()
        one, two, three, four = densities.unflatten(1, (N_FACTORS, self.channels)).unbind(1)
        pairs = torch.matmul(torch.stack([one * two, three * four], dim=1), self.by_degree)
        integrals = sphere_integrals(densities, self.on_sphere, self.on_sphere_low, self.weights)
        return torch.cat([densities[..., 0], pairs.flatten(1), integrals.flatten(1)], dim=1)


class ScalarNetwork(nn.Module):
    """Species-conditioned two-layer network on standardised, compressed invariants.

    Inputs are centred on the median and scaled by the standard deviation over typical structures, for each
    element, then pass through asinh: nearly linear where the labels are, logarithmic far outside, which keeps
    products of many densities from overwhelming the repulsion.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, n_input: int, config: HiMLIPConfig) -> None:
        super().__init__()
        shape = (len(config.elements), n_input)
        self.register_buffer("centre", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(shape, dtype=torch.float64))
        self.first = nn.Linear(n_input, config.hidden, dtype=torch.float64)
        self.second = nn.Linear(config.hidden, config.hidden, dtype=torch.float64)
        self.species = nn.Parameter(torch.randn(len(config.elements), config.hidden, dtype=torch.float64))

    def forward(self, inputs: Tensor, species: Tensor) -> Tensor:
        """(N, n_input) → (N, hidden).

        Parameters
        ----------
        inputs : Tensor (N, n_input)
        species : Tensor (N,)
            Index of the element of each atom.

        Returns
        -------
        Tensor (N, hidden)
        """
        standard = arsinh((inputs - self.centre[species]) / self.spread[species])
        hidden = self.first(standard) + self.species[species]
        return hidden + self.second(nn.functional.silu(hidden))

    @torch.no_grad()
    def standardise(self, inputs: Tensor, species: Tensor) -> None:
        """Take centre and spread of the inputs of each element from data.

        Parameters
        ----------
        inputs : Tensor (N, n_input)
        species : Tensor (N,)
            Index of the element of each atom.
        """
        for index in species.unique():
            chosen = inputs[species == index]
            spread = chosen.std(dim=0, correction=0)
            self.centre[index] = chosen.median(dim=0).values
            self.spread[index] = torch.where(spread > 1e-6, spread, torch.ones_like(spread))


class BondFeatures(nn.Module):
    """What each neighbour tells along a bond: its scalars, and its density in the bond's direction.

    Every atom says it along all of its bonds; what it hears is what the other end of the bond says.

    Parameters
    ----------
    config : HiMLIPConfig
    """

    degree: Tensor
    parity: Tensor

    def __init__(self, config: HiMLIPConfig) -> None:
        super().__init__()
        features = config.edge_features
        self.tensors = nn.Linear(N_FACTORS * config.channels, features, bias=False, dtype=torch.float64)
        self.scalars = nn.Linear(config.hidden, features, dtype=torch.float64)
        self.mix = nn.Linear(features * (config.bond_degree + 1), features, bias=False, dtype=torch.float64)
        degree = degree_of_harmonic()
        self.register_buffer("degree", degree, persistent=False)
        parity = torch.where(degree % 2 == 0, 1.0, -1.0).to(torch.float64)
        self.register_buffer("parity", parity[:, None, None], persistent=False)

    def forward(self, density: Tensor, scalars: Tensor, harmonics: Tensor, reverse: Tensor) -> Tensor:
        """Features of the bonds, (N, edge_features, M), from densities and scalars of the atoms.

        Parameters
        ----------
        density : Tensor
            Densities of the atoms.
        scalars : Tensor
            Invariants of the atoms.
        harmonics : Tensor
            Spherical harmonics of the bonds.
        reverse : Tensor
            Place of each bond seen from its other end.

        Returns
        -------
        Tensor (N, edge_features, M)
        """
        # Seen from its neighbour, an atom's bond points the other way: Y_lm(−r) = (−1)^l Y_lm(r).
        said = self.said(density, scalars) * self.parity
        along = torch.bmm(said.permute(1, 2, 0), harmonics)
        return seen_from_the_other_end(along, reverse)

    def mixing(self, tensors: Tensor | None = None, mix: Tensor | None = None) -> Tensor:
        """What of each harmonic's densities is said, (16, N_FACTORS · channels, edge_features).

        Parameters
        ----------
        tensors, mix : Tensor, optional
            In place of the weights of the same names.

        Returns
        -------
        Tensor
        """
        features = self.mix.out_features
        tensors, mix = (
            self.tensors.weight if tensors is None else tensors,
            self.mix.weight if mix is None else mix,
        )
        by_degree = mix.reshape(features, features, -1).permute(2, 1, 0)
        unseen = by_degree.new_zeros(L_MAX + 1 - len(by_degree), features, features)
        return torch.matmul(tensors.T, torch.cat([by_degree, unseen]))[self.degree]

    def said(self, density: Tensor, scalars: Tensor) -> Tensor:
        """What each atom says in every direction, as coefficients of the harmonics at its neighbour.

        Parameters
        ----------
        density : Tensor (16, N, N_FACTORS · channels)
        scalars : Tensor (N, hidden)

        Returns
        -------
        Tensor (16, N, edge_features)
        """
        said = torch.bmm(density, self.mixing())
        return torch.cat([said[:1] + self.scalars(scalars), said[1:]])


class Layer(nn.Module):
    """One density, its scalar network and its share of the energy.

    Parameters
    ----------
    config : HiMLIPConfig
    first : bool
        Whether neighbours are told apart by species only, and no scalars come in.
    """

    def __init__(self, config: HiMLIPConfig, first: bool) -> None:
        super().__init__()
        self.bonds = None if first else BondFeatures(config)
        self.density = DensityLayer(config)
        n_inputs = DensityLayer.n_invariants(config) + (0 if first else config.hidden)
        self.network = ScalarNetwork(n_inputs, config)
        self.readout = nn.Linear(config.hidden, len(config.elements), dtype=torch.float64)
        # The untrained model is the repulsion alone.
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)


class HiMLIP(Potential):
    """Smooth equivariant interatomic potential.

    Parameters
    ----------
    config : HiMLIPConfig
    seed : int
        Of the initial weights.

    Attributes
    ----------
    energy_shift : Tensor (n_elements,)
        Energy in eV that each element adds, fitted to the labels before training.
    energy_scale : Tensor ()
        Energy in eV of one unit of the network's output.
    """

    format = "himlip-1"
    config: HiMLIPConfig
    energy_scale: Tensor
    harmonic_derivative: Tensor

    def __init__(self, config: HiMLIPConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        numbers = [atomic_numbers[symbol] for symbol in config.elements]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.radial = RadialBasis(config.n_radial, config.cutoff)
            self.repulsion = Repulsion(numbers, config.cutoff)
            self.species_edge = nn.Parameter(
                torch.randn(len(numbers), config.edge_features, dtype=torch.float64) / config.n_radial**0.5
            )
            self.layers = nn.ModuleList(Layer(config, first=index == 0) for index in range(config.layers))
        self.register_buffer("energy_shift", torch.zeros(len(numbers), dtype=torch.float64))
        self.register_buffer("energy_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("harmonic_derivative", derivative_of_harmonics().clone(), persistent=False)

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols that the model knows."""
        return self.config.elements

    @property
    def cutoff(self) -> float:
        """Cutoff of one layer in Å."""
        return self.config.cutoff

    def forward(self, graph: Graph, strain: Tensor | None = None) -> Tensor:
        """Energy of each structure.

        Parameters
        ----------
        graph : Graph
        strain : Tensor (B, 3, 3), optional
            See `Graph.displacements`.

        Returns
        -------
        Tensor (B,)
            eV, differentiable to any order with respect to `graph.positions` and `strain`.
        """
        energies = self.atomic_energies(graph, strain)
        total = torch.zeros(graph.n_frames, dtype=energies.dtype, device=energies.device)
        return total.index_add(0, graph.frame, energies)

    def atomic_energies(
        self, graph: Graph, strain: Tensor | None = None, standardise: bool = False
    ) -> Tensor:
        """Energy of each atom in eV, (N,); `standardise` sets the input statistics from this batch.

        Parameters
        ----------
        graph : Graph
        strain : Tensor (B, 3, 3), optional
        standardise : bool
            Whether the statistics of the inputs are taken from this batch first.

        Returns
        -------
        Tensor (N,)
            eV.
        """
        vectors = graph.displacements(graph.positions, strain)
        squared = (vectors * vectors).sum(1)
        inverse = torch.rsqrt(squared)
        distances = squared * inverse
        harmonics = solid_harmonics(vectors * inverse[:, None], self.harmonic_derivative)
        radial = self.radial(distances)
        species, neighbours = graph.species, graph.neighbours
        energies = self.energy_shift[species] + self.repulsion(
            distances, species[:, None], species[neighbours]
        )
        bonds = self.species_edge[species[neighbours]].transpose(1, 2).contiguous()
        density = scalars = torch.empty(0)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            if layer.bonds is not None:
                bonds = layer.bonds(density, scalars, harmonics, graph.reverse)
            density = layer.density.density(radial, bonds, harmonics, species)
            inputs = layer.density.invariants(density)
            if layer.bonds is not None:
                inputs = torch.cat([inputs, scalars], dim=1)
            if standardise:
                layer.network.standardise(inputs, species)
            scalars = layer.network(inputs, species)
            output = layer.readout(scalars).gather(1, species[:, None])[:, 0]
            energies = energies + self.energy_scale * output
        return energies

    @torch.no_grad()
    def standardise(self, graph: Graph) -> None:
        """Set the statistics of the network inputs from a batch of typical structures."""
        self.atomic_energies(graph, standardise=True)


def element_union(species: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All chemical symbols that occur, ordered by atomic number."""
    return tuple(
        sorted({symbol for symbols in species for symbol in symbols}, key=atomic_numbers.__getitem__)
    )

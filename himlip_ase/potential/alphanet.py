"""AlphaNet networks as potentials: energies are AlphaNet's own, everything that follows from them is ours.

Needs msc-alphanet (`himlip_ase.potential.alphanet_library`), which is imported when the first network is
built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.potential.alphanet_arguments import arguments_of, build_alphanet
from himlip_ase.potential.alphanet_library import import_alphanet
from himlip_ase.potential.foreign_potential import BATCH_BYTES, ForeignPotential, check_fits
from himlip_ase.potential.graph import Graph

MOST_NEIGHBOURS = 50
"""As AlphaNet's own neighbour search: the nearest ones of each atom, and no more."""
WRAP_EPS = 1e-7
"""How far below zero a fractional coordinate may lie before ASE wraps an atom."""
LAST_NUMBER = 94
"""Of the elements that the network has features for."""

BYTES_PER_FEATURE = 10_000
"""Measured memory of a product with the Hessian per pair of atoms and channel, of four layers."""

FAILURES = (
    "energies jump where a neighbour crosses the cutoff or the 50th place among the nearest",
    "energies depend on the axes, on which periodic image of an atom is listed and on the supercell",
    "second derivatives are not continuous",
)
"""What every AlphaNet fails of the conformance suite, whatever its weights."""


@dataclass(frozen=True)
class AlphaNetConfig:
    """Shape of an AlphaNet.

    Attributes
    ----------
    elements : tuple of str
        Chemical symbols that it was trained on.
    cutoff : float
        Å.
    arguments : dict
        What AlphaNet's constructor needs (see `himlip_ase.potential.alphanet_arguments`).
    origin : dict
        Where the weights came from: name, file, sha256, licence.
    """

    elements: tuple[str, ...]
    cutoff: float
    arguments: dict[str, Any]
    origin: dict[str, Any] = field(default_factory=dict)


class AlphaNetPotential(ForeignPotential):
    """Energy of an AlphaNet.

    Parameters
    ----------
    config : AlphaNetConfig
        The weights are arbitrary until they are loaded; for those of an existing network see `of`.

    Notes
    -----
    Numbers are those of AlphaNet's own calculator, because the weights were trained so: at most 50 neighbours
    of an atom, and atoms wrapped into the cell before its frames are built from their positions. What that
    does to symmetries and second derivatives is in `FAILURES`. Of neighbours at the same distance, to
    rounding, on the 50th place any may be taken.
    """

    format = "himlip-alphanet-1"
    architecture = "AlphaNet"
    config: AlphaNetConfig
    numbers: Tensor

    def __init__(self, config: AlphaNetConfig) -> None:
        super().__init__()
        self.config = config
        self.network = build_alphanet(config.arguments)
        self.register_buffer("energy_shift", torch.zeros(len(config.elements), dtype=torch.float64))
        numbers = torch.tensor([atomic_numbers[symbol] for symbol in config.elements])
        self.register_buffer("numbers", numbers, persistent=False)
        per_pair = BYTES_PER_FEATURE * config.arguments["hidden_channels"]
        self.batch_pairs = max(64, int(BATCH_BYTES / per_pair))

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, Tensor],
        section: Mapping[str, Any],
        origin: Mapping[str, Any] | None = None,
    ) -> AlphaNetPotential:
        """The potential of given weights, which are copied.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            By their names in the ``state_dict`` of AlphaNet's network.
        section : mapping
            The "model" section of its configuration.
        origin : mapping, optional
            What is known of the weights; goes into the card of every model made from them.

        Returns
        -------
        AlphaNetPotential
            Float64, on the CPU.

        Raises
        ------
        InputError
            A configuration that is none, or weights that do not fit it.
        """
        arguments = arguments_of(section)
        elements = trained_elements(tensors)
        potential = cls(AlphaNetConfig(elements, arguments["cutoff"], arguments, dict(origin or {})))
        _load(potential.network, tensors)
        return potential

    def _apply(self, fn: Any, recurse: bool = True) -> AlphaNetPotential:
        super()._apply(fn, recurse)
        weight = next(self.network.parameters())
        # AlphaNet's modules keep device and complex type as they were when they were built
        single = weight.dtype == torch.float32
        own = {"device": weight.device, "complex_type": torch.complex64 if single else torch.complex128}
        for module in self.network.modules():
            for name in own.keys() & module.__dict__.keys():
                module.__dict__[name] = own[name]
        return self

    @property
    def provenance(self) -> dict[str, Any]:
        """Architecture, origin and licence of the weights that training began with, and their faults."""
        return {**super().provenance, "limits": list(FAILURES)}

    def check(self, atoms: Atoms) -> None:
        """Refuse what AlphaNet's own calculator takes for another structure; see `Potential.check`.

        Parameters
        ----------
        atoms : Atoms
        """
        if atoms.pbc.any() and not atoms.pbc.all():
            raise InputError(_SLAB)

    def forward(self, graph: Graph, strain: Tensor | None = None) -> Tensor:
        """Energy of each structure, (B,) in eV; see `Potential.forward`.

        Parameters
        ----------
        graph : Graph
        strain : Tensor (B, 3, 3), optional

        Returns
        -------
        Tensor (B,)
            eV.

        Raises
        ------
        InputError
            A structure that is periodic in one or two directions only.
        """
        first, slot = graph.mask.nonzero(as_tuple=True)
        second, shifts = graph.neighbours[first, slot], graph.offsets[first, :, slot]
        with torch.no_grad():
            vectors = shifts + graph.positions[second] - graph.positions[first]
            kept = nearest(first, vectors.norm(dim=1), self.cutoff, len(graph.positions))
        first, second, shifts = first[kept], second[kept], shifts[kept]
        positions = graph.positions + _wrapping(graph, first, shifts)
        vectors = shifts + graph.positions[second] - graph.positions[first]
        if strain is not None:
            vectors = vectors + torch.einsum("pk,pkl->pl", vectors, strain[graph.frame[first]])
            positions = positions + torch.einsum("nk,nkl->nl", positions, strain[graph.frame])
        data = import_alphanet("alphanet.models.graph").GraphData(
            pos=positions,
            batch=graph.frame,
            z=self.numbers[graph.species],
            natoms=graph.atoms_per_frame(),
            edge_index=torch.stack([second, first]),
            edge_attr=vectors.norm(dim=1),
            edge_vec=vectors,
        )
        energies: Tensor = self.network(data, "infer")[0].reshape(graph.n_frames).double()
        return energies.index_add(0, graph.frame, self.energy_shift[graph.species])


_SLAB = (
    "AlphaNet knows molecules and crystals only: its own calculator repeats what is periodic in one or two "
    "directions in all three. Set atoms.pbc = True, with vacuum wider than the cutoff in the other directions"
)


def nearest(first: Tensor, lengths: Tensor, cutoff: float, n_atoms: int) -> Tensor:
    """The pairs that AlphaNet's neighbour search keeps.

    Parameters
    ----------
    first : Tensor (P,)
        Atom that each pair belongs to.
    lengths : Tensor (P,)
        Å.
    cutoff : float
        Å; a pair of just this length is kept.
    n_atoms : int

    Returns
    -------
    Tensor
        Their places, in order.
    """
    within = (lengths <= cutoff).nonzero()[:, 0]
    counts = torch.bincount(first[within], minlength=n_atoms)
    if not counts.numel() or int(counts.max()) <= MOST_NEIGHBOURS:
        return within
    order = within[torch.argsort(lengths[within], stable=True)]
    order = order[torch.argsort(first[order], stable=True)]
    begin = counts.cumsum(0) - counts
    place = torch.arange(len(order), device=order.device) - begin[first[order]]
    return order[place < MOST_NEIGHBOURS].sort().values


@torch.no_grad()
def _wrapping(graph: Graph, first: Tensor, shifts: Tensor) -> Tensor:
    """Lattice vectors (N, 3) that bring every atom into its cell; none for molecules.

    AlphaNet builds frames from the positions of neighbours without their lattice translations, so the energy
    depends on where in the crystal an atom is listed. Its calculator lists it inside the cell.
    """
    if graph.cells is None:
        raise InputError("AlphaNet needs the cells of the structures in their graph; see build_graph")
    periodic = torch.isfinite(graph.cells).all(dim=2).all(dim=1)
    if bool((shifts.abs().amax(dim=1) > 0)[~periodic[graph.frame[first]]].any()):
        raise InputError(_SLAB)
    cells = torch.where(periodic[:, None, None], graph.cells, torch.eye(3).to(graph.cells))
    fractional = torch.einsum("nk,nkl->nl", graph.positions.to(cells), torch.linalg.inv(cells)[graph.frame])
    whole = -torch.floor(fractional + WRAP_EPS) * periodic[graph.frame, None]
    return torch.einsum("nk,nkl->nl", whole, cells[graph.frame]).to(graph.positions)


def trained_elements(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Elements that a training has seen.

    Each element has a factor and an offset of its own, with places for more elements than the network has
    features for: whoever still holds the numbers of those was in no structure of the training.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Weights of the network by their names.

    Returns
    -------
    tuple of str
        All up to plutonium if the weights do not tell.
    """
    symbols = chemical_symbols[1 : LAST_NUMBER + 1]
    table = [tensors[name].flatten() for name in ("a", "b") if name in tensors]
    if len(table) != 2 or any(len(values) <= LAST_NUMBER + 1 for values in table):
        return tuple(symbols)
    rows = torch.stack(table, dim=1)
    touched = (rows != rows[-1]).any(dim=1).tolist()
    seen = tuple(symbol for number, symbol in enumerate(symbols, 1) if touched[number])
    return seen or tuple(symbols)


@torch.no_grad()
def _load(network: torch.nn.Module, given: Mapping[str, Tensor]) -> None:
    """Copy weights into a network that was built for them; constants that the file lacks stay."""
    check_fits(
        network, given, "their configuration describes",
        "name another configuration: alphanet:WEIGHTS.ckpt#CONFIG.json",
    )  # fmt: skip
    own = network.state_dict()
    for name, tensor in given.items():
        own[name].copy_(tensor)

"""A network's energy and a harmonic remainder of displacements from the sites of a lattice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from torch import Tensor, nn

from himlip_ase.potential.graph import Graph
from himlip_ase.potential.harmonic_remainder import HarmonicRemainder, ReferenceLattice
from himlip_ase.potential.interface import Potential


@dataclass(frozen=True)
class LatticeConfig:
    """Shape of a potential with a harmonic remainder.

    Attributes
    ----------
    elements : tuple of str
        Chemical symbols of the network.
    network : dict
        ``format`` and ``config`` of the network, as its own file has them.
    lattice : ReferenceLattice
        That the remainder is tied to.
    """

    elements: tuple[str, ...]
    network: dict[str, Any]
    lattice: ReferenceLattice


class LatticePotential(Potential):
    """Energy of a network plus ½ u ΔΦ u of displacements from the sites of a reference lattice.

    It takes supercells of that lattice only, any integer combination of its vectors, slightly strained or
    not, with atoms in any order and image; everything else is refused. Of the forces, the remainder is linear
    in u: what the network says of anharmonicity stays as it is.

    Parameters
    ----------
    network : Potential
        Any other; it becomes part of this one.
    lattice : ReferenceLattice
    compact : ndarray (n, n_super, 3, 3), optional
        ΔΦ in eV/Å², phonopy's compact layout, with acoustic sum rule and permutation symmetry; by default
        zero.

    Examples
    --------
    >>> from himlip_ase.potential import load_model
    >>> model = load_model("tuned/remainder/model.safetensors")  # doctest: +SKIP
    >>> model.network  # for structures that are not supercells of the lattice  # doctest: +SKIP
    """

    format: ClassVar[str] = "himlip-lattice-1"
    config: LatticeConfig

    def __init__(
        self, network: Potential, lattice: ReferenceLattice, compact: np.ndarray | None = None
    ) -> None:
        super().__init__()
        described = {"format": network.format, "config": asdict(network.config)}
        self.config = LatticeConfig(tuple(network.elements), described, lattice)
        self.network = network
        self.remainder = HarmonicRemainder(lattice, network.elements)
        self.batch_pairs = network.batch_pairs
        if compact is not None:
            self.remainder.set(compact)

    def _apply(self, fn: Any, recurse: bool = True) -> LatticePotential:
        """Conversions of device and precision, by the parts, each with what it keeps in double precision."""
        nn.Module._apply(self, fn, recurse)
        return self

    @property
    def energy_shift(self) -> Tensor:  # type: ignore[override]
        """That of the network."""
        return self.network.energy_shift

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols that the network knows."""
        return self.network.elements

    @property
    def cutoff(self) -> float:
        """Cutoff of the network in Å; the remainder has none."""
        return self.network.cutoff

    @property
    def provenance(self) -> dict[str, Any]:
        """What the card of every model made from the network must keep saying."""
        return self.network.provenance

    def check(self, atoms: Atoms) -> None:
        """Refuse a structure that is no supercell of the lattice.

        Parameters
        ----------
        atoms : Atoms

        Raises
        ------
        InputError
            What it is, that this model is tied to its lattice, and what to use instead.
        """
        cell = np.where(atoms.pbc.all(), atoms.cell.array, np.nan)
        self.remainder.sites.place(atoms.positions, atoms.numbers, cell)

    def forward(self, graph: Graph, strain: Tensor | None = None) -> Tensor:
        """Energy of each structure, (B,) in eV; see `Potential.forward`.

        Parameters
        ----------
        graph : Graph
        strain : Tensor (B, 3, 3), optional

        Returns
        -------
        Tensor (B,)
        """
        return self.network(graph, strain) + self.remainder(graph, strain)

    def with_network(self, network: Potential) -> LatticePotential:
        """The same remainder with another network.

        Parameters
        ----------
        network : Potential

        Returns
        -------
        LatticePotential
        """
        return LatticePotential(network, self.config.lattice, self.remainder.compact.cpu().numpy())


def network_of(model: Potential) -> Potential:
    """A model without its harmonic remainder: its network, or the model itself where it has none.

    Parameters
    ----------
    model : Potential

    Returns
    -------
    Potential
    """
    return model.network if isinstance(model, LatticePotential) else model

"""What every part of the package may ask of a potential, whichever network is behind it."""

from __future__ import annotations

from typing import Any, ClassVar

from ase import Atoms
from torch import Tensor, nn

from himlip_ase.potential.graph import Graph


class Potential(nn.Module):
    """A differentiable energy of atoms; forces, stress, Hessian and training follow from it.

    A network joins the package by giving `forward`, `elements`, `cutoff`, `config` and a `format` of its own,
    and a line in `himlip_ase.potential.checkpoint` that builds it from what its file says. The energy must be
    differentiable twice with respect to positions and strain, and that once with respect to the parameters.

    Attributes
    ----------
    format : str
        Names the architecture in the header of its files.
    config : dataclass
        All that is needed to build the network again: numbers, strings and containers, as JSON has them.
    energy_shift : Tensor (n_elements,)
        Energy in eV that each element adds; fitted to the labels before training (a buffer). It is in double
        precision whatever the precision of the network, and so are the sums that it enters: energies of
        hundreds of eV an atom would be rounded to meV.
    batch_pairs : int
        Atom pairs to evaluate at once where nothing else is said: enough to hide the cost of a call, few
        enough for a workstation's memory.
    taught_by : tuple of str
        Programs that calculated what it has learnt, its bases included, as far as labels and cards say.
    loaded_from : str
        Name of the model whose weights these are; "" for one that has learnt since, or was never a file.
    """

    format: ClassVar[str]
    config: Any
    energy_shift: Tensor
    batch_pairs: int = 16_384
    taught_by: tuple[str, ...] = ()
    loaded_from: str = ""

    def _apply(self, fn: Any, recurse: bool = True) -> Potential:
        """Conversions of device and precision; `energy_shift` takes part in the former only."""
        kept = self.energy_shift
        super()._apply(fn, recurse)
        self.energy_shift = kept.to(self.energy_shift.device)
        return self

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols that the model knows, in the order of the species index."""
        raise NotImplementedError

    @property
    def cutoff(self) -> float:
        """Å within which an atom's neighbours are listed."""
        raise NotImplementedError

    def check(self, atoms: Atoms) -> None:
        """Refuse a structure of known elements that this model cannot take; networks take all.

        Parameters
        ----------
        atoms : Atoms

        Raises
        ------
        InputError
            What the structure is, and what to use instead.
        """

    def forward(self, graph: Graph, strain: Tensor | None = None) -> Tensor:
        """Energy of each structure.

        Parameters
        ----------
        graph : Graph
        strain : Tensor (B, 3, 3), optional
            Symmetric; see `Graph.displacements`.

        Returns
        -------
        Tensor (B,)
            eV.
        """
        raise NotImplementedError

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def provenance(self) -> dict[str, Any]:
        """What the card of every model made from this one must keep saying; JSON."""
        return {}

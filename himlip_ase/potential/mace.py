"""MACE networks as potentials: energies are MACE's own, everything that follows from them is ours.

Needs mace-torch (``pip install 'himlip-ase[mace]'``), which is imported when the first network is built.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from himlip_ase.errors import InputError
from himlip_ase.potential.foreign_potential import BATCH_BYTES, ForeignPotential, check_fits
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.mace_arguments import arguments_of, build_mace

SAME_CONSTANT = 1e-5
"""Deviation up to which a constant in single precision is taken for the one computed in double precision."""

BYTES_PER_FEATURE = 300
"""Measured memory of a training step per pair of atoms, channel and spherical harmonic."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MACEConfig:
    """Shape of a MACE network.

    Attributes
    ----------
    elements : tuple of str
        Chemical symbols, in the order of MACE's table.
    cutoff : float
        Å.
    head : str
        Which of its heads gives the energy.
    arguments : dict
        What MACE's constructor needs (see `himlip_ase.potential.mace_arguments`).
    origin : dict
        Where the weights came from: name, file, sha256, licence.
    """

    elements: tuple[str, ...]
    cutoff: float
    head: str
    arguments: dict[str, Any]
    origin: dict[str, Any] = field(default_factory=dict)


class MACEPotential(ForeignPotential):
    """Energy of a MACE network.

    Parameters
    ----------
    config : MACEConfig
        The weights are arbitrary until they are loaded; for those of an existing network see `of`.

    Notes
    -----
    MACE's envelope is twice differentiable at the cutoff: energies, forces and Hessians are continuous where
    a neighbour comes or goes, third derivatives are not.
    """

    format = "himlip-mace-1"
    architecture = "MACE"
    config: MACEConfig

    def __init__(self, config: MACEConfig) -> None:
        super().__init__()
        self.config = config
        self.network = build_mace(config.arguments)
        self.register_buffer("energy_shift", torch.zeros(len(config.elements), dtype=torch.float64))
        self._head = list(config.arguments["heads"]).index(config.head)
        features = _channels(config.arguments) * (config.arguments["max_ell"] + 1) ** 2
        self.batch_pairs = max(64, int(BATCH_BYTES / (BYTES_PER_FEATURE * features)))

    @classmethod
    def of(
        cls,
        module: Any,
        head: str | None = None,
        origin: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> MACEPotential:
        """The potential of a MACE network in memory, whose weights are copied.

        Parameters
        ----------
        module : torch module, or its record
            A MACE or ScaleShiftMACE.
        head : str, optional
            By default the only one, or the one named "default".
        origin : mapping, optional
            What is known of the weights; goes into the card of every model made from them.
        tensors : mapping of str to Tensor, optional
            Weights by their names; by default the module's own.

        Raises
        ------
        InputError
            Not a MACE of the energy, a head that it does not have, or weights that do not fit.
        """
        arguments = arguments_of(module)
        elements = tuple(chemical_symbols[number] for number in arguments["atomic_numbers"])
        chosen = _head(list(arguments["heads"]), head)
        config = MACEConfig(elements, float(arguments["r_max"]), chosen, arguments, dict(origin or {}))
        potential = cls(config)
        _load(potential.network, dict(module.state_dict()) if tensors is None else dict(tensors))
        return potential

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
        """
        first, slot = graph.mask.nonzero(as_tuple=True)
        shifts, positions = graph.offsets[first, :, slot], graph.positions
        if strain is not None:
            shifts = shifts + torch.einsum("pk,pkl->pl", shifts, strain[graph.frame[first]])
            positions = positions + torch.einsum("nk,nkl->nl", positions, strain[graph.frame])
        counts = graph.atoms_per_frame()
        data = {
            # MACE asks for gradients of the positions that it gets, which must not befall those of the graph
            "positions": positions if positions.requires_grad else positions.clone(),
            "edge_index": torch.stack([first, graph.neighbours[first, slot]]),
            "shifts": shifts,
            "unit_shifts": torch.zeros_like(shifts),
            "cell": positions.new_zeros(3 * graph.n_frames, 3),
            "node_attrs": nn.functional.one_hot(graph.species, len(self.elements)).to(positions.dtype),
            "batch": graph.frame,
            "ptr": torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            "head": counts.new_full((graph.n_frames,), self._head),
        }
        # e3nn's spherical harmonics are TorchScript; unoptimised, it rounds every call alike
        with torch.jit.optimized_execution(False):
            output = self.network(data, compute_force=False)
        return self._in_double(output, graph, data["node_attrs"]).index_add(
            0, graph.frame, self.energy_shift[graph.species]
        )

    def _in_double(self, output: Mapping[str, Any], graph: Graph, species: Tensor) -> Tensor:
        """Energies (B,) in double precision; MACE adds those of its atoms in the network's."""
        energies: Tensor = output["energy"]
        interaction = output.get("interaction_energy")
        if energies.dtype == torch.float64 or interaction is None:
            return energies.double()
        table = self.network.get_submodule("atomic_energies_fn").get_buffer("atomic_energies")
        atoms = species.double() @ torch.atleast_2d(table)[self._head].double()
        return interaction.double().index_add(0, graph.frame, atoms)

    def to_mace(self) -> nn.Module:
        """A ScaleShiftMACE of the same energies for MACE's own tools, which save it with `torch.save`.

        The energies of the elements are those of the head that was trained; other heads keep theirs.
        """
        module = build_mace(self.config.arguments, scripted=True)
        module.load_state_dict(self.network.state_dict())
        energies = torch.atleast_2d(module.get_submodule("atomic_energies_fn").get_buffer("atomic_energies"))
        energies[self._head] += self.energy_shift.to(energies)
        return module.to(next(self.network.parameters()))


def _channels(arguments: Mapping[str, Any]) -> int:
    """Scalar features of an atom, the first of the irreps."""
    return int(str(arguments["hidden_irreps"]).split("x")[0])


def _head(heads: list[str], wanted: str | None) -> str:
    if wanted is None:
        named = heads if len(heads) == 1 else [head for head in heads if head.lower() == "default"]
        if len(named) == 1:
            return named[0]
        raise InputError(f"this MACE has the heads {', '.join(heads)}; choose one: mace:MODEL#{heads[0]}")
    if wanted not in heads:
        raise InputError(f"this MACE has no head {wanted!r}; it has {', '.join(heads)}")
    return wanted


@torch.no_grad()
def _load(network: nn.Module, given: dict[str, Tensor]) -> None:
    """Copy weights into a network that was built for them.

    Clebsch-Gordan coefficients of single precision are left as they were built, in double precision: rounded
    ones make energies depend on the axes, by up to 1e-8 of their size.
    """
    check_fits(
        network, given, "the installed mace-torch builds from its description",
        "try another version of mace-torch",
    )  # fmt: skip
    own = network.state_dict()
    kept = 0
    for name, tensor in given.items():
        if "_w3j_" in name:
            continue
        if "U_matrix_" in name and tensor.dtype != torch.float64:
            deviation = float((own[name] - tensor.to(own[name])).abs().max()) if tensor.numel() else 0.0
            if deviation < SAME_CONSTANT:
                kept += 1
                continue
        own[name].copy_(tensor)
    logger.debug("%d tensors taken, %d coupling constants recomputed in double precision", len(given), kept)

"""What potentials with a network of another package have in common: origin, copies, weights that fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from himlip_ase.errors import InputError
from himlip_ase.potential.interface import Potential

BATCH_BYTES = 5e8
"""Memory of a batch, where nothing else is said."""


class ForeignPotential(Potential):
    """A potential that is built from its `config` and the weights of a network in `network`.

    Attributes
    ----------
    architecture : str
        Name of the network.
    config : dataclass
        With ``elements``, ``cutoff`` (Å) and ``origin``: where the weights came from, as name, file, sha256,
        licence.
    network : torch.nn.Module
        Of the other package.
    """

    architecture: ClassVar[str]
    network: nn.Module

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols that the model knows."""
        return tuple(self.config.elements)

    @property
    def cutoff(self) -> float:
        """Cutoff of one layer in Å."""
        return float(self.config.cutoff)

    @property
    def provenance(self) -> dict[str, Any]:
        """Architecture, origin and licence of the weights that training began with."""
        known = {"name": "a model in memory", "licence": "unknown"} | self.config.origin
        parts = [f"{key} {known[key]}" for key in ("file", "sha256") if key in known]
        origin = ", ".join([f"{self.architecture} {known['name']}", *parts])
        return {"architecture": self.architecture, "origin": origin, "licence": known["licence"]}

    def __reduce__(self) -> tuple[Any, ...]:
        # the packages' own ways of copying go through TorchScript, or want classes imported as they were
        fixed = [name for name, parameter in self.named_parameters() if not parameter.requires_grad]
        return _again, (type(self), self.config, self.state_dict(), fixed, self.taught_by)


def _again(
    kind: Any, config: Any, tensors: dict[str, Tensor], fixed: list[str], taught_by: tuple[str, ...]
) -> ForeignPotential:
    """A copy, of which the named parameters are not trained."""
    reference = next(t for name, t in tensors.items() if name != "energy_shift" and t.is_floating_point())
    potential: ForeignPotential = kind(config).to(reference)
    potential.load_state_dict(tensors)
    potential.taught_by = taught_by
    for name in fixed:
        potential.get_parameter(name).requires_grad_(False)
    return potential


def check_fits(network: nn.Module, given: Mapping[str, Tensor], described: str, otherwise: str) -> None:
    """Refuse weights that are not those of a network.

    Parameters
    ----------
    network : torch.nn.Module
    given : mapping of str to Tensor
        By name; constants of the network may be missing, parameters not.
    described : str
        Which network it is, for the message.
    otherwise : str
        What to do instead, for the message.

    Raises
    ------
    InputError
        Unknown names, missing parameters or other shapes, the first three of each.
    """
    own = network.state_dict()
    strange = [name for name in given if name not in own]
    missing = [name for name, _ in network.named_parameters() if name not in given]
    wrong = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in given.items()
        if name in own and own[name].shape != tensor.shape
    ]
    if strange or missing or wrong:
        raise InputError(
            f"the weights do not fit the network that {described} (unknown: {strange[:3]}, missing: "
            f"{missing[:3]}, of another shape: {wrong[:3]}); {otherwise}"
        )

"""Values of the layers of a network on the way to the energy, and its derivatives by them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from himlip_ase.potential.angular import N_HARMONICS
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.network import HiMLIP, Layer
from himlip_ase.potential.operators import arsinh
from himlip_ase.potential.pair_derivatives import PairDerivatives


@dataclass(frozen=True)
class LayerState:
    """Values of one layer, and the derivatives of the energy by them (``to_``).

    Attributes
    ----------
    heard : Tensor (N, M, F)
        What is heard along each bond.
    said : Tensor (N, 16, F) or None
        What atoms say, of which that is made; None in the first layer.
    density : Tensor (16, N, 4 C)
    standard : Tensor (N, n_inputs)
        Standardised inputs of the network.
    hidden : Tensor (N, hidden)
    to_raw : Tensor (N, 16, K, F)
    to_inputs : Tensor (N, n_inputs)
    to_bent : Tensor (N, n_inputs)
        By arsinh of the standardised inputs.
    to_active : Tensor (N, hidden)
        By SiLU of the hidden values.
    """

    heard: Tensor
    said: Tensor | None
    density: Tensor
    standard: Tensor
    hidden: Tensor
    to_raw: Tensor
    to_inputs: Tensor
    to_bent: Tensor
    to_active: Tensor


def layer_states(model: HiMLIP, graph: Graph, pairs: PairDerivatives) -> list[LayerState]:
    """Forward pass, and the derivatives of the energy by its intermediate values.

    Parameters
    ----------
    model : HiMLIP
    graph : Graph
    pairs : PairDerivatives
        Of the graph.

    Returns
    -------
    list of LayerState
    """
    species = graph.species
    basis = pairs.basis(slice(None)).flatten(2)
    n_atoms = len(basis)
    heard: Tensor = model.species_edge.detach()[species[pairs.neighbours]]
    said: Tensor | None = None
    states: list[tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]] = []
    wanted: list[Tensor] = []
    energy = basis.new_zeros(())
    density = scalars = basis.new_empty(n_atoms, 0)
    with torch.enable_grad():
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            if layer.bonds is not None:
                said = layer.bonds.said(density, scalars).transpose(0, 1)
                heard = torch.einsum("nms,nmsf->nmf", pairs.harmonics, said[pairs.neighbours])
            raw = torch.bmm(basis.transpose(1, 2), heard)
            if index == 0:
                raw = raw.detach().requires_grad_(True)
            by_harmonic = raw.unflatten(1, (N_HARMONICS, -1)).transpose(0, 1).flatten(2)
            density = layer.density.mixed(by_harmonic, species)
            inputs = layer.density.invariants(density)
            if scalars.shape[1]:
                inputs = torch.cat([inputs, scalars], dim=1)
            network = layer.network
            standard = (inputs - network.centre[species]) / network.spread[species]
            bent = arsinh(standard)
            hidden = network.first(bent) + network.species[species]
            active = torch.nn.functional.silu(hidden)
            scalars = hidden + network.second(active)
            energy = energy + (layer.readout(scalars).gather(1, species[:, None])).sum()
            states.append((heard, said, density, standard, hidden))
            wanted += [raw, inputs, bent, active]
        gradients = torch.autograd.grad(model.energy_scale * energy, wanted)
    shape = (n_atoms, N_HARMONICS, model.config.n_radial, -1)
    found = []
    for index, (heard, said, density, standard, hidden) in enumerate(states):
        to_raw, to_inputs, to_bent, to_active = gradients[4 * index : 4 * index + 4]
        found.append(
            LayerState(
                heard.detach(), None if said is None else said.detach(), density.detach(), standard.detach(),
                hidden.detach(), to_raw.reshape(shape), to_inputs, to_bent, to_active,
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Bends:
    """First and second derivatives of the functions of one variable, weighted where they are second ones.

    Attributes
    ----------
    input_slope : Tensor (N, n_inputs)
        Of arsinh of the standardised inputs, by the inputs.
    input_bend : Tensor (N, n_inputs)
    silu_slope : Tensor (N, hidden)
    silu_bend : Tensor (N, hidden)
    """

    input_slope: Tensor
    input_bend: Tensor
    silu_slope: Tensor
    silu_bend: Tensor

    @classmethod
    def of(cls, layer: Layer, state: LayerState, species: Tensor) -> Bends:
        """Those of one layer.

        Parameters
        ----------
        layer : Layer
        state : LayerState
        species : Tensor (N,)
            Index of each atom's element.
        """
        spread, square = layer.network.spread[species], 1 + state.standard**2
        hidden, sigmoid = state.hidden, torch.sigmoid(state.hidden)
        change = sigmoid * (1 - sigmoid)
        return cls(
            torch.rsqrt(square) / spread,
            -state.to_bent * state.standard * square**-1.5 / spread**2,
            sigmoid + hidden * change,
            state.to_active * change * (2 + hidden * (1 - 2 * sigmoid)),
        )

"""What a linear head sees of a frozen network, and its derivatives with respect to positions and strain.

The energy of a model with a linear head is E = E₀ + Σ_i θ_{Z_i}·φ_i, φ_i the features of atom i: forces,
stress and Hessian are the same linear function of the derivatives of Φ_Z = Σ_{i∈Z} φ_i. With u an auxiliary
vector of the head's shape, S = u·Φ, and v, w directions in configuration space, all of them come from
reverse-mode passes,

    ∂_v Φ = ∂/∂u [v·∂S/∂x],    ∂_v ∂_w Φ = ∂/∂u [w·∂/∂x (v·∂S/∂x)],

each of which costs a small multiple of an energy whatever the number of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.evaluation import VOIGT
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.network import HiMLIP, Layer

HeadKind = Literal["readout", "wide"]
PASS_ATOMS = 512
"""Atoms per backward pass, which bounds memory."""


class HeadFeatures:
    """Features of a linear head on a frozen network.

    Parameters
    ----------
    model : HiMLIP
        Its parameters are not changed.
    kind : {"readout", "wide"}
        "readout": the scalars that the layers' readouts see. "wide": all that one more linear layer could use
        instead, that is every layer's standardised invariants and activations.
    hidden : int, optional
        Look at the first so many hidden units only: those of the network before `apply` widened it.

    Attributes
    ----------
    n_features : int
        Features of an atom, Q; the last one is 1 and carries the energy of an element.
    size : int
        Coefficients of the head, P = elements × Q.
    """

    def __init__(self, model: HiMLIP, kind: HeadKind = "readout", hidden: int | None = None) -> None:
        if kind not in get_args(HeadKind):
            raise InputError(f"unknown head {kind!r}; allowed: {', '.join(get_args(HeadKind))}")
        self.model, self.kind = model, kind
        self.n_elements = len(model.elements)
        self.hidden = model.config.hidden if hidden is None else hidden
        beyond = model.config.hidden - self.hidden
        self.inputs = [
            layer.network.first.in_features - (0 if layer.bonds is None else beyond) for layer in self.layers
        ]
        self.widths = [self.hidden + (0 if kind == "readout" else inputs) for inputs in self.inputs]
        self.n_features = sum(self.widths) + 1
        self.size = self.n_elements * self.n_features

    @property
    def layers(self) -> list[Layer]:
        """The density layers of the model."""
        return [layer for layer in self.model.layers if isinstance(layer, Layer)]

    # -- features --------------------------------------------------------------------------------------------

    def per_atom(self, graph: Graph, strain: Tensor | None = None) -> Tensor:
        """Features of each atom, (N, Q), differentiable with respect to positions and strain.

        Their unit is the model's `energy_scale`, so that coefficients add to the readouts as they are.

        Parameters
        ----------
        graph : Graph
        strain : Tensor (B, 3, 3), optional
            Of each structure.

        Returns
        -------
        Tensor (N, Q)
        """
        seen: list[Tensor] = []

        def listen(module: Any, arguments: tuple[Tensor, Tensor], output: Tensor) -> None:
            if self.kind == "readout":
                seen.append(output[:, : self.hidden])
                return
            inputs, species = arguments
            standard = torch.asinh((inputs - module.centre[species]) / module.spread[species])
            hidden = module.first(standard) + module.species[species]
            own = (standard[:, : self.inputs[len(seen)]], torch.nn.functional.silu(hidden[:, : self.hidden]))
            seen.append(torch.cat(own, dim=1))

        handles = [layer.network.register_forward_hook(listen) for layer in self.layers]
        try:
            self.model.atomic_energies(graph, strain)
        finally:
            for handle in handles:
                handle.remove()
        scaled = self.model.energy_scale * torch.cat(seen, dim=1)
        return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1)

    def summed(self, graph: Graph) -> Tensor:
        """Features of each structure summed over the atoms of each element, (B, P)."""
        with torch.no_grad():
            features = self.per_atom(graph)
        total = features.new_zeros(graph.n_frames * self.n_elements, self.n_features)
        total.index_add_(0, graph.frame * self.n_elements + graph.species, features)
        return total.reshape(graph.n_frames, self.size)

    # -- derivatives -----------------------------------------------------------------------------------------

    def derivatives(self, graph: Graph, vectors: Tensor, strains: Tensor) -> Tensor:
        """First derivatives of the summed features of one structure along directions.

        Parameters
        ----------
        graph : Graph
            Of one structure.
        vectors : Tensor (K, N, 3)
            Displacements per unit of the path.
        strains : Tensor (K, 3, 3)
            Symmetric strains per unit of the path.

        Returns
        -------
        Tensor (K, P)
        """
        parts = []
        for part in _chunks(len(vectors), len(graph.positions)):
            batch = graph.replicate(len(vectors[part]))
            u = self._head(batch)
            _, _, gradients = self._gradients(batch, u)
            along = (gradients[0] * vectors[part].reshape(-1, 3)).sum() + (gradients[1] * strains[part]).sum()
            parts.append(torch.autograd.grad(along, u)[0].reshape(-1, self.size))
        return torch.cat(parts)

    def second_derivatives(self, graph: Graph, first: Tensor, second: Tensor) -> Tensor:
        """Second derivatives of the summed features of one structure: vᵀ ∂²Φ w for pairs of directions.

        Parameters
        ----------
        graph : Graph
            Of one structure.
        first, second : Tensor (K, N, 3)
            v and w.

        Returns
        -------
        Tensor (K, P)
        """
        parts = []
        for part in _chunks(len(first), 2 * len(graph.positions)):
            batch = graph.replicate(len(first[part]))
            u = self._head(batch)
            positions, _, gradients = self._gradients(batch, u, strained=False)
            along = (gradients[0] * first[part].reshape(-1, 3)).sum()
            (product,) = torch.autograd.grad(along, positions, create_graph=True)
            twice = (product * second[part].reshape(-1, 3)).sum()
            parts.append(torch.autograd.grad(twice, u)[0].reshape(-1, self.size))
        return torch.cat(parts)

    def forces_and_stress(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Rows of the forces and of the stress of one structure.

        Returns
        -------
        forces : Tensor (N, 3, P)
            −∂Φ/∂x.
        stress : Tensor (6, P)
            (1/V) ∂Φ/∂ε in ASE's Voigt order, NaN without a volume.
        """
        n = len(graph.positions)
        vectors = graph.positions.new_zeros(3 * n + 6, n, 3)
        vectors[: 3 * n] = torch.eye(3 * n, dtype=vectors.dtype, device=vectors.device).reshape(3 * n, n, 3)
        strains = vectors.new_zeros(3 * n + 6, 3, 3)
        for index, (a, b) in enumerate(VOIGT):
            strains[3 * n + index, a, b] += 0.5
            strains[3 * n + index, b, a] += 0.5
        rows = self.derivatives(graph, vectors, strains)
        return -rows[: 3 * n].reshape(n, 3, self.size), rows[3 * n :] / graph.volumes[0]

    def hessian(self, graph: Graph, rows: Sequence[int] | None = None) -> Tensor:
        """Rows of the Hessian of one structure, (n, 3, N, 3, P); large: for a few rows of small cells.

        Parameters
        ----------
        graph : Graph
        rows : sequence of int, optional
            Atoms; all by default.

        Returns
        -------
        Tensor (n, 3, N, 3, P)
            eV/Å² per unit of a coefficient.
        """
        n = len(graph.positions)
        chosen = list(range(n)) if rows is None else list(rows)
        unit = torch.eye(3 * n, dtype=graph.positions.dtype, device=graph.positions.device)
        unit = unit.reshape(n, 3, n, 3)
        first = unit[chosen].reshape(-1, 1, n, 3).expand(-1, 3 * n, -1, -1).reshape(-1, n, 3)
        second = unit.reshape(3 * n, n, 3).repeat(3 * len(chosen), 1, 1)
        return self.second_derivatives(graph, first, second).reshape(len(chosen), 3, n, 3, self.size)

    def _head(self, batch: Graph) -> Tensor:
        shape = (batch.n_frames, self.n_elements, self.n_features)
        return batch.positions.new_zeros(shape).requires_grad_(True)

    def _gradients(
        self, batch: Graph, u: Tensor, strained: bool = True
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        positions = batch.positions.detach().requires_grad_(True)
        strain = positions.new_zeros(batch.n_frames, 3, 3).requires_grad_(True) if strained else None
        symmetric = None if strain is None else 0.5 * (strain + strain.transpose(1, 2))
        features = self.per_atom(replace(batch, positions=positions), symmetric)
        total = (features * u[batch.frame, batch.species]).sum()
        variables = [positions] if strain is None else [positions, strain]
        return positions, strain, torch.autograd.grad(total, variables, create_graph=True)

    # -- the head as part of a network -----------------------------------------------------------------------

    def apply(self, coefficients: Tensor) -> HiMLIP:
        """A copy of the model whose energy has this head added.

        The "readout" head is added to the readouts. The "wide" one becomes one more hidden unit for each
        element and layer, which no other unit listens to: the result is an ordinary network of the same kind,
        exactly the sum of both. A model that `apply` widened keeps its units, and they change.

        Parameters
        ----------
        coefficients : Tensor (P,)
        """
        from himlip_ase.potential.widening import widened

        present = self.hidden != self.model.config.hidden
        extra = self.n_elements if self.kind == "wide" and not present else 0
        heads = coefficients.reshape(self.n_elements, self.n_features)
        shares = torch.split(heads[:, :-1], self.widths, dim=1)
        model = widened(self.model, extra)
        layers = [layer for layer in model.layers if isinstance(layer, Layer)]
        hidden = self.hidden
        with torch.no_grad():
            model.energy_shift += heads[:, -1].to(model.energy_shift)
            for layer, inputs, share in zip(layers, self.inputs, shares, strict=True):
                if self.kind == "readout":
                    layer.readout.weight[:, :hidden] += share
                    continue
                layer.network.first.weight[hidden:, :inputs] += share[:, :inputs]
                layer.network.second.weight[hidden:, :hidden] += share[:, inputs:]
                if not present:
                    layer.readout.weight[:, hidden:] = torch.eye(self.n_elements, dtype=share.dtype)
        return model


def _chunks(number: int, atoms: int) -> list[slice]:
    size = max(1, PASS_ATOMS // atoms)
    return [slice(start, start + size) for start in range(0, number, size)]

"""Changes of all layers of the Hi-MLIP network along vectors: what products and derivatives by weights share.

Names are those of `himlip_ase.potential.fused.pair_tangents`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from himlip_ase.potential.fused import dense, densities, pair_tangents
from himlip_ase.potential.fused.forces import Backward, Forward, FusedForces, Recorded, Weights, in_ranges
from himlip_ase.potential.fused.sphere_tangents import SLOPES, sphere_tangents


@dataclass(frozen=True)
class Curves:
    """Derivatives of one layer's functions of one variable, and slopes of its integrals.

    Attributes
    ----------
    input_slope, input_bend : Tensor (N, n_inputs)
        Slope of arsinh of the standardised inputs by the inputs; second derivative times the gradient.
    silu_slope, silu_bend : Tensor (N, hidden)
        The same of SiLU by the hidden values.
    integrals : ndarray (N, 16, 11 C)
        See `himlip_ase.potential.fused.sphere_tangents`.
    """

    input_slope: Tensor
    input_bend: Tensor
    silu_slope: Tensor
    silu_bend: Tensor
    integrals: np.ndarray


@dataclass(frozen=True)
class Motion:
    """Changes of all pairs along one vector; see `himlip_ase.potential.fused.pair_tangents`."""

    moved: np.ndarray
    stretch: np.ndarray
    harmonic_dot: np.ndarray


@dataclass(frozen=True)
class Change:
    """Changes of one layer along the vectors of a sweep, (V, …); `mixed` as in `Forward`."""

    raw: np.ndarray
    mixed: np.ndarray | None
    density: np.ndarray
    inputs: Tensor
    hidden: Tensor
    scalars: Tensor
    said: np.ndarray
    edges: np.ndarray


class Tangents:
    """Changes along vectors of what is recorded of a graph.

    Parameters
    ----------
    forces : FusedForces
    record : Recorded
        By `forces`.
    """

    @torch.no_grad()
    def __init__(self, forces: FusedForces, record: Recorded) -> None:
        self.forces, self.record = forces, record
        config = forces.model.config
        self.passes = pair_tangents.density_tangents(config.n_radial, config.edge_features)
        self._slopes, self._invariants, self._invariants_adjoint = sphere_tangents(config.channels)
        self.curves = [
            self._curves(weights, forward, backward)
            for weights, forward, backward in zip(
                forces.layers, record.forwards, record.backwards, strict=True
            )
        ]

    def motion(self, v: np.ndarray, strain: np.ndarray | None = None) -> Motion:
        """Changes of all pairs.

        Parameters
        ----------
        v : ndarray (N, 3)
        strain : ndarray (B, 3, 3), optional
            Strain that comes with v.

        Returns
        -------
        Motion
        """
        found, graph = self.record.pairs, self.record.graph
        if strain is None:
            strain = np.zeros((graph.n_frames, 3, 3), dtype=v.dtype)
        motion = Motion(
            np.empty_like(found.vectors), np.empty_like(found.inverse), np.empty_like(found.harmonic)
        )
        in_ranges(
            found.shape[0], pair_tangents.motions, graph.frame.numpy(), found.neighbours, found.counts,
            found.vectors, found.inverse, v, strain, motion.moved, motion.stretch, motion.harmonic_dot,
        )  # fmt: skip
        return motion

    def forward(self, motions: list[Motion]) -> list[Change]:
        """Changes of all layers.

        Parameters
        ----------
        motions : list of Motion

        Returns
        -------
        list of Change
        """
        forces, record, passes = self.forces, self.record, self.passes
        found, n_atoms, n = record.pairs, record.pairs.shape[0], len(motions)
        changes: list[Change] = []
        for weights, forward, curves in zip(forces.layers, record.forwards, self.curves, strict=True):
            layer, network = weights.layer, weights.layer.network
            real = found.inverse.dtype
            raw = np.empty((n, 16, n_atoms, weights.mix.shape[1]), real)
            said = edges = np.empty((n, 0))
            if layer.bonds is None:
                for motion, own in zip(motions, raw, strict=True):
                    in_ranges(
                        n_atoms, passes.of_species, record.species, found.neighbours, found.counts,
                        found.radial, found.slope, found.harmonic, motion.stretch, motion.harmonic_dot,
                        forces.edges, own,
                    )  # fmt: skip
            else:
                assert forward.said is not None and forward.edges is not None
                said = np.empty((n, *forward.said.shape), real)
                mixing, head, shift = weights.saying
                for density, scalars, now in zip(
                    changes[-1].density, changes[-1].scalars.numpy(), said, strict=True
                ):
                    in_ranges(n_atoms, dense.saying, density, mixing, scalars, head, 0 * shift, now)
                edges = np.empty((n, *forward.edges.shape), real)
                for motion, now, heard, own in zip(motions, said, edges, raw, strict=True):
                    in_ranges(
                        n_atoms, passes.of_bonds, found.neighbours, found.counts, found.radial, found.slope,
                        found.harmonic, motion.stretch, motion.harmonic_dot, forward.said, now,
                        forward.edges, heard, own,
                    )  # fmt: skip
            density = mixed_all(raw, weights.mix)
            mixed = density.copy() if forces.learning else None
            inputs = torch.from_numpy(np.empty((n, *forward.standard.shape), real))
            in_ranges(
                n_atoms, self._invariants, record.species, weights.gates, forward.density,
                curves.integrals, density, inputs.numpy(),
            )  # fmt: skip
            if changes:
                inputs[..., -changes[-1].scalars.shape[-1] :] = changes[-1].scalars
            hidden = (inputs * curves.input_slope) @ network.first.weight.T
            scalars = hidden + (hidden * curves.silu_slope) @ network.second.weight.T
            changes.append(Change(raw, mixed, density, inputs, hidden, scalars, said, edges))
        return changes

    def invariants_adjoint(
        self, index: int, change: Change, to_scalars: Tensor, to_density: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Changes of the gradients by a layer's hidden values and inputs; adds that by its densities.

        Parameters
        ----------
        index : int
            Of the layer.
        change : Change
            Of the layer.
        to_scalars : Tensor (V, N, hidden)
            Change of the gradient by the layer's scalars.
        to_density : Tensor (V, 16, N, 4 C)
            The same of the densities; becomes that of the densities before they were gated (gated ones where
            derivatives by the weights are wanted).

        Returns
        -------
        tuple of Tensor
            (V, N, hidden) and (V, N, n_inputs).
        """
        forces, record, curves = self.forces, self.record, self.curves[index]
        weights, network = forces.layers[index], forces.layers[index].layer.network
        to_hidden = to_scalars + (to_scalars @ network.second.weight) * curves.silu_slope
        to_hidden.addcmul_(curves.silu_bend, change.hidden)
        to_inputs = (to_hidden @ network.first.weight) * curves.input_slope
        to_inputs.addcmul_(curves.input_bend, change.inputs)
        in_ranges(
            record.pairs.shape[0], self._invariants_adjoint, record.species, forces.gates_of(weights),
            record.forwards[index].density, *forces.by_point, curves.integrals, change.density,
            record.backwards[index].to_inputs, to_inputs.numpy(), to_density.numpy(),
        )  # fmt: skip
        return to_hidden, to_inputs

    def _curves(self, weights: Weights, forward: Forward, backward: Backward) -> Curves:
        network, channels = weights.layer.network, self.forces.model.config.channels
        n_atoms = self.record.pairs.shape[0]
        integrals = np.empty((n_atoms, 16, SLOPES * channels), forward.density.dtype)
        in_ranges(n_atoms, self._slopes, forward.density, *self.forces.by_point, integrals)
        shrink = torch.from_numpy(weights.inverse_spread)[self.record.graph.species]
        standard, hidden, to_standard, down = map(
            torch.from_numpy, (forward.standard, forward.hidden, backward.to_standard, backward.down)
        )
        inverse = torch.rsqrt(1 + standard * standard)
        slope = inverse * shrink
        sigmoid = torch.sigmoid(hidden)
        change = sigmoid * (1 - sigmoid)
        to_active = down @ network.second.weight
        return Curves(
            slope,
            -to_standard * standard * inverse * slope * slope,
            sigmoid + hidden * change,
            to_active * change * (2 + hidden * (1 - 2 * sigmoid)),
            integrals,
        )


def mixed_all(values: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Σ_q values[v, s, i, q] matrices[s, q, c].

    Parameters
    ----------
    values : ndarray (V, 16, N, Q)
    matrices : ndarray (16, Q, C)

    Returns
    -------
    ndarray (V, 16, N, C)
    """
    found = np.empty((*values.shape[:3], matrices.shape[2]), dtype=values.dtype)
    for one, mixed in zip(values, found, strict=True):
        in_ranges(values.shape[2], densities.mixed, one, matrices, mixed)
    return found

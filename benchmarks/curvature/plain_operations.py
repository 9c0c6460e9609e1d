"""The network's operations as plain torch, recorded step by step: what the package's own are measured with.

Forward-mode and vectorised differentiation need these: they cannot look into hand-written derivatives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor

from himlip_ase.potential import angular, radial, sphere


def pair_difference(positions: Tensor, neighbours: Tensor, reverse: Tensor) -> Tensor:
    """x_j − x_i, whose derivative scatters."""
    return positions[neighbours].transpose(1, 2) - positions[:, :, None]


def seen_from_the_other_end(values: Tensor, reverse: Tensor) -> Tensor:
    """Values of the reversed pairs, whose derivative scatters."""
    return values.transpose(1, 2).flatten(0, 1)[reverse].transpose(1, 2)


def density(radial: Tensor, edge: Tensor, harmonics: Tensor) -> Tensor:
    """Σ_m R_km E_em Y_sm through the recorded product R E."""
    return torch.bmm((radial[:, :, None] * edge[:, None]).flatten(1, 2), harmonics.transpose(1, 2))


def solid_harmonics(vectors: Tensor, derivative: Tensor) -> Tensor:
    """The polynomials themselves."""
    return torch.stack(angular._polynomials(*vectors.unbind(1)), dim=1)


def sphere_integrals(densities: Tensor, on_sphere: Tensor, on_sphere_low: Tensor, weights: Tensor) -> Tensor:
    """Products at the quadrature points, recorded."""
    one, two, three, four = sphere._values(densities, on_sphere)
    _, two_low, three_low, four_low = sphere._values(densities, on_sphere_low)
    pair, pair_low = one * two, two_low * three_low
    products = (pair * three, pair * four, pair_low * four_low * four_low, pair_low * pair_low)
    return torch.stack([product @ weights for product in products], dim=1)


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Let every model use the operations of this module."""
    network = "himlip_ase.potential.network."
    with (
        mock.patch("himlip_ase.potential.graph.pair_difference", pair_difference),
        mock.patch(network + "seen_from_the_other_end", seen_from_the_other_end),
        mock.patch(network + "density", density),
        mock.patch(network + "solid_harmonics", solid_harmonics),
        mock.patch(network + "sphere_integrals", sphere_integrals),
        mock.patch(network + "arsinh", torch.asinh),
        mock.patch("himlip_ase.potential.radial._Wave.apply", radial._wave),
    ):
        yield

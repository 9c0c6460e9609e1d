"""First and second derivatives of an atom's invariants by its densities, as matrices for each channel.

The invariants of a channel depend on that channel's four factors alone: 4 · 16 densities (factor, harmonic).
They are the factors' l = 0, the products of the first and of the last two factors by degree, and the four
integrals of `himlip_ase.potential.sphere`: sixteen numbers, in this order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from himlip_ase.potential.angular import L_MAX, N_HARMONICS
from himlip_ase.potential.network import DensityLayer
from himlip_ase.potential.sphere import N_FACTORS

N_OF_CHANNEL = N_FACTORS + 2 * (L_MAX + 1) + 4


def by_channel(inputs: Tensor, channels: int) -> Tensor:
    """Invariants (…, n_invariants) in the order of the network as (…, channels, 16).

    Parameters
    ----------
    inputs : Tensor (…, n_invariants)
    channels : int

    Returns
    -------
    Tensor (…, channels, 16)
    """
    edges = [N_FACTORS * channels, 2 * (L_MAX + 1) * channels, 4 * channels]
    values, pairs, integrals = inputs.split(edges, dim=-1)
    parts = (
        values.unflatten(-1, (N_FACTORS, channels)).transpose(-1, -2),
        pairs.unflatten(-1, (2, channels, L_MAX + 1)).transpose(-2, -3).flatten(-2),
        integrals.unflatten(-1, (4, channels)).transpose(-1, -2),
    )
    return torch.cat(parts, dim=-1)


def invariant_derivatives(layer: DensityLayer, density: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobian of the invariants, and the curvature of their sum weighted with `cotangent`.

    Parameters
    ----------
    layer : DensityLayer
    density : Tensor (16, N, 4 · C)
    cotangent : Tensor (N, C, 16)
        ∂E/∂(invariants) by channel.

    Returns
    -------
    jacobian : Tensor (N, C, 16, 64)
    curvature : Tensor (N, C, 64, 64)
    """
    n_atoms = density.shape[1]
    own = density.permute(1, 2, 0).unflatten(1, (N_FACTORS, -1)).transpose(1, 2)  # (N, C, 4, 16)
    jacobian = own.new_zeros(n_atoms, layer.channels, N_OF_CHANNEL, N_FACTORS, N_HARMONICS)
    curvature = own.new_zeros(n_atoms, layer.channels, N_FACTORS, N_HARMONICS, N_FACTORS, N_HARMONICS)
    for factor in range(N_FACTORS):
        jacobian[:, :, factor, factor, 0] = 1
    norm = layer.by_degree.T
    for pair in range(2):
        one, two, first = 2 * pair, 2 * pair + 1, N_FACTORS + pair * (L_MAX + 1)
        some = slice(first, first + L_MAX + 1)
        jacobian[:, :, some, one] = norm * own[:, :, two, None]
        jacobian[:, :, some, two] = norm * own[:, :, one, None]
        together = cotangent[:, :, some] @ norm
        for a, b in ((one, two), (two, one)):
            torch.diagonal(curvature[:, :, a, :, b], dim1=-2, dim2=-1).copy_(together)
    _add_integrals(layer, own, cotangent[:, :, -4:], jacobian[:, :, -4:], curvature)
    return jacobian.flatten(-2), curvature.flatten(4).flatten(2, 3)


def _add_integrals(
    layer: DensityLayer, own: Tensor, cotangent: Tensor, jacobian: Tensor, curvature: Tensor
) -> None:
    """Of ∫ f₁f₂f₃, ∫ f₁f₂f₄, ∫ l₂l₃l₄² and ∫ l₂²l₃², see `himlip_ase.potential.sphere`."""
    full, low = layer.on_sphere, layer.on_sphere_low
    one, two, three, four = (own @ full).unbind(2)
    _, two_low, three_low, four_low = (own @ low).unbind(2)
    g = [part[..., None] for part in cotangent.unbind(2)]
    both, square = two_low * three_low, four_low * four_low
    zero = torch.zeros_like(one)
    slopes = torch.stack([
        torch.stack([two * three, one * three, one * two, zero], 2),
        torch.stack([two * four, one * four, zero, one * two], 2),
    ], 2)  # fmt: skip
    slopes_low = torch.stack([
        torch.stack([zero, three_low * square, two_low * square, 2 * both * four_low], 2),
        torch.stack([zero, 2 * both * three_low, 2 * both * two_low, zero], 2),
    ], 2)  # fmt: skip
    jacobian[:, :, :2] = slopes @ (layer.weights * full).T
    jacobian[:, :, 2:] = slopes_low @ (layer.weights * low).T
    mixed = {
        (0, 1): g[0] * three + g[1] * four, (0, 2): g[0] * two, (0, 3): g[1] * two,
        (1, 2): g[0] * one, (1, 3): g[1] * one,
    }  # fmt: skip
    mixed_low = {
        (1, 1): 2 * g[3] * three_low * three_low, (2, 2): 2 * g[3] * two_low * two_low,
        (3, 3): 2 * g[2] * both, (1, 2): g[2] * square + 4 * g[3] * both,
        (1, 3): 2 * g[2] * three_low * four_low, (2, 3): 2 * g[2] * two_low * four_low,
    }  # fmt: skip
    for table, harmonics in ((mixed, full), (mixed_low, low)):
        products = (layer.weights * harmonics[:, None] * harmonics[None]).flatten(0, 1)  # (256, G)
        blocks = torch.stack(list(table.values()), 2) @ products.T
        for place, (a, b) in enumerate(table):
            block = blocks[:, :, place].unflatten(-1, (N_HARMONICS, N_HARMONICS))
            curvature[:, :, a, :, b] += block
            if a != b:
                curvature[:, :, b, :, a] += block  # symmetric in the harmonics

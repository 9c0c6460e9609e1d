"""Integrals over the sphere of products of densities, with their first and second derivatives written down.

With the four factors f_k(x) = Σ_s S_s(x) d_ks of an atom's density on the sphere, and l_k the same without
the highest degree, the integrals are those of f₁f₂f₃, f₁f₂f₄, l₂l₃l₄² and l₂²l₃².
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, addcmul
from torch.autograd import Function

from himlip_ase.potential.blocks import blockwise

N_FACTORS = 4
"""Independent mixtures of the density that are multiplied with each other."""


def sphere_integrals(densities: Tensor, on_sphere: Tensor, on_sphere_low: Tensor, weights: Tensor) -> Tensor:
    """Integrals of products of the four factors of each density.

    Parameters
    ----------
    densities : Tensor (R, 4 · C, 16)
        Coefficients of the real harmonics, C channels of each factor.
    on_sphere, on_sphere_low : Tensor (16, G)
        The harmonics at the quadrature points, with and without the highest degree.
    weights : Tensor (G,)

    Returns
    -------
    Tensor (R, 4, C)
        Differentiable to any order.
    """
    return _Integrals.apply(densities, on_sphere, on_sphere_low, weights)


class _Integrals(Function):
    @staticmethod
    def forward(
        ctx: Any, densities: Tensor, on_sphere: Tensor, on_sphere_low: Tensor, weights: Tensor
    ) -> Tensor:
        ctx.save_for_backward(densities, on_sphere, on_sphere_low, weights)

        def integrate(densities: Tensor) -> tuple[Tensor]:
            one, two, three, four = _values(densities, on_sphere)
            _, two_low, three_low, four_low = _values(densities, on_sphere_low)
            pair, pair_low = one * two, two_low * three_low
            products = (
                pair * three,
                pair * four,
                pair_low * (four_low * four_low),
                pair_low * pair_low,
            )
            return (_integrals(products, weights),)

        return blockwise(integrate, _bytes(densities, on_sphere), densities)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _IntegralsGradient.apply(gradients[0], *ctx.saved_tensors), None, None, None


class _IntegralsGradient(Function):
    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        densities: Tensor,
        on_sphere: Tensor,
        on_sphere_low: Tensor,
        weights: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(cotangent, densities, on_sphere, on_sphere_low, weights)

        weighted = (weights[:, None] * on_sphere.T, weights[:, None] * on_sphere_low.T)

        def gradient(cotangent: Tensor, densities: Tensor) -> tuple[Tensor]:
            g = cotangent[..., None].unbind(1)
            one, two, three, four = _values(densities, on_sphere)
            _, two_low, three_low, four_low = _values(densities, on_sphere_low)
            pair, pair_low = one * two, two_low * three_low
            rest = addcmul(g[0] * three, g[1], four)
            rest_low = addcmul(g[2] * (four_low * four_low), 2 * g[3], pair_low)
            high = (two * rest, one * rest, g[0] * pair, g[1] * pair)
            low = (three_low * rest_low, two_low * rest_low, 2 * g[2] * (pair_low * four_low))
            return (_projected(high, low, weighted),)

        return blockwise(gradient, _bytes(densities, on_sphere), cotangent, densities)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cotangent, densities, on_sphere, on_sphere_low, weights = ctx.saved_tensors

        weighted = (weights[:, None] * on_sphere.T, weights[:, None] * on_sphere_low.T)

        def second(cotangent: Tensor, densities: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
            # Change of integrals and gradient as the densities move along the cotangent of the gradient.
            g = cotangent[..., None].unbind(1)
            one, two, three, four = _values(densities, on_sphere)
            d_one, d_two, d_three, d_four = _values(along, on_sphere)
            pair, d_pair = one * two, addcmul(d_one * two, one, d_two)
            rest, d_rest = addcmul(g[0] * three, g[1], four), addcmul(g[0] * d_three, g[1], d_four)
            high = (
                addcmul(d_two * rest, two, d_rest),
                addcmul(d_one * rest, one, d_rest),
                g[0] * d_pair,
                g[1] * d_pair,
            )
            changes = (addcmul(d_pair * three, pair, d_three), addcmul(d_pair * four, pair, d_four))

            _, two, three, four = _values(densities, on_sphere_low)
            _, d_two, d_three, d_four = _values(along, on_sphere_low)
            pair, d_pair = two * three, addcmul(d_two * three, two, d_three)
            square, half_d_square = four * four, four * d_four
            rest = addcmul(g[2] * square, 2 * g[3], pair)
            d_rest = addcmul(2 * g[2] * half_d_square, 2 * g[3], d_pair)
            low = (
                addcmul(d_three * rest, three, d_rest),
                addcmul(d_two * rest, two, d_rest),
                2 * g[2] * addcmul(d_pair * four, pair, d_four),
            )
            changes_low = (addcmul(d_pair * square, 2 * pair, half_d_square), 2 * pair * d_pair)
            return _integrals((*changes, *changes_low), weights), _projected(high, low, weighted)

        bytes_per_row = _bytes(densities, on_sphere)
        return *blockwise(second, bytes_per_row, cotangent, densities, gradients[0]), None, None, None


def _values(densities: Tensor, on_sphere: Tensor) -> tuple[Tensor, ...]:
    """The four factors at the quadrature points, (R, C, G) each."""
    return torch.matmul(densities, on_sphere).unflatten(1, (N_FACTORS, -1)).unbind(1)


def _integrals(products: tuple[Tensor, ...], weights: Tensor) -> Tensor:
    return torch.stack([torch.matmul(product, weights) for product in products], dim=1)


def _projected(high: tuple[Tensor, ...], low: tuple[Tensor, ...], weighted: tuple[Tensor, Tensor]) -> Tensor:
    """Derivatives with respect to the values on the sphere, turned into those with respect to densities."""
    first, *rest = (torch.matmul(values, weighted[0]) for values in high)
    lower = (torch.matmul(values, weighted[1]) for values in low)
    return torch.cat([first, *(one + other for one, other in zip(rest, lower, strict=True))], dim=1)


def _bytes(densities: Tensor, on_sphere: Tensor) -> int:
    """Bytes of the values of one row's factors."""
    return densities.shape[1] * on_sphere.shape[1] * densities.element_size()

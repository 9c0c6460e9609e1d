"""Real solid harmonics up to l = 3 with all their derivatives, and an exact quadrature on the sphere."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from scipy.integrate import lebedev_rule
from torch import Tensor
from torch.autograd import Function

from himlip_ase.potential.blocks import blockwise

L_MAX = 3
N_HARMONICS = (L_MAX + 1) ** 2
N_LOWER = L_MAX**2
"""Harmonics of degree below L_MAX, in which the derivatives of all can be written."""

QUADRATURE_DEGREE = 9
"""Integrates polynomials of this degree exactly: products of three l ≤ 3 or four l ≤ 2 functions."""


def _polynomials(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """The harmonics as homogeneous polynomials."""
    x2, y2, z2 = x * x, y * y, z * z
    xy, difference, sum_ = x * y, x2 - y2, x2 + y2
    four_z2 = 4 * z2 - sum_
    return [
        torch.ones_like(x),
        3**0.5 * y,
        3**0.5 * z,
        3**0.5 * x,
        15**0.5 * xy,
        15**0.5 * y * z,
        5**0.5 / 2 * (2 * z2 - sum_),
        15**0.5 * x * z,
        15**0.5 / 2 * difference,
        (35 / 8) ** 0.5 * y * (3 * x2 - y2),
        105**0.5 * xy * z,
        (21 / 8) ** 0.5 * y * four_z2,
        7**0.5 / 2 * z * (2 * z2 - 3 * sum_),
        (21 / 8) ** 0.5 * x * four_z2,
        105**0.5 / 2 * z * difference,
        (35 / 8) ** 0.5 * x * (x2 - 3 * y2),
    ]


class _SolidHarmonics(Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, derivative: Tensor) -> Tensor:
        def evaluate(vectors: Tensor) -> tuple[Tensor]:
            return (torch.stack(_polynomials(*vectors.unbind(1)), dim=1),)

        (values,) = blockwise(evaluate, _bytes(vectors), vectors)
        ctx.save_for_backward(values, derivative)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _SolidHarmonicsGradient.apply(gradients[0], *ctx.saved_tensors), None


class _SolidHarmonicsGradient(Function):
    """Σ_ab D_kba g_a S_b: the gradient of a solid harmonic is a combination of those one degree lower."""

    @staticmethod
    def forward(ctx: Any, cotangent: Tensor, values: Tensor, derivative: Tensor) -> Tensor:
        ctx.save_for_backward(cotangent, values, derivative)

        def pull(cotangent: Tensor, values: Tensor) -> tuple[Tensor]:
            return ((_lowered(cotangent, derivative) * values[:, None, :N_LOWER]).sum(2),)

        return blockwise(pull, _bytes(values), cotangent, values)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        cotangent, values, derivative = ctx.saved_tensors

        def second(cotangent: Tensor, values: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
            raised = (along[:, :, None] * values[:, None, :N_LOWER]).flatten(1, 2)
            to_values = (along[:, :, None] * _lowered(cotangent, derivative)).sum(1)
            return (
                torch.bmm(derivative.T.expand(len(values), -1, -1), raised),
                torch.nn.functional.pad(to_values, (0, 0, 0, N_HARMONICS - N_LOWER)),
            )

        return *blockwise(second, _bytes(values), cotangent, values, gradients[0]), None


def _lowered(cotangent: Tensor, derivative: Tensor) -> Tensor:
    """Σ_a D_kba g_a, (N, 3, 9, M)."""
    lowered = torch.bmm(derivative.expand(len(cotangent), -1, -1), cotangent)
    return lowered.unflatten(1, (3, N_LOWER))


def _bytes(table: Tensor) -> int:
    """Bytes of the derivatives of one atom's harmonics."""
    return 3 * N_LOWER * table.shape[2] * table.element_size()


def solid_harmonics(vectors: Tensor, derivative: Tensor) -> Tensor:
    """Real solid harmonics r^l Y_lm, l = 0 … 3, normalised so that Σ_m Y_lm² = 2l + 1.

    Parameters
    ----------
    vectors : Tensor (N, 3, M)
    derivative : Tensor (27, 16)
        From `derivative_of_harmonics`.

    Returns
    -------
    Tensor (N, 16, M)
        Ordered by l, then m = −l … l; differentiable to any order.
    """
    return _SolidHarmonics.apply(vectors, derivative)


@cache
def derivative_of_harmonics() -> Tensor:
    """D with ∂S_a/∂x_k = Σ_b D[(k, b), a] S_b, (3 · 9, 16), by projection on the sphere."""
    points, weights = sphere_quadrature()
    points = points.T[None].requires_grad_(True)
    with torch.enable_grad():
        values = torch.stack(_polynomials(*points.unbind(1)), dim=1)
        slopes = [torch.autograd.grad(value.sum(), points, retain_graph=True)[0][0] for value in values[0]]
    projected = torch.einsum("akg,bg,g->kba", torch.stack(slopes), values[0, :N_LOWER].detach(), weights)
    projected[projected.abs() < 1e-12] = 0
    return projected.reshape(3 * N_LOWER, N_HARMONICS)


def degree_of_harmonic() -> Tensor:
    """The degree l of each of the 16 harmonics, (16,)."""
    return torch.repeat_interleave(torch.arange(L_MAX + 1), 2 * torch.arange(L_MAX + 1) + 1)


def sphere_quadrature() -> tuple[Tensor, Tensor]:
    """Lebedev points (G, 3) and weights (G,) that sum to one, exact to `QUADRATURE_DEGREE`."""
    points, weights = lebedev_rule(QUADRATURE_DEGREE)
    weights = torch.as_tensor(weights, dtype=torch.float64)
    return torch.as_tensor(points.T.copy(), dtype=torch.float64), weights / weights.sum()


def harmonics_on_sphere() -> tuple[Tensor, Tensor]:
    """The harmonics at the quadrature points, (16, G), and the weights (G,)."""
    points, weights = sphere_quadrature()
    return torch.stack(_polynomials(*points.unbind(1))), weights

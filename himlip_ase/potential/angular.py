"""Real spherical harmonics up to l = 3 as polynomials, and an exact quadrature on the sphere."""

from __future__ import annotations

import torch
from scipy.integrate import lebedev_rule
from torch import Tensor

L_MAX = 3
N_HARMONICS = (L_MAX + 1) ** 2
QUADRATURE_DEGREE = 11
"""Integrates polynomials of this degree exactly: products of three l ≤ 3 or five l ≤ 2 functions."""


def spherical_harmonics(unit: Tensor) -> Tensor:
    """Real spherical harmonics, l = 0 … 3, normalised so that Σ_m Y_lm² = 2l + 1.

    Parameters
    ----------
    unit : Tensor (…, 3)
        Unit vectors.

    Returns
    -------
    Tensor (…, 16)
        Ordered by l, then m = −l … l.
    """
    x, y, z = unit.unbind(-1)
    x2, y2, z2 = x * x, y * y, z * z
    xy, five_z2 = x * y, 5 * z2
    return torch.stack(
        [
            torch.ones_like(x),
            3**0.5 * y,
            3**0.5 * z,
            3**0.5 * x,
            15**0.5 * xy,
            15**0.5 * y * z,
            5**0.5 / 2 * (3 * z2 - 1),
            15**0.5 * x * z,
            15**0.5 / 2 * (x2 - y2),
            (35 / 8) ** 0.5 * y * (3 * x2 - y2),
            105**0.5 * xy * z,
            (21 / 8) ** 0.5 * y * (five_z2 - 1),
            7**0.5 / 2 * z * (five_z2 - 3),
            (21 / 8) ** 0.5 * x * (five_z2 - 1),
            105**0.5 / 2 * z * (x2 - y2),
            (35 / 8) ** 0.5 * x * (x2 - 3 * y2),
        ],
        dim=-1,
    )


def degree_of_harmonic() -> Tensor:
    """The degree l of each of the 16 harmonics, (16,)."""
    return torch.repeat_interleave(torch.arange(L_MAX + 1), 2 * torch.arange(L_MAX + 1) + 1)


def sphere_quadrature() -> tuple[Tensor, Tensor]:
    """Lebedev points (G, 3) and weights (G,) that sum to one, exact to `QUADRATURE_DEGREE`."""
    points, weights = lebedev_rule(QUADRATURE_DEGREE)
    weights = torch.as_tensor(weights, dtype=torch.float64)
    return torch.as_tensor(points.T.copy(), dtype=torch.float64), weights / weights.sum()

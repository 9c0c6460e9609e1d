"""Radial basis, smooth cutoff and short-range repulsion."""

from __future__ import annotations

import math
from typing import Any

import torch
from ase.data import covalent_radii
from torch import Tensor, nn
from torch.autograd import Function

from himlip_ase.units import BOHR_ANGSTROM, HARTREE_EV

REPULSION_MARGIN_ANGSTROM = 0.5

HIGHEST_ORDER = 3
"""Derivatives of the radial functions beyond this one are recorded."""


def envelope(distances: Tensor, cutoff: float | Tensor) -> Tensor:
    """Smooth cutoff (1 − (r/r_c)²)⁴ inside r_c, zero outside: even in r, and C³ at r_c.

    Parameters
    ----------
    distances : Tensor
        Å.
    cutoff : float
        r_c in Å.

    Returns
    -------
    Tensor
        Of the shape of `distances`, between 0 and 1.
    """
    scaled = distances / cutoff
    inside = (1 - scaled * scaled).clamp(min=0)
    squared = inside * inside
    return squared * squared


class RadialBasis(nn.Module):
    """Bessel functions with trainable wave numbers under the envelope.

    b_k(r) = sin(κ_k x)/x · (1 − x²)⁴ with x = r/r_c and κ_k starting at kπ (after Gasteiger et al.,
    arXiv:2003.03123, eq. 7, with a C³ envelope).

    Parameters
    ----------
    n_basis : int
        Number of functions.
    cutoff : float
        r_c in Å.
    """

    def __init__(self, n_basis: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.wave_numbers = nn.Parameter(math.pi * torch.arange(1, n_basis + 1, dtype=torch.float64))

    def forward(self, distances: Tensor) -> Tensor:
        """(N, M) distances in Å → (N, n_basis, M)."""
        scaled = distances / self.cutoff
        if torch.is_grad_enabled() and self.wave_numbers.requires_grad:
            # In training all steps are recorded, because the wave numbers have derivatives of their own.
            return _wave(scaled, self.wave_numbers, 0)
        return _Wave.apply(scaled, self.wave_numbers, 0)

    def derivative(self, distances: Tensor, order: int) -> Tensor:
        """Derivatives of the functions by the distance, not recorded.

        Parameters
        ----------
        distances : Tensor (N, M)
            Å.
        order : int
            0 to 3.

        Returns
        -------
        Tensor (N, n_basis, M)
            1/Å to the power of the order.
        """
        return _wave(distances / self.cutoff, self.wave_numbers.detach(), order) / self.cutoff**order


class _Wave(Function):
    """d^n/dx^n of the radial functions; its derivative is the same of the next order."""

    @staticmethod
    def forward(ctx: Any, scaled: Tensor, wave_numbers: Tensor, order: int) -> Tensor:
        ctx.save_for_backward(scaled, wave_numbers)
        ctx.order = order
        return _wave(scaled, wave_numbers, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        scaled, wave_numbers = ctx.saved_tensors
        following = _Wave.apply if ctx.order < HIGHEST_ORDER - 1 else _wave
        return (gradients[0] * following(scaled, wave_numbers, ctx.order + 1)).sum(1), None, None


def _wave(scaled: Tensor, wave_numbers: Tensor, order: int) -> Tensor:
    """d^n/dx^n of sin(κx) w(x), w = (1 − x²)⁴/x, by Leibniz' rule; (N, n_basis, M)."""
    weights = _weight_derivatives(scaled, order)
    phase = wave_numbers[:, None] * scaled[:, None]
    turns: list[Tensor | None] = [None, None]
    for times in range(order + 1):
        # d^j/dx^j sin(κx) = κ^j sin(κx + jπ/2)
        factor = math.comb(order, times) * (-1) ** (times // 2) * wave_numbers[:, None] ** times
        term = factor * weights[order - times][:, None]
        known = turns[times % 2]
        turns[times % 2] = term if known is None else known + term
    of_sine, of_cosine = turns
    assert of_sine is not None
    total = torch.sin(phase) * of_sine
    return total if of_cosine is None else torch.addcmul(total, torch.cos(phase), of_cosine)


def _weight_derivatives(x: Tensor, highest: int) -> list[Tensor]:
    """w = u⁴/x with u = 1 − x² inside the cutoff and zero outside, and its derivatives, up to the third."""
    u = (1 - x * x).clamp(min=0)
    inverse = 1 / x
    u2 = u * u
    found = [u2 * u2 * inverse]
    if highest >= 1:
        u3, inverse2 = u2 * u, inverse * inverse
        found.append(-u3 * (8 + u * inverse2))
    if highest >= 2:
        found.append(u2 * inverse * (48 * x * x + u * (8 + 2 * u * inverse2)))
    if highest >= 3:
        found.append(-u * (192 * x * x + u2 * inverse2 * (24 + 6 * u * inverse2)))
    return found


class Repulsion(nn.Module):
    """Ziegler–Biersack–Littmark screened nuclear repulsion, switched off beyond covalent contact.

    Keeps the energy repulsive where no label reaches, as atoms approach each other. Half of each pair's
    energy goes to each atom. Ziegler, Biersack, Littmark, *The Stopping and Range of Ions in Solids* (1985).

    Parameters
    ----------
    numbers : sequence of int
        Atomic numbers of the model's elements.
    cutoff : float
        The model's cutoff in Å, which the range of the repulsion never exceeds.
    """

    ranges: Tensor
    screening: Tensor
    coulomb: Tensor
    weights: Tensor
    decays: Tensor

    def __init__(self, numbers: list[int], cutoff: float) -> None:
        super().__init__()
        charge = torch.tensor(numbers, dtype=torch.float64)
        radii = torch.tensor([covalent_radii[z] for z in numbers], dtype=torch.float64)
        ranges = (radii[:, None] + radii[None, :] + REPULSION_MARGIN_ANGSTROM).clamp(max=cutoff)
        screening = 0.8854 * BOHR_ANGSTROM / (charge[:, None] ** 0.23 + charge[None, :] ** 0.23)
        coulomb = HARTREE_EV * BOHR_ANGSTROM * charge[:, None] * charge[None, :]
        self.register_buffer("ranges", ranges, persistent=False)
        self.register_buffer("screening", screening, persistent=False)
        self.register_buffer("coulomb", coulomb, persistent=False)
        self.register_buffer(
            "weights",
            torch.tensor([0.18175, 0.50986, 0.28022, 0.02817], dtype=torch.float64),
            persistent=False,
        )
        self.register_buffer(
            "decays",
            torch.tensor([3.19980, 0.94229, 0.40290, 0.20162], dtype=torch.float64),
            persistent=False,
        )

    def forward(self, distances: Tensor, centre: Tensor, neighbour: Tensor) -> Tensor:
        """Repulsion energy of each atom.

        Parameters
        ----------
        distances : Tensor (N, M)
            Å.
        centre, neighbour : Tensor (N, 1) and (N, M)
            Element indices.

        Returns
        -------
        Tensor (N,)
            eV.
        """
        scaled = distances / self.screening[centre, neighbour]
        screens = torch.exp(-self.decays[:, None] * scaled[:, None])
        screen = (self.weights[:, None] * screens).sum(1)
        pair = self.coulomb[centre, neighbour] / distances * screen
        return 0.5 * (pair * envelope(distances, self.ranges[centre, neighbour])).sum(-1)

"""Operations of the network whose derivatives of any order are written down rather than recorded.

Each works on padded neighbour tables (N atoms, M neighbours) with the neighbours last, so that every
elementwise step runs along contiguous memory. None scatters: in a complete neighbour list each pair occurs in
both directions, so a sum over the pairs that end at an atom is a gather through the table of reversed pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from himlip_ase.potential.blocks import blockwise


class _PairDifference(Function):
    """x_j − x_i of every pair."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, neighbours: Tensor, reverse: Tensor) -> Tensor:
        ctx.save_for_backward(neighbours, reverse)
        n_atoms, width = neighbours.shape
        ends = positions.index_select(0, neighbours.reshape(-1)).reshape(n_atoms, width, 3)
        return ends.transpose(1, 2) - positions[:, :, None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        neighbours, reverse = ctx.saved_tensors
        return _PairSum.apply(gradients[0], neighbours, reverse), None, None


class _PairSum(Function):
    """The adjoint of `_PairDifference`: for every atom, pairs that end there minus pairs that begin there."""

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, neighbours: Tensor, reverse: Tensor) -> Tensor:
        ctx.save_for_backward(neighbours, reverse)
        n_atoms, width = neighbours.shape
        rows = pairs.transpose(1, 2).reshape(n_atoms * width, 3)
        ends = rows.index_select(0, reverse.reshape(-1)).reshape(n_atoms, width, 3)
        return ends.sum(1) - pairs.sum(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        neighbours, reverse = ctx.saved_tensors
        return _PairDifference.apply(gradients[0], neighbours, reverse), None, None


def pair_difference(positions: Tensor, neighbours: Tensor, reverse: Tensor) -> Tensor:
    """Vectors x_j − x_i from each atom to its neighbours, within one image of the cell.

    Parameters
    ----------
    positions : Tensor (N, 3)
    neighbours : Tensor (N, M)
    reverse : Tensor (N, M)
        Flat index of the same pair seen from its other end.

    Returns
    -------
    Tensor (N, 3, M)
    """
    return _PairDifference.apply(positions, neighbours, reverse)


class _SeenFromTheOtherEnd(Function):
    """A permutation of pairs that is its own inverse, hence its own adjoint."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, reverse: Tensor) -> Tensor:
        ctx.save_for_backward(reverse)
        n_atoms, channels, width = values.shape
        rows = values.transpose(1, 2).reshape(n_atoms * width, channels)
        swapped = rows.index_select(0, reverse.reshape(-1)).reshape(n_atoms, width, channels)
        return swapped.transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _SeenFromTheOtherEnd.apply(gradients[0], ctx.saved_tensors[0]), None


def seen_from_the_other_end(values: Tensor, reverse: Tensor) -> Tensor:
    """Values (N, C, M) of the pairs (i, j), exchanged for those of the pairs (j, i).

    Parameters
    ----------
    values : Tensor (N, C, M)
    reverse : Tensor
        Place of each pair seen from its other end.

    Returns
    -------
    Tensor (N, C, M)
    """
    return _SeenFromTheOtherEnd.apply(values, reverse)


class _Density(Function):
    """Σ_m R_km E_em Y_sm for every atom."""

    @staticmethod
    def forward(ctx: Any, radial: Tensor, edge: Tensor, harmonics: Tensor) -> Tensor:
        ctx.save_for_backward(radial, edge, harmonics)

        def contract(radial: Tensor, edge: Tensor, harmonics: Tensor) -> tuple[Tensor]:
            return (torch.bmm(_outer(radial, edge), harmonics.transpose(1, 2)),)

        return blockwise(contract, _pair_bytes(radial, edge), radial, edge, harmonics)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _DensityGradient.apply(gradients[0], *ctx.saved_tensors, ctx.needs_input_grad[1])


class _DensityGradient(Function):
    """Derivatives of Σ g (R E Y) with respect to R, E and Y, for a given g (N, K · F, S)."""

    @staticmethod
    def forward(
        ctx: Any, cotangent: Tensor, radial: Tensor, edge: Tensor, harmonics: Tensor, with_edge: bool
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(cotangent, radial, edge, harmonics)
        ctx.set_materialize_grads(False)

        def gradient(
            cotangent: Tensor, radial: Tensor, edge: Tensor, harmonics: Tensor
        ) -> tuple[Tensor | None, ...]:
            pulled = _pull(cotangent, harmonics, radial)
            return (
                _over_edges(pulled, edge),
                _over_radial(pulled, radial) if with_edge else None,
                torch.bmm(cotangent.transpose(1, 2), _outer(radial, edge)),
            )

        return blockwise(gradient, _pair_bytes(radial, edge), cotangent, radial, edge, harmonics)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        _, radial, edge, _ = ctx.saved_tensors
        if all(gradient is None for gradient in gradients):
            return (None,) * 5
        needs = ctx.needs_input_grad

        def second(
            cotangent: Tensor,
            radial: Tensor,
            edge: Tensor,
            harmonics: Tensor,
            along_radial: Tensor | None,
            along_edge: Tensor | None,
            along_harmonics: Tensor | None,
        ) -> tuple[Tensor | None, ...]:
            # Derivatives of Σ g ((r E + R e) Y + R E y), with r, e, y the cotangents of the three results.
            totals: list[Tensor | None] = [None] * 4

            def add(place: int, value: Callable[[], Tensor]) -> None:
                if needs[place]:
                    known = totals[place]
                    totals[place] = value() if known is None else known + value()

            if along_radial is not None or along_edge is not None:
                moved = _total(
                    None if along_radial is None else _outer(along_radial, edge),
                    None if along_edge is None else _outer(radial, along_edge),
                )
                add(0, lambda: torch.bmm(moved, harmonics.transpose(1, 2)))
                add(3, lambda: torch.bmm(cotangent.transpose(1, 2), moved))
                pulled = _pull(cotangent, harmonics, radial)
                if along_edge is not None:
                    add(1, lambda: _over_edges(pulled, along_edge))
                if along_radial is not None:
                    add(2, lambda: _over_radial(pulled, along_radial))
            if along_harmonics is not None:
                add(0, lambda: torch.bmm(_outer(radial, edge), along_harmonics.transpose(1, 2)))
                turned = _pull(cotangent, along_harmonics, radial)
                add(1, lambda: _over_edges(turned, edge))
                add(2, lambda: _over_radial(turned, radial))
            return tuple(totals)

        return *blockwise(second, _pair_bytes(radial, edge), *ctx.saved_tensors, *gradients), None


def _pair_bytes(radial: Tensor, edge: Tensor) -> int:
    """Bytes of the products of one atom's radial functions and edge features."""
    return radial.shape[1] * edge.shape[1] * radial.shape[2] * radial.element_size()


def _total(first: Tensor | None, second: Tensor | None) -> Tensor:
    if first is None or second is None:
        found = first if second is None else second
        assert found is not None
        return found
    return first + second


def _pull(cotangent: Tensor, harmonics: Tensor, radial: Tensor) -> Tensor:
    """Σ_s g_kes Y_sm as (N, K, F, M)."""
    n_atoms, n_radial, width = radial.shape
    return torch.bmm(cotangent, harmonics).reshape(n_atoms, n_radial, -1, width)


def _outer(radial: Tensor, edge: Tensor) -> Tensor:
    return (radial[:, :, None] * edge[:, None]).flatten(1, 2)


def _over_edges(pulled: Tensor, edge: Tensor) -> Tensor:
    return (pulled * edge[:, None]).sum(2)


def _over_radial(pulled: Tensor, radial: Tensor) -> Tensor:
    return (pulled * radial[:, :, None]).sum(1)


def density(radial: Tensor, edge: Tensor, harmonics: Tensor) -> Tensor:
    """Density of the neighbours of each atom, Σ_m R_km E_em Y_sm.

    Parameters
    ----------
    radial : Tensor (N, K, M)
    edge : Tensor (N, F, M)
    harmonics : Tensor (N, S, M)

    Returns
    -------
    Tensor (N, K · F, S)
    """
    return _Density.apply(radial, edge, harmonics)


class _Arsinh(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        size = values.abs()
        square = size * size
        # ln(x + √(1 + x²)) without cancellation at small x; faster than torch.asinh, which is not vectorised.
        return torch.log1p(size + square / (1 + torch.sqrt(1 + square))).copysign(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return gradients[0] * torch.rsqrt(1 + values * values)


def arsinh(values: Tensor) -> Tensor:
    """Inverse hyperbolic sine."""
    return _Arsinh.apply(values)

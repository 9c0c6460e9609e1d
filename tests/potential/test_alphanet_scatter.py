"""Sums in place of torch_scatter's: their values and their derivatives."""

from __future__ import annotations

import pytest
import torch

from himlip_ase.potential.alphanet_scatter import scatter, scatter_add, segment_coo, segment_csr

INDEX = torch.tensor([2, 0, 2, 2, 4])


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_slices_of_one_index_are_added(dim: int, reduce: str) -> None:
    shape = [3, 3, 3]
    shape[dim] = 5
    src = torch.randn(shape, dtype=torch.float64)
    found = scatter(src, INDEX, dim=dim, dim_size=6, reduce=reduce)
    for k in range(6):
        parts = src.index_select(dim, (INDEX == k).nonzero()[:, 0])
        wanted = parts.sum(dim) if reduce == "sum" or parts.shape[dim] == 0 else parts.mean(dim)
        torch.testing.assert_close(found.select(dim, k), wanted)
    assert scatter(src, INDEX, dim=dim).shape[dim] == 5


def test_segments_are_slices_of_sorted_indices() -> None:
    src, index = torch.arange(6), torch.tensor([0, 0, 2, 2, 2, 3])
    assert segment_coo(src, index, dim_size=torch.tensor(5)).tolist() == [1, 0, 9, 5, 0]
    assert segment_csr(src, torch.tensor([0, 2, 2, 5, 6])).tolist() == [1, 0, 9, 5]
    assert scatter_add(src, index).tolist() == [1, 0, 9, 5]


def test_derivatives() -> None:
    src = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor) -> torch.Tensor:
        return scatter(x.sin(), INDEX, dim=0, reduce="mean").exp()

    assert torch.autograd.gradcheck(function, (src,))
    assert torch.autograd.gradgradcheck(function, (src,))


def test_nothing_gives_nothing() -> None:
    assert scatter(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), dim=0, reduce="mean").shape == (0, 3)
    with pytest.raises(NotImplementedError):
        scatter(torch.zeros(5), INDEX, reduce="max")

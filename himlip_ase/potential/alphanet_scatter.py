"""The few functions of torch_scatter that AlphaNet calls, in plain torch.

They need no compiler, and every sum is `torch.index_add`, which may be differentiated as often as one likes.
Only what AlphaNet asks for is here: one-dimensional indices, sums and means.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scatter(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | Tensor | None = None,
    reduce: str = "sum",
) -> Tensor:
    """Sums or means of the slices of `src` along `dim` that share an index.

    Parameters
    ----------
    src : Tensor
    index : Tensor (src.shape[dim],)
        Where each slice goes.
    dim : int
    out : None
        There for the signature.
    dim_size : int, optional
        Slices of the result; by default as many as the largest index asks for.
    reduce : {"sum", "add", "mean"}

    Returns
    -------
    Tensor
        Zero where nothing went.

    Raises
    ------
    NotImplementedError
        What AlphaNet does not use.
    """
    if index.dim() != 1 or out is not None or reduce not in ("sum", "add", "mean"):
        raise NotImplementedError(f"reduce={reduce!r} of an index of {index.dim()} dimensions")
    if dim_size is None:
        dim_size = int(index.max()) + 1 if index.numel() else 0
    shape = list(src.shape)
    shape[dim] = int(dim_size)
    total = src.new_zeros(shape).index_add(dim, index, src)
    if reduce != "mean":
        return total
    across = [1] * src.dim()
    across[dim] = int(dim_size)
    return total / torch.bincount(index, minlength=int(dim_size)).clamp(min=1).view(across).to(src.dtype)


def scatter_add(
    src: Tensor, index: Tensor, dim: int = -1, out: Tensor | None = None, dim_size: int | None = None
) -> Tensor:
    """Sums; see `scatter`.

    Parameters
    ----------
    src : Tensor
    index : Tensor
    dim : int
    out : None
    dim_size : int, optional

    Returns
    -------
    Tensor
    """
    return scatter(src, index, dim, out, dim_size)


def segment_coo(
    src: Tensor,
    index: Tensor,
    out: Tensor | None = None,
    dim_size: int | Tensor | None = None,
    reduce: str = "sum",
) -> Tensor:
    """The same along the first dimension, for a sorted index; see `scatter`.

    Parameters
    ----------
    src : Tensor
    index : Tensor
    out : None
    dim_size : int, optional
    reduce : str

    Returns
    -------
    Tensor
    """
    return scatter(src, index, 0, out, dim_size, reduce)


def segment_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None, reduce: str = "sum") -> Tensor:
    """The same, of slices ``indptr[k]`` to ``indptr[k + 1]``; see `scatter`.

    Parameters
    ----------
    src : Tensor
    indptr : Tensor
    out : None
    reduce : str

    Returns
    -------
    Tensor
    """
    lengths = indptr.diff()
    index = torch.repeat_interleave(torch.arange(len(lengths), device=src.device), lengths)
    return scatter(src, index, 0, out, len(lengths), reduce)

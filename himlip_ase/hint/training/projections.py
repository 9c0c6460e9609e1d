"""Random vectors that a Hessian is projected on.

Every kind but "fixed" satisfies E[v vᵀ] ∝ 1, so that |ΔH v|²/|v|² is an unbiased estimate of ‖ΔH‖²/3N
(Hutchinson 1989).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from himlip_ase.errors import InputError

ProbeKind = Literal["rademacher", "gaussian", "one-hot", "fixed", "full"]
FIXED_SEED = 0


def draw_probes(
    kind: ProbeKind,
    n_atoms: int,
    number: int = 1,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Draw projection vectors.

    Parameters
    ----------
    kind : {"rademacher", "gaussian", "one-hot", "fixed", "full"}
        Independent signs ±1 (the paper's choice); a Gaussian direction of unit norm; distinct columns of the
        unit matrix; signs that are the same whenever they are drawn; or all 3N columns (`number` is then
        ignored).
    n_atoms : int
    number : int
        K, how many.
    generator : torch.Generator, optional
        On the CPU, whatever `device`: the same seed gives the same vectors everywhere.
    dtype, device

    Returns
    -------
    Tensor (K, N, 3)

    Raises
    ------
    InputError
        Unknown kind or a number outside 1…3N.
    """
    size = 3 * n_atoms
    if number < 1 or (kind == "one-hot" and number > size):
        raise InputError(f"{number} probes for {n_atoms} atoms; allowed: 1 to {size}")
    if kind == "fixed":
        generator = torch.Generator().manual_seed(FIXED_SEED)
    if kind in ("rademacher", "fixed"):
        vectors = 2.0 * torch.randint(0, 2, (number, size), generator=generator).to(dtype) - 1.0
    elif kind == "gaussian":
        vectors = torch.randn((number, size), generator=generator, dtype=dtype)
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
    elif kind == "one-hot":
        columns = torch.randperm(size, generator=generator)[:number]
        vectors = torch.zeros((number, size), dtype=dtype)
        vectors[torch.arange(number), columns] = 1.0
    elif kind == "full":
        vectors = torch.eye(size, dtype=dtype)
    else:
        raise InputError(f"unknown probe {kind!r}; allowed: {', '.join(get_args(ProbeKind))}")
    return vectors.view(-1, n_atoms, 3).to(device)


def project(matrix: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Products H v of a Hessian with vectors.

    Parameters
    ----------
    matrix : Tensor (N, 3, N, 3)
    vectors : Tensor (K, N, 3)

    Returns
    -------
    Tensor (K, N, 3)
    """
    return torch.einsum("iajb,kjb->kia", matrix, vectors)

"""Random vectors that a Hessian is projected on.

Every kind but "fixed" satisfies E[v vᵀ] ∝ 1, so that |ΔH v|²/|v|² is an unbiased estimate of ‖ΔH‖²/3N
(Hutchinson 1989).
"""

from __future__ import annotations

import torch

from himlip_ase.errors import InputError
from himlip_ase.hint.training.probes import PROBES

FIXED_SEED = 0


def draw_probes(
    kind: str,
    n_atoms: int,
    number: int = 1,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Draw projection vectors.

    Parameters
    ----------
    kind : str
        One of :data:`himlip_ase.hint.training.probes.PROBES`; "rademacher" is the paper's choice.
    n_atoms : int
    number : int
        K, how many; ignored by "full".
    generator : torch.Generator, optional
        On the CPU, whatever `device`: the same seed gives the same vectors everywhere.
    dtype : torch.dtype
    device : torch.device or str

    Returns
    -------
    Tensor (K, N, 3)

    Raises
    ------
    InputError
        Unknown kind or a number outside 1…3N.
    """
    choice = PROBES[kind]
    if number < 1:
        raise InputError(f"{number} probes for {n_atoms} atoms; allowed: 1 to {3 * n_atoms}")
    vectors = choice.draw()(number, 3 * n_atoms, generator, dtype)
    return vectors.view(-1, n_atoms, 3).to(device)


def rademacher(number: int, size: int, generator: torch.Generator | None, dtype: torch.dtype) -> torch.Tensor:
    """Independent signs ±1, (number, size).

    Parameters
    ----------
    number, size : int
        How many vectors of which length.
    generator : torch.Generator or None
    dtype : torch.dtype

    Returns
    -------
    Tensor (number, size)
    """
    return 2.0 * torch.randint(0, 2, (number, size), generator=generator).to(dtype) - 1.0


def fixed(number: int, size: int, generator: torch.Generator | None, dtype: torch.dtype) -> torch.Tensor:
    """Signs that are the same whenever they are drawn, whatever the generator.

    Parameters
    ----------
    number, size : int
        How many vectors of which length.
    generator : torch.Generator or None
    dtype : torch.dtype

    Returns
    -------
    Tensor (number, size)
    """
    return rademacher(number, size, torch.Generator().manual_seed(FIXED_SEED), dtype)


def gaussian(number: int, size: int, generator: torch.Generator | None, dtype: torch.dtype) -> torch.Tensor:
    """Gaussian directions of unit norm, (number, size).

    Parameters
    ----------
    number, size : int
        How many vectors of which length.
    generator : torch.Generator or None
    dtype : torch.dtype

    Returns
    -------
    Tensor (number, size)
    """
    vectors = torch.randn((number, size), generator=generator, dtype=dtype)
    return vectors / vectors.norm(dim=1, keepdim=True)


def one_hot(number: int, size: int, generator: torch.Generator | None, dtype: torch.dtype) -> torch.Tensor:
    """Distinct columns of the unit matrix, (number, size).

    Parameters
    ----------
    number, size : int
        How many vectors of which length.
    generator : torch.Generator or None
    dtype : torch.dtype

    Returns
    -------
    Tensor (number, size)
    """
    if number > size:
        raise InputError(f"{number} probes for {size // 3} atoms; allowed: 1 to {size}")
    columns = torch.randperm(size, generator=generator)[:number]
    vectors = torch.zeros((number, size), dtype=dtype)
    vectors[torch.arange(number), columns] = 1.0
    return vectors


def full(number: int, size: int, generator: torch.Generator | None, dtype: torch.dtype) -> torch.Tensor:
    """All columns of the unit matrix, (size, size), whatever the number.

    Parameters
    ----------
    number, size : int
        How many vectors of which length.
    generator : torch.Generator or None
    dtype : torch.dtype

    Returns
    -------
    Tensor (number, size)
    """
    return torch.eye(size, dtype=dtype)


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

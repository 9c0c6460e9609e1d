"""The total loss of Hessian-informed training, and its parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from himlip_ase.errors import InputError


@dataclass(frozen=True)
class LossWeights:
    """Weights of the parts of the loss, eq. 2 of the paper, and their robustness.

    Parameters
    ----------
    energy : float
        Weight of the mean squared energy error per atom, (eV/atom)⁻².
    forces : float
        Weight of the mean squared force component, (eV/Å)⁻².
    stress : float
        Weight of the mean squared stress component, (eV/Å³)⁻².
    hessian : float
        Weight of the mean squared Hessian element times 3N (a squared row norm: the same for any size of
        supercell, because a row has a finite range), (eV/Å²)⁻²; the curriculum multiplies it.
    huber : float or None
        Forces errors beyond this many eV/Å count linearly. None: squared throughout.
    force_scale : float or None
        Soften hot atoms: the squared error of an atom's force is divided by 1 + |F|²/force_scale² (F the
        label, eV/Å), and energies and stresses likewise by the mean of that over the frame. None: all alike.
    """

    energy: float = 4000.0
    forces: float = 30.0
    stress: float = 15.0
    hessian: float = 100.0
    huber: float | None = None
    force_scale: float | None = 1.5

    def __post_init__(self) -> None:
        for name in ("energy", "forces", "stress", "hessian"):
            if not getattr(self, name) >= 0:
                raise InputError(f"loss weight {name} = {getattr(self, name)}; it must not be negative")
        for name in ("huber", "force_scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} = {value}; give a positive number of eV/Å or leave it out")


def squared(error: torch.Tensor, huber: float | None = None) -> torch.Tensor:
    """Squared error, continued linearly beyond `huber` (same value and slope there).

    Parameters
    ----------
    error : Tensor
    huber : float or None
        In the unit of `error`; None: squared throughout.

    Returns
    -------
    Tensor
    """
    if huber is None:
        return error * error
    size = error.abs()
    return torch.where(size <= huber, error * error, huber * (2 * size - huber))


def energy_loss(
    energies: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Weighted mean of ((E − E_ref)/N)²; all arguments (B,), `weights` zero where there is no label.

    Parameters
    ----------
    energies, labels : Tensor (B,)
        eV.
    counts : Tensor (B,)
        Atoms.
    weights : Tensor (B,)

    Returns
    -------
    Tensor ()
        (eV/atom)².
    """
    return (weights * ((energies - labels) / counts) ** 2).sum() / len(energies)


def forces_loss(
    forces: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, huber: float | None = None
) -> torch.Tensor:
    """Weighted mean over atoms and directions of (F − F_ref)²; (N, 3), (N, 3), (N,).

    Parameters
    ----------
    forces, labels : Tensor (N, 3)
        eV/Å.
    weights : Tensor (N,)
    huber : float or None
        eV/Å; see `squared`.

    Returns
    -------
    Tensor ()
        (eV/Å)².
    """
    return (weights[:, None] * squared(forces - labels, huber)).mean()


def stress_loss(stresses: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean over the nine components of (σ − σ_ref)²; (B, 3, 3), (B, 3, 3), (B,).

    Parameters
    ----------
    stresses, labels : Tensor (B, 3, 3)
        eV/Å³.
    weights : Tensor (B,)

    Returns
    -------
    Tensor ()
        (eV/Å³)².
    """
    return (weights[:, None, None] * (stresses - labels) ** 2).mean()


def projected_hessian_loss(
    predicted: torch.Tensor, reference: torch.Tensor, vectors: torch.Tensor
) -> torch.Tensor:
    """Stochastic projected Hessian loss (paper, eq. 4), normalised.

    Mean over the probes of |(H − H_ref) v|² / (3N |v|²). For Rademacher, Gaussian and one-hot probes its
    expectation is the mean squared error of the full Hessian; for all 3N columns it equals it.

    Parameters
    ----------
    predicted, reference, vectors : Tensor (K, N, 3)
        H v, H_ref v and v.

    Returns
    -------
    Tensor ()
        (eV/Å²)².
    """
    size = vectors.shape[1] * 3
    error = ((predicted - reference) ** 2).sum(dim=(1, 2))
    return (error / (vectors**2).sum(dim=(1, 2))).mean() / size

"""Third derivatives of the energy along pairs of displacement fields, by automatic differentiation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.interface import Potential

PAIR_ATOMS = 256
"""Atoms per batch: third derivatives keep about three times what a Hessian-vector product keeps."""


def third_derivatives(model: Potential, atoms: Atoms, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Derivatives of the Hessian-vector products with `one` along `two`, Σ Φ(i, J, K) u_J w_K.

    Parameters
    ----------
    model : Potential
        On the device and in the precision in which the derivatives are wanted.
    atoms : Atoms
    one, two : ndarray (K, N, 3)
        Pairs of displacement fields u and w, any unit.

    Returns
    -------
    ndarray (K, N, 3)
        eV/Å³ times the units of both.

    Raises
    ------
    InputError
        Fields of another shape, or a structure that the model cannot take.
    """
    shape = (len(one), len(atoms), 3)
    if np.shape(one) != shape or np.shape(two) != shape:
        raise InputError(
            f"vectors must both have shape (K, {len(atoms)}, 3), got {np.shape(one)} and {np.shape(two)}"
        )
    reference = next(model.parameters())
    graph = build_graph(atoms, model.elements, model.cutoff, device=reference.device, dtype=reference.dtype)
    per_batch = max(1, PAIR_ATOMS // len(atoms))
    found = [np.zeros((0, len(atoms), 3))]
    with frozen(model), torch.enable_grad():
        for start in range(0, len(one), per_batch):
            u, w = (
                torch.as_tensor(v[start : start + per_batch]).to(graph.positions).reshape(-1, 3)
                for v in (one, two)
            )
            batch = graph.replicate(len(u) // len(atoms))
            positions = batch.positions.detach().requires_grad_(True)
            energy = model(replace(batch, positions=positions)).sum()
            (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
            (product,) = torch.autograd.grad((gradient * u).sum(), positions, create_graph=True)
            (third,) = torch.autograd.grad((product * w).sum(), positions)
            found.append(third.reshape(-1, len(atoms), 3).cpu().numpy())
    return np.concatenate(found)

"""Third derivatives of the energy along pairs of displacement fields, by automatic differentiation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError

if TYPE_CHECKING:
    from himlip_ase.calculator import HiMLIPCalculator

PAIR_ATOMS = 256
"""Atoms per batch: third derivatives keep about three times what a Hessian-vector product keeps."""


@dataclass(frozen=True, eq=False)
class ThirdDerivatives:
    """Exact third derivatives of a calculator's energy.

    Attributes
    ----------
    calculator : HiMLIPCalculator
    """

    calculator: HiMLIPCalculator

    def __call__(self, atoms: Atoms, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Derivative of the Hessian-vector product with `one` along `two`, Σ Φ(i, J, K) u_J w_K.

        Parameters
        ----------
        atoms : Atoms
        one, two : ndarray (K, N, 3)

        Returns
        -------
        ndarray (K, N, 3)
            eV/Å³ times the units of both.
        """
        import torch

        from himlip_ase.potential.evaluate import frozen
        from himlip_ase.potential.graph import build_graph

        shape = (len(one), len(atoms), 3)
        if np.shape(one) != shape or np.shape(two) != shape:
            raise InputError(
                f"vectors must both have shape (K, {len(atoms)}, 3), got {np.shape(one)} and {np.shape(two)}"
            )
        model, device = self.calculator.model, self.calculator.device
        graph = build_graph(atoms, model.elements, model.cutoff, device=device)
        per_batch = max(1, PAIR_ATOMS // len(atoms))
        found = []
        with frozen(model), torch.enable_grad():
            for start in range(0, len(one), per_batch):
                u, w = (
                    torch.as_tensor(v[start : start + per_batch], device=device).reshape(-1, 3)
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

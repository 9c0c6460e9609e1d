"""Exact labels without DFT, for studies of many Hessians: the shipped potential of H3S as the truth.

Energies, forces, stresses and Hessians of himlip-h3s-1 are known exactly. What learns them starts from random
weights (see from_scratch.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from ase import Atoms

from benchmarks.h3s_training import LABELS
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.pipeline.labels import LabelFolder
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.derivatives import hessians
from himlip_ase.potential.evaluate import evaluate, frozen

TRUTH = "himlip-h3s-1"


@dataclass(frozen=True)
class Errors:
    """Errors of a model on labelled cells."""

    force_rmse_mev_per_angstrom: float
    hessian_rmse: float
    eigenvalue_mae: float


def crystal(repeats: tuple[int, int, int] = (2, 1, 1)) -> Atoms:
    """The ideal crystal, which is a saddle point of its energy."""
    return LabelFolder(LABELS).crystal.repeat(repeats)


class Teacher:
    """The potential that labels."""

    def __init__(self) -> None:
        self.model = load_model(TRUTH)

    def frames(self, images: Sequence[Atoms], name: str, with_hessians: bool = True) -> list[LabelledFrame]:
        """Energies, forces and stresses, and Hessians on the frames if wanted."""
        with frozen(self.model):
            values = evaluate(self.model, list(images))
            matrices = [h.cpu().numpy() for h in hessians(self.model, images)] if with_hessians else []
        found = []
        for k, atoms in enumerate(images):
            label = HessianLabel(atoms, matrices[k], f"{name} {k}") if with_hessians else None
            found.append(
                LabelledFrame(
                    atoms, float(values.energies[k]), np.asarray(values.forces[k]),
                    np.asarray(values.stresses[k]), set=name, hessian=label,
                )
            )  # fmt: skip
        return found


def errors(model: Any, frames: Sequence[LabelledFrame]) -> Errors:
    """Errors on frames, all of which have Hessians."""
    images = [f.atoms for f in frames]
    labels = [f.hessian.matrix for f in frames if f.hessian is not None]
    with frozen(model):
        forces = evaluate(model, images).forces
        found = [h.cpu().numpy() for h in hessians(model, images)]
    force = np.concatenate([np.ravel(f - frame.forces) for f, frame in zip(forces, frames, strict=True)])
    misses = np.concatenate([np.ravel(h - label) for h, label in zip(found, labels, strict=True)])
    values = [eigenvalues(h) - eigenvalues(label) for h, label in zip(found, labels, strict=True)]
    return Errors(
        1e3 * float(np.sqrt(np.mean(force**2))),
        float(np.sqrt(np.mean(misses**2))),
        float(np.mean(np.abs(values))),
    )


def eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """Sorted, of a (N, 3, N, 3) Hessian."""
    size = 3 * len(matrix)
    square = matrix.reshape(size, size)
    return np.linalg.eigvalsh((square + square.T) / 2)

"""Small reactions for the tests."""

from __future__ import annotations

import numpy as np
from ase import Atoms


def hydrogen_cyanide() -> Atoms:
    """HCN, atoms H, C, N."""
    return Atoms("HCN", [[-1.065, 0, 0], [0, 0, 0], [1.156, 0, 0]])


def hydrogen_isocyanide() -> Atoms:
    """HNC in the order of `hydrogen_cyanide`."""
    return Atoms("HCN", [[2.18, 0, 0], [0, 0, 0], [1.172, 0, 0]])


def bent_guess() -> Atoms:
    """Near the saddle between the two."""
    return Atoms("HCN", [[0.3, 1.2, 0.0], [0, 0, 0], [1.18, 0, 0]])


def vinyl_alcohol() -> Atoms:
    """CH2=CHOH, atoms O, C, H, C, H, H, H; the first of the last three is on the oxygen."""
    return Atoms(
        "OCHCH3",
        [
            [1.19, -0.36, 0.0], [0.04, 0.36, 0.0], [0.21, 1.43, 0.0], [-1.18, -0.18, 0.0],
            [0.95, -1.28, 0.0], [-1.3, -1.26, 0.0], [-2.06, 0.45, 0.0],
        ],
    )  # fmt: skip


def acetaldehyde() -> Atoms:
    """CH3CHO in the order of `vinyl_alcohol`."""
    return Atoms(
        "OCHCH3",
        [
            [1.23, -0.28, 0.0], [0.17, 0.31, 0.0], [0.14, 1.42, 0.0], [-1.17, -0.39, 0.0],
            [-1.05, -1.47, 0.0], [-1.72, -0.07, 0.88], [-1.72, -0.07, -0.88],
        ],
    )  # fmt: skip


def ethylamine_to_methane() -> Atoms:
    """Near the saddle of C2H5NH2 → CH4 + HCNH2, a hydrogen from carbon to carbon."""
    return Atoms(
        "C2NH7",
        [
            [-1.38, -0.39, 0.218], [0.758, 0.161, 0.189], [1.155, 0.172, -1.101], [-1.545, -0.913, 1.147],
            [-2.144, 0.356, 0.037], [-1.301, -1.07, -0.616], [-0.31, 0.499, 0.453], [1.019, -0.77, 0.687],
            [1.265, -0.675, -1.649], [0.94, 0.989, -1.649],
        ],
    )  # fmt: skip


def rotation(seed: int) -> np.ndarray:
    """A proper rotation."""
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return matrix * np.sign(np.linalg.det(matrix))

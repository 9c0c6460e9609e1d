"""A pair potential with closed-form derivatives: the truth that small trainings are held against."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from himlip_ase.labels.frames import HessianLabel, LabelledFrame

DEPTH, WIDTH, REST, CUTOFF = 0.4, 1.3, 2.6, 4.5


def _pair(r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Morse pair energy under a smooth cutoff: u, u', u''."""
    x = np.exp(-WIDTH * (r - REST))
    u = DEPTH * (x * x - 2 * x)
    du = DEPTH * WIDTH * (-2 * x * x + 2 * x)
    ddu = DEPTH * WIDTH**2 * (4 * x * x - 2 * x)
    t = r / CUTOFF
    c, dc, ddc = (1 - t**2) ** 4, -8 * t * (1 - t**2) ** 3 / CUTOFF, None
    ddc = (-8 * (1 - t**2) ** 3 + 48 * t**2 * (1 - t**2) ** 2) / CUTOFF**2
    return u * c, du * c + u * dc, ddu * c + 2 * du * dc + u * ddc


def toy_labels(atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy eV, forces eV/Å and Voigt stress eV/Å³."""
    i, vectors = neighbor_list("iD", atoms, CUTOFF)
    r = np.linalg.norm(vectors, axis=1)
    u, du, _ = _pair(r)
    unit = vectors / r[:, None]
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, du[:, None] * unit)
    stress = np.zeros(6)
    if atoms.cell.rank == 3:
        full = 0.5 * np.einsum("p,pa,pb->ab", du * r, unit, unit) / atoms.get_volume()
        stress = full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return 0.5 * float(u.sum()), forces, stress


def toy_hessian(atoms: Atoms) -> np.ndarray:
    """(N, 3, N, 3) eV/Å²."""
    i, j, vectors = neighbor_list("ijD", atoms, CUTOFF)
    r = np.linalg.norm(vectors, axis=1)
    _, du, ddu = _pair(r)
    unit = vectors / r[:, None]
    outer = unit[:, :, None] * unit[:, None, :]
    block = ddu[:, None, None] * outer + (du / r)[:, None, None] * (np.eye(3) - outer)
    matrix = np.zeros((len(atoms), len(atoms), 3, 3))
    np.add.at(matrix, (i, i), block)
    np.add.at(matrix, (i, j), -block)
    return matrix.transpose(0, 2, 1, 3)


def toy_frame(atoms: Atoms, set_name: str = "toy", **kwargs: object) -> LabelledFrame:
    """Frame with all three labels."""
    energy, forces, stress = toy_labels(atoms)
    return LabelledFrame(atoms.copy(), energy, forces, stress, set=set_name, **kwargs)  # type: ignore[arg-type]


def toy_label(atoms: Atoms) -> HessianLabel:
    """Hessian label."""
    return HessianLabel(atoms.copy(), toy_hessian(atoms), "toy")


def rattled(atoms: Atoms, number: int, amplitude: float, seed: int = 0) -> list[Atoms]:
    """Gaussian displacements."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(number):
        image = atoms.copy()
        image.positions += rng.normal(0, amplitude, image.positions.shape)
        images.append(image)
    return images

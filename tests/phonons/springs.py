"""Crystals of springs: force constants known exactly in real space and at every q."""

from __future__ import annotations

import numpy as np
from ase import Atoms


class Springs:
    """Pairs closer than `cutoff` (Å) interact through a longitudinal and a weaker transverse spring."""

    def __init__(self, atoms: Atoms, cutoff: float = 4.3) -> None:
        self.atoms = atoms
        cell = np.asarray(atoms.cell)
        n = len(atoms)
        self.pairs: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        for a in range(n):
            for b in range(n):
                for r in np.ndindex(9, 9, 9):
                    lattice = np.array(r) - 4
                    d = atoms.positions[b] + lattice @ cell - atoms.positions[a]
                    length = np.linalg.norm(d)
                    if 1e-8 < length < cutoff:
                        weight = (
                            40 * np.exp(-1.3 * length) * (1 + 0.02 * (atoms.numbers[a] + atoms.numbers[b]))
                        )
                        self.pairs.append(
                            (a, b, lattice, weight * (np.outer(d, d) / length**2 + 0.15 * np.eye(3)))
                        )

    def matrices(self, qpoints: np.ndarray) -> np.ndarray:
        """Φ_ab(q) = Σ_R Φ(0a, Rb) exp(2πi q·R), summed over the infinite crystal."""
        n = len(self.atoms)
        phi = np.zeros((len(qpoints), n, 3, n, 3), dtype=complex)
        for a, b, lattice, block in self.pairs:
            phi[:, a, :, b] -= np.exp(2j * np.pi * qpoints @ lattice)[:, None, None] * block
            phi[:, a, :, a] += block
        return phi.reshape(len(qpoints), 3 * n, 3 * n)

    def hessian(self, supercell: Atoms) -> np.ndarray:
        """Hessian (N, 3, N, 3) of any supercell, its atoms found by position, in the order they stand in."""
        cell = np.asarray(self.atoms.cell)
        inverse = np.linalg.inv(np.asarray(supercell.cell))

        def key(position):
            fractional = np.round(position @ inverse, 6) % 1.0
            return tuple(np.round(fractional, 5) % 1.0)

        where = {key(p): i for i, p in enumerate(supercell.positions)}
        assert len(where) == len(supercell)
        hessian = np.zeros((len(supercell), 3, len(supercell), 3))
        species = [
            int(np.argmin([self._offset(p, site, cell) for site in self.atoms.positions]))
            for p in supercell.positions
        ]
        for i, position in enumerate(supercell.positions):
            for a, b, lattice, block in self.pairs:
                if a != species[i]:
                    continue
                target = position + self.atoms.positions[b] + lattice @ cell - self.atoms.positions[a]
                hessian[i, :, where[key(target)]] -= block
                hessian[i, :, i] += block
        return hessian

    @staticmethod
    def _offset(position: np.ndarray, site: np.ndarray, cell: np.ndarray) -> float:
        f = (position - site) @ np.linalg.inv(cell)
        return float(np.abs(f - np.rint(f)).max())


def triclinic() -> Springs:
    """Three different atoms without any symmetry, one of them outside the cell."""
    atoms = Atoms(
        "HLiO",
        cell=[[3.0, 0, 0], [0.4, 4.0, 0], [0.3, 0.5, 3.5]],
        scaled_positions=[[0.1, 0.2, 0.05], [0.6, 0.8, 0.3], [0.3, 0.55, 0.7]],
        pbc=True,
    )
    atoms.positions[2] += atoms.cell[1] - atoms.cell[2]
    return Springs(atoms)


def zincblende() -> Springs:
    """Two atoms, cubic, no inversion centre; the fcc cell as Quantum ESPRESSO writes it."""
    a = 4.4
    cell = a / 2 * np.array([[-1, 0, 1], [0, 1, 1], [-1, 1, 0]])
    return Springs(Atoms("BN", positions=[[0, 0, 0], [a / 4, a / 4, a / 4]], cell=cell, pbc=True), cutoff=4.0)

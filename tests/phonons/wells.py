"""A CsCl crystal whose anions sit in wells of known depth, at Γ or alternating at R."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

A = 3.0
QUARTICS = {"P4mm": 1 / 9, "Amm2": 2 / 9, "R3m": 7 / 27}
"""Mean of (n·c)⁴ over the eight corners c of a cube, for n along [100], [110] and [111]."""


def parent() -> Atoms:
    return Atoms("CsCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=3 * [A], pbc=True)


@dataclass
class Wells:
    """E = Σ_i -α/2 d² + β/4 d⁴ + γ/4 <(d·c)⁴> + J Σ_<ij> d_i·d_j, with d from the centre of the cage."""

    alpha: float = 2.0
    beta: float = 20.0
    gamma: float = 30.0
    coupling: float = 0.0

    def gain(self, quartic: float, alternating: bool = False) -> float:
        """Depth of a well, eV per cell."""
        alpha = self.alpha + (6 * self.coupling if alternating else -6 * self.coupling)
        return alpha**2 / (4 * (self.beta + self.gamma * quartic))


class WellCalculator(Calculator):
    """The same for any cell in any orientation; bonds are found by distance."""

    implemented_properties = ("energy", "forces", "stress")  # type: ignore[assignment]

    def __init__(self, wells: Wells) -> None:
        super().__init__()
        self.wells = wells

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        positions = torch.tensor(self.atoms.positions, requires_grad=True)
        strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        energy = self._energy(positions, strain)
        pull, stress = torch.autograd.grad(energy, (positions, strain), allow_unused=True)
        stress = stress.numpy() / self.atoms.get_volume()
        self.results = {
            "energy": float(energy.detach()),
            "forces": -pull.numpy(),
            "stress": ((stress + stress.T) / 2)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }

    def _energy(self, positions, strain):
        wells, numbers = self.wells, self.atoms.numbers
        first, second, shift = neighbor_list("ijS", self.atoms, 4.6)
        deformed = torch.eye(3, dtype=torch.float64) + (strain + strain.T) / 2
        cell = torch.tensor(np.asarray(self.atoms.cell))
        vectors = positions[second] - positions[first] + torch.tensor(shift, dtype=torch.float64) @ cell
        vectors = vectors @ deformed
        lengths = torch.linalg.norm(vectors, dim=1)
        metal, anion = numbers == 55, numbers == 17
        frame = torch.tensor(metal[first] & metal[second])
        ideal = torch.where(lengths < 3.6, A, A * 2**0.5)
        energy = 1.5 * ((lengths - ideal)[frame] ** 2).sum()
        d = torch.zeros_like(positions)
        cages = {}
        for i in np.flatnonzero(anion):
            corner = torch.tensor((first == i) & metal[second]) & (lengths < 3.6)
            assert int(corner.sum()) == 8
            centre = vectors[corner].mean(dim=0)
            d = d.index_add(0, torch.tensor([i]), -centre[None])
            cages[i] = vectors[corner] - centre
        for i, cage in cages.items():
            unit = cage / torch.linalg.norm(cage, dim=1)[:, None]
            square = (d[i] ** 2).sum()
            energy = energy - wells.alpha / 2 * square + wells.beta / 4 * square**2
            energy = energy + wells.gamma / 4 * ((unit @ d[i]) ** 4).mean()
        pairs = torch.tensor(anion[first] & anion[second]) & (lengths < 3.6)
        return energy + wells.coupling / 2 * (d[first[pairs]] * d[second[pairs]]).sum()

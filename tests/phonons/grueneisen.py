"""A crystal that is harmonic in every cell, with springs that follow a power of its volume."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from scipy.optimize import minimize_scalar

from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.units import EV_CM, KB_EV_PER_K

from .springs import Springs

DIMS = (2, 2, 2)
GAMMA = 2.0


class GrueneisenCrystal(Calculator):
    """E = B (V - V₀)²/2V₀ + ½ u·Φ₀u (V₀/V)^2γ for supercells DIMS (or the primitive cell on its sites).

    Every frequency goes as V^-γ: free energies, and with them the expansion, are exact sums.
    """

    implemented_properties = ("energy", "forces", "stress")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.primitive = bulk("Al", a=4.05)
        self.volume = self.primitive.get_volume()
        self.stiffness = 0.3  # eV/Å³
        # as soft as to expand by a few per cent
        hessian = Springs(self.primitive, 3.2).hessian(self.primitive.repeat(DIMS)) / 4
        fc = ForceConstants.from_hessian(self.primitive, DIMS, hessian, order="ase").symmetrized()
        self.constants = fc
        self.hessian = fc.hessian(order="ase")

    def softening(self, volume: float) -> float:
        return (self.volume / volume) ** (2 * GAMMA)

    def get_force_constants(self, cell: Atoms, supercell, symmetry: bool = True) -> ForceConstants:
        return ForceConstants(cell, DIMS, self.constants.compact * self.softening(cell.get_volume()))

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        cells = len(self.atoms)
        volume = self.atoms.get_volume() / cells
        pressure_part = self.stiffness * (volume - self.volume) / self.volume  # dE/dV of one cell
        energy = cells * self.stiffness * (volume - self.volume) ** 2 / (2 * self.volume)
        forces = np.zeros((cells, 3))
        virial = np.eye(3) * pressure_part * volume * cells
        if cells > 1:
            ideal = self.primitive.repeat(DIMS)
            ideal.set_cell(self.atoms.cell, scale_atoms=True)
            moved = self.atoms.positions - ideal.positions
            forces = -np.einsum("iajb,jb->ia", self.hessian, moved) * self.softening(volume)
            work = -(moved * forces).sum() / 2
            energy += work
            virial += np.eye(3) * (-2 * GAMMA * work) - (moved.T @ forces + forces.T @ moved) / 2
        stress = virial / self.atoms.get_volume()
        self.results = {
            "energy": energy,
            "forces": forces,
            "stress": stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }

    def exact_volume(self, temperature: float) -> float:
        """Minimum of the exact free energy at zero pressure, Å³."""
        quanta = self.constants.dynamical_matrices().frequencies().ravel() / EV_CM
        quanta = quanta[quanta > 1e-5]

        def free(volume: float) -> float:
            q = quanta * (self.volume / volume) ** GAMMA
            total = (q / 2).sum()
            if temperature > 0:
                total += KB_EV_PER_K * temperature * np.log(-np.expm1(-q / KB_EV_PER_K / temperature)).sum()
            return self.stiffness * (volume - self.volume) ** 2 / (2 * self.volume) + total / np.prod(DIMS)

        found = minimize_scalar(
            free, bounds=(0.95 * self.volume, 1.2 * self.volume), method="bounded", options={"xatol": 1e-9}
        )
        return float(found.x)

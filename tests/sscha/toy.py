"""A cubic crystal of bonds with cubic and quartic terms: analytic energies, forces and stresses, batched."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from himlip_ase.phonons.force_constants import DynamicalMatrices, ForceConstants

DIMS = (2, 2, 2)

STRONG = [(6.0, -30.0, 300.0, -0.02), (2.0, -8.0, 60.0, 0.02), (1.0, 0.0, 0.0, 0.0)]
"""Shells of `BondCrystal` of a strongly anharmonic crystal."""
MILD = [(6.0, -20.0, 120.0, -0.02), (2.0, -5.0, 40.0, 0.02), (1.0, 0.0, 0.0, 0.0)]
"""The same of a mildly anharmonic one."""


def cscl(a: float = 2.6, c: float = 2.6) -> Atoms:
    """A light two-atom cell, S at the corner and H in the middle."""
    return Atoms("SH", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[a, a, c], pbc=True)


class BondCrystal:
    """V(r) = k/2 x² + c/6 x³ + d/24 x⁴ with x = r - r₀ on the shells of an ideal crystal (eV, Å).

    Springs know their partners, so that the topology never changes; each shell has its own (k, c, d, shift)
    with r₀ = ideal distance + shift.
    """

    def __init__(
        self, primitive: Atoms, dims: tuple[int, int, int], shells: list[tuple[float, float, float, float]]
    ) -> None:
        self.primitive, self.dims = primitive, dims
        self.ideal = primitive.repeat(dims)
        reach = 2.0 * primitive.cell.lengths().min()
        first, second, shift, distance = neighbor_list("ijSd", self.ideal, reach)
        once = (first < second) | ((first == second) & ((shift @ [100, 10, 1]) > 0))
        levels = np.unique(np.round(distance, 6))[: len(shells)]
        which = np.searchsorted(levels, np.round(distance, 6) - 1e-6)
        chosen = once & (which < len(shells))
        self.first, self.second, self.shift = first[chosen], second[chosen], shift[chosen]
        self.k, self.c, self.d, offset = np.array(shells)[which[chosen]].T
        self.rest = distance[chosen] + offset
        self.calls = 0

    def __call__(self, images: list[Atoms]) -> SimpleNamespace:
        self.calls += 1
        energies, forces, stresses = [], [], []
        for image in images:
            vectors = (
                image.positions[self.second] - image.positions[self.first] + self.shift @ image.cell.array
            )
            lengths = np.linalg.norm(vectors, axis=1)
            x = lengths - self.rest
            energies.append((self.k * x**2 / 2 + self.c * x**3 / 6 + self.d * x**4 / 24).sum())
            pull = ((self.k * x + self.c * x**2 / 2 + self.d * x**3 / 6) / lengths)[:, None] * vectors
            force = np.zeros_like(image.positions)
            np.add.at(force, self.first, pull)
            np.add.at(force, self.second, -pull)
            forces.append(force)
            virial = vectors.T @ pull / image.get_volume()
            stresses.append(virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
        return SimpleNamespace(
            energies=np.array(energies), forces=np.array(forces), stresses=np.array(stresses)
        )

    def harmonic(self) -> DynamicalMatrices:
        """Dynamical matrices at the ideal positions by central differences."""
        size, h = len(self.ideal), 1e-4
        images = []
        for atom in range(size):
            for axis in range(3):
                for sign in (1, -1):
                    image = self.ideal.copy()
                    image.positions[atom, axis] += sign * h
                    images.append(image)
        forces = self(images).forces.reshape(size, 3, 2, size, 3)
        hessian = -(forces[:, :, 0] - forces[:, :, 1]) / (2 * h)
        constants = ForceConstants.from_hessian(self.primitive, self.dims, hessian, order="ase")
        return constants.symmetrized().dynamical_matrices()


class HarmonicCrystal:
    """E = E₀ + ½ uᵀ Φ u around given dynamical matrices."""

    def __init__(self, dynamical: DynamicalMatrices, static_energy: float = -3.0) -> None:
        self.ideal = dynamical.primitive.repeat(dynamical.dims)
        size = 3 * len(self.ideal)
        self.hessian = dynamical.force_constants().hessian(order="ase").reshape(size, size)
        self.static_energy = static_energy

    def __call__(self, images: list[Atoms]) -> SimpleNamespace:
        moved = np.array([(image.positions - self.ideal.positions).ravel() for image in images])
        forces = -moved @ self.hessian
        energies = self.static_energy - (moved * forces).sum(axis=1) / 2
        return SimpleNamespace(energies=energies, forces=forces.reshape(len(images), -1, 3), stresses=None)


class AsCalculator(Calculator):
    """One image at a time through ASE, for peers that loop."""

    implemented_properties = ("energy", "forces", "stress")  # type: ignore[assignment]

    def __init__(self, crystal: BondCrystal) -> None:
        super().__init__()
        self.crystal = crystal

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        result = self.crystal([self.atoms])
        self.results = {
            "energy": float(result.energies[0]),
            "forces": result.forces[0],
            "stress": result.stresses[0],
        }

"""Three independent anharmonic oscillators: two atoms in one cell, bound by a separable potential (eV, Å).

V = Σ_axis ½k x² + g x³ + λ x⁴ of the relative displacement x of the atoms.  Its SCHA is a pair of equations
in one dimension, solved here by bisection.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace

import numpy as np
from ase import Atoms
from scipy.optimize import brentq

from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.units import KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV

from .crystals import ensemble_of

MASSES = (1.0, 3.0)
REDUCED_MASS = MASSES[0] * MASSES[1] / sum(MASSES)


@dataclass(frozen=True)
class Oscillator:
    """V = ½k x² + g x³ + λ x⁴ along each axis."""

    k: float
    g: float
    quartic: float

    def atoms(self) -> Atoms:
        """Two different atoms in a triclinic cell: no symmetry forbids a shift."""
        cell = [[6.0, 0.3, 0.1], [0.2, 6.5, 0.4], [0.5, 0.1, 7.0]]
        return Atoms("HHe", positions=[[0, 0, 0], [2.1, 1.3, 1.7]], cell=cell, pbc=True, masses=MASSES)

    def __call__(self, images: list[Atoms]) -> SimpleNamespace:
        origin = self.atoms().positions
        x = np.array([(i.positions[1] - origin[1]) - (i.positions[0] - origin[0]) for i in images])
        energies = (self.k * x**2 / 2 + self.g * x**3 + self.quartic * x**4).sum(axis=1)
        pull = self.k * x + 3 * self.g * x**2 + 4 * self.quartic * x**3
        return SimpleNamespace(energies=energies, forces=np.stack([pull, -pull], axis=1), stresses=None)

    def start(self, k: float | None = None) -> DynamicalMatrices:
        """Matrices of springs k (its own by default) between the atoms."""
        spring = np.kron([[1.0, -1.0], [-1.0, 1.0]], (self.k if k is None else k) * np.eye(3))
        return DynamicalMatrices(self.atoms(), (1, 1, 1), np.zeros((1, 3)), spring[None].astype(complex))

    def scha(self, temperature_k: float) -> tuple[float, float, float]:
        """Exact SCHA: spring (eV/Å²), shift of the centroid (Å) and free energy (eV) of the three axes."""

        def spread(spring: float) -> float:
            energy = np.sqrt(spring / REDUCED_MASS) * SQRT_EV_PER_ANGSTROM2_AMU_EV
            thermal = 1.0 if temperature_k == 0 else 1 / np.tanh(energy / (2 * KB_EV_PER_K * temperature_k))
            return SQRT_EV_PER_ANGSTROM2_AMU_EV**2 / (2 * energy * REDUCED_MASS) * thermal

        def shift(sigma: float) -> float:
            def force(r: float) -> float:
                return self.k * r + 3 * self.g * (r**2 + sigma) + 4 * self.quartic * (r**3 + 3 * r * sigma)

            return brentq(force, -0.3, 0.3, xtol=1e-14)

        def excess(spring: float) -> float:
            sigma = spread(spring)
            r = shift(sigma)
            return spring - (self.k + 6 * self.g * r + 12 * self.quartic * (r**2 + sigma))

        spring = brentq(excess, self.k / 3, 10 * self.k, xtol=1e-12)
        sigma = spread(spring)
        r = shift(sigma)
        energy = np.sqrt(spring / REDUCED_MASS) * SQRT_EV_PER_ANGSTROM2_AMU_EV
        free = energy / 2
        if temperature_k > 0:
            free += KB_EV_PER_K * temperature_k * np.log(-np.expm1(-energy / (KB_EV_PER_K * temperature_k)))
        potential = self.k * (r**2 + sigma) / 2 + self.g * (r**3 + 3 * r * sigma)
        potential += self.quartic * (r**4 + 6 * r**2 * sigma + 3 * sigma**2)
        return spring, r, 3 * (free + potential - spring * sigma / 2)

    def quadrature(self, drawn: HarmonicDistribution) -> Ensemble:
        """Points whose plain mean over the Gaussian is exact to fifth order along each axis.

        Gauss-Hermite's three points with weights 1/6, 4/6, 1/6, by repetition; opposites are adjacent.
        """
        levels = np.sqrt(3) * np.array([1.0, 0, 0, 0, 0, -1.0])
        points = np.array(list(product(levels, repeat=3)))
        points = np.stack([points[:108], -points[:108]], axis=1).reshape(216, 3)
        values, vectors = np.linalg.eigh(drawn.covariance())
        displacements = points @ (vectors[:, 3:] * np.sqrt(values[3:])).T
        images = [drawn.supercell for _ in points]
        for image, moved in zip(images, displacements, strict=True):
            image.positions += moved.reshape(2, 3)
        found = self(images)
        return ensemble_of(drawn, displacements.reshape(-1, 2, 3), found.energies, found.forces)


def spring_of(dynamical: DynamicalMatrices) -> np.ndarray:
    """Springs along the axes from Φ."""
    return np.diag(dynamical.matrices[0].real)[:3]


def shift_of(dynamical: DynamicalMatrices, oscillator: Oscillator) -> np.ndarray:
    """Relative centroid shift, Å."""
    moved = dynamical.primitive.positions - oscillator.atoms().positions
    return moved[1] - moved[0]

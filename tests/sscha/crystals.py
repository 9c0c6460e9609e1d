"""A zoo of crystals with random symmetric, positive force constants, and ensembles with made-up forces."""

from __future__ import annotations

import dataclasses

import numpy as np
from ase import Atoms
from ase.build import bulk

from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup


def wurtzite() -> Atoms:
    """Hexagonal, polar: the group leaves a relative shift and the common one along z free."""
    places = [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.38], [2 / 3, 1 / 3, 0.5], [2 / 3, 1 / 3, 0.88]]
    return Atoms("ZnOZnO", scaled_positions=places, cell=[3.25, 3.25, 5.2, 90, 90, 120], pbc=True)


def h3s() -> Atoms:
    """Im-3m, body-centred primitive cell."""
    cell = 1.5 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    places = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("SH3", scaled_positions=places, cell=cell, pbc=True)


def triclinic() -> Atoms:
    """No symmetry but the translations."""
    places = [[0, 0, 0], [0.41, 0.53, 0.38], [0.77, 0.12, 0.66]]
    return Atoms(
        "NaHO", scaled_positions=places, cell=[[3, 0.1, 0.2], [0.3, 3.2, 0.1], [0.2, 0.4, 2.9]], pbc=True
    )


CRYSTALS: dict[str, tuple[Atoms, tuple[int, int, int]]] = {
    "cubic": (h3s(), (2, 2, 2)),
    "cubic, complex q": (h3s(), (3, 3, 3)),
    "one atom": (bulk("Al"), (3, 3, 3)),
    "hexagonal": (wurtzite(), (3, 3, 1)),
    "no symmetry": (triclinic(), (3, 2, 1)),
    "grid breaks the symmetry": (h3s(), (1, 2, 3)),
    "one cell": (wurtzite(), (1, 1, 1)),
}


def random_blocks(primitive: Atoms, dims: tuple[int, int, int], seed: int) -> np.ndarray:
    """Φ(q) of random real symmetric force constants on the whole grid, without any other symmetry."""
    size, cells = 3 * len(primitive), int(np.prod(dims))
    real = np.random.default_rng(seed).normal(size=(*dims, size, size))
    waves = np.fft.ifftn(real, axes=(0, 1, 2)).reshape(cells, size, size) * cells
    blocks = np.empty_like(waves)
    for sector in HalfGrid(dims).sectors:
        blocks[sector.partners] = waves[sector.fft_partners]
        blocks[sector.points] = waves[sector.fft]
    return (blocks + blocks.conj().transpose(0, 2, 1)) / 2


def random_matrices(
    primitive: Atoms, dims: tuple[int, int, int], seed: int = 0, spread: float = 0.3, mean: float = 12.0
) -> DynamicalMatrices:
    """Symmetric positive Φ(q) (eV/Å²) that obey the acoustic sum rule: about `mean` times the unit matrix."""
    blocks = random_blocks(primitive, dims, seed)
    blocks = mean * (np.eye(blocks.shape[1]) + spread * blocks / np.abs(np.linalg.eigvalsh(blocks)).max())
    group = SpaceGroup(DynamicalMatrices(primitive, dims, commensurate_qpoints(dims), blocks))
    return DynamicalMatrices(primitive, dims, commensurate_qpoints(dims), group.matrices(blocks))


def ensemble_of(
    drawn_from: HarmonicDistribution,
    displacements: np.ndarray,
    energies: np.ndarray,
    forces: np.ndarray,
    stresses: np.ndarray | None = None,
    static_energy: float = 0.0,
) -> Ensemble:
    """An ensemble of given arrays; what only watches it is left at 1."""
    arrays = {
        "drawn_from": drawn_from,
        "displacements": displacements,
        "energies": energies,
        "forces": forces,
        "stresses": stresses,
        "static_energy": static_energy,
    }
    for item in dataclasses.fields(Ensemble):
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            arrays.setdefault(item.name, 1.0)
    return Ensemble(**arrays)


def made_up_ensemble(distribution: HarmonicDistribution, n: int, seed: int) -> Ensemble:
    """Displacements of the Gaussian with energies, forces and stresses that are its own but for noise."""
    generator = np.random.default_rng(seed)
    displacements = distribution.displacements(n, seed, pairs=True)
    dynamical = distribution.dynamical
    size = displacements[0].size
    springs = dynamical.force_constants().hessian(order="ase").reshape(size, size)
    flat = displacements.reshape(n, size)
    forces = -flat @ springs
    energies = -(flat * forces).sum(axis=1) / 2 + generator.normal(scale=0.1, size=n)
    forces += generator.normal(scale=0.2 * np.abs(forces).mean(), size=forces.shape)
    stresses = generator.normal(scale=0.01, size=(n, 6)) + 0.05
    return ensemble_of(distribution, displacements, energies, forces.reshape(displacements.shape), stresses)

"""Small structures of every kind, and a small model with the weights of a reasonable one."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

CUTOFF = 3.5
A = 3.06484


def h3s() -> Atoms:
    """Im-3m H3S, primitive cell: every height is smaller than the cutoff."""
    return Atoms(
        "SH3",
        cell=A / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        pbc=True,
    )


def rattled(atoms: Atoms, amplitude: float = 0.08, seed: int = 1) -> Atoms:
    """A copy with Gaussian displacements."""
    copy = atoms.copy()
    copy.positions += np.random.default_rng(seed).normal(scale=amplitude, size=copy.positions.shape)
    return copy


def skewed() -> Atoms:
    """A strongly skewed cell of the same crystal, atoms far outside it."""
    atoms = rattled(h3s())
    atoms.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]]) @ atoms.cell.array, scale_atoms=False)
    atoms.positions += 3 * atoms.cell[0] - 2 * atoms.cell[2]
    return atoms


def left_handed() -> Atoms:
    """A cell of negative volume."""
    atoms = rattled(h3s())
    atoms.set_cell(atoms.cell.array[[1, 0, 2]], scale_atoms=False)
    return atoms


def slab() -> Atoms:
    """Periodic in two directions."""
    atoms = rattled(h3s())
    atoms.set_pbc([True, True, False])
    return atoms


def wire() -> Atoms:
    """Periodic in one direction, which is not the first."""
    atoms = rattled(h3s())
    atoms.set_pbc([False, True, False])
    return atoms


def h2s() -> Atoms:
    """A molecule without a cell."""
    return rattled(molecule("SH2"))


def tiny() -> Atoms:
    """One atom in a cell much smaller than the cutoff, sheared so that no stress vanishes."""
    return Atoms("H", cell=[[1.5, 0.2, 0], [0, 1.6, 0.1], [0.3, 0, 1.4]], pbc=True)


def conventional() -> Atoms:
    """Eight atoms, cubic."""
    sites = [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    sites += [[x + 0.5 for x in site] for site in sites]
    return rattled(Atoms("SH3SH3", cell=[A] * 3, scaled_positions=sites, pbc=True), seed=4)


ZOO = {
    "crystal": lambda: rattled(h3s()),
    "skewed": skewed,
    "left_handed": left_handed,
    "slab": slab,
    "wire": wire,
    "molecule": h2s,
    "tiny_cell": tiny,
    "conventional": conventional,
}


@cache
def small_model(layers: int = 2, seed: int = 0) -> HiMLIP:
    """A model with few parameters whose energies vary by eV."""
    torch.set_num_threads(1)
    config = HiMLIPConfig(
        ("H", "S"), cutoff=CUTOFF, n_radial=6, channels=4, hidden=16, layers=layers, mean_neighbours=30
    )
    model = HiMLIP(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for readout in (layer.readout for layer in model.layers):
            readout.weight.copy_(torch.randn(readout.weight.shape, generator=generator, dtype=torch.float64))
        model.energy_shift.copy_(torch.tensor([-1.0, -5.0]))
        model.energy_scale.fill_(0.1)
    typical = [rattled(h3s(), 0.3, seed) for seed in range(8)] + [build() for build in ZOO.values()]
    model.standardise(build_graph(typical, model.elements, model.cutoff))
    return model

"""Test material: fcc Al from Debian's quantum-espresso-data, and toy crystals made here."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from himlip_ase import units
from himlip_ase.lattice import commensurate_qpoints, grid_indices
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity.elph_matrices import ElphMatrices

AL = Path("/usr/share/doc/quantum-espresso/examples/PHonon/Recover_example/reference_1")
needs_al = pytest.mark.skipif(not (AL / "al.dyn1").exists(), reason="needs Debian's quantum-espresso-data")
AL_ALAT = 7.5
AL_STARS = [1, 8, 4, 6, 24, 12, 3, 6]


def text_of(path: Path) -> str:
    zipped = path.with_name(path.name + ".gz")
    return path.read_text() if path.exists() else gzip.decompress(zipped.read_bytes()).decode()


def al_primitive() -> Atoms:
    cell = AL_ALAT * units.BOHR_ANGSTROM / 2 * np.array([[-1, 0, 1], [0, 1, 1], [-1, 1, 0]])
    return Atoms("Al", cell=cell, pbc=True, masses=[24590.765652728711 / units.AMU_RY])


def al_phonons() -> DynamicalMatrices:
    """The Al dyn files through a reader of one atom's blocks, independent of the package's own."""
    primitive = al_primitive()
    qpoints, matrices = [], []
    for number in range(1, 9):
        body = text_of(AL / f"al.dyn{number}").split("Diagonalizing")[0]
        for block in body.split("Dynamical  Matrix in cartesian axes")[1:]:
            numbers = [float(w) for w in re.findall(r"-?\d+\.\d+", block)]
            qpoints.append(numbers[:3])
            values = np.array(numbers[3:21]).reshape(3, 3, 2)
            matrices.append((values[..., 0] + 1j * values[..., 1]) * units.RY_PER_BOHR2_EV_PER_ANGSTROM2)
    fractional = np.array(qpoints) @ (primitive.cell.array / (AL_ALAT * units.BOHR_ANGSTROM)).T
    return DynamicalMatrices(primitive, (4, 4, 4), fractional, np.array(matrices))


def toy(dims: tuple[int, int, int] = (2, 2, 2), seed: int = 0) -> tuple[DynamicalMatrices, ElphMatrices]:
    """A two-atom crystal with random, stable, mass-free D(q) and positive G(q) obeying A(−q) = A(q)*."""
    rng = np.random.default_rng(seed)
    primitive = Atoms("PdH", cell=np.eye(3) * 3.0, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    grid = commensurate_qpoints(dims)

    def positive(floor: float, scale: float) -> np.ndarray:
        half = rng.normal(size=(len(grid), 6, 6)) + 1j * rng.normal(size=(len(grid), 6, 6))
        half = (half + half[grid_indices(-grid, dims)].conj()) / 2
        return scale * half @ half.conj().swapaxes(1, 2) + floor * np.eye(6)

    d = DynamicalMatrices(primitive, dims, grid, positive(2.0, 0.5))
    uniform = np.tile(np.eye(3), (2, 1)) / np.sqrt(2)
    project = np.eye(6) - uniform @ uniform.T
    d.matrices.flags.writeable = True
    d.matrices[0] = project @ d.matrices[0] @ project
    d.matrices.flags.writeable = False
    g = np.array([positive(0.0, 0.01), positive(0.0, 0.02)])
    g[:, 0] = project @ g[:, 0] @ project
    elph = ElphMatrices(
        primitive, dims, grid, g, np.array([0.01, 0.02]), np.array([2.0, 2.5]), np.array([8.0, 8.1])
    )
    return d, elph


def strained_toy(phonons: DynamicalMatrices, strain: float, axis: int | None = None) -> DynamicalMatrices:
    """The same Φ(q) in a cell longer by `strain`, along all axes or along one."""
    stretch = np.eye(3) * (1 + strain)
    if axis is not None:
        stretch = np.eye(3)
        stretch[axis, axis] += strain
    primitive = phonons.primitive.copy()
    primitive.set_cell(primitive.cell.array @ stretch, scale_atoms=True)
    return DynamicalMatrices(primitive, phonons.dims, phonons.qpoints, phonons.matrices)

"""The symmetry-adapted basis against averages over the space group, and the half grid against the whole."""

from __future__ import annotations

import numpy as np
import pytest
from symfc import Symfc
from symfc.utils.utils import SymfcAtoms

from himlip_ase.lattice import build_supercell, commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.minimisation.basis import SymmetryBasis
from himlip_ase.sscha.symmetry import SpaceGroup

from .crystals import CRYSTALS, random_blocks, triclinic

FREE_SHIFTS = {"hexagonal": 2, "one cell": 2, "no symmetry": 9}


@pytest.fixture(params=CRYSTALS)
def case(request):
    primitive, dims = CRYSTALS[request.param]
    blocks = random_blocks(primitive, dims, seed=1)
    group = SpaceGroup(DynamicalMatrices(primitive, dims, commensurate_qpoints(dims), blocks))
    grid = HalfGrid(dims)
    return request.param, group, grid, SymmetryBasis(group, grid), blocks


def test_projection_is_the_mean_over_the_group(case):
    _, group, grid, basis, blocks = case
    coefficients = basis.coefficients(grid.split(blocks))
    projected = grid.join(basis.matrices(coefficients))
    np.testing.assert_allclose(projected, group.matrices(blocks), atol=1e-12)
    np.testing.assert_allclose(basis.coefficients(grid.split(projected)), coefficients, atol=1e-12)
    assert np.linalg.norm(coefficients) == pytest.approx(grid.norm(grid.split(projected)), rel=1e-12)


def test_as_many_free_force_constants_as_symfc_finds(case):
    name, _, _, basis, _ = case
    primitive, dims = CRYSTALS[name]
    supercell = build_supercell(primitive, dims)
    atoms = SymfcAtoms(
        cell=supercell.cell.array,
        scaled_positions=supercell.get_scaled_positions(),
        numbers=supercell.numbers,
    )
    expected = Symfc(atoms).compute_basis_set(2).basis_set[2].basis_set.shape[1]
    projector = np.array([basis.coefficients(basis.matrices(unit)) for unit in np.eye(len(basis))])
    np.testing.assert_allclose(projector, projector.T, atol=1e-12)
    assert np.trace(projector) == pytest.approx(expected, abs=1e-8)


def test_without_symmetry_only_hermiticity_is_left(case):
    name, group, grid, basis, _ = case
    if name == "no symmetry":
        pairs = 3 * group.n * grid.cells  # n_q blocks of (3n)² numbers, each with its transpose
        self_conjugate = grid.sectors[0].points.size
        assert len(basis) == (pairs * 3 * group.n + 3 * group.n * self_conjugate) // 2


def test_batches_are_projected_one_by_one(case):
    _, _, grid, basis, blocks = case
    both = [np.stack([part, 2 * part]) for part in grid.split(blocks)]
    found = basis.coefficients(both)
    np.testing.assert_allclose(found[0], basis.coefficients(grid.split(blocks)), atol=1e-13)
    np.testing.assert_allclose(found[1], 2 * found[0], atol=1e-13)


def test_shifts_are_those_the_group_leaves_alone(case):
    name, group, _, basis, _ = case
    moves = np.random.default_rng(2).normal(size=(group.n, 3))
    projected = (basis.shifts @ (basis.shifts.T @ moves.ravel())).reshape(-1, 3)
    np.testing.assert_allclose(projected, group.vectors(moves), atol=1e-12)
    assert basis.shifts.shape[1] == FREE_SHIFTS.get(name, 0)


def test_fields_keep_their_length_and_their_partners(case):
    _, group, grid, _, _ = case
    values = np.random.default_rng(3).normal(size=(4, group.n * grid.cells, 3))
    fields = grid.fields(values)
    squares = sum(
        sector.multiplicity * (np.abs(field) ** 2).sum(axis=(0, 2))
        for sector, field in zip(grid.sectors, fields, strict=True)
    )
    np.testing.assert_allclose(squares, (values**2).sum(axis=(1, 2)), rtol=1e-12)
    counted = np.concatenate([np.concatenate([s.points, s.partners]) for s in grid.sectors])
    assert set(counted) == set(range(grid.cells))
    assert sum(s.multiplicity * len(s.points) for s in grid.sectors) == grid.cells


def test_large_cells_without_symmetry_stay_sparse():
    primitive, dims = triclinic(), (4, 4, 4)
    blocks = random_blocks(primitive, dims, seed=0)
    group = SpaceGroup(DynamicalMatrices(primitive, dims, commensurate_qpoints(dims), blocks))
    basis = SymmetryBasis(group, HalfGrid(dims))
    assert basis.nonzeros <= 2 * 81 * group.n**2 * 64
    assert basis.nonzeros < 20 * len(basis)

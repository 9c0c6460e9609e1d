"""The k-error of phonons: it holds at the tested q-point, for every phase, orientation and mass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints, grid_indices
from himlip_ase.phonons.force_constants import DynamicalMatrices, mass_reduced
from himlip_ase.phonons.k_error import KMeshChange, telling_qpoint
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM, signed_frequencies_cm
from tests.phonons.springs import Springs, triclinic, zincblende


def on_grid(springs: Springs, dims=(2, 2, 2)) -> DynamicalMatrices:
    qpoints = commensurate_qpoints(dims)
    return DynamicalMatrices(springs.atoms, dims, qpoints, springs.matrices(qpoints))


def harder(springs: Springs, factor: float) -> Springs:
    """The same crystal with other springs, nearest neighbours most: a change that knows the symmetry."""
    other = Springs(springs.atoms, cutoff=3.0)
    other.pairs = [(a, b, r, factor * block) for a, b, r, block in other.pairs]
    return other


@pytest.mark.parametrize("make", [triclinic, zincblende])
@pytest.mark.parametrize("factor", [0.2, -0.1])
def test_every_change_lies_within_the_error(make, factor):
    springs = make()
    matrices = on_grid(springs, (3, 3, 2))
    for q in matrices.qpoints[[1, 5, 11]]:
        change = springs.matrices(q[None])[0] + harder(springs, factor).matrices(q[None])[0]
        found = KMeshChange(springs.atoms, q, matrices.matrices[matrices.index(q)], change)
        errors = found.errors(matrices)
        coarse, dense = found.frequencies()
        tested = errors[matrices.index(q)]
        values, vectors = np.linalg.eigh(mass_reduced(found.coarse, springs.atoms.get_masses()))
        shift = np.einsum(
            "iv,ij,jv->v",
            vectors.conj(),
            mass_reduced(found.dense - found.coarse, springs.atoms.get_masses()),
            vectors,
        ).real
        first_order = np.sqrt(np.abs(values + shift)) * np.sign(values + shift) * SQRT_EV_PER_ANGSTROM2_AMU_CM
        assert (np.abs(first_order - coarse) <= tested + 1e-6).all()
        assert (np.abs(dense - coarse) <= tested + 1.0).all(), "second order is small here"


def test_equivalent_points_and_modes_have_one_error():
    """Of the star of q, and of degenerate modes whatever their basis."""
    springs = zincblende()
    matrices = on_grid(springs)
    q = np.array([0.5, 0.0, 0.0])
    dense = springs.matrices(q[None])[0] + harder(springs, 0.1).matrices(q[None])[0]
    errors = KMeshChange(springs.atoms, q, matrices.matrices[matrices.index(q)], dense).errors(matrices)
    star = [matrices.index(p) for p in ((0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0.5, 0.5, 0.5))]
    assert np.ptp(errors[star], axis=0).max() < 1e-6
    assert np.ptp(errors[0, 3:]) < 1e-6 and errors[0, 3] > 1, "the optical triplet at Γ"
    assert (errors[0, :3] == 0).all(), "translations have none"


def test_isotopes_scale_like_their_frequencies():
    """All masses times four: frequencies and errors are halved."""
    springs = triclinic()
    matrices = on_grid(springs)
    q = np.array([0.5, 0.5, 0.0])
    dense = springs.matrices(q[None])[0] + harder(springs, 0.1).matrices(q[None])[0]
    change = KMeshChange(springs.atoms, q, matrices.matrices[matrices.index(q)], dense)
    heavy = matrices.with_masses(4 * springs.atoms.get_masses())
    assert change.errors(heavy) == pytest.approx(change.errors(matrices) / 2, abs=1e-8)


def test_no_change_no_error():
    matrices = on_grid(triclinic())
    same = KMeshChange(matrices.primitive, matrices.qpoints[3], matrices.matrices[3], matrices.matrices[3])
    assert same.largest_shift() == 0 and np.abs(same.errors(matrices)).max() < 1e-4


def test_a_mode_that_passes_others_moved_by_all_of_it():
    """ω² = (1 … 9) on the coarse mesh; the second becomes 5.5, past three others; sorted, each moves less."""
    springs, coarse = triclinic(), list(range(1, 10))
    weights = np.sqrt(np.repeat(springs.atoms.get_masses(), 3))
    vectors = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 9)))[0]

    def phi(squares: Sequence[float]) -> np.ndarray:
        return (vectors * squares) @ vectors.T * np.outer(weights, weights)

    change = KMeshChange(springs.atoms, np.zeros(3), phi(coarse), phi([1, 5.5, *coarse[2:]]))
    before, after = signed_frequencies_cm(np.array([2, 5.5]))
    assert change.largest_shift() == pytest.approx(after - before)


def test_a_soft_mode_has_a_large_error():
    """The same change of ω² moves a soft frequency more: 2ω δω = δ(ω²)."""
    springs = zincblende()
    matrices = on_grid(springs)
    q = np.array([0.5, 0.0, 0.0])
    coarse = matrices.matrices[matrices.index(q)]
    change = KMeshChange(springs.atoms, q, coarse, coarse + 0.05 * np.eye(6))
    errors = change.errors(matrices)[matrices.index(q)]
    assert errors[0] > 1.5 * errors[-1]


def test_tested_point_is_off_the_grid_and_soft():
    springs = zincblende()
    matrices = on_grid(springs)
    q = telling_qpoint(matrices)
    assert grid_indices(q, (2, 2, 2))[0] < 0 and grid_indices(q, (3, 3, 3))[0] >= 0
    finer = matrices.interpolated((3, 3, 3))
    new = grid_indices(finer.qpoints, (2, 2, 2)) < 0
    assert finer.frequencies()[finer.index(q), 0] == pytest.approx(
        finer.frequencies()[new, 0].min(), abs=0.02
    )


def test_other_crystals_are_refused():
    springs = zincblende()
    matrices = on_grid(springs)
    change = KMeshChange(springs.atoms, np.zeros(3), matrices.matrices[0], matrices.matrices[0])
    other = Atoms("GaN", positions=springs.atoms.positions, cell=springs.atoms.cell, pbc=True)
    with pytest.raises(InputError, match="GaN"):
        change.errors(DynamicalMatrices(other, (2, 2, 2), matrices.qpoints, matrices.matrices))
    with pytest.raises(InputError, match="6×6"):
        KMeshChange(springs.atoms, np.zeros(3), np.eye(5), np.eye(6))

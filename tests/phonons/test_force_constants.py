"""Layouts, Fourier transforms, sum rule, masses."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons import DynamicalMatrices, ForceConstants
from himlip_ase.units import signed_frequencies_cm

from .springs import triclinic, zincblende

CASES = [(triclinic, (2, 1, 3)), (zincblende, (2, 2, 2)), (zincblende, (3, 1, 2))]


def build(make, dims):
    springs = make()
    blank = ForceConstants(
        springs.atoms, dims, np.zeros((len(springs.atoms), len(springs.atoms) * np.prod(dims), 3, 3))
    )
    return springs, ForceConstants.from_hessian(springs.atoms, dims, springs.hessian(blank.supercell))


@pytest.mark.parametrize(("make", "dims"), CASES)
def test_grid_matrices_are_the_lattice_sum(make, dims):
    springs, fc = build(make, dims)
    dm = fc.dynamical_matrices()
    assert np.abs(dm.matrices - springs.matrices(dm.qpoints)).max() < 1e-12
    assert dm.hermiticity_violation() < 1e-12
    assert dm.time_reversal_violation() < 1e-12
    assert np.abs(dm.force_constants().compact - fc.compact).max() < 1e-12


@pytest.mark.parametrize(("make", "dims"), [(triclinic, (4, 3, 3)), (zincblende, (4, 4, 4))])
def test_interpolation_is_exact_once_the_springs_fit_into_the_supercell(make, dims):
    springs, fc = build(make, dims)
    qpoints = np.random.default_rng(0).uniform(-1, 1, (7, 3))
    assert np.abs(fc.matrices(qpoints) - springs.matrices(qpoints)).max() < 1e-10


@pytest.mark.parametrize(("make", "dims"), CASES)
def test_grid_frequencies_are_those_of_the_supercell(make, dims):
    _, fc = build(make, dims)
    fc = fc.with_masses(np.linspace(1.5, 9, len(fc.primitive)))
    roots = np.sqrt(np.repeat(fc.supercell.get_masses(), 3))
    size = len(roots)
    reduced = fc.hessian().reshape(size, size) / roots[:, None] / roots
    expected = np.sort(signed_frequencies_cm(np.linalg.eigvalsh(reduced)))[3:]
    dm = fc.dynamical_matrices()
    assert np.allclose(np.sort(dm.frequencies().ravel())[3:], expected, atol=1e-6, rtol=0)
    assert np.allclose(fc.frequencies(dm.qpoints), dm.frequencies(), atol=1e-3, rtol=0)


def test_eigenvectors_diagonalise_the_mass_reduced_matrix():
    _, fc = build(triclinic, (2, 1, 3))
    dm = fc.dynamical_matrices()
    frequencies, vectors = dm.eigen()
    roots = np.sqrt(np.repeat(fc.primitive.get_masses(), 3))
    reduced = dm.matrices / roots[:, None] / roots
    diagonal = np.conj(vectors.swapaxes(1, 2)) @ reduced @ vectors
    values = np.diagonal(diagonal, axis1=1, axis2=2).real
    assert np.allclose(signed_frequencies_cm(values)[1:], frequencies[1:], atol=1e-6)
    assert np.abs(diagonal - values[..., None] * np.eye(9)).max() < 1e-12


@pytest.mark.parametrize(("make", "dims"), CASES)
def test_ase_order_is_that_of_repeat(make, dims):
    springs, fc = build(make, dims)
    hessian = springs.hessian(springs.atoms.repeat(dims))
    other = ForceConstants.from_hessian(springs.atoms, dims, hessian, order="ase")
    assert np.abs(other.compact - fc.compact).max() < 1e-12
    assert np.abs(fc.hessian(order="ase") - hessian).max() < 1e-12


@pytest.mark.parametrize(("make", "dims"), CASES)
def test_supercell_and_rows_follow_phonopy(make, dims):

    _, fc = build(make, dims)
    ph = fc.to_phonopy()
    offset = ph.supercell.scaled_positions - fc.supercell.get_scaled_positions(wrap=False)
    assert np.abs(offset - np.rint(offset)).max() < 1e-9
    full = fc.full()
    assert np.array_equal(full[ph.primitive.p2s_map], fc.compact)
    assert np.abs(ForceConstants.from_full(fc.primitive, dims, full).compact - fc.compact).max() < 1e-12


def test_wrong_order_asymmetry_shape_and_nan_are_refused():
    springs, fc = build(triclinic, (2, 1, 3))
    hessian = springs.hessian(springs.atoms.repeat((2, 1, 3)))
    with pytest.raises(InputError, match=r"pass order='ase'"):
        ForceConstants.from_hessian(springs.atoms, (2, 1, 3), hessian)
    skewed = fc.hessian().copy()
    skewed[0, 0, 1, 1] += 1.0
    with pytest.raises(InputError, match="asymmetric by 1 eV"):
        ForceConstants.from_hessian(springs.atoms, (2, 1, 3), skewed)
    with pytest.raises(InputError, match=r"need a Hessian \(9, 3, 9, 3\)"):
        ForceConstants.from_hessian(springs.atoms, (3, 1, 1), hessian)
    skewed[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        ForceConstants.from_hessian(springs.atoms, (2, 1, 3), skewed)


@pytest.mark.parametrize("dims", [(0, 1, 1), (2, 2), (1.5, 1, 1), (-1, 2, 2)])
def test_dims_must_be_three_positive_integers(dims):
    with pytest.raises(InputError, match="three integers"):
        ForceConstants(triclinic().atoms, dims, np.zeros((3, 3, 3, 3)))


def test_bad_cells_are_refused():
    with pytest.raises(InputError, match="no atoms"):
        ForceConstants(Atoms(cell=np.eye(3)), (1, 1, 1), np.zeros((0, 0, 3, 3)))
    flat = Atoms("H", cell=[[1, 0, 0], [0, 1, 0], [1, 1, 0]], pbc=True)
    with pytest.raises(InputError, match="three independent vectors"):
        ForceConstants(flat, (1, 1, 1), np.zeros((1, 1, 3, 3)))
    lost = Atoms("H2", [[0, 0, 0], [np.nan, 0, 0]], cell=np.eye(3), pbc=True)
    with pytest.raises(InputError, match="atom 1"):
        ForceConstants(lost, (1, 1, 1), np.zeros((2, 2, 3, 3)))


def test_sum_rule_is_measured_and_imposed():
    _, fc = build(zincblende, (2, 2, 2))
    rng = np.random.default_rng(1)
    noise = rng.normal(scale=1e-2, size=fc.hessian().shape)
    noisy = ForceConstants.from_hessian(
        fc.primitive, fc.dims, fc.hessian() + noise + noise.transpose(2, 3, 0, 1), tolerance=1.0
    )
    assert noisy.acoustic_sum_rule_violation() > 1e-3
    projected = noisy.with_acoustic_sum_rule()
    onsite = noisy.with_acoustic_sum_rule("onsite")
    for fixed in (projected, onsite):
        assert fixed.acoustic_sum_rule_violation() < 1e-12
    before, after = noisy.dynamical_matrices().matrices, projected.dynamical_matrices().matrices
    assert np.abs(before[1:] - after[1:]).max() < 1e-12
    assert projected.permutation_violation() < 1e-12
    assert np.abs(projected.dynamical_matrices().frequencies()[0, :3]).max() < 1e-3
    # no others that obey the rule lie nearer
    assert np.linalg.norm(projected.compact - noisy.compact) < np.linalg.norm(onsite.compact - noisy.compact)


def test_symmetrisation_removes_noise_and_keeps_the_rest():
    _, fc = build(zincblende, (2, 2, 2))
    noise = np.random.default_rng(2).normal(scale=1e-3, size=fc.compact.shape)
    noisy = ForceConstants(fc.primitive, fc.dims, fc.compact + noise)
    assert np.abs(fc.symmetrized().compact - fc.compact).max() < 1e-8
    cleaned = noisy.symmetrized()
    assert np.abs(cleaned.compact - fc.compact).max() < 0.5 * np.abs(noise).max()
    assert cleaned.acoustic_sum_rule_violation() < 1e-8
    gamma = cleaned.dynamical_matrices().frequencies()[0]
    assert np.ptp(gamma[3:]) < 1e-5  # the optical triplet


def test_masses_scale_frequencies_and_leave_force_constants():
    _, fc = build(triclinic, (2, 1, 3))
    heavy = fc.with_masses(fc.primitive.get_masses() * 4)
    assert np.allclose(
        heavy.dynamical_matrices().frequencies()[1:], fc.dynamical_matrices().frequencies()[1:] / 2
    )
    deuterated = fc.with_masses({"H": 2.014})
    assert deuterated.primitive.get_masses()[0] == 2.014
    assert np.array_equal(deuterated.compact, fc.compact)
    assert np.array_equal(deuterated.supercell.get_masses()[:6], np.full(6, 2.014))
    with pytest.raises(InputError, match="no atom of He"):
        fc.with_masses({"He": 4.0})
    with pytest.raises(InputError, match="positive"):
        fc.with_masses({"H": 0.0})


def test_objects_do_not_follow_later_changes():
    springs, fc = build(zincblende, (2, 2, 2))
    before = fc.frequencies(np.array([[0.1, 0.2, 0.3]]))
    springs.atoms.positions += 1.0
    springs.atoms.set_masses([100, 100])
    assert np.array_equal(fc.frequencies(np.array([[0.1, 0.2, 0.3]])), before)
    with pytest.raises(ValueError, match="read-only"):
        fc.compact[0, 0, 0, 0] = 1.0


def test_any_order_and_any_zone_of_the_grid_is_understood():
    _, fc = build(triclinic, (2, 1, 3))
    dm = fc.dynamical_matrices()
    order = np.random.default_rng(3).permutation(len(dm.qpoints))
    shuffled = DynamicalMatrices(dm.primitive, dm.dims, dm.qpoints[order] - [1, 2, -1], dm.matrices[order])
    assert np.array_equal(shuffled.matrices, dm.matrices)
    assert shuffled.index([-0.5, 3, 1 / 3]) == dm.index([0.5, 0, 1 / 3])
    with pytest.raises(InputError, match="missing from"):
        DynamicalMatrices(dm.primitive, dm.dims, dm.qpoints[[0, 0, 2, 3, 4, 5]], dm.matrices)
    with pytest.raises(InputError, match="does not lie on"):
        DynamicalMatrices(dm.primitive, dm.dims, dm.qpoints + 0.1, dm.matrices)


def test_matrices_of_no_real_force_constants_are_refused():
    _, fc = build(triclinic, (2, 1, 3))
    dm = fc.dynamical_matrices()
    broken = dm.matrices.copy()
    broken[dm.index([0, 0, 1 / 3])] = np.conj(broken[dm.index([0, 0, 1 / 3])])
    with pytest.raises(InputError, match="break"):
        DynamicalMatrices(dm.primitive, dm.dims, dm.qpoints, broken).force_constants()


def test_interpolation_onto_a_finer_grid_passes_through_the_coarse_one():
    _, fc = build(zincblende, (2, 2, 2))
    coarse = fc.dynamical_matrices()
    fine = coarse.interpolated((4, 4, 4))
    for q, frequencies in zip(coarse.qpoints, coarse.frequencies(), strict=True):
        assert np.allclose(fine.frequencies()[fine.index(q)], frequencies, atol=1e-3)

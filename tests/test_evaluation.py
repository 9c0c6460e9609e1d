"""One container of energies, forces and stresses, and one pair of functions for Voigt's order."""

import numpy as np
import pytest
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from himlip_ase.errors import InputError
from himlip_ase.evaluation import Evaluation, SinglePoint, matrix_from_voigt, voigt_from_matrix


def test_voigt_order_is_that_of_ase():
    generator = np.random.default_rng(0)
    voigt, matrices = generator.normal(size=(4, 6)), generator.normal(size=(4, 3, 3))
    for row, matrix in zip(voigt, matrix_from_voigt(voigt), strict=True):
        assert np.array_equal(matrix, voigt_6_to_full_3x3_stress(row))
    assert np.array_equal(voigt_from_matrix(matrices), full_3x3_to_voigt_6_stress(matrices))
    assert np.array_equal(voigt_from_matrix(matrix_from_voigt(voigt)), voigt)


def test_no_stress_is_none_for_one_and_nan_among_many():
    forces = [np.zeros((2, 3)), np.ones((5, 3))]
    stress = np.arange(6.0)
    mixed = Evaluation.stack([SinglePoint(1.0, forces[0]), (2.0, forces[1], stress)])
    assert np.isnan(mixed.stresses[0]).all() and not mixed.has_stress
    assert mixed[0].stress is None
    assert np.array_equal(mixed[1].stress, stress)
    assert [point.energy for point in mixed] == [1.0, 2.0] and len(mixed) == 2
    assert Evaluation.stack([(2.0, forces[1], np.full(6, np.nan))])[0].stress is None
    assert mixed.take([1]).has_stress and mixed[1:].has_stress
    assert np.array_equal(mixed[np.array([False, True])].energies, [2.0])
    assert Evaluation([1.0], [np.zeros((2, 3))]).stresses.shape == (1, 6)
    again = Evaluation.concatenate([mixed, mixed.take(slice(1))])
    assert np.array_equal(again.energies, [1.0, 2.0, 1.0]) and np.isnan(again.stresses[[0, 2]]).all()


def test_forces_of_equal_sizes_are_one_array():
    forces = np.arange(18.0).reshape(3, 2, 3)
    assert np.array_equal(Evaluation(np.zeros(3), list(forces)).force_array, forces)
    assert np.array_equal(Evaluation(np.zeros(3), forces)[::2].force_array, forces[::2])
    assert Evaluation(np.zeros(0), []).force_array.shape == (0, 0, 3)
    with pytest.raises(InputError, match="2, 5"):
        _ = Evaluation(np.zeros(2), [np.zeros((2, 3)), np.zeros((5, 3))]).force_array


@pytest.mark.parametrize(
    "arguments",
    [
        (np.zeros(2), np.zeros((3, 4, 3))),
        (np.zeros(1), [np.zeros((4, 2))]),
        (np.zeros(1), [np.zeros((4, 3))], np.zeros((1, 3, 3))),
    ],
)
def test_shapes_that_do_not_match_are_refused(arguments):
    with pytest.raises(InputError, match="energies"):
        Evaluation(*arguments)

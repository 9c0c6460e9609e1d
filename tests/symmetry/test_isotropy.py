"""Directions that subgroups single out, for groups whose branches are in every textbook."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from himlip_ase.symmetry.isotropy import singled_out_directions


def cube() -> np.ndarray:
    """All 48 signed permutations."""
    return np.array(
        [
            np.diag(signs)[list(order)].astype(float)
            for order in permutations(range(3))
            for signs in product((1, -1), repeat=3)
        ]
    )


def test_vectors_of_a_cube_have_three_kinds_of_axes():
    found = singled_out_directions(cube())
    kinds = sorted(tuple(np.sort(np.abs(v)).round(6)) for v in found)
    half, third = 0.5**0.5, 3**-0.5
    expected = [(0, 0, 1), (0, half, half), (third, third, third)]
    assert np.allclose(kinds, expected)  # fourfold, twofold, threefold axes; either sign is the same


def test_both_signs_where_no_operation_exchanges_them():
    turn = np.array([[-0.5, -(0.75**0.5)], [0.75**0.5, -0.5]])
    mirror = np.diag([1.0, -1.0])
    group = np.array([np.linalg.matrix_power(turn, k) @ m for k in range(3) for m in (np.eye(2), mirror)])
    found = singled_out_directions(group)  # E of 3m: the vertex and the edge of a triangle
    assert len(found) == 2
    assert all(found[0] @ g @ found[1] < 1 - 1e-6 for g in group)


def test_a_group_without_lines_offers_what_it_leaves():
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    group = np.array([np.linalg.matrix_power(quarter, k) for k in range(4)])
    found = singled_out_directions(group)
    assert len(found) >= 1 and np.allclose(np.linalg.norm(found, axis=1), 1)

"""Φ⁴ acting as an average over configurations against the whole tensor, and the symmetry of both."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from himlip_ase.sscha.curvature.fourth_order import FourthOrder, project
from himlip_ase.sscha.curvature.little_group import GridSymmetry, grid_modes, multiplets
from himlip_ase.sscha.curvature.normal_coordinates import Arms, ensemble_coordinates
from himlip_ase.sscha.curvature.pair_space import PairSpace
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup

from .crystals import CRYSTALS, random_matrices
from .explicit import tensors
from .oscillators import Oscillator
from .test_hessian import SKEW, drawn


def point(distribution, group, q):
    symmetry = GridSymmetry(group, distribution.dynamical.primitive.cell.array, grid_modes(distribution))
    operations = symmetry.operations(q)
    space = PairSpace(symmetry, q, operations)
    return symmetry, space, [space.basis(m) for m in multiplets(symmetry, q, operations)]


@pytest.mark.parametrize("case", CRYSTALS)
def test_bases_are_complete_and_orthonormal(case):
    """Dimensions add up to those of all equivariant maps; no two elements overlap."""
    primitive, dims = CRYSTALS[case]
    distribution = HarmonicDistribution(random_matrices(primitive, dims))
    group = SpaceGroup(distribution.dynamical)
    size = 3 * len(primitive)
    for q in (0, int(np.prod(dims)) - 1):
        _, space, bases = point(distribution, group, q)
        spanned = sum(len(b.multiplet.copies) * b.multiplet.dimension for b in bases)
        assert spanned == size
        seen = sorted(
            k for star in space.stars for m in star.members for k in space._same(int(m))
        )  # every k once
        assert seen == list(range(int(np.prod(dims))))
        for basis in bases:
            for star, tensor in zip(space.stars, basis.tensors, strict=True):
                weighted = tensor * star.copies[:, None, None, None, None]
                overlap = np.einsum("pxydi,pxydj->ij", tensor.conj(), weighted, optimize=True).real
                np.testing.assert_allclose(
                    overlap, basis.multiplet.dimension * np.eye(tensor.shape[-1]), atol=1e-9
                )


def test_action_is_that_of_the_whole_tensor_and_has_its_symmetry():
    """Without crystal symmetry the basis is all pairs: the tensor itself comes back from the action."""
    distribution, ensemble, group = drawn(SKEW, (1, 1, 1), 500.0, 300)
    symmetry, space, (basis,) = point(distribution, group, 0)
    waves = ensemble_coordinates(distribution, symmetry.modes, ensemble, group)
    arms = Arms(waves, symmetry, symmetry.arms(0))
    ((a, s),) = project(arms, space, [1], [basis.tensors], [basis.slices])
    matrix = FourthOrder(a, s, 1).apply(np.eye(basis.size), waves.weights)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    pairs = basis.tensors[0][0, :, :, 0, :].real  # modes, modes, element
    found = np.einsum("abi,ij,cdj->abcd", pairs, matrix, pairs, optimize=True)
    roots = space.weights(space.stars[0])[0]
    moving = roots > 0
    both = moving[:, :, None, None] & moving[None, None]
    found = np.divide(
        found, roots[:, :, None, None] * roots[None, None], out=np.zeros_like(found), where=both
    )
    for order in permutations(range(4)):
        np.testing.assert_allclose(found.transpose(order), found, atol=1e-9 * np.abs(found).max())
    modes = symmetry.modes.vectors[0].real * symmetry.modes.inverse_roots[:, None]
    fourth = tensors(distribution, ensemble, group, subtract_response=True)[1]
    exact = np.einsum("abcd,ai,bj,ck,dl->ijkl", fourth, modes, modes, modes, modes, optimize=True)
    np.testing.assert_allclose(found, exact, atol=1e-10 * np.abs(exact).max())


def test_quartic_bond_has_its_fourth_derivative():
    """V = ½k x² + λ x⁴ on each axis: ∂⁴V/∂x⁴ = 24 λ, whatever the width of the Gaussian."""
    oscillator = Oscillator(k=4.0, g=0.0, quartic=5.0)
    start = oscillator.start(oscillator.scha(0.0)[0])
    distribution, group = HarmonicDistribution(start), SpaceGroup(start)
    values = []
    for seed in range(10):
        ensemble = draw_ensemble(distribution, 2000, np.random.SeedSequence(seed), oscillator)
        fourth = tensors(distribution, ensemble, group, subtract_response=True)[1]
        axes = range(3)
        own = np.mean([fourth[i, i, i, i] - fourth[i, i, i, i + 3] for i in axes]) / 2
        mixed = np.mean([fourth[i, i, j, j] for i in axes for j in axes if i != j])
        values.append([own, mixed])
    mean, error = np.mean(values, axis=0), np.std(values, axis=0, ddof=1) / np.sqrt(10)
    assert error.max() < 0.1 * 24 * 5.0
    assert (np.abs(mean - [24 * 5.0, 0.0]) < 3 * error).all()


def test_several_averages_at_once_are_those_one_by_one():
    generator = np.random.default_rng(0)
    a, s = generator.normal(size=(2, 60, 6, 40))
    order, weights = FourthOrder(a, s, 3), generator.uniform(0.5, 1.5, 60) / 60
    parts = [slice(0, 25), slice(25, 30), slice(30, 60)]
    vectors = generator.normal(size=(4, 40, 2))
    used = [[0, 2], [1], [0, 1, 3]]
    found = order.apply_to_each(vectors, weights, parts, used)
    for number, own in enumerate(vectors):
        mine = [part for part, sets in zip(parts, used, strict=True) if number in sets]
        np.testing.assert_allclose(found[number], order.apply(own, weights, mine), atol=1e-12)
        np.testing.assert_allclose(found[number], order.matrix(weights, mine) @ own, atol=1e-12)

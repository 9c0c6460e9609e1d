"""Labelled cells of any shape, order and origin correct an auxiliary by what the reference asks for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.results.result import History, SschaResult
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.trust.label_correction import Miss, label_correction

from .toy import DIMS, MILD, BondCrystal, cscl

LAYERED = [[1, 0, 0], [0, 2, 0], [0, 0, 2]]
SHEARED = [[1, 1, 0], [1, -1, 0], [0, 0, 2]]
WHOLE = [[2, 0, 0], [0, 2, 0], [0, 0, 2]]


@pytest.fixture(scope="module")
def auxiliary() -> DynamicalMatrices:
    return BondCrystal(cscl(), DIMS, [(6.0, 0.0, 0.0, 0.0), (3.0, 0.0, 0.0, 0.0)]).harmonic()


@pytest.fixture(scope="module")
def result(auxiliary) -> SschaResult:
    shape = auxiliary.frequencies().shape
    nothing = History(**{f.name: np.zeros((0, shape[1])) for f in dataclasses.fields(History)})
    names = [f.name for f in dataclasses.fields(SschaResult) if f.default is dataclasses.MISSING]
    blank = dict.fromkeys(names)
    blank |= {
        "settings": SschaSettings(),
        "auxiliary": auxiliary,
        "auxiliary_sigma_cm": np.zeros(shape),
        "history": nothing,
        "populations": [],
    }
    return SschaResult(**blank)


def asked_for(auxiliary: DynamicalMatrices) -> np.ndarray:
    """A change of Φ(q) with the symmetry of the crystal: ten per cent, and another spring."""
    stiffer = BondCrystal(cscl(), DIMS, [(0.5, 0.0, 0.0, 0.0), (-0.4, 0.0, 0.0, 0.0), (0.7, 0.0, 0.0, 0.0)])
    return stiffer.harmonic().matrices


def cells(auxiliary, change, shape, count, seed) -> tuple[list[Atoms], list[Miss]]:
    """Cells of one shape, atoms in another order and at another origin, with the forces −δΦ u."""
    primitive, rng = auxiliary.primitive, np.random.default_rng(seed)
    small = make_supercell(primitive, shape)
    large = primitive.repeat(DIMS)
    hessian = auxiliary.with_matrices(change).force_constants().hessian(order="ase")
    hessian = hessian.reshape(3 * len(large), 3 * len(large))
    steps = large.positions[:, None] - small.positions[None]
    inside = steps @ np.linalg.inv(small.cell.array)
    owner = np.abs(inside - np.rint(inside)).max(axis=-1).argmin(axis=1)
    first = [int(np.flatnonzero(owner == k)[0]) for k in range(len(small))]
    images, forces = [], []
    for _ in range(count):
        moved = rng.normal(0, 0.05, (len(small), 3))
        moved -= small.get_masses() @ moved / small.get_masses().sum()
        pulled = -(hessian @ moved[owner].ravel()).reshape(-1, 3)[first]
        order = rng.permutation(len(small))
        image = small[order]
        image.positions += moved[order] + [0.7, -0.2, 1.9]
        images.append(image)
        forces.append(Miss(pulled[order]))
    return images, forces


@pytest.mark.parametrize("shapes", [[WHOLE], [LAYERED, SHEARED, WHOLE], [SHEARED, WHOLE]])
def test_a_harmonic_difference_is_found_exactly_from_cells_of_any_shape(auxiliary, result, shapes):
    change = asked_for(auxiliary)
    drawn = [cells(auxiliary, change, shape, 4, seed) for seed, shape in enumerate(shapes)]
    images, forces = ([one for part in parts for one in part] for parts in zip(*drawn, strict=True))
    found = label_correction(result, list(images), list(forces), None)
    assert np.abs(found.auxiliary.matrices - auxiliary.matrices - change).max() < 1e-6 * np.abs(change).max()
    assert found.groups == 4 * len(shapes)
    assert np.abs(found.change_sigma_cm).max() < 1e-3 and np.abs(found.change_cm).max() > 10


def test_the_mean_of_the_judges_is_part_of_the_correction(auxiliary, result):
    """The twins may on average be another potential than the one that made the SSCHA."""
    change = asked_for(auxiliary)
    images, forces = cells(auxiliary, change, WHOLE, 6, 0)
    found = label_correction(result, images, forces, 0.5 * change)
    assert np.abs(found.auxiliary.matrices - auxiliary.matrices - 1.5 * change).max() < 1e-6


def test_an_anharmonic_difference_is_that_of_many_configurations_within_the_error(auxiliary, result):
    reference = BondCrystal(cscl(), DIMS, MILD)
    own = BondCrystal(cscl(), DIMS, [(6.0, 0.0, 0.0, 0.0), (2.0, 0.0, 0.0, 0.0)])
    target = HarmonicDistribution(auxiliary)

    def drawn(count: int, seed: int) -> tuple[list[Atoms], list[Miss]]:
        images = [target.supercell for _ in range(count)]
        for image, moved in zip(images, target.displacements(count, seed, pairs=True), strict=True):
            image.positions += moved
        theirs, mine = reference(images), own(images)
        beyond = zip(theirs.forces - mine.forces, theirs.stresses - mine.stresses, strict=True)
        return images, [Miss(*one) for one in beyond]

    right = label_correction(result, *drawn(160, 1), None)
    few = label_correction(result, *drawn(12, 2), None)
    assert few.groups == 6 and right.groups == 80
    moving = auxiliary.frequencies() > 1
    off = (few.auxiliary.frequencies() - right.auxiliary.frequencies())[moving]
    beyond = np.abs(off) / few.frequencies_sigma_cm[moving]
    assert 0.3 < np.sqrt(np.mean(beyond**2)) < 2.0
    pressures = [one.pressure_gpa or 0.0 for one in (few, right)]
    errors = [one.pressure_sigma_gpa or 0.0 for one in (few, right)]
    assert 0 < abs(pressures[0] - pressures[1]) < 3 * errors[0] and 0 < errors[1] < 0.5 * errors[0]
    assert (right.frequencies_sigma_cm[moving] < few.frequencies_sigma_cm[moving]).mean() > 0.9


def test_what_cannot_correct_is_named(auxiliary, result):
    change = asked_for(auxiliary)
    images, forces = cells(auxiliary, change, LAYERED, 6, 0)
    thin = [make_supercell(auxiliary.primitive, np.diag([1, 1, 2]))] * 6
    rng = np.random.default_rng(0)
    for image in (thin := [one.copy() for one in thin]):
        image.positions += rng.normal(0, 0.05, image.positions.shape)
    with pytest.raises(InputError, match=r"q = \(.*\) is in the labelled cells of 0 independent groups"):
        label_correction(result, thin, [Miss(np.zeros((4, 3)))] * 6, None)
    with pytest.raises(InputError, match="3 independent labelled cells"):
        label_correction(result, images[:3], forces[:3], None)
    odd = make_supercell(auxiliary.primitive, np.diag([1, 1, 3]))
    with pytest.raises(InputError, match="off the 2×2×2 grid"):
        label_correction(result, [*images, odd], [*forces, Miss(np.zeros((6, 3)))], None)
    strained = images[0].copy()
    strained.set_cell(1.03 * strained.cell.array, scale_atoms=True)
    with pytest.raises(InputError, match=r"strained by 3\.0 %"):
        label_correction(result, [*images, strained], [*forces, forces[0]], None)
    other = images[0].copy()
    other.numbers[other.numbers == 16] = 34
    with pytest.raises(InputError, match="is none of the crystal of the SSCHA"):
        label_correction(result, [*images, other], [*forces, forces[0]], None)

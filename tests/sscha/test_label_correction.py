"""Labelled cells of any shape, order and origin correct an auxiliary by what the reference asks for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell

from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.potential.lattice_sites import LatticeSites
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.results.result import History, SschaResult
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.trust.judged_cells import JudgedCell
from himlip_ase.sscha.trust.label_correction import label_correction
from himlip_ase.sscha.trust.potential_error import PotentialError

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


def plain(primitive: Atoms, dims: tuple[int, int, int]) -> DynamicalMatrices:
    """Every atom on a spring of its own, the crystal as a whole on none."""
    n, q = len(primitive), commensurate_qpoints(dims)
    spring = 5 * np.repeat(np.eye(3 * n)[None], len(q), axis=0)
    spring[0] -= 5 * np.kron(np.full((n, n), 1 / n), np.eye(3))
    return DynamicalMatrices(primitive, dims, q, spring)


def asked_for(auxiliary: DynamicalMatrices) -> np.ndarray:
    """A change of Φ(q) with the symmetry of the crystal: ten per cent, and another spring."""
    stiffer = BondCrystal(cscl(), DIMS, [(0.5, 0.0, 0.0, 0.0), (-0.4, 0.0, 0.0, 0.0), (0.7, 0.0, 0.0, 0.0)])
    return stiffer.harmonic().matrices


def cells(auxiliary, change, shape, count, seed, judge=None, push=None) -> list[JudgedCell]:
    """Cells of one shape, atoms in another order and at another origin, with the forces −δΦ u (+ push)."""
    primitive, rng = auxiliary.primitive, np.random.default_rng(seed)
    small = make_supercell(primitive, shape)
    large = primitive.repeat(auxiliary.dims)
    hessian = auxiliary.with_matrices(change).force_constants().hessian(order="ase")
    hessian = hessian.reshape(3 * len(large), 3 * len(large))
    steps = large.positions[:, None] - small.positions[None]
    inside = steps @ np.linalg.inv(small.cell.array)
    owner = np.abs(inside - np.rint(inside)).max(axis=-1).argmin(axis=1)
    first = [int(np.flatnonzero(owner == k)[0]) for k in range(len(small))]
    constant = 0.0 if push is None else np.tile(push, (len(large) // len(primitive), 1))[first]
    found = []
    for k in range(count):
        moved = rng.normal(0, 0.05, (len(small), 3))
        moved -= small.get_masses() @ moved / small.get_masses().sum()
        pulled = -(hessian @ moved[owner].ravel()).reshape(-1, 3)[first] + constant
        order = rng.permutation(len(small))
        image = small[order]
        image.positions += moved[order] + [0.7, -0.2, 1.9]
        found.append(JudgedCell(image, pulled[order], None, judge, f"cell {k} of seed {seed}"))
    return found


@pytest.mark.parametrize("shapes", [[WHOLE], [LAYERED, SHEARED, WHOLE], [SHEARED, WHOLE]])
def test_a_harmonic_difference_is_found_exactly_from_cells_of_any_shape(auxiliary, result, shapes):
    change = asked_for(auxiliary)
    drawn = [cells(auxiliary, change, shape, 4, seed) for seed, shape in enumerate(shapes)]
    found = label_correction(result, [cell for part in drawn for cell in part])
    assert np.abs(found.auxiliary.matrices - auxiliary.matrices - change).max() < 1e-6 * np.abs(change).max()
    assert found.groups == 4 * len(shapes)
    assert np.abs(found.change_sigma_cm).max() < 1e-3 and np.abs(found.change_cm).max() > 10


def twins_of(auxiliary, factors) -> PotentialError:
    """Twins that differ from the potential by multiples of `asked_for`."""
    changes = np.array([factor * asked_for(auxiliary) for factor in factors])
    nothing = np.zeros((len(factors), len(auxiliary.primitive), 3))
    return PotentialError(auxiliary, changes, nothing, None, 20)


def test_what_a_judge_changes_is_added_to_its_own_cells(auxiliary, result):
    """Whatever twins judge which cells, of whatever shape, all speak of the potential of the SSCHA."""
    change = asked_for(auxiliary)
    drawn = cells(auxiliary, 0.5 * change, WHOLE, 6, 0, judge=0)  # off by half of it, twin 0 has the rest
    drawn += cells(auxiliary, 1.5 * change, LAYERED, 4, 1, judge=1)
    drawn += cells(auxiliary, change, SHEARED, 2, 2)  # never learnt, judged by the potential
    found = label_correction(result, drawn, twins_of(auxiliary, [0.5, -0.5]))
    assert np.abs(found.auxiliary.matrices - auxiliary.matrices - change).max() < 1e-6
    assert found.change_sigma_cm.max() < 1e-3
    with pytest.raises(InputError, match="twins judged labelled cells"):
        label_correction(result, drawn, twins_of(auxiliary, [0.5]))


def test_a_repeated_cell_counts_as_what_it_is(auxiliary, result):
    """A displacement at Γ says as much in a small cell as in a large one, however often it is repeated."""
    change = asked_for(auxiliary)
    large = cells(auxiliary, change, WHOLE, 60, 0)
    small = cells(auxiliary, np.zeros_like(change), [[1, 0, 0], [0, 1, 0], [0, 0, 2]], 60, 1)
    found = label_correction(result, large + small)
    share = np.vdot(change[0], found.auxiliary.matrices[0] - auxiliary.matrices[0]).real
    assert share / np.vdot(change[0], change[0]).real == pytest.approx(0.5, abs=0.15)


def test_a_constant_force_on_a_free_coordinate_is_no_part_of_the_change(result):
    """Along z the spacing of the layers is free: forces there do not vanish on average."""
    primitive = Atoms("HLi", cell=[3.0, 3.0, 3.6], positions=[[0, 0, 0], [1.5, 1.5, 1.6]], pbc=True)
    layered = plain(primitive, DIMS)
    free = dataclasses.replace(
        result, auxiliary=layered, auxiliary_sigma_cm=np.zeros(layered.frequencies().shape)
    )
    change = 0.2 * layered.matrices
    push = np.array([[0.0, 0.0, 0.3], [0.0, 0.0, -0.3]])
    found = label_correction(free, cells(layered, change, WHOLE, 6, 0, push=push))
    assert np.abs(found.auxiliary.matrices - layered.matrices - change).max() < 1e-5
    np.testing.assert_allclose(found.force, push, atol=1e-5)
    # opposites about another spacing of the layers than that of the SSCHA are opposites still
    pairs = []
    for cell in cells(layered, change, WHOLE, 5, 1):
        placement = LatticeSites(primitive).place(
            cell.atoms.positions, cell.atoms.numbers, cell.atoms.cell.array
        )
        moved = cell.atoms.positions - placement.places
        spacing = 0.05 * np.where(cell.atoms.numbers == 3, 1, -1)[:, None] * [0, 0, 1]
        for sign in (1, -1):
            atoms = cell.atoms.copy()
            atoms.positions = placement.places + spacing + sign * moved
            forces = sign * cell.forces
            pairs.append(JudgedCell(atoms, forces, source=f"{cell.source}, {sign}"))
    assert label_correction(free, pairs).groups == 5
    bound = label_correction(result, cells(result.auxiliary, asked_for(result.auxiliary), WHOLE, 6, 0))
    assert bound.force is None


def test_a_crystal_of_one_atom_per_cell(result):
    """At Γ it has no modes but translations."""
    primitive = Atoms("Al", cell=[[0, 2, 2], [2, 0, 2], [2, 2, 0]], pbc=True)
    metal = BondCrystal(primitive, DIMS, [(2.0, 0.0, 0.0, 0.0)]).harmonic()
    single = dataclasses.replace(
        result, auxiliary=metal, auxiliary_sigma_cm=np.zeros(metal.frequencies().shape)
    )
    found = label_correction(single, cells(metal, 0.1 * metal.matrices, WHOLE, 6, 0))
    np.testing.assert_allclose(found.auxiliary.frequencies(), metal.frequencies() * 1.1**0.5, atol=1e-3)


def test_changed_modes_stand_beside_their_own(auxiliary, result):
    """A mode that passes another one takes its name along."""
    _, vectors = auxiliary.eigen()
    change = asked_for(auxiliary)
    found = label_correction(result, cells(auxiliary, -1.5 * change, WHOLE, 8, 0))
    exact = auxiliary.with_matrices(auxiliary.matrices - 1.5 * change)
    for q in range(len(vectors)):
        overlap = np.abs(vectors[q].conj().T @ exact.eigen()[1][q]) ** 2
        for mode in np.flatnonzero(overlap.max(axis=1) > 0.9):
            partner = overlap[mode].argmax()
            assert abs(found.frequencies_cm[q, mode] - exact.frequencies()[q, partner]) < 0.1


def test_an_anharmonic_difference_is_that_of_many_configurations_within_the_error(auxiliary, result):
    reference = BondCrystal(cscl(), DIMS, MILD)
    own = BondCrystal(cscl(), DIMS, [(6.0, 0.0, 0.0, 0.0), (2.0, 0.0, 0.0, 0.0)])
    target = HarmonicDistribution(auxiliary)

    def drawn(count: int, seed: int) -> list[JudgedCell]:
        images = [target.supercell for _ in range(count)]
        for image, moved in zip(images, target.displacements(count, seed, pairs=True), strict=True):
            image.positions += moved
        theirs, mine = reference(images), own(images)
        beyond = zip(images, theirs.forces - mine.forces, theirs.stresses - mine.stresses, strict=True)
        return [JudgedCell(*one) for one in beyond]

    right = label_correction(result, drawn(160, 1))
    few = label_correction(result, drawn(12, 2))
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
    drawn = cells(auxiliary, change, LAYERED, 6, 0)
    with pytest.raises(InputError, match=r"q = \(.*\) is in the labelled cells of 0 independent groups"):
        label_correction(result, cells(auxiliary, change, np.diag([1, 1, 2]), 6, 0))
    with pytest.raises(InputError, match="no labelled cell is left"):
        label_correction(result, [])
    with pytest.raises(InputError, match="3 independent labelled cells"):
        label_correction(result, drawn[:3])
    twice = drawn[1].atoms[::-1]
    twice.positions += 0.3 * auxiliary.primitive.cell.array[0]
    same = dataclasses.replace(drawn[1], atoms=twice, forces=drawn[1].forces[::-1], source="the copy")
    with pytest.raises(InputError, match="cell 1 of seed 0 and the copy are one cell"):
        label_correction(result, [*drawn, same])
    opposite = drawn[1].atoms.copy()
    small = make_supercell(auxiliary.primitive, LAYERED)
    placement = LatticeSites(auxiliary.primitive).place(
        opposite.positions, opposite.numbers, small.cell.array
    )
    opposite.positions = 2 * placement.places - opposite.positions
    other_judge = dataclasses.replace(drawn[1], atoms=opposite, judge=0, source="the opposite")
    with pytest.raises(InputError, match="cell 1 of seed 0 and the opposite are opposites or repetitions"):
        label_correction(result, [*drawn, other_judge], twins_of(auxiliary, [0.0]))
    forward = dataclasses.replace(other_judge, judge=None, forces=-drawn[1].forces)
    again = dataclasses.replace(forward, source="the opposite again")
    with pytest.raises(InputError, match="the opposite and the opposite again are one cell"):
        label_correction(result, [*drawn, forward, again])
    odd = make_supercell(auxiliary.primitive, np.diag([1, 1, 3]))
    with pytest.raises(InputError, match="off the 2×2×2 grid"):
        label_correction(result, [*drawn, JudgedCell(odd, np.zeros((6, 3)))])
    strained, other = drawn[0].atoms.copy(), drawn[0].atoms.copy()
    strained.set_cell(1.03 * strained.cell.array, scale_atoms=True)
    with pytest.raises(InputError, match=r"cell 0 of seed 0 .* is strained by 3\.0 %"):
        label_correction(result, [*drawn, dataclasses.replace(drawn[0], atoms=strained)])
    other.numbers[other.numbers == 16] = 34
    with pytest.raises(InputError, match=r"cell 0 of seed 0 .* is no cell of the crystal of the SSCHA"):
        label_correction(result, [*drawn, dataclasses.replace(drawn[0], atoms=other)])


def test_cells_that_leave_a_direction_open_are_refused(result):
    """Without symmetry three cells cannot fix 12×12 numbers at each q; the message says how many would."""
    rng = np.random.default_rng(3)
    cell = 4.0 * np.eye(3) + rng.normal(0, 0.3, (3, 3))
    primitive = Atoms("HLiBeN", cell=cell, scaled_positions=rng.uniform(0, 1, (4, 3)), pbc=True)
    sprung = plain(primitive, (2, 1, 1))
    bare = dataclasses.replace(result, auxiliary=sprung, auxiliary_sigma_cm=np.zeros((2, 12)))
    change, shape = 0.1 * sprung.matrices, np.diag([2, 1, 1])
    drawn = cells(sprung, change, shape, 14, 0)
    with pytest.raises(InputError, match=r"q = \(0\.5, 0, 0\): of 12 directions 7 .* label about 5 more"):
        label_correction(bare, drawn[:8])
    found = label_correction(bare, drawn)
    assert np.abs(found.auxiliary.matrices - 1.1 * sprung.matrices).max() < 1e-4

"""Force constants and third-order constants from products, with and without symmetry."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from phonopy import Phonopy
from phonopy.physical_units import get_calculator_physical_units

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.exact import exact_force_constants, fill_phonopy
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, to_phonopy_atoms
from himlip_ase.symmetry.irreducible import residuals
from himlip_ase.symmetry.operations import crystal_operations

from ..potential.zoo import A, h3s, rattled, small_model, tiny


def conventional() -> Atoms:
    """The same crystal with two lattice points in the cell."""
    sites = [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    sites += [[x + 0.5 for x in site] for site in sites]
    return Atoms("SH3SH3", cell=[A] * 3, scaled_positions=sites, pbc=True)


def labelled() -> Atoms:
    """Magnetic moments, tags and an isotope, none of which the energy depends on."""
    atoms = h3s()
    atoms.set_initial_magnetic_moments([0.0, 1.0, -1.0, 0.5])
    atoms.set_tags([0, 1, 2, 3])
    atoms.set_masses([31.97, 1.008, 2.014, 1.008])
    return atoms


def hexagonal() -> Atoms:
    """A hexagonal close-packed crystal, non-symmorphic."""
    return Atoms(
        "S2",
        cell=[[2.5, 0, 0], [-1.25, 2.5 * 3**0.5 / 2, 0], [0, 0, 4.1]],
        scaled_positions=[[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]],
        pbc=True,
    )


CRYSTALS = {
    # cell, supercell, products with symmetry
    "H3S": (h3s, (2, 2, 2), 2),
    "supercell that breaks the cubic symmetry": (h3s, (2, 1, 1), 4),
    "conventional cell": (conventional, (1, 1, 2), 3),
    "labelled": (labelled, (1, 1, 2), 4),
    "hexagonal, glide planes": (hexagonal, (2, 2, 1), 1),
    "triclinic": (tiny, (2, 1, 2), 3),
    "no symmetry": (partial(rattled, h3s()), (2, 1, 1), 12),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_symmetric_rows_are_those_of_the_dense_hessian(name: str) -> None:
    build, dims, products = CRYSTALS[name]
    atoms = build()
    calc = HiMLIPCalculator(small_model())
    calls: list[int] = []

    def counted(structure: Atoms, vectors: np.ndarray) -> np.ndarray:
        calls.append(len(vectors))
        return calc.hessian_vector_product(structure, vectors)

    constants, report = exact_force_constants(atoms, dims, counted)
    dense = calc.get_hessian(constants.supercell)
    scale = np.abs(dense).max()
    assert scale > 0.1
    assert np.abs(constants.hessian() - dense).max() < 1e-9 * max(scale, 1)
    assert report.products == sum(calls) == products
    assert report.without_symmetry == 3 * len(atoms)
    assert max(report.sum_rule, report.asymmetry) < 1e-9 * max(scale, 1) and not report.fallback
    assert report.sum_rule == pytest.approx(constants.acoustic_sum_rule_violation(), abs=1e-13)
    assert np.array_equal(constants.primitive.get_masses(), atoms.get_masses())
    assert np.array_equal(calc.get_force_constants(atoms, dims).compact, constants.compact)
    rows = calc.get_force_constants(atoms, dims, symmetry=False)
    assert np.abs(rows.compact - constants.compact).max() < 1e-9 * max(scale, 1)


def test_choice_of_cell_order_and_image_does_not_matter() -> None:
    calc = HiMLIPCalculator(small_model())
    qpoints = np.random.default_rng(0).uniform(size=(4, 3))
    reference = calc.get_force_constants(h3s()).frequencies(qpoints)
    other = h3s()[[2, 0, 3, 1]]
    other.positions += [[0, 0, 0], [A, 0, 0], [0, -A, A], [0, 0, 0]]
    other.positions += [0.3, -0.2, 5.1]
    assert np.abs(calc.get_force_constants(other).frequencies(qpoints) - reference).max() < 1e-5


@pytest.mark.parametrize(("off", "fallback"), [(1e-8, False), (3e-6, True)])
def test_slightly_broken_symmetry_is_measured_and_given_up(
    off: float, fallback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    atoms = h3s()
    atoms.positions[1] += off * np.array([1.0, 0.3, -0.5])
    calc = HiMLIPCalculator(small_model())
    constants, report = exact_force_constants(atoms, (2, 2, 2), calc.hessian_vector_product)
    dense = calc.get_force_constants(atoms, symmetry=False)
    error = np.abs(constants.compact - dense.compact).max()
    assert report.check is not None and report.deviation > 0.1 * off
    warned = any(record.levelno >= logging.WARNING for record in caplog.records)
    assert report.fallback is fallback and warned is fallback
    assert error < 1e-9 if fallback else error < report.check
    if not fallback:
        assert report.check < 1e-5


def test_residuals_see_what_is_wrong() -> None:
    calc = HiMLIPCalculator(small_model())
    constants = calc.get_force_constants(h3s(), (2, 1, 1))
    operations = crystal_operations(h3s(), (2, 1, 1))
    assert max(residuals(constants.compact, operations)) < 1e-9
    wrong = constants.compact.copy()
    wrong[1, 5, 0, 2] += 0.5
    assert residuals(wrong, operations) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("matrix", "primitive"),
    [([1, 1, 2], "auto"), ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], "I"), ([1, 2, 1], "P")],
)
def test_case_A2_phonopy_objects_of_any_cells(matrix: list, primitive: str) -> None:
    calc = HiMLIPCalculator(small_model())
    phonopy = Phonopy(to_phonopy_atoms(conventional()), matrix, primitive_matrix=primitive)
    taken = []

    def products(atoms, vectors):
        taken.append(len(vectors))
        return calc.hessian_vector_product(atoms, vectors)

    fill_phonopy(phonopy, products)
    supercell = from_phonopy_atoms(phonopy.supercell)
    dense = calc.get_hessian(supercell).transpose(0, 2, 1, 3)[phonopy.primitive.p2s_map]
    assert np.abs(phonopy.force_constants - dense).max() < 1e-9
    assert sum(taken) <= 6
    assert phonopy.dataset is None  # nothing that could be taken for calculated forces


@pytest.mark.parametrize("calculator", ["qe", "abinit", "cp2k"])
def test_case_A2_phonopy_objects_in_the_units_of_their_calculator(calculator: str) -> None:
    calc = HiMLIPCalculator(small_model())
    plain = Phonopy(to_phonopy_atoms(h3s()), [2, 1, 1], primitive_matrix="P")
    fill_phonopy(plain, calc.hessian_vector_product)
    cell = to_phonopy_atoms(h3s())
    cell.cell = np.asarray(cell.cell) / get_calculator_physical_units(calculator).distance_to_A
    other = Phonopy(cell, [2, 1, 1], primitive_matrix="P", calculator=calculator)
    other.generate_displacements(distance=0.02)
    other.forces = np.zeros((len(other.displacements), len(other.supercell), 3))
    given = other.dataset
    fill_phonopy(other, calc.hessian_vector_product)
    qpoints = [[0.1, 0.2, 0.3], [0, 0, 0.5]]
    both = [np.asarray(ph.run_qpoints(qpoints).frequencies) for ph in (plain, other)]
    assert np.abs(both[0] - both[1]).max() < 1e-3 * np.abs(both[0]).max()
    assert other.dataset is given and np.abs(other.forces).max() == 0


def test_refusals() -> None:
    calc = HiMLIPCalculator(small_model())
    slab = h3s()
    slab.set_pbc([True, True, False])
    with pytest.raises(InputError, match="pbc"):
        exact_force_constants(slab, (1, 1, 1), calc.hessian_vector_product)
    with pytest.raises(InputError, match="symprec"):
        calc.get_force_constants(h3s(), symprec=0.0)
    with pytest.raises(CalculationError, match="non-finite"):
        exact_force_constants(h3s(), (1, 1, 1), lambda structure, vectors: vectors * np.nan)

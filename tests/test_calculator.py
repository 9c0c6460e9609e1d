"""The calculator as ASE and its users handle it."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from ase.optimize import BFGS

import himlip_ase
from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError

from .potential.zoo import h2s, h3s, rattled, slab, small_model


@pytest.fixture
def calc() -> HiMLIPCalculator:
    return HiMLIPCalculator(small_model(), device="cpu")


@pytest.fixture
def atoms(calc: HiMLIPCalculator) -> Atoms:
    crystal = rattled(h3s())
    crystal.calc = calc
    return crystal


def close(first, second, tolerance: float = 1e-12) -> bool:
    return bool(np.abs(np.asarray(first) - second).max() <= tolerance * max(1.0, np.abs(second).max()))


# -- names and shapes -----------------------------------------------------------------------------------


def test_public_names() -> None:
    assert himlip_ase.__version__[0].isdigit()
    assert himlip_ase.load_model.__name__ == "load_model"
    with pytest.raises(AttributeError):
        _ = himlip_ase.nothing_of_this_name


def test_properties_and_shapes(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    assert isinstance(atoms.get_potential_energy(), float)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert atoms.get_forces().shape == (4, 3) and atoms.get_stress().shape == (6,)
    assert calc.get_hessian(atoms).shape == (4, 3, 4, 3)
    assert np.array_equal(calc.get_property("hessian", atoms), calc.get_hessian(atoms))
    assert set(calc.results) <= {"energy", "free_energy", "forces", "stress"}
    result = calc.evaluate([atoms, h2s()])
    assert result.energies[0] == pytest.approx(atoms.get_potential_energy(), rel=1e-13)
    assert [len(forces) for forces in result.forces] == [4, 3]


def test_first_and_second_order_agree_with_finite_displacements(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    hessian, step = calc.get_hessian(atoms), 1e-4
    for atom, axis in ((0, 0), (3, 2)):
        forces = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = calc
            moved.positions[atom, axis] += sign * step
            forces.append(moved.get_forces())
        assert close((forces[1] - forces[0]) / (2 * step), hessian[atom, axis], 1e-5)


def test_wrong_arguments_say_what_is_allowed(calc: HiMLIPCalculator, atoms: Atoms) -> None:
    with pytest.raises(InputError, match="float32"):
        HiMLIPCalculator(small_model(), dtype="float16")
    with pytest.raises(InputError, match="Pass atoms"):
        calc.get_hessian()
    for bad in ([4], [-5], [0.5], [[0]], [True, False, True, False]):
        with pytest.raises(InputError, match="indices"):
            calc.get_hessian(atoms, indices=bad)
    for bad in (np.ones((3, 3)), np.ones(12), np.full((4, 3), np.nan)):
        with pytest.raises(InputError):
            calc.hessian_vector_product(atoms, bad)
    with pytest.raises(PropertyNotImplementedError):
        calc.get_property("magmoms", atoms)


# -- caches ---------------------------------------------------------------------------------------------


def test_moving_an_atom_recomputes_everything(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    energy, forces, hessian = atoms.get_potential_energy(), atoms.get_forces(), calc.get_hessian(atoms)
    atoms.positions[1, 0] += 0.02
    fresh = HiMLIPCalculator(small_model(), device="cpu")
    assert atoms.get_potential_energy() != energy
    assert not close(atoms.get_forces(), forces, 1e-6) and not close(calc.get_hessian(atoms), hessian, 1e-6)
    assert atoms.get_potential_energy() == fresh.get_property("energy", atoms)
    assert close(calc.get_hessian(atoms), fresh.get_hessian(atoms))


@pytest.mark.parametrize("change", ["cell", "pbc", "numbers"])
def test_hessian_follows_other_changes(atoms: Atoms, calc: HiMLIPCalculator, change: str) -> None:
    before = calc.get_hessian(atoms)
    if change == "cell":
        atoms.set_cell(atoms.cell.array * 1.02)
    elif change == "pbc":
        atoms.set_pbc([True, True, False])
    else:
        atoms.numbers[[0, 1]] = atoms.numbers[[1, 0]]
    after = calc.get_hessian(atoms)
    assert not close(after, before, 1e-6)
    assert close(after, HiMLIPCalculator(small_model()).get_hessian(atoms))


def test_energy_hessian_forces_in_any_order(atoms: Atoms) -> None:
    def collect(order: str) -> dict[str, np.ndarray]:
        calc, found = HiMLIPCalculator(small_model()), {}
        for letter in order:
            name = {"e": "energy", "f": "forces", "h": "hessian", "s": "stress"}[letter]
            found[letter] = np.asarray(calc.get_property(name, atoms))
        return found

    reference = collect("efsh")
    for order in ("hefs", "fhse", "shfe"):
        for letter, value in collect(order).items():
            assert np.array_equal(value, reference[letter])


def test_a_hessian_of_one_structure_does_not_disturb_the_energy_of_another(
    atoms: Atoms, calc: HiMLIPCalculator
) -> None:
    energy = atoms.get_potential_energy()
    calc.get_hessian(h2s())
    assert atoms.get_potential_energy() == energy
    assert calc.get_property("energy", h2s()) != energy


def test_returned_arrays_are_copies(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    forces, stress, hessian = atoms.get_forces(), atoms.get_stress(), calc.get_hessian(atoms)
    expected = [forces.copy(), stress.copy(), hessian.copy()]
    for array in (forces, stress, hessian):
        array[:] = 7
    assert np.array_equal(atoms.get_forces(), expected[0]) and np.array_equal(atoms.get_stress(), expected[1])
    assert np.array_equal(calc.get_hessian(atoms), expected[2])


def test_known_rows_are_not_computed_again(
    atoms: Atoms, calc: HiMLIPCalculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import himlip_ase.calculator as module

    asked, true_function = [], module.hessian

    def counted(model, atoms, indices, **options):
        asked.append(list(indices))
        return true_function(model, atoms, indices, **options)

    monkeypatch.setattr(module, "hessian", counted)
    some = calc.get_hessian(atoms, indices=[-1, 0])
    full = calc.get_hessian(atoms)
    calc.get_hessian(atoms)
    assert asked == [[0, 3], [1, 2]]
    assert np.array_equal(some, full[[3, 0]])
    assert calc.get_hessian(atoms, indices=[]).shape == (0, 3, 4, 3)


def test_hessian_is_not_calculated_where_that_is_not_allowed(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    assert calc.get_property("hessian", atoms, allow_calculation=False) is None
    calc.get_hessian(atoms)
    assert calc.get_property("hessian", atoms, allow_calculation=False) is not None


def test_training_the_model_further_does_not_change_the_calculator(atoms: Atoms) -> None:
    model = copy.deepcopy(small_model())
    calc = HiMLIPCalculator(model)
    energy = calc.get_property("energy", atoms)
    model.energy_scale.mul_(3)
    calc.reset()
    assert calc.get_property("energy", atoms) == energy


# -- structures -----------------------------------------------------------------------------------------


def test_constraints_are_ignored(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    forces, hessian = atoms.get_forces(), calc.get_hessian(atoms)
    atoms.set_constraint(FixAtoms([0, 2]))
    assert np.array_equal(atoms.get_forces(apply_constraint=False), forces)
    assert np.array_equal(HiMLIPCalculator(small_model()).get_hessian(atoms), hessian)


def test_a_charge_is_refused_also_after_a_calculation(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    atoms.info["charge"] = 0
    atoms.get_potential_energy()
    calc.get_hessian(atoms)
    atoms.info["charge"] = 1
    calls = (
        atoms.get_potential_energy,
        atoms.get_forces,
        lambda: calc.get_hessian(atoms),
        lambda: calc.evaluate([atoms]),
        lambda: calc.hessian_vector_product(atoms, np.ones((4, 3))),
        lambda: calc.get_force_constants(atoms),
    )
    for call in calls:
        with pytest.raises(InputError, match="charge"):
            call()


def test_every_way_to_say_a_charge_is_refused(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    """As in labels; partial charges that add up to zero are none."""
    n = len(atoms)
    atoms.set_initial_charges([0.4, -0.4] + (n - 2) * [0.0])
    assert np.isfinite(atoms.get_potential_energy())
    atoms.set_initial_charges([1.0] + (n - 1) * [0.0])
    with pytest.raises(InputError, match=r"sum of initial charges = 1\.0"):
        atoms.get_potential_energy()
    atoms.set_initial_charges(n * [0.0])
    atoms.info["total_charge"] = -1
    with pytest.raises(InputError, match=r"info\['total_charge'\] = -1"):
        calc.get_hessian(atoms)


@pytest.mark.parametrize("build", [slab, h2s, lambda: Atoms("H")])
def test_stress_needs_a_volume(build) -> None:
    structure = build()
    structure.calc = HiMLIPCalculator(small_model())
    assert np.isfinite(structure.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError, match="pbc"):
        structure.get_stress()


def test_a_failed_calculation_leaves_nothing_behind(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    energy = atoms.get_potential_energy()
    broken = atoms.copy()
    broken.positions[0] = np.nan
    with pytest.raises(InputError, match="atom 0"):
        calc.get_property("energy", broken)
    with pytest.raises(InputError, match="atom 0"):
        calc.get_hessian(broken)
    assert atoms.get_potential_energy() == energy
    assert np.isfinite(calc.get_hessian(atoms)).all()


def test_isolated_atom_is_a_constant(calc: HiMLIPCalculator) -> None:
    atom = Atoms("S", positions=[[4, 5, 6]])
    assert np.array_equal(calc.get_property("forces", atom), np.zeros((1, 3)))
    assert np.array_equal(calc.get_hessian(atom), np.zeros((1, 3, 1, 3)))


# -- second order ---------------------------------------------------------------------------------------


def test_a_flat_hessian_is_the_matrix_of_all_coordinates(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    hessian = calc.get_hessian(atoms)
    flat = calc.get_hessian(atoms, flat=True)
    n = len(atoms)
    assert flat.shape == (3 * n, 3 * n)
    assert np.allclose(flat, flat.T, rtol=0, atol=1e-9)
    step = np.random.default_rng(0).normal(size=(n, 3))
    assert close(flat @ step.ravel(), np.einsum("iajb,jb->ia", hessian, step).ravel(), 1e-10)
    assert np.array_equal(calc.get_hessian(atoms, indices=[2, 0], flat=True)[3:6], flat[:3])
    assert calc.get_hessian(atoms, indices=[], flat=True).shape == (0, 3 * n)


def test_products_are_those_of_the_hessian(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 4, 3))
    expected = np.einsum("iajb,kjb->kia", calc.get_hessian(atoms), vectors)
    assert close(calc.hessian_vector_product(atoms, vectors), expected)
    assert close(calc.hessian_vector_product(atoms, vectors[1]), expected[1])
    assert calc.hessian_vector_product(atoms, vectors[:0]).shape == (0, 4, 3)


def test_many_products_are_taken_in_batches(calc, atoms, monkeypatch: pytest.MonkeyPatch) -> None:
    import himlip_ase.potential.products as module

    vectors = np.random.default_rng(0).normal(size=(7, 4, 3))
    whole = calc.hessian_vector_product(atoms, vectors)
    monkeypatch.setattr(module, "RECORD_ATOMS", 8)
    assert close(calc.hessian_vector_product(atoms, vectors), whole)


def test_float32_gives_a_float64_hessian(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    single = HiMLIPCalculator(small_model(), dtype="float32")
    energy, forces = single.get_property("energy", atoms), single.get_property("forces", atoms)
    assert 0 < np.abs(forces - atoms.get_forces()).max() < 1e-3
    assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-5)
    assert single.get_hessian(atoms).dtype == np.float64
    assert close(single.get_hessian(atoms), calc.get_hessian(atoms), 1e-13)


@pytest.mark.parametrize("dims", [(1, 1, 1), (2, 1, 3), (2, 2, 2)])
def test_force_constants_by_symmetry_are_all_rows(calc: HiMLIPCalculator, dims) -> None:
    crystal = h3s()
    symmetric = calc.get_force_constants(crystal, dims)
    rows = calc.get_force_constants(crystal, dims, symmetry=False)
    assert close(symmetric.compact, rows.compact, 1e-10)
    assert rows.acoustic_sum_rule_violation() < 1e-11 * np.abs(rows.compact).max()


def test_force_constants_are_rows_of_the_supercell_hessian(calc: HiMLIPCalculator) -> None:
    from himlip_ase.phonons.force_constants import ForceConstants

    crystal, dims = h3s(), (2, 1, 2)
    fc = calc.get_force_constants(crystal, dims)
    expected = ForceConstants.from_hessian(crystal, dims, calc.get_hessian(crystal * dims), order="ase")
    assert close(fc.compact, expected.compact, 1e-10)


def test_only_symmetry_independent_products_are_taken(calc, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, true_method = [], HiMLIPCalculator.hessian_vector_product

    def counted(self, atoms, v):
        counts.append(len(v))
        return true_method(self, atoms, v)

    monkeypatch.setattr(HiMLIPCalculator, "hessian_vector_product", counted)
    calc.get_force_constants(h3s(), (2, 2, 2))
    assert len(counts) == 1 and counts[0] <= 3


def test_force_constants_of_a_crystal_without_symmetry(calc: HiMLIPCalculator, atoms: Atoms) -> None:
    fc = calc.get_force_constants(atoms, (2, 1, 1))
    rows = calc.get_force_constants(atoms, (2, 1, 1), symmetry=False)
    assert close(fc.compact, rows.compact, 1e-10)
    with pytest.raises(InputError, match="pbc"):
        calc.get_force_constants(slab())


# -- as an object ---------------------------------------------------------------------------------------


def test_copies_pickles_sums_and_exports(atoms: Atoms, calc: HiMLIPCalculator) -> None:
    energy = atoms.get_potential_energy()
    calc.get_hessian(atoms)
    for other in (copy.deepcopy(calc), pickle.loads(pickle.dumps(calc))):
        other.reset()
        assert other.get_property("energy", atoms) == energy
        assert close(other.get_hessian(atoms), calc.get_hessian(atoms), 1e-14)
    assert calc.export_properties()["energy"] == energy
    double = SumCalculator([calc, copy.deepcopy(calc)])
    assert double.get_property("energy", atoms) == pytest.approx(2 * energy)
    assert close(double.get_property("stress", atoms), 2 * atoms.get_stress())


def test_results_survive_a_file(atoms: Atoms, calc: HiMLIPCalculator, tmp_path) -> None:
    atoms.get_stress()
    calc.get_hessian(atoms)
    for name in ("a.extxyz", "a.traj", "a.json"):
        write(tmp_path / name, atoms)
        again = read(tmp_path / name)
        assert again.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
        assert close(again.get_forces(), atoms.get_forces(), 1e-7)


def test_relaxation_lowers_the_energy(atoms: Atoms) -> None:
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=5)
    assert atoms.get_potential_energy() < before


def test_case_A4_threads_on_one_calculator_get_their_own_results(calc: HiMLIPCalculator) -> None:
    frames = [rattled(h3s(), 0.05, seed) for seed in range(6)]
    right = [HiMLIPCalculator(small_model()).get_hessian(atoms) for atoms in frames]
    energies = [HiMLIPCalculator(small_model()).get_property("energy", atoms) for atoms in frames]
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(calc.get_hessian, frames))
            values = list(pool.map(lambda atoms: calc.get_property("energy", atoms), frames))
        assert all(close(one, two, 1e-10) for one, two in zip(found, right, strict=True))
        assert values == pytest.approx(energies, abs=1e-9)
        for atoms, hessian in zip(frames, right, strict=True):
            assert close(calc.get_hessian(atoms), hessian, 1e-10)


def test_case_A5_energies_in_single_precision_are_summed_in_double() -> None:
    """Elements of hundreds of eV: a step that costs 1e-4 eV is seen among 256 atoms."""
    model = small_model()
    model.energy_shift += torch.tensor([-13.6, -300.0], dtype=torch.float64)
    crystal = rattled(h3s().repeat((4, 4, 4)), 0.03)
    changes = []
    for dtype in ("float64", "float32"):
        calc = HiMLIPCalculator(model, dtype=dtype)
        energies = []
        for step in (-1, 1):
            moved = crystal.copy()
            moved.positions[5, 0] += step * 1e-3
            energies.append(calc.get_property("energy", moved))
        assert energies[0] < -10_000
        changes.append(energies[1] - energies[0])
    assert abs(changes[1] - changes[0]) < 5e-5
    assert copy.deepcopy(model).to(torch.float32).energy_shift.dtype == torch.float64


def test_case_A6_settings_of_a_calculator_are_not_changed_behind_its_back(calc: HiMLIPCalculator) -> None:
    known = dict(calc.parameters)
    assert calc.set(skin=0.0) == {}
    with pytest.raises(InputError, match="HiMLIPCalculator"):
        calc.set(dtype="float32", skin=0.5)
    with pytest.raises(InputError, match="charge"):
        calc.set(charge=1)
    assert calc.parameters == known


@pytest.mark.parametrize("device", ["cuda:97", "gpu", "meta-cpu"])
def test_a_device_that_is_not_there_is_one_sentence(device: str) -> None:
    with pytest.raises(InputError, match="device"):
        HiMLIPCalculator(small_model(), device=device)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, False)])
def test_case_A1_slabs_and_molecules_have_no_force_constants(calc: HiMLIPCalculator, pbc) -> None:
    from himlip_ase.phonons import ForceConstants, harmonic_force_constants

    slab = h3s()
    slab.pbc = pbc
    refusals = (
        lambda: calc.get_force_constants(slab, (1, 1, 1)),
        lambda: harmonic_force_constants(slab, calc, (1, 1, 1)),
        lambda: ForceConstants(slab, (1, 1, 1), np.zeros((4, 4, 3, 3))),
    )
    for refused in refusals:
        with pytest.raises(InputError, match="himlip hessian"):
            refused()


def test_case_A1_modes_of_a_slab_do_not_depend_on_its_empty_direction(calc: HiMLIPCalculator) -> None:
    from himlip_ase.vibrations import normal_modes

    frequencies = []
    for height in (12.0, 6.0, 1.0):
        slab = Atoms("SHHH", positions=[[0, 0, 0], [1.5, 0, 0.1], [0, 1.5, 0], [0.1, 0, 1.5]])
        slab.cell, slab.pbc = [3.0, 3.0, height], [True, True, False]
        frequencies.append(normal_modes(slab, calc.get_hessian(slab)).frequencies)
    assert close(frequencies[0], frequencies[1], 1e-9) and close(frequencies[0], frequencies[2], 1e-9)

"""Point groups of molecules, and Hessians made with them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.symmetry.irreducible import orbits
from himlip_ase.symmetry.irreducible_hessian import symmetric_hessian
from himlip_ase.symmetry.point_groups import (
    is_linear,
    point_group_operations,
    rotational_symmetry_number,
)

from ..potential.zoo import small_model
from ..vibrations.molecules import GROUPS, buckminsterfullerene, exact, of_sulfur_and_hydrogen


@pytest.mark.parametrize("name", GROUPS)
def test_known_groups(name: str) -> None:
    atoms = exact(name)
    order, products, symmetry_number = GROUPS[name]
    found = point_group_operations(atoms)
    assert found.order == order and found.deviation < 1e-9
    assert sum(len(orbit.directions) for orbit in orbits(found)) == products
    assert rotational_symmetry_number(atoms) == symmetry_number
    assert is_linear(atoms) == (name in ("CO2", "CO"))


@pytest.mark.parametrize("name", GROUPS)
def test_operations_are_symmetries(name: str) -> None:
    atoms = exact(name)
    found = point_group_operations(atoms)
    centred = atoms.positions - atoms.positions.mean(axis=0)
    for rotation, permutation in zip(found.rotations, found.permutations, strict=True):
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.array_equal(atoms.numbers[permutation], atoms.numbers)
        assert np.allclose(centred @ rotation.T, centred[permutation], atol=1e-9)
    assert len({tuple(np.round(rotation, 3).ravel() + 0.0) for rotation in found.rotations}) == found.order


def test_icosahedral_group_is_not_crystallographic() -> None:
    found = point_group_operations(buckminsterfullerene())
    assert found.order == 120 and rotational_symmetry_number(buckminsterfullerene()) == 60
    (orbit,) = orbits(found)
    assert len(orbit.members) == 60 and len(orbit.directions) == 2


@pytest.mark.parametrize("name", ["H2O", "NH3", "CH4", "C6H6", "C2H6", "CO2", "CO", "H2O2"])
def test_hessian_with_symmetry_is_the_hessian(name: str) -> None:
    atoms = of_sulfur_and_hydrogen(exact(name))
    order = np.random.default_rng(0).permutation(len(atoms))
    atoms = atoms[order]
    dense = HiMLIPCalculator(small_model()).get_hessian(atoms)
    calls: list[int] = []

    def products(vectors: np.ndarray) -> np.ndarray:
        calls.append(len(vectors))
        return HiMLIPCalculator(small_model()).hessian_vector_product(atoms, vectors)

    hessian, report = symmetric_hessian(atoms, products)
    assert np.abs(dense).max() > 0.1
    assert np.abs(hessian - dense).max() < 1e-9
    assert report.products == sum(calls) == GROUPS[name][1] < report.without_symmetry
    assert max(report.sum_rule, report.asymmetry) < 1e-9 and not report.fallback
    assert np.abs(HiMLIPCalculator(small_model()).get_hessian(atoms, symmetry=True) - dense).max() < 1e-9
    assert np.array_equal(hessian[[1]], symmetric_hessian(atoms, products)[0][[1]])


def test_hessian_of_an_icosahedron_along_random_vectors() -> None:
    atoms = buckminsterfullerene()
    atoms.numbers[:] = 16
    calc = HiMLIPCalculator(small_model())
    hessian = calc.get_hessian(atoms, symmetry=True)
    v = np.random.default_rng(0).normal(size=(60, 3))
    product = calc.hessian_vector_product(atoms, v)
    assert np.abs(product).max() > 0.1
    assert np.abs(np.einsum("iajb,jb->ia", hessian, v) - product).max() < 1e-9


@pytest.mark.parametrize(("off", "fallback"), [(1e-8, False), (3e-6, True)])
def test_broken_symmetry_is_measured_and_given_up(off: float, fallback: bool) -> None:
    atoms = of_sulfur_and_hydrogen(exact("CH4"))
    atoms.positions[2] += off * np.array([0.8, -0.6, 0.0])
    calc = HiMLIPCalculator(small_model())
    dense = calc.get_hessian(atoms)
    hessian, report = symmetric_hessian(
        atoms, lambda vectors: calc.hessian_vector_product(atoms, vectors), symprec=1e-5
    )
    assert report.operations == 24 and 0.1 * off < report.deviation < 2 * off
    assert report.check is not None and report.fallback is fallback
    error = np.abs(hessian - dense).max()
    assert error < 1e-9 if fallback else error < 3 * report.check < 1e-5


def test_isotopes_lower_the_symmetry_number_but_not_the_hessian() -> None:
    atoms = exact("CH4")
    masses = atoms.get_masses()
    masses[1] = 2.014
    atoms.set_masses(masses)
    assert rotational_symmetry_number(atoms) == 3
    assert point_group_operations(atoms).order == 24


def test_odd_structures() -> None:
    assert point_group_operations(Atoms("H")).order == 1 and rotational_symmetry_number(Atoms("H")) == 1
    slab = exact("H2O")
    slab.set_cell([8, 8, 8])
    slab.set_pbc([True, True, False])
    assert point_group_operations(slab).order == 1
    loose = molecule("C60")  # round coordinates
    assert point_group_operations(loose, 1e-2).order == 120
    with pytest.raises(InputError, match="tolerance"):
        point_group_operations(exact("H2O"), 0.0)
    with pytest.raises(InputError, match="atom 1"):
        point_group_operations(Atoms("H2", positions=[[0, 0, 0], [0, 0, np.nan]]))
    with pytest.raises(InputError, match="no atoms"):
        point_group_operations(Atoms())

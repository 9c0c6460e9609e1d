"""Third-order force constants against differences, their symmetries, and phono3py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.phonons.third_order import ThirdOrder, third_order_force_constants
from himlip_ase.symmetry.irreducible_hessian import symmetric_hessian

from ..potential.zoo import h3s, rattled, small_model, tiny


@pytest.fixture(scope="module")
def calc() -> HiMLIPCalculator:
    return HiMLIPCalculator(small_model())


@pytest.fixture(scope="module")
def cubic(calc: HiMLIPCalculator) -> ThirdOrder:
    return third_order_force_constants(h3s(), (2, 2, 2), calc.third_derivatives)


def test_products_are_differences_of_hessian_vector_products(calc: HiMLIPCalculator) -> None:
    atoms, step = rattled(h3s()), 1e-4
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 3, 4, 3))
    found = calc.third_derivatives(atoms, one, two)
    for u, w, value in zip(one, two, found, strict=True):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions += sign * step * w
            sides.append(calc.hessian_vector_product(moved, u))
        assert np.abs(value).max() > 1.0
        assert np.abs((sides[0] - sides[1]) / (2 * step) - value).max() < 1e-5 * np.abs(value).max()
    with pytest.raises(InputError, match="shape"):
        calc.third_derivatives(atoms, one[0], two[0])


@pytest.mark.parametrize(("build", "dims"), [(h3s, (2, 1, 1)), (tiny, (3, 1, 1))])
def test_symmetry_changes_nothing(build, dims) -> None:
    calc = HiMLIPCalculator(small_model(layers=1))
    with_symmetry = third_order_force_constants(build(), dims, calc.third_derivatives)
    without = third_order_force_constants(build(), dims, calc.third_derivatives, symmetry=False)
    assert with_symmetry.products <= without.products < without.without_symmetry
    assert np.abs(without.compact).max() > 1.0
    assert np.abs(with_symmetry.compact - without.compact).max() < 1e-9


def test_sum_rule_and_exchange_of_indices(cubic: ThirdOrder) -> None:
    assert cubic.products < 40 < cubic.without_symmetry == 1152
    assert np.abs(cubic.compact).max() > 1.0
    assert cubic.acoustic_sum_rule_violation() < 1e-9
    assert cubic.permutation_violation() < 1e-9
    full = cubic.full()
    assert np.abs(full - full.transpose(2, 1, 0, 5, 4, 3)).max() < 1e-9
    broken = cubic.compact.copy()
    broken[1, 3, 4, 0, 1, 2] += 0.5
    wrong = ThirdOrder(cubic.primitive, cubic.dims, broken, 0, 0)
    assert wrong.acoustic_sum_rule_violation() == pytest.approx(0.5)
    assert wrong.permutation_violation() == pytest.approx(0.5)


def test_hessian_of_a_displaced_supercell(calc: HiMLIPCalculator, cubic: ThirdOrder) -> None:
    from himlip_ase.lattice import build_supercell

    supercell = build_supercell(cubic.primitive, cubic.dims)
    field = 1e-4 * np.random.default_rng(1).normal(size=(len(supercell), 3))
    rows = []
    for sign in (1, -1):
        moved = supercell.copy()
        moved.positions += sign * field
        rows.append(calc.get_hessian(moved, indices=[3, 17]))
    expected = np.einsum("ijkabc,kc->iajb", cubic.full()[[3, 17]], field)
    assert np.abs(expected).max() > 1e-4
    assert np.abs((rows[0] - rows[1]) / 2 - expected).max() < 1e-5 * np.abs(expected).max()


def test_file_in_the_layout_of_phono3py(cubic: ThirdOrder, tmp_path: Path) -> None:
    path = cubic.write(tmp_path / "fc3.hdf5")
    with h5py.File(path) as file:
        assert file["fc3"].shape == (4, 32, 32, 3, 3, 3) and file["fc3"].dtype == np.float64
        assert np.array_equal(file["p2s_map"], [0, 8, 16, 24])
        assert np.array_equal(file["fc3"], cubic.compact)
    with pytest.raises(InputError, match="exists"):
        cubic.write(path)


def test_third_order_needs_a_crystal(calc: HiMLIPCalculator) -> None:
    with pytest.raises(InputError, match="pbc"):
        third_order_force_constants(Atoms("H2", [[0, 0, 0], [0, 0, 1]]), (1, 1, 1), calc.third_derivatives)


@pytest.mark.peer
def test_phono3py_from_displacements(calc: HiMLIPCalculator, cubic: ThirdOrder, tmp_path: Path) -> None:
    """Differences of phono3py converge to the derivatives with the square of the displacement."""
    phono3py = pytest.importorskip("phono3py")
    from phono3py.file_IO import read_fc3_from_hdf5

    from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, to_phonopy_atoms

    errors = []
    for distance in (0.008, 0.004):
        peer = phono3py.Phono3py(to_phonopy_atoms(h3s()), [2, 2, 2], primitive_matrix="P")
        peer.generate_displacements(distance=distance, is_plusminus=True)
        images = [from_phonopy_atoms(cell) for cell in peer.supercells_with_displacements]
        assert len(images) > 5 * cubic.products
        peer.forces = np.array(calc.evaluate(images, stress=False).forces)
        peer.produce_fc3(is_compact_fc=True)
        errors.append(np.abs(peer.fc3 - cubic.compact).max())
    assert errors[1] < 0.02 and errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)
    written = read_fc3_from_hdf5(cubic.write(tmp_path / "fc3.hdf5"), p2s_map=peer.primitive.p2s_map)
    assert np.array_equal(written, cubic.compact)


@pytest.mark.peer
def test_phono3py_object_has_the_same_lifetimes(tmp_path: Path) -> None:
    """Linewidths from our constants and from phono3py's own route, a stable crystal of repelling atoms."""
    phono3py = pytest.importorskip("phono3py")
    from ase.build import bulk

    from himlip_ase.phonons.phono3py_io import to_phono3py, write_for_phono3py
    from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, to_phonopy_atoms
    from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

    calc = HiMLIPCalculator(HiMLIP(HiMLIPConfig(("H",), cutoff=3.0, channels=2, hidden=4, layers=1)))
    crystal = bulk("H", "fcc", a=1.45)
    constants = calc.get_force_constants(crystal, (3, 3, 3))
    third = third_order_force_constants(crystal, (3, 3, 3), calc.third_derivatives)
    peer = phono3py.Phono3py(to_phonopy_atoms(crystal), [3, 3, 3], primitive_matrix="P")
    peer.generate_displacements(distance=0.002, is_plusminus=True)
    images = [from_phonopy_atoms(cell) for cell in peer.supercells_with_displacements]
    peer.forces = np.array(calc.evaluate(images, stress=False).forces)
    peer.produce_fc3(is_compact_fc=True)
    # linewidths follow the frequencies so closely that both must have the same ones
    peer.fc2 = np.array(constants.compact)
    widths = []
    for found in (to_phono3py(constants, third), peer):
        found.mesh_numbers = [5, 5, 5]
        found.init_phph_interaction()
        found.run_thermal_conductivity(temperatures=[300])
        widths.append(np.asarray(found.thermal_conductivity.gamma).ravel())
    assert np.abs(widths[0]).max() > 1e-3
    assert np.abs(widths[0] - widths[1]).max() < 2e-3 * np.abs(widths[0]).max()
    lines = write_for_phono3py(crystal, calc, constants, (3, 3, 3), tmp_path)
    assert (tmp_path / "phono3py_params.yaml").exists() and "products" in lines[0]
    loaded = phono3py.load(
        tmp_path / "phono3py_params.yaml", fc2_filename=tmp_path / "fc2.hdf5",
        fc3_filename=tmp_path / "fc3.hdf5", log_level=0,
    )  # fmt: skip
    assert np.allclose(loaded.fc3, third.compact) and np.allclose(loaded.fc2, constants.compact)


def test_symmetry_of_a_plain_supercell_is_found_too(calc: HiMLIPCalculator) -> None:
    """A crystal given as a plain structure of many cells needs no more products than its primitive cell."""
    atoms = h3s().repeat((2, 2, 1))
    hessian, report = symmetric_hessian(atoms, lambda vectors: calc.hessian_vector_product(atoms, vectors))
    assert np.abs(hessian - calc.get_hessian(atoms)).max() < 1e-9
    assert report.products <= 4

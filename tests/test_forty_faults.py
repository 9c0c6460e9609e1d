"""Forty faults, and what must happen: a test each, found by ``pytest -k fault_07``.

Here are those of atoms and of the calculator; the others stand with what they concern, under the same name.
"""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.labels.readers import read_labels


@pytest.fixture(scope="module")
def calc() -> HiMLIPCalculator:
    return HiMLIPCalculator("himlip-h3s-1")


@pytest.fixture
def crystal() -> Atoms:
    atoms = Atoms(
        "SH3",
        cell=1.533 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        pbc=True,
    )
    atoms.positions += np.random.default_rng(0).normal(0, 0.05, atoms.positions.shape)
    return atoms


def results(calc: HiMLIPCalculator, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    found = calc.evaluate([atoms], stress=False)
    return float(found.energies[0]), np.asarray(found.forces[0]), calc.get_hessian(atoms)


def close(one: np.ndarray, two: np.ndarray, tolerance: float = 1e-9) -> bool:
    return bool(np.abs(np.asarray(one) - np.asarray(two)).max() < tolerance)


# -- atoms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_fault_01_a_position_that_is_no_number(calc, crystal, bad) -> None:
    crystal.positions[2, 1] = bad
    with pytest.raises(ValueError, match=r"atom 2"):
        calc.evaluate([crystal])


def test_fault_02_zero_atoms(calc) -> None:
    empty = Atoms(cell=np.eye(3) * 4, pbc=True)
    for ask in (lambda: calc.get_potential_energy(empty), lambda: calc.get_hessian(empty)):
        with pytest.raises(ValueError):
            ask()


def test_fault_03_periodic_without_a_cell(calc) -> None:
    with pytest.raises(ValueError, match="cell"):
        calc.get_potential_energy(Atoms("H2", positions=[[0, 0, 0], [0.8, 0, 0]], pbc=True))


def test_fault_04_a_flat_cell(calc) -> None:
    flat = Atoms("H2", positions=[[0, 0, 0], [0.8, 0, 0]], cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True)
    with pytest.raises(ValueError, match="cell"):
        calc.get_potential_energy(flat)


def test_fault_05_a_left_handed_cell(calc, crystal) -> None:
    left = crystal.copy()
    left.set_cell(crystal.cell.array[[1, 0, 2]])
    assert np.linalg.det(left.cell.array) * np.linalg.det(crystal.cell.array) < 0
    one, two = results(calc, crystal), results(calc, left)
    assert all(close(a, b) for a, b in zip(one, two, strict=True))


def test_fault_06_a_slab(calc) -> None:
    slab = fcc111("Al", (1, 1, 2), vacuum=6.0)
    slab = Atoms("SH", positions=slab.positions, cell=slab.cell, pbc=[True, True, False])
    forces = np.asarray(calc.evaluate([slab], stress=False).forces[0])
    step = 1e-4
    for axis in range(3):
        ends = []
        for sign in (-1, 1):
            moved = slab.copy()
            moved.positions[1, axis] += sign * step
            ends.append(float(calc.evaluate([moved], stress=False).energies[0]))
        assert -(ends[1] - ends[0]) / (2 * step) == pytest.approx(forces[1, axis], abs=1e-6)
    with pytest.raises(Exception, match="stress"):
        calc.get_stress(slab)


def test_fault_07_a_cell_smaller_than_the_cutoff(calc, crystal) -> None:
    energy, forces, _ = results(calc, crystal)
    large = crystal.repeat((2, 2, 2))
    found = calc.evaluate([large], stress=False)
    assert float(found.energies[0]) == pytest.approx(8 * energy, abs=1e-8)
    assert close(np.asarray(found.forces[0])[: len(crystal)], forces)


def test_fault_08_atoms_many_cells_away(calc, crystal) -> None:
    far = crystal.copy()
    far.positions[1] += 7 * crystal.cell.array[0] - 12 * crystal.cell.array[2]
    assert all(close(a, b) for a, b in zip(results(calc, crystal), results(calc, far), strict=True))


def test_fault_09_coincident_atoms(calc, crystal) -> None:
    crystal.positions[3] = crystal.positions[1] + crystal.cell.array[1]
    with pytest.raises(ValueError, match=r"\b1\b.*\b3\b"):
        calc.evaluate([crystal])


def test_fault_10_a_single_atom(calc) -> None:
    atom = Atoms("H")
    assert not calc.get_forces(atom).any()
    with pytest.raises(Exception, match="stress"):
        calc.get_stress(atom)


def test_fault_11_an_unknown_element(calc) -> None:
    with pytest.raises(ValueError, match=r"Xe.*H.*S"):
        calc.get_potential_energy(Atoms("XeH", positions=[[0, 0, 0], [0, 0, 1.5]]))


def test_fault_12_permuted_rotated_translated(calc, crystal) -> None:
    energy, forces, hessian = results(calc, crystal)
    order = [2, 0, 3, 1]
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    moved = Atoms(
        crystal.numbers[order],
        positions=(crystal.positions[order] + 0.37) @ rotation.T,
        cell=crystal.cell.array @ rotation.T,
        pbc=True,
    )
    found = results(calc, moved)
    assert found[0] == pytest.approx(energy, abs=1e-9)
    assert close(found[1], forces[order] @ rotation.T)
    turned = np.einsum("xa,iajb,yb->ixjy", rotation, hessian[order][:, :, order], rotation)
    assert close(found[2], turned, 1e-8)


# -- calculator ----------------------------------------------------------------------------------------------


def test_fault_13_an_atom_moved_after_a_call(crystal) -> None:
    crystal.calc = HiMLIPCalculator("himlip-h3s-1")
    before = crystal.get_potential_energy(), crystal.calc.get_hessian(crystal)
    crystal.positions[0, 0] += 0.05
    after = crystal.get_potential_energy(), crystal.calc.get_hessian(crystal)
    fresh = HiMLIPCalculator("himlip-h3s-1")
    assert abs(after[0] - before[0]) > 1e-4 and not close(after[1], before[1], 1e-3)
    assert close(after[1], fresh.get_hessian(crystal))


def test_fault_14_a_charge(crystal) -> None:
    crystal.calc = HiMLIPCalculator("himlip-h3s-1")
    crystal.get_potential_energy()
    crystal.info["charge"] = 1
    with pytest.raises(ValueError, match="charge"):
        crystal.get_potential_energy()


def test_fault_15_fixed_atoms(calc, crystal) -> None:
    free = results(calc, crystal)
    crystal.set_constraint(FixAtoms([0, 1]))
    crystal.calc = calc
    assert close(calc.get_hessian(crystal), free[2])
    assert close(crystal.get_forces(apply_constraint=False), free[1])
    assert not crystal.get_forces()[:2].any()


def test_fault_16_energy_then_hessian(crystal) -> None:
    one, two = HiMLIPCalculator("himlip-h3s-1"), HiMLIPCalculator("himlip-h3s-1")
    energy, hessian = one.get_potential_energy(crystal), one.get_hessian(crystal)
    assert close(two.get_hessian(crystal), hessian)
    assert two.get_potential_energy(crystal) == pytest.approx(energy, abs=1e-12)


def test_fault_17_a_returned_array_is_changed(calc, crystal) -> None:
    hessian = calc.get_hessian(crystal)
    kept = hessian.copy()
    hessian[:] = 0
    forces = calc.get_forces(crystal)
    forces[:] = 0
    assert close(calc.get_hessian(crystal), kept) and calc.get_forces(crystal).any()


def test_fault_18_single_precision_and_a_hessian(calc, crystal) -> None:
    single = HiMLIPCalculator("himlip-h3s-1", dtype="float32")
    hessian = single.get_hessian(crystal)
    assert hessian.dtype == np.float64 and close(hessian, calc.get_hessian(crystal), 1e-9)


def test_fault_19_a_pair_crosses_the_cutoff(calc) -> None:
    cutoff = calc.model.cutoff

    def at(distance: float) -> tuple[float, np.ndarray, np.ndarray]:
        return results(calc, Atoms("SH", positions=[[0, 0, 0], [0, 0, distance]]))

    inside, outside = at(cutoff - 1e-7), at(cutoff + 1e-7)
    assert all(close(a, b, 1e-6) for a, b in zip(inside, outside, strict=True))


def test_fault_20_hessian_against_differences(calc, crystal) -> None:
    hessian, step = calc.get_hessian(crystal), 1e-4
    for atom, axis in ((0, 0), (2, 1)):
        ends = []
        for sign in (-1, 1):
            moved = crystal.copy()
            moved.positions[atom, axis] += sign * step
            ends.append(np.asarray(calc.evaluate([moved], stress=False).forces[0]))
        assert close(-(ends[1] - ends[0]) / (2 * step), hessian[atom, axis], 1e-5)
    flat = hessian.reshape(12, 12)
    assert close(flat, flat.T) and close(hessian.sum(axis=2), 0 * hessian.sum(axis=2))


def test_fault_23_copies_pickles_and_sums(calc, crystal) -> None:
    energy = calc.get_potential_energy(crystal)
    for other in (copy.deepcopy(calc), pickle.loads(pickle.dumps(calc))):
        assert other.get_potential_energy(crystal) == pytest.approx(energy, abs=1e-12)
    assert SumCalculator([calc, calc]).get_potential_energy(crystal) == pytest.approx(2 * energy)
    calc.get_forces(crystal)
    assert set(calc.export_properties()) >= {"energy", "forces"}


# -- labels --------------------------------------------------------------------------------------------------


def test_fault_24_labels_that_ase_swallows(tmp_path: Path, crystal) -> None:
    """ASE takes ``energy`` and ``forces`` into a calculator, and leaves ``REF_energy`` where it stands."""
    text = '4\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:{force}:R:3 {energy}=-1.5\n'
    row = "{} {} {} {} 0.1 0.2 -0.3\n"
    rows = "".join(row.format(s, *p) for s, p in zip(crystal.symbols, crystal.positions, strict=True))
    for energy, force in (("energy", "forces"), ("REF_energy", "REF_forces")):
        path = tmp_path / f"{energy}.extxyz"
        path.write_text(text.format(force=force, energy=energy) + rows)
        (frame,) = read_labels(path)
        assert frame.energy == -1.5 and close(frame.forces, np.tile([0.1, 0.2, -0.3], (4, 1)))
    (tmp_path / "none.extxyz").write_text(text.format(force="velo", energy="temperature") + rows)
    with pytest.raises(InputError, match="label"):
        read_labels(tmp_path / "none.extxyz")


def test_fault_25_constrained_frames(tmp_path: Path, crystal) -> None:
    from ase.io import write

    crystal.calc = HiMLIPCalculator("himlip-h3s-1")
    raw = crystal.get_forces()
    crystal.set_constraint(FixAtoms([0, 2]))
    for name in ("fixed.extxyz", "fixed.traj"):
        write(tmp_path / name, crystal)
        (frame,) = read_labels(tmp_path / name)
        assert close(frame.forces, raw, 1e-7), name


# -- all forty -----------------------------------------------------------------------------------------------


def test_every_fault_has_a_test() -> None:
    names = [
        (int(number), path.name)
        for path in Path(__file__).parent.rglob("test_*.py")
        for number in re.findall(r"^def test_fault_(\d\d)_", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert {number for number, _ in names} == set(range(1, 41))
    assert torch.get_default_dtype() == torch.float32  # nothing above may change it
    assert issubclass(InputError, ValueError) and issubclass(CalculationError, RuntimeError)

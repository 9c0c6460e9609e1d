"""Hessians that lie are found out: sign, unit, order of atoms, axes."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from himlip_ase.errors import InputError
from himlip_ase.labels.checks import check_frames
from himlip_ase.labels.frames import HessianLabel
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.readers import open_labels, read_hessian
from himlip_ase.labels.stiffness import HARDEST, HESSIAN_UNITS, Stiffness
from himlip_ase.labels.store import LabelStore
from himlip_ase.units import BOHR_ANGSTROM, HARTREE_EV
from tests.hint.toy import rattled, toy_frame, toy_hessian

EXAMPLES = Path(__file__).parents[2] / "examples"
HA_BOHR2 = HARTREE_EV / BOHR_ANGSTROM**2


@cache
def _low_symmetry() -> tuple[Atoms, np.ndarray]:
    """Eight atoms of three metals without a symmetry, and their Hessian by differences of forces."""
    atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
    atoms.symbols[:2] = ["Au", "Al"]
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * np.tri(3)), scale_atoms=True)
    atoms = rattled(atoms, 1, 0.15, seed=5)[0]
    return atoms, _by_differences(atoms)


def _by_differences(atoms: Atoms, step: float = 0.005) -> np.ndarray:
    matrix = np.zeros((len(atoms), 3, len(atoms), 3))
    for atom, axis in np.ndindex(len(atoms), 3):
        for sign in (1, -1):
            image = atoms.copy()
            image.positions[atom, axis] += sign * step
            image.calc = EMT()
            matrix[atom, axis] -= sign * image.get_forces() / (2 * step)
    return (matrix + matrix.transpose(2, 3, 0, 1)) / 2


def test_fault_27_right_hessians_pass() -> None:
    check_hessian(*_low_symmetry())
    for name in ("CH3CH2OH", "C6H6", "CH3NO2"):
        atoms = molecule(name)
        atoms.set_cell(np.eye(3))
        atoms.pbc = False
        check_hessian(atoms, _springs(atoms))


def _springs(atoms: Atoms) -> np.ndarray:
    """Stiff bonds, soft angles: a Hessian like a molecule's."""
    n = len(atoms)
    vectors = atoms.positions[None] - atoms.positions[:, None]
    r = np.linalg.norm(vectors, axis=2) + np.eye(n)
    unit = vectors / r[..., None]
    along = np.einsum("ija,ijb->ijab", unit, unit)
    stiff, soft = 40 * np.exp(-3 * (r - 1.0)), 2 * np.exp(-2 * (r - 1.0))
    blocks = -stiff[..., None, None] * along - soft[..., None, None] * (np.eye(3) - along)
    blocks[np.arange(n), np.arange(n)] = 0
    blocks[np.arange(n), np.arange(n)] = -blocks.sum(axis=1)
    return blocks.transpose(0, 2, 1, 3)


@pytest.mark.parametrize("crystal", [True, False])
def test_fault_27_case_A7_negated_hessian(crystal: bool) -> None:
    atoms, matrix = _low_symmetry() if crystal else (molecule("H2O"), _springs(molecule("H2O")))
    with pytest.raises(InputError, match=r"eigenvalues add up to -.*dF/dx"):
        check_hessian(atoms, -matrix)


def test_fault_27_case_A7_hessian_in_hartree_per_bohr2() -> None:
    """By the highest frequency of what it is made of."""
    atoms = molecule("CH3CH2OH")
    matrix = _springs(atoms)
    check_hessian(atoms, matrix)
    with pytest.raises(InputError, match=r"highest frequency is .*Ha/bohr² \(× 97\.174"):
        check_hessian(atoms, matrix / HA_BOHR2)
    with pytest.raises(InputError, match="kJ/mol/nm²"):
        check_hessian(atoms, matrix * 9648.5)


@cache
def _right_hessians() -> list[tuple[Atoms, np.ndarray]]:
    label = read_hessian(EXAMPLES / "h3s" / "labels_k12" / "harmonic" / "dyn")
    ethanol, metal = molecule("CH3CH2OH"), bulk("Cu", cubic=True)
    return [
        (label.atoms, label.matrix), (ethanol, _springs(ethanol)), (metal, _by_differences(metal)),
    ]  # fmt: skip


@pytest.mark.parametrize("unit", HESSIAN_UNITS)
def test_fault_27_hessian_alone_in_another_unit(unit: str) -> None:
    """No forces beside it: bonds as long as its structure's tell, under pressure, in metals and molecules."""
    for atoms, matrix in _right_hessians():
        found = Stiffness.of(atoms, matrix)
        assert found is not None and found.possible
        wrong = HESSIAN_UNITS[unit] * matrix
        with pytest.raises(InputError, match=rf"{unit}") as told:
            check_hessian(atoms, wrong)
        factor = float(re.search(rf"{unit} \(× ([\d.e+-]+) gives", str(told.value))[1])
        np.testing.assert_allclose(factor * wrong, matrix, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(
    "path", ["gfn2.h5", "wb97x.h5", "wb97x_more.h5", "../../reactions/labels/reactions.h5"]
)
def test_stiffness_of_all_committed_molecules(path: str) -> None:
    """Rattled, stretched and on the way of a reaction: no false alarm within a factor of two."""
    frames = open_labels(EXAMPLES / "molecules" / "labels" / path)
    found = [Stiffness.of(f.hessian.atoms, f.hessian.matrix) for f in frames if f.hessian is not None]
    assert len(found) > 50
    assert all(2 * s.least < s.value < HARDEST / 2 for s in found)


@pytest.mark.parametrize("metal", ["PdH", "CaH6", "YH6", "LaH10"])
def test_stiffness_of_the_committed_hydrides(metal: str) -> None:
    label = read_hessian(EXAMPLES / "hydrides" / "labels" / metal / "harmonic" / "dyn")
    found = Stiffness.of(label.atoms, label.matrix)
    assert 2 * found.least < found.value < HARDEST / 2


def test_fault_27_hessian_in_another_unit_than_the_forces() -> None:
    """Where both numbers are possible by themselves, the forces of other frames decide."""
    cell = bulk("Cu", "fcc", a=3.7, cubic=True)
    frames = [toy_frame(atoms) for atoms in rattled(cell, 8, 0.1)]
    label = HessianLabel(cell, toy_hessian(cell), "given")
    check_frames(frames, [label])
    for factor, words in ((23.06, "kcal"), (2 / HA_BOHR2, "Ry/bohr²"), (1 / HA_BOHR2, "Ha/bohr²")):
        wrong = replace(label, matrix=factor * label.matrix)
        with pytest.raises(InputError, match=f"given: the Hessian is .* what the forces.*{words}"):
            check_frames(frames, [wrong])
    own = HessianLabel(frames[0].atoms, 23.06 * toy_hessian(frames[0].atoms), "on a frame")
    with pytest.raises(InputError, match=r"on a frame: .* what the forces"):
        check_frames([replace(frames[0], hessian=own), *frames[1:]])


def test_fault_27_hessian_of_the_committed_h3s_labels() -> None:
    """A soft double well at 150 GPa passes; negated or in Ha/bohr² it does not."""
    label = read_hessian(EXAMPLES / "h3s" / "labels_k12" / "harmonic" / "dyn")
    check_hessian(label.atoms, label.matrix)
    for factor, words in ((-1.0, "dF/dx"), (1 / HA_BOHR2, "Ha/bohr²")):
        with pytest.raises(InputError, match=words):
            check_hessian(label.atoms, factor * label.matrix)


@pytest.mark.parametrize("seed", range(3))
def test_fault_27_case_A7_permuted_atoms_of_a_low_symmetry_cell(seed: int) -> None:
    atoms, matrix = _low_symmetry()
    order = np.random.default_rng(seed).permutation(len(atoms))
    with pytest.raises(InputError, match=r"unexplained, and \d+% with .* in another order|another order"):
        check_hessian(atoms, matrix[np.ix_(order, range(3), order, range(3))])


def test_fault_27_two_like_atoms_exchanged_in_a_molecule() -> None:
    atoms = molecule("CH3CH2OH")
    matrix, order = _springs(atoms), list(range(len(atoms)))
    hydrogens = [k for k in order if atoms.symbols[k] == "H"]
    first, second = hydrogens[0], hydrogens[-1]
    order[first], order[second] = second, first
    with pytest.raises(InputError, match="another order"):
        check_hessian(atoms, matrix[np.ix_(order, range(3), order, range(3))])


@pytest.mark.parametrize("axes", [[1, 2, 0], [0, 2, 1]])
def test_fault_27_case_A7_axes_of_another_frame(axes: list[int]) -> None:
    atoms, matrix = _low_symmetry()
    turn = np.eye(3)[axes]
    turn = turn * np.linalg.det(turn)
    turned = np.einsum("ac,icjd,bd->iajb", turn, matrix, turn)
    with pytest.raises(InputError, match=r"% if its axes are .* of the structure's"):
        check_hessian(atoms, turned)


def test_molecules_far_from_rest_are_no_lies() -> None:
    examples = Path(__file__).parents[2] / "examples"
    for file, places in (
        ("molecules/labels/gfn2.h5", (733, 845)),
        ("reactions/labels/reactions.h5", (685, 1458)),
    ):
        store = LabelStore(
            examples / file
        )  # springs leave 48 % of it; CO beyond its inflection; bonds that break
        for place in places:
            check_hessian(store[place].atoms, store[place].hessian.matrix)

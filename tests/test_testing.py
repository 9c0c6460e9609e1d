"""The conformance suite passes what is right and catches what is wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.testing import ConformanceError, check_calculator, check_names

from .potential.zoo import h3s, small_model


class Pair(Calculator):
    """Pair potential V(r) = (1 − (r/rc)²)⁴/r with a fault of choice."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012
    cutoff = 4.0

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault

    def potential(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Value and slope."""
        power = {"C1": 2, "C2": 3}.get(self.fault, 4)
        inside = np.maximum(1 - (r / self.cutoff) ** 2, 0)
        value = inside**power / r
        slope = -value / r - 2 * power * inside ** (power - 1) / self.cutoff**2
        if self.fault == "jump":
            value = value + 1e-6 * (r < self.cutoff)
        if self.fault == "attractive":
            return -value, -slope
        return value, slope

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if len(atoms) == 0 or not np.isfinite(atoms.positions).all():
            if self.fault != "lenient":
                raise ValueError("bad positions")
            self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}
            return
        if atoms.pbc.any() and abs(atoms.cell.volume) < 1e-6 and self.fault != "lenient":
            raise ValueError("no volume")
        i, j, r, vectors = neighbor_list("ijdD", atoms, self.cutoff)
        if len(r) and r.min() < 1e-6:
            raise ValueError("coincident atoms")
        if self.fault == "nearest":
            keep = np.argsort(np.argsort(r)) < 40
            i, j, r, vectors = i[keep], j[keep], r[keep], vectors[keep]
        value, slope = self.potential(r)
        pull = (slope / r)[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, pull)
        energy = 0.5 * value.sum()
        if self.fault == "axis":
            energy += 0.05 * 0.5 * (value * vectors[:, 0] ** 2).sum()
        if self.fault == "absolute":
            energy += 1e-4 * atoms.positions[:, 0].sum()
        if self.fault == "ordered":
            energy += 1e-3 * atoms.numbers[0]
        if self.fault == "images":
            energy += 1e-3 * np.cos(atoms.positions[0] @ [0.3, 0.2, 0.1])
        if self.fault == "size":
            energy += 1e-3 * len(atoms) ** 2
        if self.fault == "forces":
            forces[0] *= 1 + 1e-4
        if self.fault == "noise":
            energy += 1e-7 * np.random.default_rng().normal()
        if self.fault == "self force":
            forces += 1e-3
        self.results = {"energy": energy, "forces": forces}
        if atoms.pbc.all():
            tensor = 0.5 * np.einsum("ka,kb->ab", pull, vectors) / abs(atoms.cell.volume)
            if self.fault == "stress sign":
                tensor = -tensor
            self.results["stress"] = tensor.ravel()[[0, 4, 8, 5, 2, 1]]
            if self.fault == "voigt":
                self.results["stress"] = tensor.ravel()[[0, 4, 8, 1, 2, 5]]
        elif self.fault == "stress anyway":
            self.results["stress"] = np.zeros(6)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        if self.fault == "stale" and atoms is not None and self.atoms is not None and self.results:
            if len(atoms) == len(self.atoms) and np.abs(atoms.positions - self.atoms.positions).max() < 0.02:
                atoms = self.atoms
        if self.fault == "constrained" and name == "forces" and atoms.constraints:
            forces = super().get_property(name, atoms)
            for constraint in atoms.constraints:
                constraint.adjust_forces(atoms, forces)
            return forces
        value = super().get_property(name, atoms, allow_calculation)
        return self.results[name] if self.fault == "live arrays" else value

    def __getstate__(self) -> dict[str, Any]:
        if self.fault == "pickle":
            raise TypeError("cannot pickle this")
        return self.__dict__.copy()


class PairWithHessian(Pair):
    """The same with a Hessian, in the shape (3N, N, 3)."""

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        """Sum over pairs of the curvature along the bond and the tension across it."""
        n = len(atoms)
        i, j, r, vectors = neighbor_list("ijdD", atoms, self.cutoff)
        power, rc2 = {"C1": 2, "C2": 3}.get(self.fault, 4), self.cutoff**2
        inside = np.maximum(1 - r**2 / rc2, 0)
        value, slope = self.potential(r)
        bend = 4 * power * (power - 1) * (r / rc2) ** 2 * inside ** (power - 2)
        bend -= 2 * power / rc2 * inside ** (power - 1)
        curvature = bend / r + 4 * power / rc2 * inside ** (power - 1) / r + 2 * value / r**2
        unit = vectors / r[:, None]
        along = np.einsum("ka,kb->kab", unit, unit)
        blocks = curvature[:, None, None] * along + (slope / r)[:, None, None] * (np.eye(3) - along)
        rows = np.zeros((n, n, 3, 3))
        np.add.at(rows, (i, i), blocks)
        np.add.at(rows, (i, j), -blocks)
        if self.fault == "wrong hessian":
            rows[0, -1, 0, 1] += 1e-4
        return rows.transpose(0, 2, 1, 3).reshape(3 * n, n, 3)


def crystal() -> Atoms:
    return Atoms(
        "CuAg",
        cell=[[3.1, 0.2, 0], [0, 2.9, 0.1], [0.3, 0, 3.3]],
        scaled_positions=[[0] * 3, [0.5] * 3],
        pbc=True,
    )


def test_a_right_calculator_passes_everything() -> None:
    report = check_calculator(PairWithHessian(), crystal())
    report.raise_for_failures()
    assert report.passed
    assert [check.name for check in report.skipped] == ["slope of forces across the cutoff"]
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True
    assert len(str(report).splitlines()) == len(report.checks) + 1


CAUGHT = {
    "C1": "slope of forces across the cutoff",
    "jump": "energy across the cutoff",
    "attractive": "atoms repel at short range",
    "nearest": "supercell is extensive",
    "axis": "rotation",
    "absolute": "translation",
    "ordered": "permutation of atoms",
    "images": "choice of periodic images",
    "size": "supercell is extensive",
    "forces": "forces = −dE/dx",
    "noise": "repeated calculations agree",
    "self force": "net force is zero",
    "stress sign": "stress = dE/dε / V",
    "voigt": "stress = dE/dε / V",
    "stress anyway": "stress without volume is refused",
    "stale": "nothing stale after a change",
    "constrained": "constraints are ignored",
    "live arrays": "returned arrays are copies",
    "pickle": "pickle",
    "lenient": "NaN, infinite or no positions are refused",
}


@pytest.mark.parametrize("fault", CAUGHT)
def test_every_fault_is_caught(fault: str) -> None:
    report = check_calculator(Pair(fault), crystal(), only=[CAUGHT[fault]])
    with pytest.raises(ConformanceError, match="Pair on AgCu fails 1 of 1"):
        report.raise_for_failures()


def test_hessian_checks_catch_a_wrong_hessian() -> None:
    names = ["Hessian = −dF/dx", "Hessian is symmetric", "Hessian obeys the acoustic sum rule"]
    wrong = check_calculator(PairWithHessian("wrong hessian"), crystal(), only=names)
    assert len(wrong.failures) == 3


@pytest.mark.parametrize(
    ("fault", "caught"),
    [("C1", "Hessian across the cutoff"), ("C2", "third derivative across the cutoff")],
)
def test_too_few_smooth_derivatives_are_caught(fault: str, caught: str) -> None:
    names = [
        f"{quantity} across the cutoff" for quantity in ("energy", "forces", "Hessian", "third derivative")
    ]
    report = check_calculator(PairWithHessian(fault), crystal(), only=names)
    assert report["energy across the cutoff"].status == report["forces across the cutoff"].status == "passed"
    assert report[caught].status == "failed"


def test_emt_conforms_where_it_should_and_its_gaps_are_named() -> None:
    names = [name for name in check_names() if "cutoff" not in name and "refused" not in name]
    report = check_calculator(EMT(), bulk("Cu") * (2, 1, 1), only=names)
    assert report["forces = −dE/dx"].value < 1e-8
    assert report["stress = dE/dε / V"].value < 1e-8
    assert report["Hessian = −dF/dx"].status == "skipped"
    assert {check.name for check in report.failures} <= {"pickle", "coincident atoms give no NaN"}


def test_what_a_calculator_lacks_is_skipped_and_does_not_fail() -> None:
    report = check_calculator(Pair(), crystal(), only=[name for name in check_names() if "Hessian" in name])
    assert report.passed and len(report.skipped) == len(report.checks) >= 4


def test_unknown_cutoff_is_skipped_with_a_hint() -> None:
    report = check_calculator(EMT(), bulk("Cu"), only=["energy across the cutoff"])
    assert report.checks[0].status == "skipped" and "cutoff=" in report.checks[0].note


def test_an_exception_in_the_calculator_is_a_failure() -> None:
    report = check_calculator(EMT(), Atoms("U2", positions=[[0, 0, 0], [0, 0, 2]]), only=["translation"])
    assert report.failures and "U" in report.failures[0].note


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="no checks"):
        check_calculator(EMT(), bulk("Cu"), only=["beauty"])
    with pytest.raises(InputError, match="pass a small structure"):
        check_calculator(EMT())
    with pytest.raises(InputError, match="non-empty"):
        check_calculator(EMT(), Atoms())


def test_the_potential_itself_passes_what_concerns_objects() -> None:
    from himlip_ase.conformance.behaviour import CHECKS

    report = check_calculator(HiMLIPCalculator(small_model()), h3s(), only=[check.name for check in CHECKS])
    report.raise_for_failures()
    assert not report.skipped


def test_the_structure_is_guessed_where_the_elements_are_known() -> None:
    report = check_calculator(HiMLIPCalculator(small_model()), only=["forces = −dE/dx"])
    assert report.passed and "S" in report.structure

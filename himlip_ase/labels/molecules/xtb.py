"""GFN-xTB energies, forces and Hessians of molecules by tblite.

GFN2-xTB: Bannwarth, Ehlert, Grimme, JCTC 15, 1652 (2019); GFN1-xTB: Grimme, Bannwarth, Shushkov, JCTC 13,
1989 (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.labels.molecules.differences import hessian_by_differences
from himlip_ase.labels.molecules.labeller import MolecularResult, check_molecule, code_version, obey_sum_rule
from himlip_ase.units import BOHR_ANGSTROM, HARTREE_EV


@dataclass(frozen=True)
class GFN2:
    """GFN2-xTB of neutral closed-shell molecules.

    Parameters
    ----------
    step : float
        Of the central differences of gradients, Å. Against half of it the default changes elements of
        the Hessian by at most 0.005 and on average 5e-4 eV/Å² (`tests/labels/molecules/test_xtb.py`).
    accuracy : float
        tblite's; its thresholds scale with it.
    """

    METHOD: ClassVar[str] = "GFN2-xTB"

    step: float = 0.0025
    accuracy: float = 0.01

    @property
    def settings(self) -> dict[str, Any]:
        """For the record."""
        return {
            "method": self.METHOD, "accuracy": self.accuracy, "hessian": "central differences of gradients",
            "step_angstrom": self.step, "code": code_version("tblite"),
        }  # fmt: skip

    def calculate(self, atoms: Atoms, hessian: bool) -> MolecularResult:
        """Energy eV, forces eV/Å and perhaps the Hessian eV/Å²; for the errors see `Labeller`.

        Parameters
        ----------
        atoms : Atoms
            A neutral molecule.
        hessian : bool
            Whether the Hessian is wanted.

        Returns
        -------
        MolecularResult
            Energy in eV, forces (N, 3) in eV/Å, Hessian (N, 3, N, 3) in eV/Å² or None.
        """
        check_molecule(atoms)
        energy, forces = self.evaluator(atoms.numbers, atoms.positions)
        first = energy(atoms.positions), forces(atoms.positions)
        if not hessian:
            return MolecularResult(*first)
        matrix, deviation = obey_sum_rule(hessian_by_differences(forces, atoms.positions, self.step))
        return MolecularResult(*first, matrix, deviation)

    def evaluator(self, numbers: np.ndarray, positions: np.ndarray) -> tuple[Any, Any]:
        """Functions of the positions (Å) for energy (eV) and forces (eV/Å); densities are carried over.

        Parameters
        ----------
        numbers : (N,) ndarray of int
        positions : (N, 3) ndarray
            Å, where the first density is converged.

        Returns
        -------
        energy, forces : callable
            Of positions (N, 3) in Å: eV, and (N, 3) in eV/Å.
        """
        code_version("tblite")
        from tblite.interface import Calculator

        calculator = Calculator(self.METHOD, numbers, positions / BOHR_ANGSTROM)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", self.accuracy)
        state: dict[str, Any] = {}

        def solved(where: np.ndarray) -> Any:
            if "at" not in state or not np.array_equal(state["at"], where):
                calculator.update(positions=np.ascontiguousarray(where) / BOHR_ANGSTROM)
                try:
                    state["result"] = calculator.singlepoint(state.get("result"))
                except RuntimeError as error:
                    raise CalculationError(f"{self.METHOD} did not converge: {error}") from error
                state["at"] = where.copy()
            return state["result"]

        def energy(where: np.ndarray) -> float:
            return float(solved(where).get("energy")) * HARTREE_EV

        def forces(where: np.ndarray) -> np.ndarray:
            return -np.array(solved(where).get("gradient")) * (HARTREE_EV / BOHR_ANGSTROM)

        return energy, forces


@dataclass(frozen=True)
class GFN1(GFN2):
    """GFN1-xTB, likewise: another cheap teacher, to pre-train with."""

    METHOD: ClassVar[str] = "GFN1-xTB"

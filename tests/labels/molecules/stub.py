"""A labeller without quantum chemistry: a Morse pair potential (`tests.hint.toy`), which may fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.labels.molecules.labeller import MolecularResult, check_molecule
from tests.hint.toy import toy_hessian, toy_labels


@dataclass
class Stub:
    """Fails for the formulas in `refuse`; counts its calls."""

    refuse: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        return {"method": "Morse pairs"}

    def calculate(self, atoms: Atoms, hessian: bool) -> MolecularResult:
        check_molecule(atoms)
        self.calls.append(atoms.get_chemical_formula())
        if self.calls[-1] in self.refuse:
            raise CalculationError(f"{self.calls[-1]} did not converge")
        energy, forces, _ = toy_labels(atoms)
        return MolecularResult(energy, forces, toy_hessian(atoms) if hessian else None)

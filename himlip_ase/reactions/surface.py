"""One potential energy surface for searches: energies, gradients and Hessians of any calculator, counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, CalculationFailed

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.labels.molecules.differences import hessian_by_differences
from himlip_ase.labels.molecules.labeller import check_molecule, obey_sum_rule
from himlip_ase.reactions.free_directions import held_atoms

DIFFERENCE_STEP = 0.005
"""Å; of the central differences of forces of a calculator without second derivatives."""


@dataclass(frozen=True)
class Counts:
    """What a search has cost.

    Attributes
    ----------
    gradients : int
        Points at which the search asked for energy and gradient.
    hessians : int
        Points at which it asked for the Hessian.
    difference_gradients : int
        Gradients that Hessians by finite differences took, not counted in `gradients`.
    products : int
        Hessian-vector products.
    """

    gradients: int = 0
    hessians: int = 0
    difference_gradients: int = 0
    products: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.gradients - other.gradients,
            self.hessians - other.hessians,
            self.difference_gradients - other.difference_gradients,
            self.products - other.products,
        )


class Engine(Protocol):
    """What a calculator is seen through."""

    difference_gradients: int
    """Gradients that its Hessians by finite differences have taken so far."""

    def energy_and_forces(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy in eV and forces (N, 3) in eV/Å at positions (N, 3) in Å."""

    def hessian(self, positions: np.ndarray) -> np.ndarray:
        """Hessian (N, 3, N, 3) in eV/Å²."""


class Surface:
    """Energies, gradients and Hessians of one set of atoms as functions of flat positions.

    Parameters
    ----------
    atoms : Atoms
        Elements, masses, cell, periodic directions and constraints; positions are arguments of the methods.
    calculator : object
        An ASE calculator (with ``get_hessian`` its Hessian is taken, otherwise central differences of its
        forces), or a method of `himlip_ase.labels.molecules`, as ``GFN2()``.

    Raises
    ------
    InputError
        An object that is none of these.
    """

    def __init__(self, atoms: Atoms, calculator: Any) -> None:
        self.atoms = atoms.copy()
        self.calculator = calculator
        self._engine = _engine(self.atoms, calculator)
        self._gradients = self._hessians = self._products = 0
        self._last: tuple[np.ndarray, float, np.ndarray] | None = None
        self._last_hessian: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def counts(self) -> Counts:
        """What has been asked for so far; the same point asked for twice in a row counts once."""
        return Counts(self._gradients, self._hessians, self._engine.difference_gradients, self._products)

    def at(self, positions: np.ndarray) -> Atoms:
        """The atoms at other positions, without calculator."""
        moved = self.atoms.copy()
        moved.set_positions(np.reshape(positions, (-1, 3)), apply_constraint=False)
        return moved

    def evaluate(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy and gradient.

        Parameters
        ----------
        positions : ndarray (3N,)
            Å.

        Returns
        -------
        energy : float
            eV.
        gradient : ndarray (3N,)
            eV/Å; constraints are ignored.

        Raises
        ------
        CalculationError
            The calculator fails, or gives numbers that are not finite.
        """
        where = np.array(positions, dtype=float).ravel()
        if self._last is None or not np.array_equal(self._last[0], where):
            self._gradients += 1
            energy, forces = self._engine.energy_and_forces(where.reshape(-1, 3))
            if not (np.isfinite(energy) and np.isfinite(forces).all()):
                raise CalculationError("energy or forces are not finite; look for colliding atoms")
            self._last = where, float(energy), -np.asarray(forces, dtype=float).ravel()
        return self._last[1], self._last[2].copy()

    def hessian(self, positions: np.ndarray) -> np.ndarray:
        """Symmetric Hessian (3N, 3N) in eV/Å²; constraints are ignored. Errors as for `evaluate`."""
        where = np.array(positions, dtype=float).ravel()
        if self._last_hessian is None or not np.array_equal(self._last_hessian[0], where):
            self._hessians += 1
            matrix = np.reshape(self._engine.hessian(where.reshape(-1, 3)), (len(where), len(where)))
            if not np.isfinite(matrix).all():
                raise CalculationError("the Hessian is not finite; look for colliding atoms")
            self._last_hessian = where, (matrix + matrix.T) / 2
        return self._last_hessian[1].copy()

    def products(self, positions: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Products of the Hessian at `positions` with the columns of a matrix (3N, k), without the Hessian.

        From the calculator's own products, or from differences of its gradients.
        """
        where = np.array(positions, dtype=float).ravel()
        if hasattr(self.calculator, "hessian_vector_product"):
            subject = self.at(where)
            if hasattr(self.calculator, "recorded_products"):
                exact = self.calculator.recorded_products(subject)
            else:
                exact = partial(self.calculator.hessian_vector_product, subject)

            def multiply(vectors: np.ndarray) -> np.ndarray:
                self._products += vectors.shape[1]
                return exact(vectors.T.reshape(vectors.shape[1], -1, 3)).reshape(vectors.shape[1], -1).T

            return multiply

        def differences(vectors: np.ndarray) -> np.ndarray:
            self._products += vectors.shape[1]
            columns = []
            for vector in vectors.T:
                largest = np.abs(vector).max()
                scale = DIFFERENCE_STEP / largest if largest > 0 else 1.0
                ahead = self._engine.energy_and_forces((where + scale * vector).reshape(-1, 3))[1]
                behind = self._engine.energy_and_forces((where - scale * vector).reshape(-1, 3))[1]
                self._engine.difference_gradients += 2
                columns.append((behind - ahead).ravel() / (2 * scale))
            return np.stack(columns, axis=1)

        return differences


def _engine(atoms: Atoms, calculator: Any) -> Engine:
    for accepts, engine in ENGINES:
        if accepts(calculator):
            return engine(atoms, calculator)
    raise InputError(
        f"{type(calculator).__name__} is no calculator: give an ASE calculator, or a method such as "
        "himlip_ase.labels.molecules.xtb.GFN2()"
    )


class _SelfConsistentSurface:
    """A method that carries its densities from point to point (GFN2)."""

    def __init__(self, atoms: Atoms, method: Any) -> None:
        check_molecule(atoms)
        self._method = method
        self._numbers = atoms.numbers
        self._functions = method.evaluator(atoms.numbers, atoms.positions)
        self.difference_gradients = 0

    def energy_and_forces(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            return self._functions[0](positions), self._functions[1](positions)
        except CalculationError:
            # a density from far away may lead nowhere: once more from a fresh guess
            self._functions = self._method.evaluator(self._numbers, positions)
            return self._functions[0](positions), self._functions[1](positions)

    def hessian(self, positions: np.ndarray) -> np.ndarray:
        self.energy_and_forces(positions)
        self.difference_gradients += 2 * positions.size
        matrix = hessian_by_differences(self._functions[1], positions, self._method.step)
        return obey_sum_rule(matrix)[0]


class _LabellerSurface:
    """A method with Hessians of its own (ωB97X by PySCF)."""

    def __init__(self, atoms: Atoms, method: Any) -> None:
        check_molecule(atoms)
        self._atoms, self._method = atoms, method
        self.difference_gradients = 0

    def _calculate(self, positions: np.ndarray, hessian: bool) -> Any:
        subject = self._atoms.copy()
        subject.set_positions(positions, apply_constraint=False)
        return self._method.calculate(subject, hessian)

    def energy_and_forces(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        result = self._calculate(positions, False)
        return result.energy, result.forces

    def hessian(self, positions: np.ndarray) -> np.ndarray:
        return self._calculate(positions, True).hessian


class _AseSurface:
    """An ASE calculator; its Hessian by differences of forces."""

    def __init__(self, atoms: Atoms, calculator: Any) -> None:
        self._atoms, self._calculator = atoms.copy(), calculator
        self.difference_gradients = 0

    def _moved(self, positions: np.ndarray) -> Atoms:
        self._atoms.set_positions(positions, apply_constraint=False)
        return self._atoms

    def energy_and_forces(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        subject = self._moved(positions)
        try:
            forces = np.array(self._calculator.get_property("forces", subject))
            return float(self._calculator.get_property("energy", subject)), forces
        except CalculationFailed as error:
            raise CalculationError(f"{type(self._calculator).__name__}: {error}") from error

    def hessian(self, positions: np.ndarray) -> np.ndarray:
        """Rows and columns of atoms that a constraint holds are left zero: no search asks for them."""
        free = np.setdiff1d(np.arange(len(positions)), held_atoms(self._atoms))

        def forces(where: np.ndarray) -> np.ndarray:
            whole = positions.copy()
            whole[free] = where
            return self.energy_and_forces(whole)[1][free]

        self.difference_gradients += 6 * len(free)
        matrix = np.zeros((len(positions), 3, len(positions), 3))
        found = hessian_by_differences(forces, positions[free], DIFFERENCE_STEP)
        matrix[free[:, None], :, free] = found.transpose(0, 2, 1, 3)
        return matrix


class _HessianSurface(_AseSurface):
    """An ASE calculator with ``get_hessian(atoms)``: ours, MACE's."""

    def hessian(self, positions: np.ndarray) -> np.ndarray:
        subject = self._moved(positions).copy()
        return np.reshape(np.asarray(self._calculator.get_hessian(subject)), (positions.size, positions.size))


def _is_ase(calculator: Any) -> bool:
    return isinstance(calculator, BaseCalculator) or hasattr(calculator, "get_property")


ENGINES: list[tuple[Callable[[Any], bool], Callable[[Atoms, Any], Engine]]] = [
    (lambda c: _is_ase(c) and hasattr(c, "get_hessian"), _HessianSurface),
    (_is_ase, _AseSurface),
    (lambda c: hasattr(c, "evaluator") and hasattr(c, "step"), _SelfConsistentSurface),
    (lambda c: hasattr(c, "calculate") and hasattr(c, "settings"), _LabellerSurface),
]
"""Kinds of calculators: which objects are of the kind, and what they are seen through; the first counts."""

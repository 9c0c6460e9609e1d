"""What every check is given: a calculator seen through plain functions, and structures to try it on."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from himlip_ase.evaluation import matrix_from_voigt


class Skip(Exception):
    """The calculator does not offer what a check needs; the message says what."""


class Failure(Exception):
    """A check failed in a way that no number describes."""


@dataclass
class Context:
    """The calculator under test and the structures of the checks.

    Attributes
    ----------
    calc : ase calculator
    ideal : Atoms
        The structure that was given, without calculator and constraints.
    rattled : Atoms
        The same with every atom displaced, so that no force vanishes by symmetry.
    cutoff : float or None
        Range of a neighbour list of the calculator in Å.
    seed : int
    scans : dict
        Kept values of scans across the cutoff, which serve several checks.
    """

    calc: Any
    ideal: Atoms
    rattled: Atoms
    cutoff: float | None
    seed: int
    elements: list[str] = field(init=False)
    scans: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.elements = sorted(set(self.ideal.get_chemical_symbols()))

    def rng(self, name: str) -> np.random.Generator:
        """Random numbers of one check, the same whichever other checks run."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    @property
    def crystal(self) -> Atoms:
        """The rattled structure if it is periodic in three directions, else Skip."""
        if not self.rattled.pbc.all():
            raise Skip("the structure is not periodic in three directions")
        return self.rattled.copy()

    def cluster(self) -> Atoms:
        """The rattled atoms without any periodicity."""
        return Atoms(self.rattled.get_chemical_symbols(), positions=self.rattled.positions)

    def energy(self, atoms: Atoms) -> float:
        """Energy in eV."""
        return float(self._get("energy", atoms))

    def forces(self, atoms: Atoms) -> np.ndarray:
        """Forces (N, 3) in eV/Å."""
        return np.asarray(self._get("forces", atoms), dtype=float)

    def stress(self, atoms: Atoms) -> np.ndarray:
        """Stress (3, 3) in eV/Å³."""
        return matrix_from_voigt(np.asarray(self._get("stress", atoms), dtype=float))

    def hessian(self, atoms: Atoms) -> np.ndarray:
        """Hessian (3N, 3N) in eV/Å², whether the calculator says (N, 3, N, 3) or (3N, N, 3)."""
        function = getattr(self.calc, "get_hessian", None)
        if function is None:
            raise Skip("the calculator has no get_hessian")
        try:
            value = np.asarray(function(atoms.copy()), dtype=float)
        except (NotImplementedError, PropertyNotImplementedError) as error:
            raise Skip(f"no Hessian: {error}") from error
        return value.reshape(3 * len(atoms), 3 * len(atoms))

    def has_hessian(self) -> bool:
        """Whether there is a Hessian to compare."""
        try:
            self.hessian(Atoms(self.elements[0]))
        except Skip:
            return False
        except Exception:
            return hasattr(self.calc, "get_hessian")
        return True

    def _get(self, name: str, atoms: Atoms) -> Any:
        try:
            return self.calc.get_property(name, atoms.copy())
        except (PropertyNotImplementedError, NotImplementedError) as error:
            if name in ("energy", "forces"):
                raise Failure(f"no {name}: {error}") from error
            raise Skip(f"no {name}: {error}") from error


CheckFunction: TypeAlias = Callable[[Context], "float | tuple[float, str]"]


@dataclass(frozen=True)
class Definition:
    """A named check: its function measures a deviation, `tolerance` names the field of `Tolerances`."""

    name: str
    tolerance: str
    function: CheckFunction


def relative(deviation: Any, *scales: Any) -> float:
    """Largest element of a deviation over the largest of the scales; infinite if anything is not finite."""
    top = float(np.abs(deviation).max(initial=0.0)) if np.size(deviation) else 0.0
    bottom = max([float(np.abs(scale).max(initial=0.0)) for scale in scales], default=1.0)
    if not (np.isfinite(top) and np.isfinite(bottom)):
        return float("inf")
    return top / max(bottom, 1e-300) if top else 0.0


def same_physics(context: Context, first: Atoms, second: Atoms, order: Iterable[int] | None = None) -> float:
    """Largest relative deviation in energy and forces between two descriptions of one structure.

    Parameters
    ----------
    context : Context
    first, second : Atoms
    order : ndarray, optional
        Where the atoms of the second stand in the first.

    Returns
    -------
    float
    """
    e_first, f_first = context.energy(first), context.forces(first)
    e_second, f_second = context.energy(second), context.forces(second)
    if order is not None:
        f_first = f_first[list(order)]
    scale = max(float(np.abs(f_first).max()), abs(e_first))
    return max(relative(e_second - e_first, scale), relative(f_second - f_first, f_first, 1e-3))

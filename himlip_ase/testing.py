"""A conformance suite for interatomic potentials: put any ASE calculator through it.

>>> from himlip_ase.testing import check_calculator
>>> report = check_calculator(calc, atoms)  # doctest: +SKIP
>>> print(report)  # doctest: +SKIP
>>> report.raise_for_failures()  # doctest: +SKIP
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.conformance import behaviour, derivatives, invariances, limits
from himlip_ase.conformance.context import Context, Definition, Failure, Skip
from himlip_ase.conformance.report import Check, ConformanceError, ConformanceReport, Tolerances
from himlip_ase.errors import InputError

__all__ = [
    "Check",
    "ConformanceError",
    "ConformanceReport",
    "Tolerances",
    "check_calculator",
    "check_names",
    "example_structure",
]

logger = logging.getLogger(__name__)

RATTLE_ANGSTROM = 0.08
_DEFINITIONS: tuple[Definition, ...] = (
    *derivatives.CHECKS,
    *invariances.CHECKS,
    *limits.CHECKS,
    *behaviour.CHECKS,
)


def check_calculator(
    calc: Any,
    atoms: Atoms | None = None,
    cutoff: float | None = None,
    tolerances: Tolerances | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
) -> ConformanceReport:
    """Measure whether a calculator is a smooth, symmetric, well-behaved potential.

    Derivatives face fourth-order finite differences (energy → forces, energy → stress, forces → Hessian);
    equivalent descriptions of a structure must agree; energy, forces and Hessian must be continuous as an
    atom crosses the cutoff; atoms must repel at short range; caches, copies and refusals must hold.

    Parameters
    ----------
    calc : ase calculator
        Needs energy and forces. Stress, and a Hessian from ``get_hessian(atoms)`` of shape (N, 3, N, 3) or
        (3N, N, 3), are checked if they are there.
    atoms : Atoms, optional
        A small structure that the calculator knows, of any periodicity; a crystal allows every check. It is
        rattled by 0.08 Å. By default a simple crystal of the calculator's elements, if it tells them.
    cutoff : float, optional
        Range of its neighbour list in Å, for the scan across it. By default taken from the calculator if it
        tells; else those checks are skipped.
    tolerances : Tolerances, optional
        Largest deviations that pass; those of double precision by default.
    only : sequence of str, optional
        Names of checks to run (see `check_names`); all by default.
    seed : int
        Of the displacements, directions and rotations.

    Returns
    -------
    ConformanceReport
        ``print`` shows a table; `ConformanceReport.raise_for_failures` raises unless all passed.

    Raises
    ------
    InputError
        No structure was given and none can be guessed, or an unknown name in `only`.
    """
    wanted = set(only) if only is not None else set(check_names())
    if unknown := sorted(wanted - set(check_names())):
        raise InputError(f"no checks {unknown}; there are {list(check_names())}")
    ideal = _bare(example_structure(calc) if atoms is None else atoms)
    rattled = ideal.copy()
    rattled.positions += np.random.default_rng(seed).normal(scale=RATTLE_ANGSTROM, size=ideal.positions.shape)
    context = Context(calc, ideal, rattled, cutoff if cutoff is not None else _cutoff(calc), seed)
    limit = tolerances or Tolerances()
    checks = []
    for definition in _DEFINITIONS:
        if definition.name in wanted:
            checks.append(_run(definition, context, float(getattr(limit, definition.tolerance))))
            logger.debug("%s: %s", definition.name, checks[-1].status)
    return ConformanceReport(type(calc).__name__, ideal.get_chemical_formula(), tuple(checks))


def check_names() -> tuple[str, ...]:
    """Names of all checks, in the order in which they run."""
    return tuple(definition.name for definition in _DEFINITIONS)


def example_structure(calc: Any) -> Atoms:
    """A small cubic crystal of elements that a calculator says it knows, near covalent contact."""
    from ase.data import atomic_numbers, chemical_symbols, covalent_radii

    known: list[str] = []
    for holder in (calc, getattr(calc, "model", None)):
        for name in ("elements", "z_table", "species"):
            value = getattr(holder, name, None)
            value = getattr(value, "zs", value)
            if isinstance(value, (list, tuple)) and value:
                known = known or [v if isinstance(v, str) else chemical_symbols[int(v)] for v in value]
    if not known:
        raise InputError(
            f"{type(calc).__name__} does not tell its elements; pass a small structure that it knows: "
            "check_calculator(calc, atoms)"
        )
    first, second = known[0], known[-1]
    length = 2 * (covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]])
    sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms([second, first, first, first], scaled_positions=sites, cell=[length * 0.8] * 3, pbc=True)


def _run(definition: Definition, context: Context, tolerance: float) -> Check:
    try:
        result = definition.function(context)
    except Skip as reason:
        return Check(definition.name, "skipped", note=str(reason))
    except Failure as reason:
        return Check(definition.name, "failed", note=str(reason))
    except Exception as error:
        return Check(definition.name, "failed", note=f"{type(error).__name__}: {error}")
    value, note = result if isinstance(result, tuple) else (result, "")
    passed = math.isfinite(value) and value <= tolerance
    return Check(definition.name, "passed" if passed else "failed", value, tolerance, note)


def _bare(atoms: Atoms) -> Atoms:
    if not isinstance(atoms, Atoms) or len(atoms) == 0:
        raise InputError(f"atoms must be a non-empty ase.Atoms, got {atoms!r}")
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _cutoff(calc: Any) -> float | None:
    for holder in (calc, getattr(calc, "model", None)):
        for name in ("cutoff", "r_max", "rc", "rcut"):
            value = getattr(holder, name, None)
            if isinstance(value, (int, float)) and value > 0:
                return float(value)
    return None

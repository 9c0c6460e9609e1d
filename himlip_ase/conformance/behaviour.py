"""What ASE and its users expect of a calculator as an object: caches, copies, constraints, refusals."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms

from himlip_ase.conformance.context import Context, Definition, Failure, Skip, relative


def _fresh(context: Context) -> Any:
    """A calculator that has seen nothing."""
    try:
        calc = copy.deepcopy(context.calc)
    except Exception as error:
        raise Skip(f"deepcopy fails ({error}), which has a check of its own") from error
    if hasattr(calc, "reset"):
        calc.reset()
    calc.results = {}
    return calc


def _state(calc: Any, atoms: Atoms, hessian: bool) -> list[np.ndarray]:
    values = [np.asarray(calc.get_property(name, atoms.copy())) for name in ("energy", "forces")]
    if hessian:
        values.append(np.asarray(calc.get_hessian(atoms.copy())).ravel())
    return values


def _deviation(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    scale = [np.abs(value).max(initial=0.0) for value in first[:2]]
    return max(relative(a - b, b, *scale) for a, b in zip(first, second, strict=True))


def staleness(context: Context) -> tuple[float, str]:
    """After every kind of change, results are those of a calculator that has seen nothing."""
    original = context.rattled
    hessian = context.has_hessian() and len(original) <= 16
    moved = original.copy()
    moved.positions[0] += [0.01, 0.0, 0.0]
    changes: dict[str, Atoms] = {"position": moved}
    if len(context.elements) > 1:
        swapped = original.copy()
        swapped.numbers[[0, -1]] = swapped.numbers[[-1, 0]]
        changes["species"] = swapped
    if original.pbc.all():
        strained = original.copy()
        strained.set_cell(original.cell.array * 1.01, scale_atoms=False)
        open_ = original.copy()
        open_.set_pbc(False)
        changes |= {"cell": strained, "pbc": open_}
    worst, note = 0.0, ""
    for name, changed in changes.items():
        calc = _fresh(context)
        _state(calc, original, hessian)
        deviation = _deviation(_state(calc, changed, hessian), _state(_fresh(context), changed, hessian))
        if not deviation <= worst:
            worst, note = deviation, f"after a change of {name}"
    return worst, note


def order_of_calls(context: Context) -> float:
    """Hessian first and energy first give the same."""
    if not context.has_hessian():
        raise Skip("the calculator has no get_hessian")
    atoms = context.rattled
    forward = _state(_fresh(context), atoms, True)
    calc = _fresh(context)
    hessian = np.asarray(calc.get_hessian(atoms.copy())).ravel()
    return _deviation([*_state(calc, atoms, False), hessian], forward)


def mutation(context: Context) -> float:
    """Arrays that the caller changes do not change what the calculator says next."""
    atoms = context.rattled.copy()
    before = [context.forces(atoms).copy()]
    np.asarray(context.calc.get_property("forces", atoms))[...] = 777.0
    after = [context.forces(atoms)]
    if atoms.pbc.all():
        try:
            before.append(context.stress(atoms))
            np.asarray(context.calc.get_property("stress", atoms))[...] = 777.0
            after.append(context.stress(atoms))
        except Skip:
            pass
    if context.has_hessian() and len(atoms) <= 16:
        before.append(context.hessian(atoms).copy())
        np.asarray(context.calc.get_hessian(atoms))[...] = 777.0
        after.append(context.hessian(atoms))
    return max(relative(a - b, b) for a, b in zip(after, before, strict=True))


def constraints(context: Context) -> float:
    """The calculator's own forces and Hessian do not see constraints."""
    free, fixed = context.rattled.copy(), context.rattled.copy()
    fixed.set_constraint(FixAtoms([0]))
    worst = relative(
        np.asarray(_fresh(context).get_property("forces", fixed)) - context.forces(free), context.forces(free)
    )
    if context.has_hessian() and len(free) <= 16:
        hessian = context.hessian(free)
        other = np.asarray(_fresh(context).get_hessian(fixed))
        if other.size != hessian.size:
            raise Failure(f"the Hessian with FixAtoms has shape {other.shape}")
        worst = max(worst, relative(other.reshape(hessian.shape) - hessian, hessian))
    return worst


def repeated(context: Context) -> float:
    """Two calculations of one structure agree."""
    return _deviation(
        _state(_fresh(context), context.rattled, False), _state(_fresh(context), context.rattled, False)
    )


def deep_copy(context: Context) -> float:
    """A deep copy gives the same energy and forces."""
    return _deviation(
        _state(copy.deepcopy(context.calc), context.rattled, False),
        _state(context.calc, context.rattled, False),
    )


def pickling(context: Context) -> float:
    """The calculator survives pickling, as multiprocessing needs."""
    again = pickle.loads(pickle.dumps(context.calc))
    return _deviation(_state(again, context.rattled, False), _state(context.calc, context.rattled, False))


def mixing(context: Context) -> float:
    """Export of properties, and ASE's SumCalculator with itself."""
    atoms = context.rattled.copy()
    context.energy(atoms)
    context.calc.export_properties()
    double = SumCalculator([_fresh(context), _fresh(context)])
    energy, forces = context.energy(atoms), context.forces(atoms)
    return max(
        relative(double.get_property("energy", atoms) - 2 * energy, energy, forces),
        relative(double.get_property("forces", atoms) - 2 * forces, forces),
    )


def _refused(context: Context, atoms: Atoms, what: str, name: str = "energy") -> None:
    """Failure unless the calculator raises or, at worst, answers with finite numbers."""
    try:
        value = np.asarray(_fresh(context).get_property(name, atoms), dtype=float)
    except Exception:
        return
    if not np.isfinite(value).all():
        raise Failure(f"{what}: {name} is {value.ravel()[0]} and nothing is raised")


def _must_raise(context: Context, atoms: Atoms, what: str, name: str = "energy") -> None:
    try:
        value = _fresh(context).get_property(name, atoms)
    except Exception:
        return
    raise Failure(f"{what}: nothing is raised, the answer is {np.asarray(value).ravel()[:1]}")


def bad_positions(context: Context) -> float:
    """NaN and infinite positions, and no atoms at all, are errors."""
    for value in (np.nan, np.inf):
        atoms = context.rattled.copy()
        atoms.positions[0, 0] = value
        _must_raise(context, atoms, f"position {value}")
    _must_raise(context, Atoms(), "no atoms")
    return 0.0


def bad_cells(context: Context) -> float:
    """A periodic structure with a zero or a flat cell is an error, or at least not NaN."""
    flat = context.rattled.copy()
    flat.set_cell([[3.0, 0, 0], [0, 3.0, 0], [3.0, 3.0, 0]])
    empty = context.rattled.copy()
    empty.set_cell(np.zeros((3, 3)))
    for atoms, what in ((flat, "flat cell"), (empty, "zero cell")):
        atoms.set_pbc(True)
        _must_raise(context, atoms, what)
    return 0.0


def coincident(context: Context) -> float:
    """Two atoms in one place are an error, or at least not NaN."""
    for pbc in {False, bool(context.rattled.pbc.all())}:
        atoms = context.rattled.copy() if pbc else context.cluster()
        atoms += Atoms(atoms.symbols[0], positions=[atoms.positions[0]])
        _refused(context, atoms, "coincident atoms")
        _refused(context, atoms, "coincident atoms", "forces")
    return 0.0


def stress_without_volume(context: Context) -> float:
    """Stress of a molecule is refused rather than made up."""
    if "stress" not in getattr(context.calc, "implemented_properties", ["stress"]):
        raise Skip("no stress")
    _must_raise(context, context.cluster(), "no volume", "stress")
    return 0.0


CHECKS = (
    Definition("nothing stale after a change", "invariance", staleness),
    Definition("order of calls does not matter", "invariance", order_of_calls),
    Definition("returned arrays are copies", "invariance", mutation),
    Definition("constraints are ignored", "invariance", constraints),
    Definition("repeated calculations agree", "invariance", repeated),
    Definition("deepcopy", "invariance", deep_copy),
    Definition("pickle", "invariance", pickling),
    Definition("export_properties and SumCalculator", "invariance", mixing),
    Definition("NaN, infinite or no positions are refused", "invariance", bad_positions),
    Definition("zero or flat cells are refused", "invariance", bad_cells),
    Definition("coincident atoms give no NaN", "invariance", coincident),
    Definition("stress without volume is refused", "invariance", stress_without_volume),
)

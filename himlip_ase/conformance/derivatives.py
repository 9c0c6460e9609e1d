"""Analytic derivatives against finite differences of the next lower ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from ase import Atoms

from himlip_ase.conformance.context import Context, Definition, relative

STEPS = (1e-2, 3e-3, 1e-3)
"""Å. A right derivative agrees at one of them; a wrong one at none."""
DIRECTIONS = 3
FLOOR = 1e-3
"""Derivatives (eV/Å, eV, eV/Å²) smaller than this are compared as if they had this size."""


def difference(function: Callable[[float], np.ndarray | float], step: float) -> np.ndarray:
    """Central difference of fourth order: error step⁴ f⁽⁵⁾/30.

    Parameters
    ----------
    function : callable
        Of one number; f below.
    step : float

    Returns
    -------
    float
    """
    near = np.asarray(function(step)) - np.asarray(function(-step))
    far = np.asarray(function(2 * step)) - np.asarray(function(-2 * step))
    return (8 * near - far) / (12 * step)


def _moved(atoms: Atoms, direction: np.ndarray, amount: float) -> Atoms:
    moved = atoms.copy()
    moved.positions += amount * direction
    return moved


def _directions(context: Context, name: str) -> np.ndarray:
    vectors = context.rng(name).normal(size=(DIRECTIONS, len(context.rattled), 3))
    return vectors / np.linalg.norm(vectors, axis=2).max(axis=1)[:, None, None]


def _best(analytic: np.ndarray, numeric: Callable[[float], np.ndarray]) -> tuple[float, str]:
    errors = {step: relative(numeric(step) - analytic, analytic, FLOOR) for step in STEPS}
    step = min(errors, key=errors.__getitem__)
    return errors[step], f"step {step:g} Å, largest {np.abs(analytic).max():.3g}"


def forces(context: Context) -> tuple[float, str]:
    """Forces along random directions against the energy."""
    atoms, directions = context.rattled, _directions(context, "forces")
    analytic = -np.einsum("ni,kni->k", context.forces(atoms), directions)

    def energy(direction: np.ndarray, amount: float) -> float:
        return context.energy(_moved(atoms, direction, amount))

    def numeric(step: float) -> np.ndarray:
        return np.array([difference(partial(energy, direction), step) for direction in directions])

    return _best(analytic, numeric)


def stress(context: Context) -> tuple[float, str]:
    """Stress along random strains against the energy."""
    atoms = context.crystal
    strains = context.rng("stress").normal(size=(DIRECTIONS, 3, 3))
    strains = strains + strains.transpose(0, 2, 1)
    strains /= np.abs(strains).max(axis=(1, 2))[:, None, None]
    analytic = abs(atoms.cell.volume) * np.einsum("ab,kab->k", context.stress(atoms), strains)

    def energy(strain: np.ndarray, amount: float) -> float:
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + amount * strain), scale_atoms=True)
        return context.energy(strained)

    def numeric(step: float) -> np.ndarray:
        return np.array([difference(partial(energy, strain), step / 3) for strain in strains])

    return _best(analytic, numeric)


def hessian(context: Context) -> tuple[float, str]:
    """Hessian times random directions against the forces."""
    atoms, directions = context.rattled, _directions(context, "hessian")
    analytic = directions.reshape(DIRECTIONS, -1) @ context.hessian(atoms)

    def negative_forces(direction: np.ndarray, amount: float) -> np.ndarray:
        return -context.forces(_moved(atoms, direction, amount)).ravel()

    def numeric(step: float) -> np.ndarray:
        return np.array([difference(partial(negative_forces, direction), step) for direction in directions])

    return _best(analytic, numeric)


def hessian_symmetry(context: Context) -> float:
    """Largest |H − Hᵀ| over the largest |H|."""
    value = context.hessian(context.rattled)
    return relative(value - value.T, value, FLOOR)


def hessian_sum_rule(context: Context) -> float:
    """Largest sum of a row's blocks over the largest |H|."""
    value = context.hessian(context.rattled)
    return relative(value.reshape(len(value), -1, 3).sum(axis=1), value, FLOOR)


def net_force(context: Context) -> float:
    """Sum of the forces over the largest."""
    value = context.forces(context.rattled)
    return relative(value.sum(axis=0), value, FLOOR)


def dimers(context: Context) -> tuple[float, str]:
    """Force against energy of every pair of elements, from half to three times the bond."""
    from ase.data import atomic_numbers, covalent_radii

    worst, note = 0.0, ""
    for first, second in pairs(context.elements):
        bond = covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]]

        def dimer(distance: float, symbols: tuple[str, str] = (first, second)) -> Atoms:
            return Atoms(symbols, positions=[[0, 0, 0], [0, 0, distance]])

        distances = np.linspace(0.5, 3.0, 11) * bond
        pulls = np.array([-context.forces(dimer(distance))[1, 2] for distance in distances])
        scale = np.maximum(np.abs(pulls), 1e-2 * np.abs(pulls).max())
        for distance, pull, size in zip(distances, pulls, scale, strict=True):

            def energy(change: float, distance: float = distance) -> float:
                return context.energy(dimer(distance + change))

            error = min(relative(difference(energy, step) - pull, size) for step in (2e-3, 5e-4, 1e-4))
            if not error <= worst:
                worst, note = error, f"{first}–{second} at {distance:.2f} Å"
    return worst, note


def pairs(elements: list[str], limit: int = 6) -> list[tuple[str, str]]:
    """Pairs of elements, at most `limit`.

    Parameters
    ----------
    elements : sequence of str
    limit : int

    Returns
    -------
    list of (str, str)
    """
    found = [(a, b) for index, a in enumerate(elements) for b in elements[index:]]
    return found[:limit]


CHECKS = (
    Definition("forces = −dE/dx", "derivative", forces),
    Definition("stress = dE/dε / V", "derivative", stress),
    Definition("Hessian = −dF/dx", "derivative", hessian),
    Definition("force of dimers = −dE/dr", "derivative", dimers),
    Definition("Hessian is symmetric", "invariance", hessian_symmetry),
    Definition("Hessian obeys the acoustic sum rule", "invariance", hessian_sum_rule),
    Definition("net force is zero", "invariance", net_force),
)

"""Minima by restricted rational steps, from an exact, a model or an older Hessian."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms

from himlip_ase.errors import NotConvergedError
from himlip_ase.reactions.free_directions import FreeDirections
from himlip_ase.reactions.hessian_updates import bfgs, bofill
from himlip_ase.reactions.model_hessian import model_hessian
from himlip_ase.reactions.rational_steps import minimising_step
from himlip_ase.reactions.surface import Counts

logger = logging.getLogger(__name__)


class Landscape(Protocol):
    """What a relaxation needs of a `Surface`."""

    atoms: Atoms

    @property
    def counts(self) -> Counts:
        """What has been asked for so far."""

    def at(self, positions: np.ndarray) -> Atoms:
        """The atoms at other positions."""

    def evaluate(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy in eV and gradient (3N,) in eV/Å."""

    def hessian(self, positions: np.ndarray) -> np.ndarray:
        """Hessian (3N, 3N) in eV/Å²."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """A relaxed structure.

    Attributes
    ----------
    atoms : Atoms
        Without calculator.
    energy : float
        eV.
    largest_force : float
        eV/Å, along free directions.
    steps : int
    counts : Counts
    """

    atoms: Atoms
    energy: float
    largest_force: float
    steps: int
    counts: Counts


def find_minimum(
    surface: Landscape,
    positions: np.ndarray,
    fmax: float = 0.01,
    max_steps: int = 300,
    hessian: np.ndarray | None = None,
    hessian_every: int = 0,
    trust_radius: float = 0.3,
    max_is_enough: bool = False,
) -> Minimum:
    """Relax atoms within their constraints.

    Parameters
    ----------
    surface : Landscape
        A `Surface`, or one with springs.
    positions : ndarray (3N,)
        Å.
    fmax : float
        eV/Å; largest force on an atom in the end.
    max_steps : int
    hessian : ndarray (3N, 3N), optional
        Where to start from; by default the model of `model_hessian`.
    hessian_every : int
        An exact Hessian after every n-th step, and where the model turned out poor; 0: none.
    trust_radius : float
        Å; length of the first step of all atoms together.
    max_is_enough : bool
        Return what there is after `max_steps`.

    Returns
    -------
    Minimum

    Raises
    ------
    NotConvergedError
        The forces did not get below `fmax` in `max_steps`.
    """
    before = surface.counts
    directions = FreeDirections(surface.atoms)
    where = np.array(positions, dtype=float).ravel()
    energy, gradient = surface.evaluate(where)
    matrix = model_hessian(surface.at(where)) if hessian is None else np.array(hessian)
    # an exact Hessian may have negative curvature, which BFGS would spoil
    update = bfgs if hessian is None and not hessian_every else bofill
    radius, age = trust_radius, 0
    for step_number in range(max_steps + 1):
        basis = directions.basis(where)
        largest = largest_force(basis, gradient)
        if largest <= fmax:
            return Minimum(surface.at(where), energy, largest, step_number, surface.counts - before)
        values, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
        slopes = vectors.T @ (basis.T @ gradient)
        # a curvature below this is no guide to how far to go; steps downhill are what matters
        values = np.maximum(values, 0.05) if hessian is None else values
        reduced = minimising_step(values, slopes, radius)
        step = basis @ (vectors @ reduced)
        expected = float(slopes @ reduced + 0.5 * (values * reduced**2).sum())
        new_energy, new_gradient = surface.evaluate(where + step)
        change = new_energy - energy
        matrix, age = update(matrix, step, new_gradient - gradient), age + 1
        length = float(np.linalg.norm(step))
        if change > 1e-3 and radius > 1e-3:
            radius = length / 3
            if hessian_every and age > 1:
                matrix, age = surface.hessian(where), 0
            continue  # uphill: the same point again, with the curvature that was learnt
        ratio = change / expected if expected < -1e-7 else 1.0
        if ratio > 0.5 and length > 0.8 * radius:
            radius = min(1.5 * radius, 1.0)
        if ratio < 0.1:
            radius = max(length / 2, 0.02)
        where, energy, gradient = where + step, new_energy, new_gradient
        if hessian_every and age >= hessian_every:
            matrix, age = surface.hessian(where), 0
    if max_is_enough:
        return Minimum(surface.at(where), energy, largest, max_steps, surface.counts - before)
    raise NotConvergedError(
        f"after {max_steps} steps the largest force is {largest:.3g} eV/Å, not below {fmax:g}; allow more "
        "steps, or look whether the structure falls apart"
    )


def largest_force(basis: np.ndarray, gradient: np.ndarray) -> float:
    """Largest force on an atom along free directions, eV/Å.

    Parameters
    ----------
    basis : ndarray (3N, f)
        Orthonormal free directions.
    gradient : ndarray (3N,)
        eV/Å.

    Returns
    -------
    float
    """
    along = (basis @ (basis.T @ gradient)).reshape(-1, 3)
    return float(np.linalg.norm(along, axis=1).max())

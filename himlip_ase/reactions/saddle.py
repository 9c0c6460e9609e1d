"""Saddle points by restricted rational steps with exact Hessians."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.reactions.free_directions import FreeDirections
from himlip_ase.reactions.hessian_updates import bofill
from himlip_ase.reactions.minimum import largest_force
from himlip_ase.reactions.model_hessian import model_hessian
from himlip_ase.reactions.rational_steps import SADDLE_STEPS
from himlip_ase.reactions.softest_direction import softest_direction
from himlip_ase.reactions.surface import Counts, Surface
from himlip_ase.units import signed_frequencies_cm

logger = logging.getLogger(__name__)

IMAGINARY_CM = -30.0
"""cm⁻¹; a mode below this is imaginary. Weaker ones are within what differences, grids and forces that are
not quite zero leave of a soft rotation."""

SHARED = 0.2
"""Overlap with the direction of the reaction from which a mode of negative curvature is climbed."""

ESCAPES, ESCAPE_STEP = 3, 0.2
"""A search that comes to rest where further modes are imaginary goes off along them by so many Å (all atoms
together), at most so many times."""


@dataclass(frozen=True)
class SaddleSettings:
    """How a saddle point is looked for.

    Parameters
    ----------
    step : str
        A name of `himlip_ase.reactions.rational_steps.SADDLE_STEPS`.
    fmax : float
        eV/Å; largest force on an atom in the end.
    max_steps : int
    hessian_every : int
        An exact Hessian at every n-th point, Bofill's update between; 0: none but at the start and the end.
    trust_radius : float
        Å; longest first step of all atoms together.
    largest_radius : float
        Å; the trust radius grows up to this.
    large_system : int
        Degrees of freedom above which no Hessian is made: the climbed mode comes from Hessian-vector
        products, other curvatures from a model Hessian and updates.
    """

    step: str = "rs-p-rfo"
    fmax: float = 0.01
    max_steps: int = 100
    hessian_every: int = 1
    trust_radius: float = 0.4
    largest_radius: float = 0.8
    large_system: int = 600

    def __post_init__(self) -> None:
        SADDLE_STEPS[self.step]  # an unknown name is refused here
        if not (self.fmax > 0 and self.max_steps >= 1 and self.hessian_every >= 0):
            raise InputError(
                f"fmax {self.fmax}, max_steps {self.max_steps}, hessian_every {self.hessian_every}: want a "
                "positive force, at least one step, and an interval that is not negative"
            )
        if not 0 < self.trust_radius <= self.largest_radius:
            raise InputError(
                f"trust radius {self.trust_radius} Å must be positive and not above {self.largest_radius}"
            )


@dataclass(frozen=True, eq=False)
class Saddle:
    """A stationary point and its modes.

    Attributes
    ----------
    atoms : Atoms
        Without calculator.
    energy : float
        eV.
    hessian : ndarray (3N, 3N) or None
        eV/Å², exact; None for a large system.
    frequencies : ndarray (f,)
        cm⁻¹, ascending, imaginary negative; of a large system the softest only.
    modes : ndarray (f, N, 3)
        Orthonormal eigenvectors of the mass-weighted Hessian; divide by √mass for displacements.
    followed : ndarray (N, 3)
        The climbed direction in Cartesians, unit length.
    largest_force : float
        eV/Å.
    steps, rejected : int
        Steps taken, and steps that were taken back because the model was poor.
    converged : bool
    counts : Counts
    """

    atoms: Atoms
    energy: float
    hessian: np.ndarray | None
    frequencies: np.ndarray
    modes: np.ndarray
    followed: np.ndarray
    largest_force: float
    steps: int
    rejected: int
    converged: bool
    counts: Counts

    @property
    def imaginary(self) -> np.ndarray:
        """Imaginary frequencies, cm⁻¹, negative."""
        return self.frequencies[self.frequencies < IMAGINARY_CM]


def find_saddle(
    atoms: Atoms,
    calculator: Any,
    tangent: np.ndarray | None = None,
    settings: SaddleSettings | None = None,
) -> Saddle:
    """Search a first-order saddle point from a guess.

    The mode that overlaps most with `tangent` is climbed, afterwards the one that overlaps most with the mode
    climbed before; a mode of positive curvature is left for one of negative curvature that lies along it.
    Rigid motions and constrained directions are left out. Where the forces vanish and further modes are
    imaginary, the search goes off along these and on.

    Parameters
    ----------
    atoms : Atoms
        The guess; constraints are honoured.
    calculator : object
        See `himlip_ase.reactions.surface.Surface`; a `Surface` is taken as it is, its counts go on.
    tangent : ndarray (N, 3), optional
        Direction of the reaction at the guess, any length; by default the softest mode is climbed.
    settings : SaddleSettings, optional

    Returns
    -------
    Saddle
        Look at `converged` and at the number of imaginary modes: a search that ends proves nothing.

    Raises
    ------
    CalculationError
        The calculator fails.
    """
    settings = settings or SaddleSettings()
    surface = calculator if isinstance(calculator, Surface) else Surface(atoms, calculator)
    return _Search(surface, settings).run(atoms.positions.ravel(), tangent)


class _Search:
    """State of a search: a point, the Hessian there, the mode climbed."""

    def __init__(self, surface: Surface, settings: SaddleSettings) -> None:
        self.surface, self.settings = surface, settings
        self.directions = FreeDirections(surface.atoms)
        self.large = 3 * len(surface.atoms) > settings.large_system
        self.since_exact = 0
        self.faithful = False

    def run(self, positions: np.ndarray, tangent: np.ndarray | None) -> Saddle:
        before, settings = self.surface.counts, self.settings
        where = np.array(positions, dtype=float)
        energy, gradient = self.surface.evaluate(where)
        climbed = None if tangent is None else np.ravel(tangent).astype(float)
        self.faithful = tangent is not None
        if climbed is not None and not np.linalg.norm(climbed) > 0:
            raise InputError("the tangent is zero; leave it out to climb the softest mode")
        matrix = self.first_hessian(where, climbed)
        radius, steps, rejected, escapes = settings.trust_radius, 0, 0, 0
        converged = False
        while True:
            basis = self.directions.basis(where)
            values, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
            slopes = vectors.T @ (basis.T @ gradient)
            mode = _mode_to_climb(values, basis @ vectors, climbed, self.faithful)
            climbed = basis @ vectors[:, mode]
            largest = largest_force(basis, gradient)
            out_of_steps = steps + rejected >= settings.max_steps
            if largest <= settings.fmax and not out_of_steps and escapes < ESCAPES:
                step = self.further_imaginary(where, climbed)
                if step is not None:
                    new_energy, new_gradient = self.surface.evaluate(where + step)
                    matrix = self.next_hessian(matrix, where, step, new_gradient - gradient, climbed)
                    where, energy, gradient = where + step, new_energy, new_gradient
                    radius, steps, escapes = settings.trust_radius, steps + 1, escapes + 1
                    continue
            if largest <= settings.fmax or out_of_steps:
                converged = largest <= settings.fmax
                break
            reduced = SADDLE_STEPS[settings.step].step(values, slopes, mode, radius)
            step = basis @ (vectors @ reduced)
            try:
                new_energy, new_gradient = self.surface.evaluate(where + step)
            except CalculationError:
                if radius < 0.05:
                    raise
                radius, rejected = radius / 2, rejected + 1
                continue  # no energy there: a shorter step
            expected = gradient + matrix @ step
            error = float(np.linalg.norm(basis.T @ (new_gradient - expected)))
            predicted = float(slopes @ reduced + 0.5 * (values * reduced**2).sum())
            size = float(np.linalg.norm(basis.T @ gradient))
            quality = _quality(new_energy - energy, predicted, error, size)
            length = float(np.linalg.norm(step))
            if quality == "useless" and length > 0.05:
                matrix = bofill(matrix, step, new_gradient - gradient)
                radius, rejected = length / 2.5, rejected + 1
                continue
            if quality == "good" and length > 0.8 * radius:
                radius = min(1.5 * radius, settings.largest_radius)
            if quality == "poor":
                radius = max(length / 2, 0.05)
            matrix = self.next_hessian(matrix, where, step, new_gradient - gradient, climbed)
            where, energy, gradient, steps = where + step, new_energy, new_gradient, steps + 1
            logger.debug(
                "step %d: %.6f eV, |F| %.4f, radius %.2f (%s)", steps, energy, largest, radius, quality
            )
        return self.result(where, energy, climbed, largest, steps, rejected, converged, before)

    def further_imaginary(self, where: np.ndarray, climbed: np.ndarray) -> np.ndarray | None:
        """A step along the imaginary modes that are not climbed; None where there are none."""
        if self.large:
            return None
        frequencies, modes = self.vibrations(where, self.surface.hessian(where))
        roots = np.sqrt(np.repeat(self.surface.atoms.get_masses(), 3))
        count = int((frequencies < IMAGINARY_CM).sum())
        if count < 2:
            return None
        shapes = modes[:, :count] / roots[:, None]
        shapes /= np.linalg.norm(shapes, axis=0)
        others = np.delete(shapes, int(np.abs(shapes.T @ climbed).argmax()), axis=1)
        # both ways lead down; which is taken must not depend on how the molecule lies
        centred = where.reshape(-1, 3) - where.reshape(-1, 3).mean(axis=0)
        outwards = (centred * np.arange(1, len(centred) + 1)[:, None]).ravel()
        step = others @ np.where(others.T @ outwards < 0, -1.0, 1.0)
        return ESCAPE_STEP * step / np.linalg.norm(step)

    def vibrations(self, where: np.ndarray, hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frequencies (f,), cm⁻¹, ascending, and orthonormal mass-weighted modes as columns (3N, f)."""
        weighted = FreeDirections(self.surface.atoms, mass_weighted=True).basis(where)
        roots = np.sqrt(np.repeat(self.surface.atoms.get_masses(), 3))
        values, vectors = np.linalg.eigh(weighted.T @ (hessian / roots / roots[:, None]) @ weighted)
        return signed_frequencies_cm(values), weighted @ vectors

    def first_hessian(self, where: np.ndarray, climbed: np.ndarray | None) -> np.ndarray:
        if not self.large:
            return self.surface.hessian(where)
        return self.with_softest(model_hessian(self.surface.at(where)), where, climbed)

    def next_hessian(
        self, matrix: np.ndarray, where: np.ndarray, step: np.ndarray, change: np.ndarray, climbed: np.ndarray
    ) -> np.ndarray:
        """The Hessian at the next point: exact when it is due, else updated."""
        self.since_exact += 1
        every = self.settings.hessian_every
        due = bool(every) and self.since_exact >= every
        if due:
            self.since_exact = 0
        if due and not self.large:
            return self.surface.hessian(where + step)
        matrix = bofill(matrix, step, change)
        return self.with_softest(matrix, where + step, climbed) if due else matrix

    def with_softest(self, matrix: np.ndarray, where: np.ndarray, climbed: np.ndarray | None) -> np.ndarray:
        """A model Hessian with its softest direction replaced by the surface's own."""
        basis = self.directions.basis(where)
        vector, image = softest_direction(self.surface.products(where), basis, climbed)
        return bofill(matrix, 1e-2 * vector, 1e-2 * image)

    def result(
        self,
        where: np.ndarray,
        energy: float,
        climbed: np.ndarray,
        largest: float,
        steps: int,
        rejected: int,
        converged: bool,
        before: Counts,
    ) -> Saddle:
        atoms = self.surface.at(where)
        hessian = None
        if self.large:
            weighted = FreeDirections(self.surface.atoms, mass_weighted=True).basis(where)
            roots = np.sqrt(np.repeat(atoms.get_masses(), 3))
            products = self.surface.products(where)
            values, vectors = softest_modes(products, weighted, roots, climbed * roots)
            frequencies = signed_frequencies_cm(values)
        else:
            hessian = self.surface.hessian(where)
            frequencies, vectors = self.vibrations(where, hessian)
        return Saddle(
            atoms, energy, hessian, frequencies, vectors.T.reshape(-1, len(atoms), 3),
            climbed.reshape(-1, 3) / np.linalg.norm(climbed), largest, steps, rejected, converged,
            self.surface.counts - before,
        )  # fmt: skip


def softest_modes(
    products: Any, basis: np.ndarray, roots: np.ndarray, start: np.ndarray, n: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Softest eigenpairs of the mass-weighted Hessian: eigenvalues in eV/Å²/amu, columns (3N, n).

    Parameters
    ----------
    products : callable
        (3N, k) → (3N, k), the Hessian times vectors, eV/Å².
    basis : ndarray (3N, f)
        Orthonormal mass-weighted directions that may be used.
    roots : ndarray (3N,)
        √mass, amu^1/2.
    start : ndarray (3N,)
        A mass-weighted direction to begin with.
    n : int

    Returns
    -------
    values : ndarray (n,)
    vectors : ndarray (3N, n)

    Raises
    ------
    NotConvergedError
        Not found in 200 products.
    """
    from himlip_ase.vibrations.davidson import lowest_eigenpairs

    def operator(vectors: np.ndarray) -> np.ndarray:
        return basis @ (basis.T @ (products(vectors / roots[:, None]) / roots[:, None]))

    first = np.random.default_rng(0).normal(size=(len(roots), n + 2))
    first[:, 0] = start
    found = lowest_eigenpairs(
        operator, first, n, lambda values: np.full(len(values), 2e-3), lambda v: basis @ (basis.T @ v), 200
    )
    if not found.converged:
        raise NotConvergedError("the softest modes did not converge in 200 Hessian-vector products")
    return found.values, found.vectors


def _mode_to_climb(values: np.ndarray, modes: np.ndarray, climbed: np.ndarray | None, faithful: bool) -> int:
    """Index of the eigenvector to climb: the softest, or the one most like the direction climbed before.

    Where that one has a positive curvature, the likest of those with a negative one is climbed instead, if it
    shares enough with the direction (anything, where nobody named one): climbed further, the other would lead
    out of the valley, while the pass lies along the negative one.
    """
    if climbed is None:
        return 0
    overlaps = np.abs(modes.T @ climbed)
    likest = int(overlaps.argmax())
    if values[likest] <= 0 or values[0] >= 0:
        return likest
    negative = int(np.where(values < 0, overlaps, -1.0).argmax())
    return negative if overlaps[negative] > (SHARED if faithful else 0.0) else likest


def _quality(change: float, predicted: float, error: float, gradient: float) -> str:
    """How well the quadratic model foretold a step: "good", "fair", "poor" or "useless".

    The energy decides by the ratio of its change to the one foretold; where that is too small to tell, and
    as a second opinion, the gradient does.
    """
    miss = error / max(gradient, 1e-12)
    if abs(change - predicted) < 1e-3:
        return "good" if miss < 1 else "fair"
    ratio = change / predicted if abs(predicted) > 1e-9 else np.inf
    if 0.65 < ratio < 1.5 and miss < 1.2:
        return "good"
    if 0.25 < ratio < 2.5:
        return "fair"
    return "useless" if miss > 4 else "poor"

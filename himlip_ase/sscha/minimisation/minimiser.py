"""Ways to the minimum of the SSCHA free energy on one ensemble, in symmetry-adapted coefficients.

Both ways follow the preconditioned gradient (G for the force constants, -Φ(Γ)⁻¹⟨δf⟩ for the centroids),
which is Newton's step but for the third- and fourth-order terms.

* :func:`descend`: steepest descent with the line search of python-sscha; a direction is kept, and the step
  shortened, until the new gradient still points along it and the Kong-Liu ratio lost no more than a tenth.
  In the force constants or in their square root (Monacelli et al., PRB 98, 024106 (2018)).
* :func:`accelerate`: the fixed-point iteration Φ → Φ - G with Anderson mixing, each step shortened until the
  force constants are positive, the ensemble still carries them and the gradient has not grown much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from himlip_ase.sscha.ensembles.trial_gaussian import TrialGaussian
from himlip_ase.sscha.minimisation.engine import MinimiserSettings

GROWTH, SHRINKAGE, POOREST = 1.5, 0.87358046475, 0.9
"""Of the line search: step factor after success and after failure, Kong-Liu ratio kept by one direction."""

DEPTH = 6
"""Earlier steps that Anderson mixing uses."""

WORSE = 1.5
"""Largest growth of the gradient in one accepted step of the accelerated iteration."""

HALF = 0.5
"""Factor of a step that leaves the positive force constants, or that the accelerated iteration refuses."""

SHORTEST, SHORTEST_CARRIED = 1e-6, 0.02
"""Fraction of a full step below which the minimisation is stuck, and below which the ensemble is used up."""

NEARLY_USED = 1.1
"""After a shortened step to within this factor of the Kong-Liu limit the ensemble is used up."""

NEGLIGIBLE = 1e-7
"""Gradient modulus (eV/Å², and Å for the centroids) that ends a minimisation whatever its error: rounding."""


@dataclass(frozen=True)
class Point:
    """A trial Gaussian that was evaluated.

    Attributes
    ----------
    trial : TrialGaussian
    coordinates : ndarray
        What the minimiser moves: coefficients of the force constants (or their root), then centroid shifts.
    direction : ndarray
        Preconditioned gradient in the same coordinates; the way down is opposite.
    gradient, gradient_sigma : float
        Modulus of G and of its standard error, eV/Å².
    shift, shift_sigma : float
        The same for the preconditioned centroid gradient, Å; 0 if the centroids stay.
    free_energy, free_energy_sigma : float
        eV per primitive cell.
    kong_liu : float
    """

    trial: TrialGaussian
    coordinates: np.ndarray
    direction: np.ndarray
    gradient: float
    gradient_sigma: float
    shift: float
    shift_sigma: float
    free_energy: float
    free_energy_sigma: float
    kong_liu: float

    def vanished(self, factor: float) -> bool:
        """Whether both gradients are below `factor` of their errors, or are rounding."""
        return (self.gradient < factor * self.gradient_sigma or self.gradient < NEGLIGIBLE) and (
            self.shift < factor * self.shift_sigma or self.shift < NEGLIGIBLE
        )


class Evaluator(Protocol):
    """Evaluates trial coordinates, None where the force constants are not positive."""

    def __call__(self, coordinates: np.ndarray, /) -> Point | None:
        """Free energy and gradient at `coordinates`; None where the matrices are not positive."""
        ...


Ending = tuple[str, str]
"""Why a minimisation ended: "gradient", "kong-liu", "steps" or "stuck", and a sentence."""


class MinimiserPath:
    """Points accepted so far, limits, and reasons to end.

    Parameters
    ----------
    evaluate : Evaluator
    settings : MinimiserSettings
    on_progress : callable, optional
        Called with the number of points evaluated.

    Attributes
    ----------
    accepted : list of Point
        The points accepted, the first where the minimisation starts.
    steps : int
        Points evaluated, the first not counted.
    """

    def __init__(
        self,
        evaluate: Evaluator,
        settings: MinimiserSettings,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self._evaluate, self.settings, self._on_progress = evaluate, settings, on_progress
        self.accepted: list[Point] = []
        self.steps = 0

    @property
    def point(self) -> Point:
        """The point accepted last."""
        return self.accepted[-1]

    def evaluate(self, coordinates: np.ndarray) -> Point | None:
        """Evaluate a trial; None if its force constants are not positive."""
        self.steps += 1
        if self._on_progress is not None:
            self._on_progress(self.steps)
        return self._evaluate(coordinates)

    def accept(self, point: Point) -> Ending | None:
        """Go to `point`; why to stop there, None to go on."""
        self.accepted.append(point)
        if point.vanished(self.settings.meaningful_factor):
            return "gradient", f"the gradient ({point.gradient:.2g} eV/Å²) vanished within its error"
        if point.kong_liu < self.settings.kong_liu:
            return self.used_up()
        return self.too_long()

    def used_up(self) -> Ending:
        """The ensemble carries no further."""
        return "kong-liu", f"a step would take the Kong-Liu ratio below {self.settings.kong_liu:g}"

    def too_long(self) -> Ending | None:
        """The limit of steps, if it is reached."""
        if self.steps < self.settings.max_steps:
            return None
        return "steps", f"{self.steps} steps were made, the gradient is {self.point.gradient:.2g} eV/Å²"

    def stuck(self) -> Ending:
        """No step is short enough."""
        return "stuck", (
            "no step, however short, keeps the force constants positive and lowers the gradient "
            f"({self.point.gradient:.2g} eV/Å²)"
        )


def descend(path: MinimiserPath, point: Point) -> Ending:
    """Preconditioned steepest descent with a line search; `settings.step` is its first guess.

    Parameters
    ----------
    path : MinimiserPath
        Gets the points that are accepted.
    point : Point
        Where to begin.

    Returns
    -------
    ended, reason : str
    """
    step = path.settings.step
    end = path.accept(point)
    while end is None:
        step *= GROWTH
        while True:
            trial = path.evaluate(point.coordinates - step * point.direction)
            if trial is not None and _along(trial, point):
                break
            step *= HALF if trial is None else SHRINKAGE
            if step < SHORTEST * path.settings.step:
                return path.stuck()
            if (end := path.too_long()) is not None:
                return end
        if trial.kong_liu < path.settings.kong_liu:
            return path.used_up()
        point = trial
        end = path.accept(point)
    return end


def _along(trial: Point, point: Point) -> bool:
    """Whether the line search may stop here."""
    return trial.kong_liu >= POOREST * point.kong_liu and bool(point.direction @ trial.direction >= 0)


def accelerate(path: MinimiserPath, point: Point) -> Ending:
    """Anderson-accelerated self-consistency (H. F. Walker and P. Ni, SIAM J. Numer. Anal. 49, 1715 (2011)).

    A step that is refused is halved, and what was learnt from earlier points forgotten.  Where the Kong-Liu
    ratio is what refuses it, the longest step that the ensemble carries is the last.

    Parameters
    ----------
    path : MinimiserPath
        Gets the points that are accepted.
    point : Point
        Where to begin.

    Returns
    -------
    ended, reason : str
    """
    places, directions = [point.coordinates], [point.direction]
    end = path.accept(point)
    while end is None:
        move, length = _mixed_move(places, directions), 1.0
        while True:
            trial = path.evaluate(point.coordinates + length * move)
            carried = trial is None or trial.kong_liu >= path.settings.kong_liu
            if trial is not None and carried and _norm(trial) <= WORSE * _norm(point):
                break
            if (end := path.too_long()) is not None:
                return end
            if len(places) > 1:
                places, directions = [point.coordinates], [point.direction]
                move = -point.direction
            else:
                length *= HALF
            if not carried and length < SHORTEST_CARRIED:
                return path.used_up()
            if length < SHORTEST:
                return path.stuck()
        point = trial
        end = path.accept(point)
        if end is None and length < 1.0 and point.kong_liu < NEARLY_USED * path.settings.kong_liu:
            return path.used_up()
        places, directions = [*places[-DEPTH:], point.coordinates], [*directions[-DEPTH:], point.direction]
    return end


def _norm(point: Point) -> float:
    return float(np.linalg.norm(point.direction))


def _mixed_move(places: list[np.ndarray], directions: list[np.ndarray]) -> np.ndarray:
    """Step to the combination of earlier points whose gradient is least, and on along that gradient."""
    last = directions[-1]
    if len(places) == 1:
        return -last
    changes = np.diff(np.array(directions), axis=0).T
    moves = np.diff(np.array(places), axis=0).T
    mixing, *_ = np.linalg.lstsq(changes, last, rcond=1e-8)
    return -last - (moves - changes) @ mixing

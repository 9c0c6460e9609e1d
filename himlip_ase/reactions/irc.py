"""Intrinsic reaction coordinate by a Hessian predictor–corrector.

Steepest descent in mass-weighted coordinates, dx/ds = −g/|g| (Fukui, Acc. Chem. Res. 14, 363 (1981)). The
predictor integrates on the quadratic model at the last point (Page and McIver, J. Chem. Phys. 88, 922
(1988)); gradient and Hessian at the predicted point give a second model, and the corrector integrates again
on the distance-weighted mean of both (Hratchian and Schlegel, J. Chem. Phys. 120, 9918 (2004)).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from scipy.integrate import solve_ivp

from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.reactions.free_directions import FreeDirections
from himlip_ase.reactions.hessian_updates import bofill
from himlip_ase.reactions.minimum import find_minimum, largest_force
from himlip_ase.reactions.saddle import Saddle
from himlip_ase.reactions.surface import Counts, Surface

FAR = 0.03
"""√amu Å between predicted and corrected point, beyond which the models are not trusted for its energy (at
0.06 it was off by 26 meV, without a bound by eV) and the point is evaluated itself."""
DISAGREEMENT = 0.5
"""The same in steps, beyond which the step is halved: over a narrow barrier the corrector falls back."""
SHORTEST = 0.1
"""Of the step; what is shorter is not halved again."""
RISE = 1e-4
"""eV that the energy may rise from one point to the next."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IrcSettings:
    """How the reaction coordinate is followed.

    Parameters
    ----------
    step : float
        √amu Å; 0.3 is coarse, 0.1 fine. Halved where the energy would rise.
    max_steps : int
        Of each direction.
    hessian_every : int
        An exact Hessian at every n-th point, Bofill's update between.
    fmax : float
        eV/Å; largest force on an atom of the relaxed ends.
    end_force : float
        eV/Å; below this largest force on an atom, and in a basin, the end is relaxed.
    end_hessian_every : int
        Steps between exact Hessians while an end is relaxed; 0: none.
    """

    step: float = 0.3
    max_steps: int = 100
    hessian_every: int = 1
    fmax: float = 0.01
    end_force: float = 0.3
    end_hessian_every: int = 2

    def __post_init__(self) -> None:
        if not (0.01 <= self.step <= 1.0 and self.max_steps >= 1 and self.hessian_every >= 1):
            raise InputError(
                f"step {self.step} √amu Å, max_steps {self.max_steps}, hessian_every {self.hessian_every}: "
                "want 0.01 to 1, and at least 1 and 1"
            )
        if not (self.fmax > 0 and self.end_force > 0):
            raise InputError("fmax and end_force must be positive")
        if self.end_hessian_every < 0:
            raise InputError(f"end_hessian_every {self.end_hessian_every} must not be negative")


@dataclass(frozen=True, eq=False)
class Branch:
    """The coordinate to one side of a saddle.

    Attributes
    ----------
    images : list of Atoms
        From the saddle (left out) downhill; the last is the relaxed end.
    energies : ndarray (n,)
        eV.
    coordinates : ndarray (n,)
        Length of the path from the saddle, √amu Å, positive.
    converged : bool
        Whether the end is a relaxed minimum.
    reason : str
        Why it ended.
    """

    images: list[Atoms]
    energies: np.ndarray
    coordinates: np.ndarray
    converged: bool
    reason: str

    @property
    def end(self) -> Atoms:
        """The relaxed end."""
        return self.images[-1]


@dataclass(frozen=True, eq=False)
class Irc:
    """Both sides of a saddle.

    Attributes
    ----------
    saddle : Atoms
    saddle_energy : float
        eV.
    backward, forward : Branch
        Against and along the imaginary mode.
    counts : Counts
    """

    saddle: Atoms
    saddle_energy: float
    backward: Branch
    forward: Branch
    counts: Counts

    @property
    def images(self) -> list[Atoms]:
        """From the backward end over the saddle to the forward end."""
        return [*self.backward.images[::-1], self.saddle, *self.forward.images]

    @property
    def energies(self) -> np.ndarray:
        """Energy of each image, eV."""
        return np.concatenate([self.backward.energies[::-1], [self.saddle_energy], self.forward.energies])

    @property
    def coordinates(self) -> np.ndarray:
        """√amu Å, negative on the backward side."""
        return np.concatenate([-self.backward.coordinates[::-1], [0.0], self.forward.coordinates])

    def reversed(self) -> Irc:
        """The same with the sides exchanged."""
        return Irc(self.saddle, self.saddle_energy, self.forward, self.backward, self.counts)


def follow_irc(saddle: Saddle, calculator: Any, settings: IrcSettings | None = None) -> Irc:
    """Follow the intrinsic reaction coordinate from a saddle to the minima on both sides.

    Parameters
    ----------
    saddle : Saddle
        With its Hessian (see `find_saddle`) and at least one imaginary mode; the softest is followed.
    calculator : object
        See `himlip_ase.reactions.surface.Surface`; a `Surface` is taken as it is.
    settings : IrcSettings, optional

    Returns
    -------
    Irc
        A branch that reached no minimum says so in `converged` and `reason`.

    Raises
    ------
    InputError
        No imaginary mode, or a saddle without Hessian.
    """
    settings = settings or IrcSettings()
    surface = calculator if isinstance(calculator, Surface) else Surface(saddle.atoms, calculator)
    if not len(saddle.imaginary):
        raise InputError("no imaginary mode: this is no saddle point, and no reaction coordinate leaves it")
    if saddle.hessian is None:
        raise InputError(
            f"the saddle of {len(saddle.atoms)} atoms came without its Hessian, which the reaction "
            "coordinate starts from; raise large_system of SaddleSettings"
        )
    before = surface.counts
    branches = [_Descent(surface, saddle, settings).run(sign) for sign in (-1.0, 1.0)]
    return Irc(saddle.atoms, saddle.energy, branches[0], branches[1], surface.counts - before)


@dataclass(frozen=True)
class _Model:
    """The surface around a point to second order, in mass-weighted coordinates."""

    origin: np.ndarray
    energy: float
    gradient: np.ndarray
    hessian: np.ndarray

    def energy_at(self, where: np.ndarray) -> float:
        step = where - self.origin
        return float(self.energy + self.gradient @ step + 0.5 * step @ self.hessian @ step)

    def gradient_at(self, where: np.ndarray) -> np.ndarray:
        return self.gradient + self.hessian @ (where - self.origin)


class _Descent:
    """One side of the coordinate."""

    def __init__(self, surface: Surface, saddle: Saddle, settings: IrcSettings) -> None:
        self.surface, self.saddle, self.settings = surface, saddle, settings
        self.roots = np.sqrt(np.repeat(surface.atoms.get_masses(), 3))
        self.weighted = FreeDirections(surface.atoms, mass_weighted=True)
        self.plain = FreeDirections(surface.atoms)
        assert saddle.hessian is not None
        self.start_hessian = saddle.hessian
        self.steepest = 0.0

    def run(self, sign: float) -> Branch:
        settings, roots = self.settings, self.roots
        origin = self.saddle.atoms.positions.ravel() * roots
        mode = sign * self.saddle.modes[0].ravel()
        hessian = self.start_hessian / roots / roots[:, None]
        curvature = mode @ hessian @ mode
        # off the saddle by what lowers the quadratic model by 5 meV
        first = min(settings.step / 2, float(np.sqrt(2 * 0.005 / max(-curvature, 1e-6))))
        model = _Model(origin, self.saddle.energy, np.zeros_like(origin), hessian)
        where, travelled = origin + first * mode, first
        points: list[np.ndarray] = []
        energies: list[float] = []
        lengths: list[float] = []
        reason, ended = f"no minimum within {settings.max_steps} steps", False
        length = settings.step
        for number in range(1, settings.max_steps + 1):
            basis = self.weighted.basis(where / roots)
            predicted = _descend(where, length, [model], basis)
            exact = (number - 1) % settings.hessian_every == 0
            new = self.model_at(predicted, model, exact)
            corrected = _descend(where, length, [model, new], basis)
            apart = float(np.linalg.norm(corrected - predicted))
            may_be_halved = length > SHORTEST * settings.step
            if apart > DISAGREEMENT * length and may_be_halved:
                length /= 2  # too far for the models: once more from the same point
                continue
            if apart > FAR:
                new = self.model_at(corrected, new, exact=False)
            energy = new.energy_at(corrected)
            if energy > (energies[-1] if energies else self.saddle.energy) + RISE:
                if may_be_halved:
                    length /= 2
                    continue
                reason, ended = "the energy rises", True
                break
            travelled += float(np.linalg.norm(corrected - where))
            where, model = corrected, new
            length = min(1.5 * length, settings.step)
            points.append(where / roots)
            energies.append(energy)
            lengths.append(travelled)
            if self.in_basin(new, where):
                reason, ended = "basin reached", True
                break
        return self.relaxed(points, energies, lengths, model, reason, ended)

    def model_at(self, where: np.ndarray, old: _Model, exact: bool) -> _Model:
        """Gradient at a point, and a Hessian: exact, or that of the last model updated."""
        roots = self.roots
        energy, plain = self.surface.evaluate(where / roots)
        gradient = plain / roots
        if exact:
            hessian = self.surface.hessian(where / roots) / roots / roots[:, None]
        else:
            hessian = bofill(old.hessian, where - old.origin, gradient - old.gradient)
        return _Model(where, energy, gradient, hessian)

    def in_basin(self, model: _Model, where: np.ndarray) -> bool:
        """Whether steepest descent has come so near a minimum that rational steps lead to the same one.

        The force must have passed its maximum: near the saddle it is small as well.
        """
        positions = where / self.roots
        force = largest_force(self.plain.basis(positions), model.gradient_at(where) * self.roots)
        self.steepest = max(self.steepest, force)
        if force > min(self.settings.end_force, 0.5 * self.steepest):
            return False
        weighted = self.weighted.basis(positions)
        lowest = np.linalg.eigvalsh(weighted.T @ model.hessian @ weighted)[0]
        return bool(lowest > 0) or force < self.settings.end_force / 5

    def relaxed(
        self,
        points: list[np.ndarray],
        energies: list[float],
        lengths: list[float],
        model: _Model,
        reason: str,
        ended: bool,
    ) -> Branch:
        """The branch with its end relaxed."""
        images = [self.surface.at(point) for point in points]
        last = points[-1] if points else self.saddle.atoms.positions.ravel()
        if not ended:
            return Branch(images, np.array(energies), np.array(lengths), False, reason)
        plain = model.hessian * self.roots * self.roots[:, None]
        try:
            every = self.settings.end_hessian_every
            end = find_minimum(self.surface, last, self.settings.fmax, hessian=plain, hessian_every=every)
        except (NotConvergedError, CalculationError) as error:
            logger.info("the end of the reaction coordinate did not relax: %s", error)
            return Branch(images, np.array(energies), np.array(lengths), False, str(error))
        if end.energy > self.saddle.energy - RISE:
            reason = "the end that was relaxed is the saddle itself"
            return Branch(images, np.array(energies), np.array(lengths), False, reason)
        further = float(np.linalg.norm((end.atoms.positions.ravel() - last) * self.roots))
        return Branch(
            [*images, end.atoms],
            np.array([*energies, end.energy]),
            np.array([*lengths, (lengths[-1] if lengths else 0.0) + further]),
            True,
            reason,
        )


def _descend(start: np.ndarray, length: float, models: list[_Model], basis: np.ndarray) -> np.ndarray:
    """Steepest descent by a given length on one quadratic model, or the weighted mean of two.

    It ends early where the gradient vanishes.
    """
    origin = start
    reduced = [
        _Model(
            basis.T @ (model.origin - origin), model.energy, basis.T @ model.gradient,
            basis.T @ model.hessian @ basis,
        )
        for model in models
    ]  # fmt: skip

    def slope(point: np.ndarray) -> np.ndarray:
        if len(reduced) == 1:
            return reduced[0].gradient_at(point)
        one, two = reduced
        near, far = point - one.origin, point - two.origin
        first, second = near @ near, far @ far
        total = max(first + second, 1e-14)
        weight = second / total
        weight_slope = (2 * far * first - 2 * near * second) / total**2
        return (
            weight * one.gradient_at(point)
            + (1 - weight) * two.gradient_at(point)
            + weight_slope * (one.energy_at(point) - two.energy_at(point))
        )

    def direction(_: float, point: np.ndarray) -> np.ndarray:
        gradient = slope(point)
        return -gradient / max(float(np.linalg.norm(gradient)), 1e-10)

    def flat(_: float, point: np.ndarray) -> float:
        return float(np.linalg.norm(slope(point))) - 1e-4

    flat.terminal = True  # type: ignore[attr-defined]
    found = solve_ivp(
        direction, (0, length), np.zeros(basis.shape[1]), method="LSODA", rtol=1e-5, atol=1e-6, events=flat
    )
    if not np.isfinite(found.y).all():
        raise CalculationError("the reaction coordinate could not be integrated")
    return start + basis @ found.y[:, -1]

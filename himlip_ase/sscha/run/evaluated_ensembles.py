"""Evaluated ensembles: drawn, kept as their forces come, or taken over from a neighbouring run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.ensemble import Ensemble, Evaluate, begin_ensemble, checked, evaluate_missing
from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.ensembles.reweighting import TrialGaussian, Waves, log_weights
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import Engine
from himlip_ase.sscha.run.checkpoints import State
from himlip_ase.sscha.run.progress import Progress
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.watch.watch import Watch, keep_watch

SAME_FORCES = 1e-5
"""On resuming, forces recomputed for one old configuration may differ by this much, eV/Å."""

REUSE_KONG_LIU = 0.7
"""Kong-Liu ratio above which the ensemble of a neighbouring run stands for a new one."""

CHUNK = 64
"""Configurations asked for at once, where the force callable does not say otherwise by ``evaluate.chunk``."""

SAVE_SECONDS = 10.0
"""An ensemble under way is written to disk when a chunk ends and this time has passed."""


@dataclass(frozen=True)
class Kept:
    """An evaluated ensemble and the Gaussian it was drawn from."""

    ensemble: Ensemble
    drawn: HarmonicDistribution

    def is_from(self, target: HarmonicDistribution) -> bool:
        """Whether the ensemble is a draw from `target` itself, to the last bit."""
        mine, other = self.drawn.dynamical, target.dynamical
        return (
            self.drawn.temperature_k == target.temperature_k
            and np.array_equal(mine.matrices, other.matrices)
            and np.array_equal(mine.primitive.positions, other.primitive.positions)
            and np.array_equal(mine.primitive.get_masses(), other.primitive.get_masses())
        )

    def weights(self, target: HarmonicDistribution) -> np.ndarray:
        """Importance weights (n,) for averages over `target`, of mean 1; exactly 1 for a draw from it."""
        if self.is_from(target):
            return np.ones(len(self.ensemble))
        grid = HalfGrid(self.drawn.dims)
        waves, gaussian = Waves(self.ensemble, self.drawn, grid), TrialGaussian.of(target, grid)
        logs = log_weights(waves, gaussian, waves.moved(gaussian.centroids))
        weights = np.exp(logs - logs.max())
        return weights / weights.mean()

    def moved(self, target: HarmonicDistribution) -> np.ndarray:
        """Displacements (n, N, 3) in Å from the centroids of `target`."""
        shift = self.drawn.dynamical.primitive.positions - target.dynamical.primitive.positions
        return self.ensemble.displacements + np.tile(shift, (int(np.prod(target.dims)), 1))

    def stands_for(self, target: HarmonicDistribution, engine: Engine) -> bool:
        """Whether it may be reweighted to `target`: same crystal, cell and grid, high Kong-Liu ratio."""
        mine, other = self.drawn.dynamical, target.dynamical
        if (
            mine.dims != other.dims
            or not np.array_equal(mine.primitive.numbers, other.primitive.numbers)
            or not np.allclose(mine.primitive.cell, other.primitive.cell, rtol=0, atol=1e-8)
        ):
            return False
        return engine.kong_liu(self.ensemble, self.drawn, target) >= REUSE_KONG_LIU


@dataclass(frozen=True)
class Neighbour:
    """A finished run whose ensembles may serve again.

    Attributes
    ----------
    population, final : Kept or None
        Its last population, for the first of the new run; its final ensemble, which had no part in making any
        auxiliary, for the final figures of the new run.
    static_energy : float
        Its zero of energy, which the new run keeps, eV per primitive cell.
    fingerprint : str
        Tells this neighbour from others.
    """

    population: Kept | None
    final: Kept | None
    static_energy: float
    fingerprint: str


class SameForces:
    """The force callable, checked against an ensemble that an earlier process evaluated."""

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate
        self.checked = False

    def check(self, drawn: HarmonicDistribution, displacement: np.ndarray, forces: np.ndarray) -> None:
        """Compare once, by computing one old configuration again.

        Raises
        ------
        InputError
            The forces differ.
        """
        if self.checked:
            return
        image = drawn.supercell
        image.positions += displacement
        difference = float(np.abs(checked(self.evaluate([image]), [image]).forces[0] - forces).max())
        if difference > SAME_FORCES:
            raise InputError(
                f"the forces differ by {difference:.2g} eV/Å from those this run was begun with; resume with "
                "the same potential or choose another folder"
            )
        self.checked = True


@dataclass(frozen=True)
class Work:
    """What all populations of a run share."""

    forces: SameForces
    engine: Engine
    settings: SschaSettings
    state: State
    bar: Progress
    neighbour: Neighbour | None = None
    watch: Watch = field(default_factory=Watch)


def take_ensemble(
    name: str, target: HarmonicDistribution, n: int, number: int, work: Work, offered: Kept | None = None
) -> Kept:
    """The ensemble kept under `name`, or the one offered if it may be reweighted, or a new one; kept.

    Parameters
    ----------
    name : str
        Of its files.
    target : HarmonicDistribution
        What it is needed for.
    n : int
        Configurations of a new one.
    number : int
        Stream of random numbers of a new one.
    work : Work
    offered : Kept, optional
        From a neighbouring run.
    """
    kept = _take_ensemble(name, target, n, number, work, offered)
    with work.bar.timed("watch"):
        keep_watch(work.watch, work.state.folder.parent, name, kept.drawn.supercell, kept.ensemble)
    return kept


def _take_ensemble(
    name: str, target: HarmonicDistribution, n: int, number: int, work: Work, offered: Kept | None
) -> Kept:
    state, settings = work.state, work.settings
    kept = state.load_ensemble(name)
    if kept is not None:
        work.forces.check(kept[1], kept[0].displacements[0], kept[0].forces[0])
        return Kept(*kept)
    if offered is not None and settings.engine == "native" and offered.stands_for(target, work.engine):
        work.forces.check(offered.drawn, offered.ensemble.displacements[0], offered.ensemble.forces[0])
        state.save_ensemble(name, offered.ensemble, offered.drawn)
        return offered
    partial = state.load_partial(name)
    if partial is None:
        with work.bar.timed("sampling"):
            seed = stream(settings.seed, number)
            partial = begin_ensemble(target, n, seed, settings.sampling, settings.n_blocks)
    elif partial.done.any():
        row = int(np.flatnonzero(partial.done)[0])
        work.forces.check(target, partial.displacements[row], partial.forces[row])
    begun = partial
    work.bar.begin(f"{name.replace('_', ' ')}: forces", len(partial.done))
    chunk = int(getattr(work.forces.evaluate, "chunk", CHUNK))
    written = time.monotonic()
    with work.bar.timed("forces"):
        try:
            for partial in evaluate_missing(begun, target.supercell, work.forces.evaluate, chunk):
                work.bar.step(int(partial.done.sum()))
                if time.monotonic() - written > SAVE_SECONDS:
                    state.save_partial(name, partial)
                    written = time.monotonic()
        except BaseException:
            if partial.done.any():
                state.save_partial(name, partial)
            raise
    work.forces.checked = True
    ensemble = partial.whole()
    state.save_ensemble(name, ensemble, target)
    return Kept(ensemble, target)

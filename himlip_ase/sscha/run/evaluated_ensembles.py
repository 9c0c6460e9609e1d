"""Evaluated ensembles: drawn, stored as their forces come, or taken over from a finished run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.sscha.choices import PRECISIONS
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.evaluation import Evaluate, checked
from himlip_ase.sscha.ensembles.partial_ensemble import begin_ensemble, evaluate_missing
from himlip_ase.sscha.ensembles.precision import choose_precision
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import Engine
from himlip_ase.sscha.run.checkpoints import State
from himlip_ase.sscha.run.progress import RunProgress
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.watch.watch import Watch, record_watch

SAME_FORCES = 1e-5
"""On resuming, forces recomputed for one old configuration may differ by this much, eV/Å."""

REUSE_KONG_LIU = 0.7
"""Kong-Liu ratio above which an ensemble stands for a draw from another Gaussian."""

CHUNK = 64
"""Configurations asked for at once, where the force callable does not say otherwise by ``evaluate.chunk``."""

SAVE_SECONDS = 10.0
"""An ensemble under way is written to disk when a chunk ends and this time has passed."""


@dataclass(frozen=True, eq=False)
class SourceRun:
    """A finished run whose ensembles may serve again.

    Attributes
    ----------
    last_population : Ensemble or None
        For the first population of the new run.
    final_ensemble : Ensemble or None
        It had no part in making any auxiliary: for the final figures of the new run.
    static_energy : float
        Its zero of energy, which the new run keeps, eV per primitive cell.
    fingerprint : str
        Tells this run from others.
    """

    last_population: Ensemble | None
    final_ensemble: Ensemble | None
    static_energy: float
    fingerprint: str


def may_be_reweighted(ensemble: Ensemble, target: HarmonicDistribution, engine: Engine) -> bool:
    """Whether an ensemble stands for a draw from another Gaussian.

    Parameters
    ----------
    ensemble : Ensemble
    target : HarmonicDistribution
    engine : Engine
        Takes the Kong-Liu ratio, which must be at least :data:`REUSE_KONG_LIU`; crystal, cell and grid must
        be the same.

    Returns
    -------
    bool
    """
    return ensemble.has_grid_of(target) and engine.kong_liu(ensemble, target) >= REUSE_KONG_LIU


class CheckedForces:
    """The force callable, checked against an ensemble that an earlier process evaluated."""

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate
        self.checked = False

    def check_first_of(self, ensemble: Ensemble) -> None:
        """Compare once, by computing the first configuration again; see :meth:`check`."""
        self.check(ensemble.drawn_from, ensemble.displacements[0], ensemble.forces[0])

    def check(self, drawn_from: HarmonicDistribution, displacement: np.ndarray, forces: np.ndarray) -> None:
        """Compare once, by computing one old configuration again.

        Parameters
        ----------
        drawn_from : HarmonicDistribution
        displacement : ndarray, shape (N, 3)
            Å, from its centroids.
        forces : ndarray, shape (N, 3)
            What was computed for it, eV/Å.

        Raises
        ------
        InputError
            The forces differ.
        """
        if self.checked:
            return
        image = drawn_from.supercell
        image.positions += displacement
        difference = float(np.abs(checked(self.evaluate([image]), [image]).forces[0] - forces).max())
        if difference > SAME_FORCES:
            raise InputError(
                f"the forces differ by {difference:.2g} eV/Å from those this run was begun with; resume with "
                "the same potential or choose another folder"
            )
        self.checked = True


@dataclass(frozen=True, eq=False)
class RunContext:
    """What all populations of a run share.

    Attributes
    ----------
    forces : CheckedForces
    engine : Engine
    settings : SschaSettings
    state : State
    progress : RunProgress
    source : SourceRun, optional
        A finished run that this one begins from.
    watch : Watch
    """

    forces: CheckedForces
    engine: Engine
    settings: SschaSettings
    state: State
    progress: RunProgress
    source: SourceRun | None = None
    watch: Watch = field(default_factory=Watch)


def obtain_ensemble(
    name: str,
    target: HarmonicDistribution,
    n: int,
    number: int,
    run: RunContext,
    offered: Ensemble | None = None,
) -> Ensemble:
    """The ensemble stored under `name`, or the one offered if it may be reweighted, or a new one; stored.

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
    run : RunContext
    offered : Ensemble, optional
        From the run that this one begins from, or a final ensemble that disagreed.

    Returns
    -------
    Ensemble
    """
    ensemble = _obtain(name, target, n, number, run, offered)
    with run.progress.timed("watch"):
        record_watch(run.watch, run.state.folder.parent, name, ensemble)
    return ensemble


def _obtain(
    name: str,
    target: HarmonicDistribution,
    n: int,
    number: int,
    run: RunContext,
    offered: Ensemble | None,
) -> Ensemble:
    stored = run.state.load_ensemble(name)
    if stored is not None:
        run.forces.check_first_of(stored)
        return stored
    if (
        offered is not None
        and run.settings.engine == "native"
        and may_be_reweighted(offered, target, run.engine)
    ):
        run.forces.check_first_of(offered)
        run.state.save_ensemble(name, offered)
        return offered
    return _evaluate(name, target, n, number, run)


def _evaluate(name: str, target: HarmonicDistribution, n: int, number: int, run: RunContext) -> Ensemble:
    """A new draw, or the rest of one that an earlier process began."""
    state, settings = run.state, run.settings
    partial = state.load_partial(name)
    if partial is None:
        with run.progress.timed("sampling"):
            seed = stream(settings.seed, number)
            partial = begin_ensemble(target, n, seed, settings.sampling, settings.n_blocks)
    elif partial.done.any():
        row = int(np.flatnonzero(partial.done)[0])
        run.forces.check(target, partial.displacements[row], partial.forces[row])
    rounding: float | None = None
    evaluate = run.forces.evaluate
    run.progress.begin(f"{name.replace('_', ' ')}: forces", len(partial.done))
    chunk = int(getattr(evaluate, "chunk", CHUNK))
    written = time.monotonic()
    with run.progress.timed("forces"):
        try:
            if PRECISIONS[settings.precision].compares:
                partial, evaluate, rounding = choose_precision(partial, target, evaluate)
            drawn = partial
            for partial in evaluate_missing(drawn, target.supercell, evaluate, chunk):
                run.progress.update(int(partial.done.sum()))
                if time.monotonic() - written > SAVE_SECONDS:
                    state.save_partial(name, partial)
                    written = time.monotonic()
        except BaseException:
            if partial.done.any():
                state.save_partial(name, partial)
            raise
    run.forces.checked = True
    ensemble = partial.complete(target, rounding)
    state.save_ensemble(name, ensemble)
    return ensemble

"""One population: displaced supercells and their forces, taken chunk by chunk and completed on resuming.

A run draws with :func:`begin_ensemble`, keeps ``partial.arrays()`` in its state whenever
:func:`evaluate_missing` yields, and turns the whole into an :class:`Ensemble` with :meth:`Partial.whole`::

    drawn = begin_ensemble(distribution, n, stream(seed, population), sampling, n_blocks)
    for partial in evaluate_missing(drawn, distribution.supercell, evaluate):
        save_arrays(path, partial.arrays(), overwrite=True)  # or when a minute has passed
    ensemble = partial.whole()

and on resuming starts from ``Partial.from_arrays(load_arrays(path))`` instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.sscha.ensembles.distances import shortest_distance
from himlip_ase.sscha.ensembles.draws import Sampling, draw_displacements
from himlip_ase.sscha.ensembles.evaluation import Evaluate, EvaluationLike, Unfinished, checked
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution

__all__ = [
    "Ensemble",
    "Evaluate",
    "EvaluationLike",
    "Partial",
    "begin_ensemble",
    "checked",
    "draw_ensemble",
    "evaluate_missing",
    "shortest_distance",
]

CHUNK_ATOMS = 25_600
"""Atoms handed to the force callable at once: 800 configurations of 32 atoms, 100 of 256."""


@dataclass(frozen=True)
class Ensemble:
    """Supercells drawn from one Gaussian with their forces, atoms in the order of ``primitive.repeat(dims)``.

    Attributes
    ----------
    displacements : ndarray, shape (n, N, 3)
        Å from the centroids; of a draw in pairs, rows 2k and 2k+1 are opposites.
    energies : ndarray, shape (n,)
        eV per supercell.
    forces : ndarray, shape (n, N, 3)
        eV/Å.
    stresses : ndarray, shape (n, 6), or None
        ASE Voigt, eV/Å³, positive in tension.
    static_energy : float
        eV per supercell with every atom on its centroid.
    shortest_distance : float
        Smallest interatomic distance in the ensemble, Å.
    largest_displacement : float
        Å.
    """

    displacements: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray | None
    static_energy: float
    shortest_distance: float
    largest_displacement: float

    def __len__(self) -> int:
        return len(self.energies)

    def part(self, chosen: np.ndarray) -> Ensemble:
        """The configurations that a mask or an index array chooses."""
        return dataclasses.replace(
            self,
            displacements=self.displacements[chosen],
            energies=self.energies[chosen],
            forces=self.forces[chosen],
            stresses=None if self.stresses is None else self.stresses[chosen],
        )

    def pair_blocks(self, n_blocks: int) -> list[np.ndarray]:
        """Index arrays that split the ensemble into blocks without parting a pair of opposites."""
        pairs = np.array_split(np.arange(len(self) // 2), n_blocks)
        return [np.stack([2 * pair, 2 * pair + 1], axis=1).ravel() for pair in pairs]


@dataclass(frozen=True)
class Partial:
    """A drawn ensemble whose forces are known in part; the last row is the structure on its centroids.

    Attributes
    ----------
    displacements : ndarray, shape (n + 1, N, 3)
        Å; the last is zero.
    energies : ndarray, shape (n + 1,)
        eV per supercell, NaN where missing.
    forces : ndarray, shape (n + 1, N, 3)
        eV/Å.
    stresses : ndarray, shape (n + 1, 6)
        eV/Å³, NaN where missing or not computed.
    done : ndarray of bool, shape (n + 1,)
        Rows whose forces are known.
    shortest : float
        Smallest interatomic distance in the ensemble, Å.
    """

    displacements: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray
    done: np.ndarray
    shortest: float

    @property
    def n_missing(self) -> int:
        """Configurations that have no energy and forces yet."""
        return int((~self.done).sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays by name, ready for ``state.save_arrays``."""
        return {item.name: np.asarray(getattr(self, item.name)) for item in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Partial:
        """The inverse of :meth:`arrays`, exact to the last bit."""
        return cls(**{**arrays, "shortest": float(arrays["shortest"])})  # type: ignore[arg-type]

    def whole(self) -> Ensemble:
        """The ensemble once nothing is missing.

        Raises
        ------
        CalculationError
            Forces are missing.
        """
        if self.n_missing:
            raise CalculationError(
                f"{self.n_missing} of {len(self.done)} configurations have no forces yet; resume the run"
            )
        known = np.isfinite(self.stresses[:-1]).all(axis=1)
        return Ensemble(
            self.displacements[:-1],
            self.energies[:-1],
            self.forces[:-1],
            self.stresses[:-1] if known.all() else None,
            float(self.energies[-1]),
            self.shortest,
            float(np.linalg.norm(self.displacements, axis=2).max()),
        )


def begin_ensemble(
    distribution: HarmonicDistribution,
    n: int,
    seed: int | np.random.SeedSequence,
    sampling: Sampling = "pairs",
    n_blocks: int = 20,
) -> Partial:
    """As :func:`~himlip_ase.sscha.ensembles.draws.draw_displacements`, without forces yet."""
    drawn = draw_displacements(distribution, n, seed, sampling, n_blocks)
    displacements = np.concatenate([drawn, np.zeros((1, *drawn.shape[1:]))])
    return Partial(
        displacements,
        np.full(n + 1, np.nan),
        np.full(displacements.shape, np.nan),
        np.full((n + 1, 6), np.nan),
        np.zeros(n + 1, dtype=bool),
        shortest_distance(distribution.supercell, drawn),
    )


def evaluate_missing(
    partial: Partial, ideal: Atoms, evaluate: Evaluate, chunk: int | None = None
) -> Iterator[Partial]:
    """Ask for the missing forces, chunk by chunk.

    Parameters
    ----------
    partial : Partial
        Not changed.
    ideal : Atoms
        Supercell on its centroids, e.g. ``distribution.supercell``.
    evaluate : callable
        Energies, forces and stresses of a list of supercells; it may raise :class:`Unfinished`.
    chunk : int, optional
        Configurations per call; by default as many as `CHUNK_ATOMS` atoms make.  Chunks begin at fixed
        rows, so that a resumed run calls with the same batches as an unbroken one.

    Yields
    ------
    Partial
        After each call, with what it brought.  Keep it: nothing is asked for twice.  At least one is
        yielded.

    Raises
    ------
    InputError
        The callable returned arrays of the wrong number or shape, or `chunk` is not positive.
    CalculationError
        An energy, force or stress is not finite, or the callable failed; what it finished before was
        yielded.
    """
    chunk = max(1, CHUNK_ATOMS // len(ideal)) if chunk is None else chunk
    if chunk < 1:
        raise InputError(f"chunk is {chunk}; give a positive number of configurations")
    if not partial.n_missing:
        yield partial
    for start in range(0, len(partial.done), chunk):
        rows = start + np.flatnonzero(~partial.done[start : start + chunk])
        if not len(rows):
            continue
        images = [_displaced(ideal, partial.displacements[row]) for row in rows]
        try:
            results = checked(evaluate(images), images)
        except Unfinished as error:
            kept = np.flatnonzero(error.finished)
            if len(kept):
                part = checked(_rows(error.evaluation, kept), images[: len(kept)])
                partial = _filled(partial, rows[kept], part)
                yield partial
            raise
        partial = _filled(partial, rows, results)
        yield partial


def draw_ensemble(
    distribution: HarmonicDistribution,
    n: int,
    seed: int | np.random.SeedSequence,
    evaluate: Evaluate,
    sampling: Sampling = "pairs",
    n_blocks: int = 20,
    chunk: int | None = None,
) -> Ensemble:
    """Draw n configurations and evaluate them and the centroids; see :func:`evaluate_missing`."""
    drawn = begin_ensemble(distribution, n, seed, sampling, n_blocks)
    *_, last = evaluate_missing(drawn, distribution.supercell, evaluate, chunk)
    return last.whole()


def _displaced(ideal: Atoms, displacement: np.ndarray) -> Atoms:
    image = ideal.copy()
    image.positions += displacement
    return image


def _rows(evaluation: EvaluationLike, kept: np.ndarray) -> EvaluationLike:
    stresses = getattr(evaluation, "stresses", None)
    return Evaluation(
        np.asarray(evaluation.energies)[kept],
        np.array([np.asarray(evaluation.forces[row]) for row in kept]),
        None if stresses is None else np.asarray(stresses)[kept],
    )


def _filled(partial: Partial, rows: np.ndarray, results: Evaluation) -> Partial:
    """A copy with the results in place."""
    new = {name: getattr(partial, name).copy() for name in ("energies", "forces", "stresses", "done")}
    new["energies"][rows], new["forces"][rows], new["done"][rows] = results.energies, results.forces, True
    new["stresses"][rows] = results.stresses
    return dataclasses.replace(partial, **new)

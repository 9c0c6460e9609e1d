"""Drawing a population: forces are taken chunk by chunk, and completed on resuming.

A run draws with :func:`begin_ensemble`, keeps ``partial.arrays()`` in its state whenever
:func:`evaluate_missing` yields, and turns what is complete into an `Ensemble`::

    drawn = begin_ensemble(distribution, n, stream(seed, population), sampling, n_blocks)
    for partial in evaluate_missing(drawn, distribution.supercell, evaluate):
        save_arrays(path, partial.arrays(), overwrite=True)  # or when a minute has passed
    ensemble = partial.complete(distribution)

and on resuming starts from ``PartialEnsemble.from_arrays(load_arrays(path))`` instead.
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
from himlip_ase.sscha.ensembles.draws import draw_displacements
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.evaluation import Evaluate, EvaluationLike, Unfinished, checked
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution

CHUNK_ATOMS = 25_600
"""Atoms handed to the force callable at once: 800 configurations of 32 atoms, 100 of 256."""


@dataclass(frozen=True)
class PartialEnsemble:
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
        """Arrays by name, ready for ``array_files.save_arrays``."""
        return {item.name: np.asarray(getattr(self, item.name)) for item in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PartialEnsemble:
        """The inverse of :meth:`arrays`, exact to the last bit."""
        return cls(**{**arrays, "shortest": float(arrays["shortest"])})  # type: ignore[arg-type]

    def complete(self, drawn_from: HarmonicDistribution, rounding: float | None = None) -> Ensemble:
        """The ensemble once nothing is missing.

        Parameters
        ----------
        drawn_from : HarmonicDistribution
            The Gaussian that :func:`begin_ensemble` drew from.
        rounding : float, optional
            As the ensemble's.

        Returns
        -------
        Ensemble

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
            drawn_from,
            self.displacements[:-1],
            self.energies[:-1],
            self.forces[:-1],
            self.stresses[:-1] if known.all() else None,
            float(self.energies[-1]),
            self.shortest,
            float(np.linalg.norm(self.displacements, axis=2).max()),
            rounding,
        )


def begin_ensemble(
    distribution: HarmonicDistribution,
    n: int,
    seed: int | np.random.SeedSequence,
    sampling: str = "pairs",
    n_blocks: int = 20,
) -> PartialEnsemble:
    """As :func:`~himlip_ase.sscha.ensembles.draws.draw_displacements`, without forces yet.

    Parameters
    ----------
    distribution, n, seed, sampling, n_blocks
        See :func:`~himlip_ase.sscha.ensembles.draws.draw_displacements`.

    Returns
    -------
    PartialEnsemble
        Of n + 1 rows: the last is the structure on its centroids.
    """
    drawn = draw_displacements(distribution, n, seed, sampling, n_blocks)
    displacements = np.concatenate([drawn, np.zeros((1, *drawn.shape[1:]))])
    return PartialEnsemble(
        displacements,
        np.full(n + 1, np.nan),
        np.full(displacements.shape, np.nan),
        np.full((n + 1, 6), np.nan),
        np.zeros(n + 1, dtype=bool),
        shortest_distance(distribution.supercell, drawn),
    )


def evaluate_missing(
    partial: PartialEnsemble, ideal: Atoms, evaluate: Evaluate, chunk: int | None = None
) -> Iterator[PartialEnsemble]:
    """Ask for the missing forces, chunk by chunk.

    Parameters
    ----------
    partial : PartialEnsemble
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
    PartialEnsemble
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
        images = images_of(partial, ideal, rows)
        try:
            results = checked(evaluate(images), images)
        except Unfinished as error:
            finished = np.flatnonzero(error.finished)
            if len(finished):
                part = checked(_rows(error.evaluation, finished), images[: len(finished)])
                partial = _filled(partial, rows[finished], part)
                yield partial
            raise
        partial = _filled(partial, rows, results)
        yield partial


def evaluate_rows(
    partial: PartialEnsemble, ideal: Atoms, rows: np.ndarray, evaluate: Evaluate
) -> PartialEnsemble:
    """Ask for the forces of some configurations, where they are missing.

    Parameters
    ----------
    partial : PartialEnsemble
        Not changed.
    ideal : Atoms
        Supercell on its centroids.
    rows : ndarray of int
    evaluate : callable
        Energies, forces and stresses of a list of supercells.

    Returns
    -------
    PartialEnsemble
    """
    rows = rows[~partial.done[rows]]
    if not len(rows):
        return partial
    images = images_of(partial, ideal, rows)
    return _filled(partial, rows, checked(evaluate(images), images))


def images_of(partial: PartialEnsemble, ideal: Atoms, rows: np.ndarray) -> list[Atoms]:
    """Supercells of some configurations.

    Parameters
    ----------
    partial : PartialEnsemble
    ideal : Atoms
        Supercell on its centroids.
    rows : ndarray of int

    Returns
    -------
    list of Atoms
    """
    return [_displaced(ideal, partial.displacements[row]) for row in rows]


def draw_ensemble(
    distribution: HarmonicDistribution,
    n: int,
    seed: int | np.random.SeedSequence,
    evaluate: Evaluate,
    sampling: str = "pairs",
    n_blocks: int = 20,
    chunk: int | None = None,
) -> Ensemble:
    """Draw n configurations and evaluate them and the centroids; see :func:`evaluate_missing`.

    Parameters
    ----------
    distribution, n, seed, sampling, n_blocks
        See :func:`~himlip_ase.sscha.ensembles.draws.draw_displacements`.
    evaluate : callable
        Energies, forces and stresses of a list of supercells.
    chunk : int, optional
        Configurations per call.

    Returns
    -------
    Ensemble
    """
    drawn = begin_ensemble(distribution, n, seed, sampling, n_blocks)
    *_, last = evaluate_missing(drawn, distribution.supercell, evaluate, chunk)
    return last.complete(distribution)


def _displaced(ideal: Atoms, displacement: np.ndarray) -> Atoms:
    image = ideal.copy()
    image.positions += displacement
    return image


def _rows(evaluation: EvaluationLike, chosen: np.ndarray) -> EvaluationLike:
    stresses = getattr(evaluation, "stresses", None)
    return Evaluation(
        np.asarray(evaluation.energies)[chosen],
        np.array([np.asarray(evaluation.forces[row]) for row in chosen]),
        None if stresses is None else np.asarray(stresses)[chosen],
    )


def _filled(partial: PartialEnsemble, rows: np.ndarray, results: Evaluation) -> PartialEnsemble:
    """A copy with the results in place."""
    new = {name: getattr(partial, name).copy() for name in ("energies", "forces", "stresses", "done")}
    new["energies"][rows], new["forces"][rows], new["done"][rows] = results.energies, results.forces, True
    new["stresses"][rows] = results.stresses
    return dataclasses.replace(partial, **new)

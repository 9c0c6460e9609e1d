"""Where the labels of a round come from: a DFT engine here or on a cluster, or files of any code."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ase import Atoms

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.files import write_json

logger = logging.getLogger(__name__)

COST = "cost.json"
GENERATOR = {"method": "SSCHA ensemble, learning loop"}


class Waiting(InputError):
    """The labels of a round are not there yet: its structures are to be calculated elsewhere."""


class Reference(Protocol):
    """Gives energies, forces and stresses of structures; what is finished is never done again."""

    def evaluate(self, images: list[Atoms], folder: Path, primitive: Atoms) -> Evaluation:
        """Of a round's configurations and, last, the crystal on its centroids.

        Parameters
        ----------
        images : list of Atoms
        folder : Path
            Of the round.
        primitive : Atoms
            Cell to which the engine's k-grid belongs.

        Returns
        -------
        Evaluation
        """

    def forecast(self, images: list[Atoms], primitive: Atoms) -> float | None:
        """Core-hours that `evaluate` is likely to take; None where nothing is known.

        Parameters
        ----------
        images : list of Atoms
        primitive : Atoms

        Returns
        -------
        float or None
        """


@dataclass(frozen=True)
class EngineReference:
    """Runs a DFT engine.

    Attributes
    ----------
    engine : Engine
        See `himlip_ase.dft.engine.Engine`.
    executor : Executor or None
        Where jobs run; None: here, one after the other.
    """

    engine: Any
    executor: Executor | None = None

    def evaluate(self, images: list[Atoms], folder: Path, primitive: Atoms) -> Evaluation:
        """See `Reference.evaluate`; the centroids keep their symmetries, which makes them cheap.

        Parameters
        ----------
        images : list of Atoms
        folder : Path
        primitive : Atoms

        Returns
        -------
        Evaluation
        """
        from himlip_ase.dft.single_points import run_jobs

        options = {"primitive": primitive, "generator": GENERATOR}
        jobs = self.engine.single_points(images[:-1], folder / "runs", **options)
        still = self.engine.single_points(images[-1:], folder / "centroids", nosym=False, **options)
        found = [run_jobs(part, executor=self.executor, resume=True, progress=True) for part in (still, jobs)]
        results = [*found[1], *found[0]]
        seconds = sum(result.core_seconds for result in results)
        write_json(folder / COST, {"core_seconds": round(seconds, 2)}, overwrite=True)
        if any(result.forces is None for result in results):
            raise CalculationError(f"{folder}: a run has no forces; the engine must print them")
        return Evaluation.stack([(result.energy, result.forces, result.stress) for result in results])

    def forecast(self, images: list[Atoms], primitive: Atoms) -> float | None:
        """See `Reference.forecast`.

        Parameters
        ----------
        images : list of Atoms
        primitive : Atoms

        Returns
        -------
        float or None
        """
        sets = {"learn": (len(images), images[-1])}
        tasks = self.engine.forecast(primitive, (1, 1, 1), sets, relax=False)
        return next((task.core_hours for task in tasks if task.name == "learn"), None)


@dataclass(frozen=True)
class FileReference:
    """Takes labels that any code made for the structures of a round.

    Attributes
    ----------
    paths : tuple of Path
        Labelled files, label folders or folders of runs, in any order, perhaps with more than is needed.
    """

    paths: tuple[Path, ...] = ()

    def evaluate(self, images: list[Atoms], folder: Path, primitive: Atoms) -> Evaluation:
        """See `Reference.evaluate`.

        Parameters
        ----------
        images : list of Atoms
        folder : Path
        primitive : Atoms

        Returns
        -------
        Evaluation

        Raises
        ------
        Waiting
            Some structures have no label yet.
        """
        from himlip_ase.labels.readers import read_labels
        from himlip_ase.sscha.trust.verify_files import match_reference

        frames = [frame for path in self.paths for frame in read_labels(path)]
        found, missing = match_reference(frames, images)
        if missing:
            raise Waiting(
                f"{len(missing)} of the {len(images)} structures in {folder / 'images.extxyz'} have no label "
                f"yet (first: {missing[0]}; the last is the crystal on its centroids). Calculate them, with "
                f"the k-density of the labels learnt before, for example\n"
                f"  himlip label supercell {folder / 'images.extxyz'} --reference crystal.extxyz "
                f"--k 12 12 12 --out {folder / 'dft'}\n"
                f"and go on with the same command and --resume --answers {folder / 'dft'}"
            )
        return Evaluation.stack(found)

    def forecast(self, images: list[Atoms], primitive: Atoms) -> float | None:
        """None: another code's time is not known.

        Parameters
        ----------
        images : list of Atoms
        primitive : Atoms

        Returns
        -------
        float or None
        """
        return None

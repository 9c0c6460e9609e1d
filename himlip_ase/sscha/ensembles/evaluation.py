"""Forces as a callable on a list of configurations: the interface, its check, and adapters for ASE."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.evaluation import Evaluation, SinglePoint


class EvaluationLike(Protocol):
    """What the force callable returns for n images of N atoms."""

    @property
    def energies(self) -> Any:
        """(n,) eV."""

    @property
    def forces(self) -> Any:
        """(n, N, 3) or n arrays (N, 3), eV/Å."""

    @property
    def stresses(self) -> Any:
        """(n, 6) ASE Voigt in eV/Å³, positive in tension; None, or NaN everywhere, if not computed."""


class Evaluate(Protocol):
    """Energies, forces and stresses of a batch of supercells."""

    def __call__(self, images: list[Atoms], /) -> EvaluationLike:
        """Energies, forces and stresses of `images`."""
        ...


class Unfinished(CalculationError):
    """Raised by a force callable that could serve a part of its images only.

    Parameters
    ----------
    message : str
    evaluation : EvaluationLike
        For all images; whatever stands in the rows of the others.
    finished : ndarray of bool, shape (n,)
        Rows of `evaluation` that hold results; they are kept and not asked for again.
    """

    def __init__(self, message: str, evaluation: EvaluationLike, finished: np.ndarray) -> None:
        super().__init__(message)
        self.evaluation, self.finished = evaluation, np.asarray(finished, dtype=bool)


def checked(evaluation: EvaluationLike, images: Sequence[Atoms]) -> Evaluation:
    """What a force callable returned, after a check of number, shape and finiteness.

    Parameters
    ----------
    evaluation : EvaluationLike
    images : sequence of Atoms
        All of one size.

    Returns
    -------
    Evaluation
        Its forces are one array (n, N, 3); `Evaluation.has_stress` says whether there are stresses.

    Raises
    ------
    InputError
        The callable returned arrays of the wrong number or shape.
    CalculationError
        An energy, force or stress is not finite.
    """
    n, size = len(images), len(images[0])
    energies = np.asarray(evaluation.energies, dtype=float).reshape(-1)
    forces = np.asarray([np.asarray(f, dtype=float) for f in evaluation.forces])
    given = getattr(evaluation, "stresses", None)
    stresses = np.full((n, 6), np.nan) if given is None else np.asarray(given, dtype=float)
    if energies.shape != (n,) or forces.shape != (n, size, 3):
        raise InputError(
            f"the force callable returned energies {energies.shape} and forces {forces.shape} for {n} images "
            f"of {size} atoms; it must return energies ({n},) in eV and forces ({n}, {size}, 3) in eV/Å"
        )
    if stresses.shape != (n, 6):
        raise InputError(
            f"the force callable returned stresses {stresses.shape}; "
            f"give ({n}, 6), ASE Voigt in eV/Å³, or None"
        )
    bad = ~np.isfinite(energies) | ~np.isfinite(forces).all(axis=(1, 2))
    if not np.isnan(stresses).all():
        bad |= ~np.isfinite(stresses).all(axis=1)
    if bad.any():
        raise CalculationError(
            f"{bad.sum()} of {n} configurations have an energy, force or stress that is not finite "
            f"(first: {int(np.flatnonzero(bad)[0])}); the potential does not cover what this ensemble visits"
        )
    return Evaluation(energies, forces, stresses)


def single_point(calculator: Calculator, image: Atoms) -> SinglePoint:
    """Energy, raw forces and stress (None if the calculator has none) of one image.

    Parameters
    ----------
    calculator : Calculator
    image : Atoms
        Not changed.

    Returns
    -------
    SinglePoint
    """
    atoms = image.copy()
    atoms.calc = calculator
    energy = float(atoms.get_potential_energy())
    forces = np.array(atoms.get_forces(apply_constraint=False))
    try:
        stress = np.array(atoms.get_stress())
    except (NotImplementedError, PropertyNotImplementedError):
        stress = None
    return SinglePoint(energy, forces, stress)


def from_calculator(calculator: Calculator) -> Evaluate:
    """Force callable of an ASE calculator, one image after the other.

    A calculator with a batched ``evaluate`` method (:class:`himlip_ase.HiMLIPCalculator`) is used through it.
    """
    batched = getattr(calculator, "evaluate", None)
    if callable(batched):
        return batched

    def evaluate(images: list[Atoms], /) -> Evaluation:
        return Evaluation.stack([single_point(calculator, image) for image in images])

    evaluate.chunk = 1  # type: ignore[attr-defined]  # a run keeps each result as it comes
    return evaluate


def from_executor(
    executor: Executor,
    run: Callable[[Atoms], tuple[float, np.ndarray, np.ndarray | None]] | Calculator,
    chunk: int = 16,
) -> Evaluate:
    """Force callable that sends every image to a ``concurrent.futures`` executor (processes, Dask, …).

    Parameters
    ----------
    executor : concurrent.futures.Executor
    run : callable or ASE calculator
        ``run(image)`` gives energy (eV), forces (N, 3) (eV/Å) and stress (6,) (eV/Å³, None if
        none); it must be importable by the workers. A calculator is copied for each image.
    chunk : int
        Jobs after which a run keeps the results, what a kill can cost; a few times the number of workers.

    Returns
    -------
    callable
        On a list of supercells; its attribute ``chunk`` is the one given.

    Raises
    ------
    Unfinished
        By the callable, when some jobs failed: what finished is kept, and resuming asks for the rest only.
    """

    def evaluate(images: list[Atoms], /) -> Evaluation:
        jobs: list[Future[Any]]
        if isinstance(run, Calculator):
            jobs = [executor.submit(single_point, copy.deepcopy(run), image) for image in images]
        else:
            jobs = [executor.submit(run, image) for image in images]
        rows: list[tuple[float, np.ndarray, np.ndarray | None]] = []
        failures: dict[int, Exception] = {}
        for index, (job, image) in enumerate(zip(jobs, images, strict=True)):
            try:
                rows.append(job.result())
            except Exception as error:
                failures[index] = error
                rows.append((np.nan, np.full((len(image), 3), np.nan), None))
        result = Evaluation.stack(rows)
        if failures:
            worst, cause = next(iter(failures.items()))
            raise Unfinished(
                f"{len(failures)} of {len(images)} jobs failed (first: image {worst}, "
                f"{type(cause).__name__}: {cause}); the others are kept: mend the cause and resume",
                result,
                np.array([index not in failures for index in range(len(images))]),
            ) from cause
        return result

    evaluate.chunk = chunk  # type: ignore[attr-defined]
    return evaluate

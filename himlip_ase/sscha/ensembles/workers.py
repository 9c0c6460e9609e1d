"""Forces of a trained potential from several processes, of this machine or of a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from himlip_ase.dft.executors import ExecutorChoice, Local, check_workers, processes
from himlip_ase.evaluation import Evaluation
from himlip_ase.sscha.ensembles.ensemble import Evaluate

if TYPE_CHECKING:
    from himlip_ase.potential.interface import Potential

PORTION = 8
"""Supercells of one job."""

_models: dict[str, Potential] = {}


def _load(model: str) -> None:
    """Once in each process: the model, on one thread."""
    import torch

    from himlip_ase.potential.checkpoint import load_model

    if model not in _models:
        torch.set_num_threads(1)
        _models.clear()
        _models[model] = load_model(model)


def _job(model: str, images: list[Atoms]) -> Evaluation:
    from himlip_ase.potential.evaluate import evaluate

    _load(model)
    return evaluate(_models[model], images)


class _Portions:
    """Force callable that splits its images among workers."""

    def __init__(self, executor: Executor, model: str) -> None:
        self.executor, self.model = executor, model

    def __call__(self, images: list[Atoms], /) -> Evaluation:
        portions = [images[first : first + PORTION] for first in range(0, len(images), PORTION)]
        jobs = [self.executor.submit(_job, self.model, portion) for portion in portions]
        return Evaluation.concatenate([job.result() for job in jobs])


@contextlib.contextmanager
def potential_forces(
    model: str | os.PathLike, workers: int = 1, executor: ExecutorChoice | None = None
) -> Iterator[Evaluate]:
    """Force callable of a trained potential, evaluated by `workers` workers while the context lasts.

    Parameters
    ----------
    model : str or path-like
        Name or path, as :func:`~himlip_ase.potential.checkpoint.load_model` takes it; every worker sees it.
    workers : int
        On this machine, 1: in this process, with as many threads as torch has.  More: that many processes of
        one thread.
    executor : ExecutorChoice, optional
        Where the workers are, see :mod:`himlip_ase.dft.executors`; None: on this machine.

    Returns
    -------
    context manager of callable
        Energies, forces and stresses of a list of supercells.

    Raises
    ------
    InputError
        `workers` is not positive, or there is no such model.
    """
    from himlip_ase.potential.checkpoint import load_model

    check_workers(workers)
    loaded: Any = load_model(str(model))
    place = str(Path(model).resolve()) if Path(model).is_file() else str(model)
    if executor is not None and not isinstance(executor, Local):
        del loaded
        with executor.opened(workers, programs=False) as remote:
            yield _Portions(remote, place)
    elif workers == 1:
        from himlip_ase.potential.evaluate import evaluate

        yield partial(evaluate, loaded)
    else:
        del loaded
        with processes(workers, _load, (place,)) as pool:
            yield _Portions(pool, place)

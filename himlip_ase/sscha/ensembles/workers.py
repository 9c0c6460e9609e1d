"""Forces of a trained potential from several processes, of this machine or of a cluster."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from himlip_ase.dft.executors import ExecutorChoice, Local, check_workers, processes
from himlip_ase.evaluation import Evaluation
from himlip_ase.sscha.ensembles.evaluation import Evaluate

if TYPE_CHECKING:
    from himlip_ase.potential.interface import Potential

PORTION = 8
"""Supercells of one job."""

_models: dict[tuple[str, bool], Potential] = {}
"""The one model of this process, by its name and whether it is of single precision."""


def _load(model: str) -> None:
    """Once in each process: the model, on one thread."""
    import torch

    from himlip_ase.potential.checkpoint import load_model

    if (model, False) not in _models:
        torch.set_num_threads(1)
        _models.clear()
        _models[model, False] = load_model(model)


def _job(model: str, single: bool, images: list[Atoms]) -> Evaluation:
    from himlip_ase.potential.evaluate import evaluate

    _load(model)
    if (model, single) not in _models:
        _models[model, single] = copy.deepcopy(_models[model, False]).float()
    return evaluate(_models[model, single], images)


class _Portions:
    """Force callable that splits its images among workers."""

    def __init__(self, executor: Executor, model: str, is_single: bool = False) -> None:
        self.executor, self.model, self.is_single = executor, model, is_single

    def __call__(self, images: list[Atoms], /) -> Evaluation:
        portions = [images[first : first + PORTION] for first in range(0, len(images), PORTION)]
        jobs = [self.executor.submit(_job, self.model, self.is_single, portion) for portion in portions]
        return Evaluation.concatenate([job.result() for job in jobs])


class _Portioned(_Portions):
    """The same of a network that has single precision too."""

    @property
    def single(self) -> Evaluate:
        """In single precision."""
        return _Portions(self.executor, self.model, is_single=True)


class _Here:
    """Force callable in this process."""

    def __init__(self, model: Potential) -> None:
        self.model = model

    def __call__(self, images: list[Atoms], /) -> Evaluation:
        from himlip_ase.potential.evaluate import evaluate

        return evaluate(self.model, images)


class _HereInBoth(_Here):
    """The same of a network that has single precision too."""

    @cached_property
    def single(self) -> Evaluate:
        """In single precision."""
        return _Here(copy.deepcopy(self.model).float())


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
        Energies, forces and stresses of a list of supercells, in double precision; for Hi-MLIP networks its
        attribute ``single`` gives them in single precision.

    Raises
    ------
    InputError
        `workers` is not positive, or there is no such model.
    """
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.lattice_potential import network_of
    from himlip_ase.potential.network import HiMLIP

    check_workers(workers)
    loaded: Any = load_model(str(model))
    both = isinstance(network_of(loaded), HiMLIP)
    portions = _Portioned if both else _Portions
    place = str(Path(model).resolve()) if Path(model).is_file() else str(model)
    if executor is not None and not isinstance(executor, Local):
        del loaded
        with executor.opened(workers, programs=False) as remote:
            yield portions(remote, place)
    elif workers == 1:
        yield _HereInBoth(loaded) if both else _Here(loaded)
    else:
        del loaded
        with processes(workers, _load, (place,)) as pool:
            yield portions(pool, place)

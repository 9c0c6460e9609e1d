"""Forces of a trained potential from several processes, for machines with more than one core."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.sscha.ensembles.ensemble import Evaluate

if TYPE_CHECKING:
    from himlip_ase.potential.interface import Potential

PORTION = 8
"""Supercells of one job."""

_model: Potential | None = None


def _load(model: str) -> None:
    """Once in each process: the model, on one thread."""
    import torch

    from himlip_ase.potential.checkpoint import load_model

    global _model
    torch.set_num_threads(1)
    _model = load_model(model)


def _job(images: list[Atoms]) -> Evaluation:
    from himlip_ase.potential.evaluate import evaluate

    assert _model is not None
    return evaluate(_model, images)


class _Portions:
    """Force callable that splits its images among processes."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self.executor = executor

    def __call__(self, images: list[Atoms], /) -> Evaluation:
        portions = [images[first : first + PORTION] for first in range(0, len(images), PORTION)]
        parts = list(self.executor.map(_job, portions))
        return Evaluation.concatenate(parts)


@contextlib.contextmanager
def potential_forces(model: str | os.PathLike, workers: int = 1) -> Iterator[Evaluate]:
    """Force callable of a trained potential, evaluated by `workers` processes while the context lasts.

    Parameters
    ----------
    model : str or path-like
        Name or path, as :func:`~himlip_ase.potential.checkpoint.load_model` takes it.
    workers : int
        1: in this process, with as many threads as torch has.  More: that many processes of one thread.

    Raises
    ------
    InputError
        `workers` is not positive, or there is no such model.
    """
    from himlip_ase.potential.checkpoint import load_model

    if workers < 1:
        raise InputError(f"workers is {workers}; give a positive number of processes")
    loaded: Any = load_model(str(model))
    if workers == 1:
        from himlip_ase.potential.evaluate import evaluate

        yield partial(evaluate, loaded)
        return
    del loaded
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_load, initargs=(str(model),)) as executor:
        with _main_left_out():
            for ready in [executor.submit(os.getpid) for _ in range(workers)]:
                ready.result()
        yield _Portions(executor)


@contextlib.contextmanager
def _main_left_out() -> Iterator[None]:
    """Processes that start meanwhile do not import the script that is running.

    They need nothing of it, and a script without ``if __name__ == "__main__"`` would run again in each.
    """
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    try:
        if "__file__" in kept:
            del main.__file__
        main.__spec__ = None
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)

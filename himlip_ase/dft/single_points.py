"""A set of single points of any engine: side by side, each once, and continued where it was stopped."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from himlip_ase.dft.executors import Local
from himlip_ase.dft.jobs import Job, Result
from himlip_ase.dft.programs import terminate_children
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock
from himlip_ase.progress import ProgressBar

logger = logging.getLogger(__name__)

TAGS = ("amplitude", "system", "prototype", "kind")
"""Entries of `Atoms.info` that say what a structure is; they go with it into the labels."""


def tags_of(info: dict[str, Any]) -> dict[str, str | float]:
    """The entries of `Atoms.info` named in `TAGS`, as plain values."""
    return {tag: _plain(info[tag]) for tag in TAGS if tag in info}


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    executor: Executor | None = None,
    resume: bool = False,
    progress: bool = False,
) -> list[Any]:
    """Run what is missing of a set of single points.

    Parameters
    ----------
    jobs : sequence of Job
        Their folders have one parent.
    workers : int
        Jobs side by side, where no `executor` is given: threads, right for jobs that start programs.
    executor : concurrent.futures.Executor, optional
        `himlip_ase.dft.executors`, a process pool, any other that sees the same file system.
    resume : bool
        Whether the set may have been started before: finished jobs are then kept.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Result
        In the order of `jobs`.

    Raises
    ------
    InputError
        The set was started before and `resume` is False, asks for something else, or is in use by another
        process.
    CalculationError
        Some jobs failed; the others are finished and kept.
    """
    folder = jobs[0].folder.parent
    with FolderLock(folder):
        started = [job.started() for job in jobs]
        if any(started) and not resume:
            raise InputError(
                f"{folder} holds {sum(started)} of these {len(jobs)} runs already; continue with --resume, "
                "or choose another folder"
            )
        finished = {k: job.finished() for k, job in enumerate(jobs)}
        results: dict[int, Result] = {k: found for k, found in finished.items() if found is not None}
        missing = [k for k in range(len(jobs)) if k not in results]
        if results:
            logger.info("%s: %d of %d runs are there already", folder.name, len(results), len(jobs))
        failures: dict[int, str] = {}
        with (
            _pool(executor, workers) as pool,
            ProgressBar(folder.name, progress, remaining=True) as bar,
        ):
            bar.begin(total=len(jobs))
            bar.update(len(results))
            futures: dict[Future, int] = {}

            def take(future: Future, k: int) -> None:
                try:
                    results[k] = future.result()
                except (CalculationError, InputError) as error:
                    failures[k] = str(error)
                    logger.error("%s", error)
                except Exception as error:
                    if not _worker_died(error):
                        raise
                    failures[k] = "its worker ended before it was done (killed, out of memory, out of time)"
                    logger.error("%s: %s", jobs[k].folder, failures[k])
                bar.update(len(results) + len(failures))

            try:
                for k in missing:
                    future = pool.submit(_run, jobs[k])
                    if future.done():
                        take(future, k)
                    else:
                        futures[future] = k
                for future in as_completed(futures):
                    take(future, futures[future])
            except BaseException:
                for future in futures:
                    future.cancel()
                getattr(pool, "stop", terminate_children)()
                raise
    if failures:
        shown = "\n".join(f"  {jobs[k].folder.name}: {text}" for k, text in sorted(failures.items())[:5])
        raise CalculationError(
            f"{len(failures)} of {len(jobs)} runs in {folder} failed (the {len(results)} others are kept):\n"
            f"{shown}\nTry them again with --resume"
        )
    return [results[k] for k in range(len(jobs))]


def _run(job: Job) -> Result:
    return job.run()


def _worker_died(error: Exception) -> bool:
    """Whether the worker, and not the job, failed: a pool that broke, Dask's KilledWorker."""
    return isinstance(error, BrokenProcessPool | CancelledError) or type(error).__name__ == "KilledWorker"


def _plain(value: Any) -> str | float:
    return value if isinstance(value, str) else float(value)


@contextlib.contextmanager
def _pool(executor: Executor | None, workers: int) -> Iterator[Executor]:
    if executor is not None:
        yield executor
        return
    with Local().opened(workers) as pool:
        yield pool

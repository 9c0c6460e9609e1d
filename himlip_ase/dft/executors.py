"""Where jobs run: on this machine, on a Dask cluster, or as SLURM jobs that Dask submits.

Each class is the section ``executor`` of a run file: its fields are the keys. What is submitted has to be
importable, to find the same file system on every worker, and to be safe to call again: a job whose worker
died is called once more on another one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from himlip_ase.dft.programs import terminate_children
from himlip_ase.dft.standing import WATCH_SECONDS
from himlip_ase.errors import InputError
from himlip_ase.registry import Registry

FRESH = {"pure": False}
"""Dask takes calls of one function with the same arguments for one call and answers the second with what it
remembers, a failure included; a job that is tried again has to run again."""


CONNECT = "15s"
"""How long an answer of a scheduler is waited for."""


class ExecutorChoice(Protocol):
    """Settings of an executor, and how it is opened."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def opened(self, workers: int, programs: bool = True) -> AbstractContextManager[JobExecutor]:
        """An executor for as long as the context lasts.

        Parameters
        ----------
        workers : int
            Jobs side by side.
        programs : bool
            Whether each job starts a program of its own and only waits for it.

        Yields
        ------
        JobExecutor
        """

    def job_script(self, workers: int) -> str | None:
        """The script that would be submitted to a queue; None where nothing is."""

    def faults(self) -> list[str]:
        """What it needs and this machine lacks, one sentence each; nothing is opened."""


class JobExecutor(Executor):
    """An executor that can be stopped with what it is running.

    Parameters
    ----------
    inner : concurrent.futures.Executor
        Runs the calls.
    stop : callable
        Ends what is running.
    """

    def __init__(self, inner: Executor, stop: Callable[[], Any]) -> None:
        self.inner, self._stop = inner, stop

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """As `concurrent.futures.Executor.submit`."""
        return self.inner.submit(fn, *args, **kwargs)

    def call(
        self, fn: Callable[..., Any], /, *args: Any, watch: Callable[[], None] | None = None, **kwargs: Any
    ) -> Any:
        """The result of one call, waited for; an interrupt meanwhile stops what is running.

        Parameters
        ----------
        fn : callable
        *args, **kwargs
            Of the call.
        watch : callable, optional
            Called here every few seconds while the call runs elsewhere, to look at its files.

        Returns
        -------
        object
        """
        future = self.submit(fn, *args, **kwargs)
        try:
            while watch is not None and not future.done():
                wait([future], timeout=WATCH_SECONDS)
                if not future.done():
                    watch()
            return future.result()
        except (KeyboardInterrupt, SystemExit):
            future.cancel()
            self.stop()
            raise

    def stop(self) -> None:
        """End what is running."""
        self._stop()


class _Here(Executor):
    """Calls run at once, in this thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def here() -> JobExecutor:
    """An executor that calls at once, in this thread."""
    return JobExecutor(_Here(), terminate_children)


@dataclass(frozen=True)
class Local:
    """Threads that wait for programs, or processes that compute, on this machine."""

    name: ClassVar[str] = "local"
    summary: ClassVar[str] = "this machine"

    @contextlib.contextmanager
    def opened(self, workers: int, programs: bool = True) -> Iterator[JobExecutor]:
        """See `ExecutorChoice.opened`."""
        check_workers(workers)
        if programs:
            with ThreadPoolExecutor(workers, thread_name_prefix="dft") as threads:
                yield JobExecutor(threads, terminate_children)
        elif workers == 1:
            yield here()
        else:
            with processes(workers) as pool:
                yield JobExecutor(pool, lambda: _terminate(pool))

    def job_script(self, workers: int) -> str | None:
        """None: nothing is submitted to a queue."""
        return None

    def faults(self) -> list[str]:
        """None: it needs nothing."""
        return []


@dataclass(frozen=True)
class Dask:
    """A Dask cluster: one that is there, or one of processes on this machine.

    Attributes
    ----------
    scheduler : str, optional
        Address of a running scheduler, e.g. ``tcp://10.0.0.1:8786``; None starts `workers` processes here.
    """

    scheduler: str | None = None
    name: ClassVar[str] = "dask"
    summary: ClassVar[str] = "dask.distributed, at a scheduler's address or started here"

    @contextlib.contextmanager
    def opened(self, workers: int, programs: bool = True) -> Iterator[JobExecutor]:
        """See `ExecutorChoice.opened`; at a scheduler's address its workers are taken, however many."""
        check_workers(workers)
        distributed = _distributed()
        if self.scheduler is not None:
            try:
                client = distributed.Client(self.scheduler, timeout=CONNECT)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"no Dask scheduler answers at {self.scheduler} ({error}); start one with `dask "
                    "scheduler` and workers with `dask worker ADDRESS --nthreads 1`, or leave `scheduler` out"
                ) from error
            with client:
                yield JobExecutor(client.get_executor(**FRESH), lambda: client.run(terminate_children))
            return
        with (
            main_left_out(),
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield JobExecutor(client.get_executor(**FRESH), cluster.close)

    def job_script(self, workers: int) -> str | None:
        """None: nothing is submitted to a queue."""
        return None

    def faults(self) -> list[str]:
        """See `ExecutorChoice.faults`: the packages of the cluster extra."""
        return _missing_packages("distributed")


@dataclass(frozen=True)
class Slurm:
    """SLURM jobs that Dask submits; each is one worker and does one job of ours after the other.

    Attributes
    ----------
    cores : int
        Of each SLURM job; let the launcher use them, e.g. ``prefix: mpirun -n 16``.
    memory : str
        Of each SLURM job, e.g. ``32GB``.
    walltime : str
        Limit of each SLURM job, HH:MM:SS.
    queue, account : str, optional
        Partition and account.
    directives : list of str
        Further ``#SBATCH`` options, e.g. ``--exclusive``.
    prologue : list of str
        Shell lines before the worker starts, e.g. ``module load quantum-espresso``.
    interface : str, optional
        Network interface of the workers, e.g. ``ib0``.
    log_directory : str, optional
        Folder of SLURM's logs.
    """

    cores: int = 1
    memory: str = "4GB"
    walltime: str = "24:00:00"
    queue: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    interface: str | None = None
    log_directory: str | None = None
    name: ClassVar[str] = "slurm"
    summary: ClassVar[str] = "SLURM jobs, by dask-jobqueue"

    def __post_init__(self) -> None:
        if self.cores < 1:
            raise InputError(f"cores is {self.cores}; give 1 or more")

    @contextlib.contextmanager
    def opened(self, workers: int, programs: bool = True) -> Iterator[JobExecutor]:
        """See `ExecutorChoice.opened`; `workers` SLURM jobs are asked for."""
        check_workers(workers)
        distributed = _distributed()
        with self._cluster() as cluster, distributed.Client(cluster) as client:
            cluster.scale(jobs=workers)
            yield JobExecutor(client.get_executor(**FRESH), cluster.close)

    def job_script(self, workers: int) -> str | None:
        """The script of one of the `workers` SLURM jobs."""
        _distributed()
        with self._cluster() as cluster:
            return str(cluster.job_script())

    def faults(self) -> list[str]:
        """See `ExecutorChoice.faults`: the packages of the cluster extra, and sbatch."""
        found = _missing_packages("distributed", "dask_jobqueue")
        if shutil.which("sbatch") is None:
            found.append("executor slurm: sbatch is not on the PATH; start the run on a login node")
        return found

    def _cluster(self) -> Any:
        from dask_jobqueue import SLURMCluster

        # dask-jobqueue asks for one task of many CPUs; an MPI program of `cores` processes needs as many
        return SLURMCluster(
            cores=1,  # threads of the worker: one job of ours at a time
            processes=1,
            job_cpu=self.cores,
            memory=self.memory,
            walltime=self.walltime,
            queue=self.queue,
            account=self.account,
            job_directives_skip=["-n 1", "--cpus-per-task"],
            job_extra_directives=[f"--ntasks={self.cores}", *self.directives],
            job_script_prologue=list(self.prologue),
            interface=self.interface,
            log_directory=self.log_directory,
            job_name="himlip",
            scheduler_options={"dashboard_address": None},
        )


EXECUTORS: Registry[type[ExecutorChoice]] = Registry("executor", Local, Dask, Slurm)


def check_workers(workers: int) -> None:
    """Refuse a number of workers below 1."""
    if workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more")


@contextlib.contextmanager
def processes(
    workers: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of `workers` new processes, all of them started.

    Parameters
    ----------
    workers : int
    initializer, arguments : callable, tuple
        Called once in each process.

    Yields
    ------
    ProcessPoolExecutor
    """
    check_workers(workers)
    context = multiprocessing.get_context("spawn")
    start = (os.getpid(), initializer, arguments)
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=start) as pool:
        try:
            with main_left_out():
                for ready in [pool.submit(_ready) for _ in range(workers)]:
                    ready.result()
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _terminate(pool)
            raise


@contextlib.contextmanager
def main_left_out() -> Iterator[None]:
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


def _ready() -> bool:
    return True


def _begin(parent: int, initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Once in each process of a pool: end with the parent, however that ends; leave Ctrl-C to it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initializer is not None:
        initializer(*arguments)


def _terminate(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.terminate()  # a program that it waits for is stopped by the kernel, see `programs`


def _missing_packages(*names: str) -> list[str]:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return [
        f"this executor needs the Python package {name}; type: pip install 'himlip-ase[cluster]'"
        for name in missing
    ]


def _distributed() -> Any:
    try:
        import dask_jobqueue  # noqa: F401
        import distributed
    except ModuleNotFoundError as error:
        raise InputError(
            f"this executor needs the Python package {error.name}; type: pip install 'himlip-ase[cluster]'"
        ) from error
    return distributed

"""Programs that are run in a folder: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import contextvars
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock

GRACE_SECONDS = 5.0
"""What a program gets between the request to stop and its end."""

_noted: contextvars.ContextVar[list[Program] | None] = contextvars.ContextVar("_noted", default=None)

_children: set[subprocess.Popen] = set()
_children_guard = threading.Lock()


@dataclass(frozen=True)
class Program:
    """A program that would run.

    Attributes
    ----------
    folder : Path
        Its inputs are there.
    command : tuple of str
        Words of the command line.
    output : str
        File in `folder` for its standard output.
    """

    folder: Path
    command: tuple[str, ...]
    output: str


class NotRun(Exception):
    """A program was noted instead of run (`noting`); its results are not there."""


@contextlib.contextmanager
def noting() -> Iterator[list[Program]]:
    """Meanwhile programs of this thread are noted instead of run, and whoever wants one gets `NotRun`.

    Yields
    ------
    list of Program
        Filled meanwhile; the inputs of each are written.
    """
    noted: list[Program] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def are_noted() -> bool:
    """Whether programs are noted instead of run."""
    return _noted.get() is not None


def note(folder: str | os.PathLike, command: Sequence[str], output: str) -> None:
    """Note a program; only within `noting`.

    Parameters
    ----------
    folder : path-like
    command : sequence of str
    output : str
    """
    noted = _noted.get()
    assert noted is not None, "programs are run here, not noted"
    noted.append(Program(Path(folder).absolute(), tuple(command), output))


class InterruptedRun(CalculationError):
    """The program was stopped by a signal from outside; repeating it now would be wrong."""


class RunLock(FolderLock):
    """A folder lock that the program inherits: it lasts as long as even an orphaned program writes there.

    It is waited for `GRACE_SECONDS`: a job whose worker died is begun again while the program of that worker
    still ends.
    """

    def __enter__(self) -> RunLock:
        deadline = time.monotonic() + GRACE_SECONDS
        while True:
            try:
                super().__enter__()
                return self
            except InputError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def fileno(self) -> int:
        """Descriptor of the locked file."""
        assert self._stream is not None, "the lock is not held"
        return self._stream.fileno()


def run_program(
    command: list[str],
    folder: str | os.PathLike,
    output_name: str,
    threads: int = 1,
    lock: RunLock | None = None,
) -> int:
    """Run a command in a folder, its standard output and error going to a file.

    On Linux the kernel stops the program (SIGTERM) when this process dies, however it dies.

    Parameters
    ----------
    command : list of str
        Words of the command line.
    folder : path-like
        Working folder; it exists.
    output_name : str
        File in `folder`, replaced.
    threads : int
        OMP_NUM_THREADS of the program.
    lock : RunLock, optional
        A lock that the program holds as well.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    InterruptedRun
        The program died of a signal (interrupted, killed, out of memory).
    NotRun
        It was only noted, see `noting`.
    """
    folder = Path(folder)
    if are_noted():
        note(folder, command, output_name)
        raise NotRun(f"{folder}: noted, not run")
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    with open(folder / output_name, "wb") as stream:
        with _children_guard:
            process = subprocess.Popen(
                [*_bound_to_this_process(), *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=() if lock is None else (lock.fileno(),),
            )
            _children.add(process)
        try:
            status = process.wait()
        except BaseException:
            _stop(process)
            raise
        finally:
            with _children_guard:
                _children.discard(process)
    number = -status if status < 0 else status - 128 if status in (130, 137, 143) else 0
    if number:
        hint = " (out of memory?)" if number == signal.SIGKILL else ""
        raise InterruptedRun(
            f"{Path(command[-3] if len(command) > 2 else command[0]).name} in {folder} was stopped by signal "
            f"{number}{hint}; continue with --resume"
        )
    return status


def terminate_children() -> None:
    """Ask every running program of this process to stop."""
    with _children_guard:
        for process in _children:
            process.terminate()


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
        return
    process.kill()
    process.wait()


def _bound_to_this_process() -> list[str]:
    """Words in front of a command that let the kernel stop it when its parent is gone.

    The parent is, for the kernel, the thread that started it: it has to wait for the program, as
    `run_program` does.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []

"""Programs that are run in a folder: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock

GRACE_SECONDS = 5.0
"""What a program gets between the request to stop and its end."""

_children: set[subprocess.Popen] = set()
_children_guard = threading.Lock()


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
    """
    folder = Path(folder)
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

"""How far a run is, where its time goes, and its log file."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from himlip_ase.files import appended_log, write_json
from himlip_ase.progress import ProgressBar

TIMINGS = "timings.json"


class RunProgress:
    """The line of a run, and a clock for each kind of work; as a context manager.

    Parameters
    ----------
    folder : Path
        Where ``timings.json`` is kept: wall time in seconds by kind of work, summed over resumed runs.
    shown : bool
        Whether the line is shown.
    """

    def __init__(self, folder: Path, shown: bool) -> None:
        self.path = folder / TIMINGS
        self.seconds: dict[str, float] = {}
        self._bar = ProgressBar("SSCHA", shown)

    def __enter__(self) -> RunProgress:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.seconds:
            self.write_timings()
        self._bar.__exit__(kind, error, traceback)

    @contextlib.contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Add the wall time spent inside to that of `kind` (sampling, forces, minimiser, Hessian)."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - begun

    def write_timings(self) -> None:
        """Add the clocks to ``timings.json`` and set them back."""
        total: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError):
            total = json.loads(self.path.read_text(encoding="utf-8"))
        for kind, seconds in self.seconds.items():
            total[kind] = round(total.get(kind, 0.0) + seconds, 3)
        self.seconds.clear()
        write_json(self.path, total, overwrite=True)

    def begin(self, task: str, total: int | None = None) -> None:
        """A new task; without `total` its steps are only counted.

        Parameters
        ----------
        task : str
        total : int, optional
        """
        self._bar.begin(task, total)

    def update(self, done: int) -> None:
        """`done` steps of the task are behind us."""
        self._bar.update(done)


def log_file(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Append what this room logs to ``log.txt`` in `folder`."""
    room, package = logging.getLogger("himlip_ase.sscha"), logging.getLogger("himlip_ase")
    unset = package.level == logging.NOTSET  # nobody chose a level: the file still tells the story
    return appended_log(folder / "log.txt", room, "%(asctime)s %(levelname)s %(message)s", raise_level=unset)

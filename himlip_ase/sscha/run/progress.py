"""Progress on stderr (stdout belongs to results), throttled by rich; where the time goes; the log file."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from himlip_ase.files import appended_log, write_json

TIMINGS = "timings.json"


class Progress:
    """One line that names the stage and counts its steps, and a clock for each kind of work.

    Parameters
    ----------
    folder : Path
        Where ``timings.json`` is kept: wall time in seconds by kind of work, summed over resumed runs.
    enabled : bool
        Whether the line is shown.
    """

    def __init__(self, folder: Path, enabled: bool) -> None:
        self.path, self.enabled = folder / TIMINGS, enabled
        self.seconds: dict[str, float] = {}
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if self.enabled:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
            )
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                SpinnerColumn(),
                TextColumn("SSCHA {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                refresh_per_second=4,
                redirect_stdout=False,
            )
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.seconds:
            self.write_timings()
        if self._bar is not None:
            self._bar.stop()

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

    def begin(self, stage: str, total: int | None = None) -> None:
        """A new stage; without `total` only steps are counted."""
        if self._bar is not None:
            self._task = self._bar.add_task(stage, total=total)

    def step(self, done: int) -> None:
        """`done` steps of the stage are behind us."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)


def log_file(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Append what this room logs to ``log.txt`` in `folder`."""
    room, package = logging.getLogger("himlip_ase.sscha"), logging.getLogger("himlip_ase")
    unset = package.level == logging.NOTSET  # nobody chose a level: the file still tells the story
    return appended_log(folder / "log.txt", room, "%(asctime)s %(levelname)s %(message)s", raise_level=unset)

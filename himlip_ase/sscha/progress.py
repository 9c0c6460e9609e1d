"""Progress on stderr (stdout belongs to results), throttled by rich, and the log file of a run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from himlip_ase.sscha.settings import SschaSettings


class Progress:
    """One line that names the stage and counts its steps, as a context manager."""

    def __init__(self, settings: SschaSettings, enabled: bool) -> None:
        self.settings, self.enabled = settings, enabled
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
        if self._bar is not None:
            self._bar.stop()

    def begin(self, stage: str, total: int | None = None) -> None:
        """A new stage; without `total` only steps are counted."""
        if self._bar is not None:
            self._task = self._bar.add_task(stage, total=total)

    def step(self, done: int) -> None:
        """`done` steps of the stage are behind us."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)


@contextlib.contextmanager
def log_file(folder: Path) -> Iterator[None]:
    """Append what this room logs to ``log.txt`` in `folder`."""
    logger, package = logging.getLogger("himlip_ase.sscha"), logging.getLogger("himlip_ase")
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = logger.level
    if package.level == logging.NOTSET and logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)  # nobody chose a level: the file still tells the story
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()

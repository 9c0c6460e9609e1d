"""Progress on stderr (stdout belongs to results), throttled by rich."""

from __future__ import annotations

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

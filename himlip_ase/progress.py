"""How far long work is: one line on standard error, redrawn at most a few times a second."""

from __future__ import annotations

from types import TracebackType
from typing import Any

REDRAWS_PER_SECOND = 4

LOG_SECONDS = 600.0
"""How often the log, which nobody watches, says how far one step of long work is."""


def duration(seconds: float) -> str:
    """A time in words: "40 s", "12 min", "3.5 h".

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class ProgressBar:
    """One line that names the task, counts its steps and tells the time; as a context manager.

    Standard output belongs to results.  Where the line is not shown, nothing is imported and nothing printed.

    Parameters
    ----------
    title : str
        First words of the line, e.g. "SSCHA"; the name of the task follows.
    shown : bool
        Whether there is a line at all.
    remaining : bool
        Also estimate the time left.
    """

    def __init__(self, title: str, shown: bool = True, remaining: bool = False) -> None:
        self._title, self._shown, self._remaining = title, shown, remaining
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        if self._shown:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                Task,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.table import Column
            from rich.text import Text

            class Steps(MofNCompleteColumn):
                """Steps done, of so many where that is known."""

                def render(self, task: Task) -> Text:
                    return Text(f"{int(task.completed)}") if task.total is None else super().render(task)

            console = Console(stderr=True)
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn(f"{self._title} {{task.description}}"),
                BarColumn(max(8, min(40, console.width // 10))),
                Steps(),
                # the note gives way on a narrow terminal, the time left does not
                TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, ratio=1)),
                TimeElapsedColumn(),
                *([TimeRemainingColumn()] if self._remaining else []),
                console=console,
                expand=True,
                refresh_per_second=REDRAWS_PER_SECOND,
                redirect_stdout=False,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def begin(self, task: str = "", total: float | None = None) -> None:
        """A new task.

        Parameters
        ----------
        task : str
            Its name.
        total : float, optional
            Steps in all; without it they are only counted.
        """
        if self._bar is not None:
            self._task = self._bar.add_task(task, total=total, note="")

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """Show that `done` steps of the task are behind us.

        Parameters
        ----------
        done : float
        total : float, optional
            Steps in all, where that was not known when the task began.
        note : str
            What else to show, e.g. the losses of a training.
        """
        if self._bar is not None:
            if self._task is None:
                self.begin()
            more = {} if total is None else {"total": total}
            self._bar.update(self._task, completed=done, note=note, **more)

"""How far a long calculation is: read from its output while it runs, shown on one line and in the log."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from himlip_ase.progress import LOG_SECONDS, ProgressBar, duration

WATCH_SECONDS = 3.0
"""How often an output is looked at."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """How far a calculation is.

    Attributes
    ----------
    task : str
        As the forecast calls it: "scf, dense k", "ph.x".
    step : str
        Where it is: "q-point 3 of 8".
    detail : str
        More of that: "representation 2 of 5, iteration 4".
    fraction : float or None
        Part of the work that is done; None where nothing is known yet.
    seconds_left : float or None
        On the clock, from the pace so far.
    """

    task: str
    step: str
    detail: str = ""
    fraction: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f"about {duration(self.seconds_left)} left"
        return f"{self.task}: {', '.join(part for part in (self.step, self.detail, left) if part)}"


class Listener:
    """What is told of the calculations of an engine; as a context manager.

    Parameters
    ----------
    shown : bool
        Whether a line on standard error, if that is a terminal, shows how far the current one is.
    """

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._bar: ProgressBar | None = None
        self._logged: tuple[str, str] | None = None
        self._logged_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.pause()

    def pause(self) -> None:
        """Take the line away, for another one."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def stands(self, standing: Standing) -> None:
        """A calculation is as far as this; the log says so at each new step, and when one takes long.

        Parameters
        ----------
        standing : Standing
        """
        if self._bar is None:
            self._bar = ProgressBar("DFT", self._shown and sys.stderr.isatty()).__enter__()
            self._bar.begin(total=100)
        self._bar.update(round(100 * (standing.fraction or 0.0)), note=str(standing))
        place, now = (standing.task, standing.step), time.monotonic()
        if place != self._logged or now - self._logged_at > LOG_SECONDS:
            logger.info("%s", standing)
            self._logged, self._logged_at = place, now

    def finished(self, task: str, core_seconds: float, typical_core_seconds: float | None = None) -> None:
        """A calculation is done, now or before.

        Parameters
        ----------
        task : str
            As the forecast calls it.
        core_seconds : float
        typical_core_seconds : float, optional
            What it would have taken with the usual number of iterations: what others are judged by.
        """
        logger.info("%s took %s of CPU time", task, duration(core_seconds))

"""What labels will still cost, judged anew once the first scf run has shown how fast this machine is."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from himlip_ase.dft.engine import Task
from himlip_ase.dft.standing import Listener
from himlip_ase.files import read_mapping, write_json
from himlip_ase.pipeline.preflight import Plan

logger = logging.getLogger(__name__)

FACTOR = "a factor of 2"
"""How far the forecast after the first scf run can be trusted; benchmarks/labels/forecasts.py."""


class RunningEstimate(Listener):
    """The plan of the labels of a run, kept up to date by what its calculations took.

    Parameters
    ----------
    plan : Plan or None
        None where nothing was forecast.
    record : Path, optional
        JSON file that keeps the forecasts beside what was taken.
    shown : bool
        As `himlip_ase.dft.standing.Listener`.
    """

    def __init__(self, plan: Plan | None, record: Path | None = None, shown: bool = True) -> None:
        super().__init__(shown)
        self.plan, self.record = plan, record
        self.factor: float | None = None
        self.spent: dict[str, float] = {}
        self._told: dict[str, Any] = {}
        if record is not None and record.is_file():
            self._told = read_mapping(record)

    def finished(self, task: str, core_seconds: float, typical_core_seconds: float | None = None) -> None:
        """See `himlip_ase.dft.standing.Listener.finished`; the first scf run scales what is left."""
        super().finished(task, core_seconds, typical_core_seconds)
        self.spent[task] = self.spent.get(task, 0.0) + core_seconds / 3600
        planned = self._task(task)
        if self.factor is None and typical_core_seconds and planned is not None and planned.core_hours:
            self.factor = typical_core_seconds / 3600 / (planned.core_hours / planned.jobs)
            self._say()
        self._write()

    def left(self) -> Plan | None:
        """What is not done yet, at the pace seen so far."""
        if self.plan is None:
            return None
        begun = list(self.spent)
        tasks = [task for task in self.plan.tasks if task.name not in begun]
        plan = replace(self.plan, tasks=tuple(tasks))
        return plan if self.factor is None else plan.scaled(self.factor)

    @property
    def core_hours(self) -> float | None:
        """Of all labels: what was taken, and what is expected of the rest."""
        left = self.left()
        if left is None or left.core_hours is None:
            return None
        return sum(self.spent.values()) + left.core_hours

    def close(self) -> None:
        """All labels are there: say what they took beside what was expected."""
        self._write(took=sum(self.spent.values()))
        first = self._told.get("after_first_scf")
        if first:
            logger.info(
                "the labels took %.2g core-hours; %.2g were expected before, %.2g after the first scf run",
                sum(self.spent.values()),
                self._told["before"],
                first,
            )

    def _task(self, name: str) -> Task | None:
        tasks = () if self.plan is None else self.plan.tasks
        return next((task for task in tasks if task.name == name), None)

    def _say(self) -> None:
        left = self.left()
        assert left is not None and self.factor is not None
        logger.info(
            "the first scf run took %.2g times what was expected; what is left:\n%s",
            self.factor,
            left.table(FACTOR),
        )

    def _write(self, **more: float) -> None:
        if self.record is None or self.plan is None or self.plan.core_hours is None:
            return
        self._told.setdefault("before", round(self.plan.core_hours, 5))
        if self.factor is not None and self.core_hours is not None:
            self._told.setdefault("after_first_scf", round(self.core_hours, 5))
        self._told["spent"] = {name: round(hours, 5) for name, hours in self.spent.items()}
        self._told |= {name: round(value, 5) for name, value in more.items()}
        write_json(self.record, self._told, overwrite=True)

"""What labels will still cost, judged anew once the first scf run has shown how fast this machine is."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from himlip_ase.dft.jobs import Task
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
    key : str
        Of everything that decides the labels: a record of another request is begun anew.
    shown : bool
        As `himlip_ase.dft.standing.Listener`.
    """

    def __init__(
        self, plan: Plan | None, record: Path | None = None, key: str = "", shown: bool = True
    ) -> None:
        super().__init__(shown)
        self.plan, self.record = plan, record
        self.factor: float | None = None
        self.spent: dict[str, float] = {}
        self._told: dict[str, Any] = {"key": key} if record is None else _record_of(record, key)

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
        return None if self.plan is None else _left(self.plan, self.spent, self.factor)

    @property
    def core_hours(self) -> float | None:
        """Of all labels: what was taken, and what is expected of the rest."""
        left = self.left()
        if left is None or left.labels.core_hours is None:
            return None
        return sum(self.spent.values()) + left.labels.core_hours

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
        if self.record is None or self.plan is None or self.plan.labels.core_hours is None:
            return
        self._told.setdefault("before", round(self.plan.labels.core_hours, 5))
        if self.factor is not None:
            self._told.setdefault("factor", round(self.factor, 5))
        if self.factor is not None and self.core_hours is not None:
            self._told.setdefault("after_first_scf", round(self.core_hours, 5))
        self._told["spent"] = {name: round(hours, 5) for name, hours in self.spent.items()}
        self._told |= {name: round(value, 5) for name, value in more.items()}
        write_json(self.record, self._told, overwrite=True)


def plan_left(plan: Plan, record: Path, key: str) -> Plan:
    """What a run that was stopped has still to do, at the pace that it had.

    Parameters
    ----------
    plan : Plan
        Of all labels.
    record : Path
        What `RunningEstimate` wrote; need not exist.
    key : str
        As there; `plan` comes back unchanged where the record is of another request.

    Returns
    -------
    Plan
        A set of single points that is begun counts as a whole.
    """
    told = _record_of(record, key)
    return _left(plan, told.get("spent", {}), told.get("factor"))


def _left(plan: Plan, spent: Collection[str], factor: float | None) -> Plan:
    left = replace(plan, tasks=tuple(task for task in plan.tasks if task.name not in spent))
    return left if factor is None else left.scaled(factor)


def _record_of(path: Path, key: str) -> dict[str, Any]:
    """What was written for the request of `key`; only the key where that is nothing."""
    told = read_mapping(path) if path.is_file() else {}
    return told if told.get("key") == key else {"key": key}

"""Runs that are no longer what is asked for: kept under another name, and taken back when they are again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from himlip_ase.dft.jobs import Job
from himlip_ase.dft.other_request import OtherRequest

logger = logging.getLogger(__name__)

REQUESTS = ("*.in", "ase.json", "harmonic.json")
"""Files that say what was asked for."""

T = TypeVar("T")


def fingerprint(folder: Path) -> str:
    """Eight hexadecimal digits that tell what a folder of runs was asked for.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    paths = [path for pattern in REQUESTS for path in folder.rglob(pattern)] or [*folder.rglob("*")]
    for path in sorted(paths):
        if path.is_file() and path.name != ".lock":
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


class SetAside:
    """A folder of runs and, beside it, what was set aside; nothing is ever deleted.

    Parameters
    ----------
    runs : Path
        Folder of the runs.
    store : Path
        What is set aside goes to ``<store>/<place in runs>-<fingerprint>``.
    """

    def __init__(self, runs: Path, store: Path) -> None:
        self.runs, self.store = runs.absolute(), store.absolute()
        self._moved: Counter[str] = Counter()
        self._returned: Counter[str] = Counter()

    def put(self, folder: Path) -> Path:
        """Set a folder aside.

        Parameters
        ----------
        folder : Path
            In `runs`.

        Returns
        -------
        Path
            Where it is now.
        """
        place = folder.absolute().relative_to(self.runs)
        target = free = self.store / f"{place}-{fingerprint(folder)}"
        number = 1
        while free.exists():  # the same request with other files, e.g. another pseudopotential
            number += 1
            free = target.with_name(f"{target.name}.{number}")
        free.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, free)
        self._moved[place.parts[0]] += 1
        return free

    def earlier(self, folder: Path) -> list[Path]:
        """What was set aside from a place.

        Parameters
        ----------
        folder : Path
            In `runs`.

        Returns
        -------
        list of Path
        """
        place = self.store / folder.absolute().relative_to(self.runs)
        return sorted(path for path in place.parent.glob(f"{place.name}-*") if path.is_dir())

    def take_back(self, earlier: Path, folder: Path) -> None:
        """Put what was set aside back in its place, which is free.

        Parameters
        ----------
        earlier : Path
            As `earlier` lists it.
        folder : Path
            Its place in `runs`.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(earlier, folder)
        self._returned[folder.absolute().relative_to(self.runs).parts[0]] += 1

    def with_room(self, work: Callable[[], T]) -> T:
        """Do a piece of work; what is in its way is set aside, and an earlier run of the same is taken back.

        Parameters
        ----------
        work : callable
            Raises `OtherRequest` where a folder holds something else.

        Returns
        -------
        object
            Of `work`.
        """
        tried: set[str] = set()
        while True:
            try:
                return work()
            except OtherRequest as other:
                tried.add(self.put(other.folder).name)
                folder = other.folder
                logger.debug("%s", other)
            untried = [path for path in self.earlier(folder) if path.name not in tried]
            if untried:
                self.take_back(untried[0], folder)

    def make_room(self, jobs: Sequence[Job]) -> None:
        """Let the folder of a set hold its jobs and nothing else.

        Parameters
        ----------
        jobs : sequence of Job
            Their folders have one parent.
        """
        folders = {job.folder.absolute() for job in jobs}
        parent = jobs[0].folder.absolute().parent
        for place in sorted(parent.iterdir()) if parent.is_dir() else ():
            if place.is_dir() and place not in folders:
                self.put(place)
        for job in jobs:
            if not job.folder.exists():
                for path in self.earlier(job.folder)[:1]:
                    self.take_back(path, job.folder)
            self.with_room(job.started)

    def keep_only(self, names: Sequence[str]) -> None:
        """Set the other subfolders of `runs` aside.

        Parameters
        ----------
        names : sequence of str
            Of those that are asked for.
        """
        for place in sorted(self.runs.iterdir()) if self.runs.is_dir() else ():
            if place.is_dir() and place.name not in names:
                self.put(place)

    def report(self) -> None:
        """Say what was set aside and taken back since the last report."""
        for name, number in self._moved.items():
            logger.info(
                "%s: %d run%s not what is asked for now, kept in %s",
                name,
                number,
                "s are" if number > 1 else " is",
                self.store / name if (self.store / name).is_dir() else self.store,
            )
        for name, number in self._returned.items():
            logger.info("%s: %d earlier run%s looked at again", name, number, "s" if number > 1 else "")
        self._moved.clear()
        self._returned.clear()

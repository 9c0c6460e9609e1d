"""Named choices of one kind: checks, help texts and tables are made from the entries."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar

from himlip_ase.errors import InputError


def imported(where: str) -> Any:
    """What an entry names by its place, so that it is imported when it is used.

    Parameters
    ----------
    where : str
        ``module:name``.

    Returns
    -------
    object
    """
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


class Entry(Protocol):
    """What every entry has."""

    @property
    def name(self) -> str:
        """What a user types."""

    @property
    def summary(self) -> str:
        """One line for ``--help`` and the documentation, without a full stop."""


T = TypeVar("T", bound=Entry)


class Registry(Generic[T]):
    """The entries of one kind of choice, in the order they were added.

    Parameters
    ----------
    kind : str
        What an entry is, as a message says it: "engine".
    *entries : Entry
        Objects with ``name`` and ``summary``; anything heavy they need is imported when they are used.
    """

    def __init__(self, kind: str, *entries: T) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: T, before: str | None = None) -> T:
        """Add an entry and return it.

        Parameters
        ----------
        entry : Entry
        before : str, optional
            Name of the entry that it stands before; None: at the end.

        Returns
        -------
        Entry
            The same.

        Raises
        ------
        InputError
            Its name is taken.
        """
        if entry.name in self._entries:
            raise InputError(f"the {self.kind} {entry.name!r} is there already; choose another name")
        following = self.names()[self.names().index(self[before].name) :] if before else []
        moved = {name: self._entries.pop(name) for name in following}
        self._entries[entry.name] = entry
        self._entries.update(moved)
        return entry

    @contextlib.contextmanager
    def added(self, entry: T, before: str | None = None) -> Iterator[T]:
        """An entry that is there while the context lasts; see `add`.

        Parameters
        ----------
        entry : Entry
        before : str, optional
            Name of the entry that it stands before.

        Returns
        -------
        Entry
            Inside the context.
        """
        added = self.add(entry, before)
        try:
            yield added
        finally:
            self._entries.pop(entry.name, None)

    def __getitem__(self, name: str) -> T:
        """The entry of a name.

        Raises
        ------
        InputError
            There is none; the message lists those there are, or the nearest.
        """
        if name not in self._entries:
            raise InputError(f"no {self.kind} {name!r}; {did_you_mean(name, self.names())}")
        return self._entries[name]

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Names of all entries."""
        return list(self._entries)

    def described(self) -> str:
        """All entries in a line: ``espresso (pw.x and ph.x), ase (any ASE calculator)``."""
        return ", ".join(f"{entry.name} ({entry.summary})" for entry in self)

    def table(self) -> str:
        """All entries as rows of a Markdown table."""
        return "\n".join(f"| `{entry.name}` | {entry.summary} |" for entry in self)


def did_you_mean(key: str, allowed: list[str]) -> str:
    """The nearest allowed key as a hint, else all of them.

    Parameters
    ----------
    key : str
        What was typed.
    allowed : list of str

    Returns
    -------
    str
        Such as "did you mean 'sscha'?" or "allowed: labels, sscha".
    """
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"

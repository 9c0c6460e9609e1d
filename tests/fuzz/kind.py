"""What a kind of input is: how a valid one is made, and how it is read."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LABELS = ROOT / "examples" / "h3s" / "labels_k12"

Named = Callable[[str], Any]
"""Finds what a dotted name inside the package leads to."""


def current(name: str) -> Any:
    """What ``room.module.thing`` leads to in the package that is imported."""
    module, _, thing = name.rpartition(".")
    return getattr(importlib.import_module(f"himlip_ase.{module}"), thing)


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes
    ----------
    name : str
    make : callable
        Writes a valid input into a folder.
    files : tuple of str
        Patterns of the files that are damaged in turn.
    read : callable
        Reads it: ``read(named, folder)``; `named` finds things of the package by their dotted name.
    sealed : bool
        A checksum covers the values, so that no change may pass.
    slow : bool
        Reading takes a good part of a second.
    """

    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Named, Path], Any]
    sealed: bool = False
    slow: bool = False


def copied_labels(*names: str) -> Callable[[Path], None]:
    """Makes copies of files of the example's labels."""

    def make(folder: Path) -> None:
        for name in names:
            for source in sorted(LABELS.glob(name)):
                target = folder / source.relative_to(LABELS / "harmonic")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    return make

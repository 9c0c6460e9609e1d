"""What a reader makes of a damaged input: refused, the same value, changed silently, or a traceback."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase.errors import CalculationError, InputError

from .comparison import same
from .damage import DAMAGES
from .kind import Kind, Named, current

REFUSED, SAME, CHANGED, TRACEBACK = "refused", "same value", "changed silently", "traceback"
TOLD = "changed and told"
"""Read with another value, and a warning that the undamaged input does not cause."""


class _Listener(logging.Handler):
    """Warnings of the package while a block runs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: set[str] = set()
        self.package = logging.getLogger("himlip_ase")

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.add(record.msg)

    def __enter__(self) -> _Listener:
        self.propagate, self.package.propagate = self.package.propagate, False
        self.package.addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self.package.removeHandler(self)
        self.package.propagate = self.propagate


@dataclass(frozen=True)
class Trial:
    """One damaged input."""

    kind: str
    file: str
    damage: str
    number: int
    outcome: str
    message: str = ""


def trials(
    kind: Kind, source: Path, count: int, named: Named = current, damages: tuple[str, ...] = tuple(DAMAGES)
) -> Iterator[Trial]:
    """Damage the files of an input `count` times in each way, and read it.

    The damage of a trial depends on the names of kind, file and way, and on its number, on nothing else.
    """
    with tempfile.TemporaryDirectory() as folder:  # a reader may finish what it reads
        whole = Path(folder) / "copy"
        shutil.copytree(source, whole)
        with _Listener() as usual:
            right = kind.read(named, whole)
    files = sorted({path for pattern in kind.files for path in source.glob(pattern) if path.is_file()})
    for damage in damages:
        for number in range(count):
            path = files[number % len(files)]
            inside = path.relative_to(source)
            seed = zlib.crc32(f"{kind.name}/{inside}/{damage}/{number}".encode())
            data = path.read_bytes()
            damaged = DAMAGES[damage](data, np.random.default_rng(seed))
            if damaged == data:
                continue
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "copy"
                shutil.copytree(source, copy)
                (copy / inside).write_bytes(damaged)
                message = ""
                try:
                    with _Listener() as heard:
                        found = kind.read(named, copy)
                    told = bool(heard.messages - usual.messages)
                    outcome = SAME if same(right, found) else TOLD if told else CHANGED
                except (InputError, CalculationError) as error:
                    outcome, message = REFUSED, str(error)
                except Exception as error:
                    outcome = TRACEBACK
                    message = f"{type(error).__name__}: {error}"
            yield Trial(kind.name, str(inside), damage, number, outcome, message)

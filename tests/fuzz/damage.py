"""Damage to the bytes of a file, as disks, transfers and killed jobs do it; seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """The beginning only: a full disk, a job that was killed."""
    return data[: int(rng.integers(0, len(data)))]


def corrupt(data: bytes, rng: np.random.Generator) -> bytes:
    """A run of up to 64 bytes replaced by others."""
    length = int(rng.integers(1, 65))
    start = int(rng.integers(0, max(len(data) - length, 1)))
    return data[:start] + rng.bytes(length) + data[start + length :]


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit the other way."""
    place, bit = int(rng.integers(0, len(data))), int(rng.integers(0, 8))
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def drop_line(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three lines lost; of a binary file the bytes between two that look like line ends."""
    lines = data.splitlines(keepends=True)
    first = int(rng.integers(0, len(lines)))
    return b"".join(lines[:first] + lines[first + int(rng.integers(1, 4)) :])


def blank(data: bytes, rng: np.random.Generator) -> bytes:
    """Zeros instead of a block: pages that never reached the disk."""
    length = min(int(rng.integers(1, 513)), len(data))
    start = int(rng.integers(0, len(data) - length + 1))
    return data[:start] + bytes(length) + data[start + length :]


DAMAGES: dict[str, Damage] = {
    "truncate": truncate,
    "corrupt": corrupt,
    "flip a bit": flip,
    "drop lines": drop_line,
    "zeros": blank,
}

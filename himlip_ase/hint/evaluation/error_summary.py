"""Sizes of errors: of one set of numbers, of numbers that arrive in parts, and means over structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

KEPT_PAIRS = 100_000
"""Numbers of one kind that are kept for a parity plot; of more, every second is dropped, and again."""


@dataclass(frozen=True)
class ErrorSummary:
    """Root mean square, mean absolute and largest error, beside the spread of the labels."""

    rmse: float
    mae: float
    largest: float
    label_rms: float
    count: int

    @classmethod
    def of(cls, predicted: np.ndarray, labels: np.ndarray) -> ErrorSummary:
        """Errors of `predicted` against `labels`, any equal shapes.

        Parameters
        ----------
        predicted, labels : ndarray
        """
        running = RunningErrors()
        running.add(predicted, labels)
        return running.summary()


@dataclass
class RunningErrors:
    """Errors of numbers that arrive in parts, of which only some are kept."""

    count: int = 0
    absolute: float = 0.0
    squares: float = 0.0
    largest: float = 0.0
    label_squares: float = 0.0
    _kept: list[np.ndarray] = field(default_factory=list, repr=False)
    _stride: int = 1

    def add(self, predicted: np.ndarray, labels: np.ndarray) -> None:
        """Add numbers, any equal shapes.

        Parameters
        ----------
        predicted, labels : ndarray
        """
        values, wanted = np.ravel(predicted), np.ravel(labels)
        if not wanted.size:
            return
        error = np.abs(values - wanted)
        first = -self.count % self._stride
        self._kept.append(np.stack([wanted, values])[:, first :: self._stride])
        self.count += error.size
        self.absolute += float(error.sum())
        self.squares += float((error**2).sum())
        self.largest = max(self.largest, float(error.max()))
        self.label_squares += float((wanted**2).sum())
        while sum(part.shape[1] for part in self._kept) > KEPT_PAIRS:
            self._kept = [np.concatenate(self._kept, axis=1)[:, ::2]]
            self._stride *= 2

    def summary(self) -> ErrorSummary:
        """Errors of all that was added; at least one number."""
        n = self.count
        return ErrorSummary(
            (self.squares / n) ** 0.5, self.absolute / n, self.largest, (self.label_squares / n) ** 0.5, n
        )

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and predictions that were kept, flat."""
        if not self._kept:
            return np.zeros(0), np.zeros(0)
        labels, predicted = np.concatenate(self._kept, axis=1)
        return labels, predicted


@dataclass(frozen=True)
class Mean:
    """A mean over structures and its standard error (None for a single one)."""

    mean: float
    error: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Mean of at least one number."""
        array = np.asarray(values, dtype=float)
        error = float(array.std(ddof=1) / len(array) ** 0.5) if len(array) > 1 else None
        return cls(float(array.mean()), error, len(array))

    def __str__(self) -> str:
        return f"{self.mean:.4g}" if self.error is None else f"{self.mean:.4g} ± {self.error:.1g}"

"""Exceptions raised on purpose, so that callers can tell bad input from a failed calculation."""

from __future__ import annotations


class InputError(ValueError):
    """The user's input is wrong; the message says what came, what is allowed and what to type."""


class CalculationError(RuntimeError):
    """A calculation failed: an external program, a non-finite result, an unusable file it left."""


class NotConvergedError(CalculationError):
    """A calculation ended without meeting its convergence criteria; its numbers must not be used."""

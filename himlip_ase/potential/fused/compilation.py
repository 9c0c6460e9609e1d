"""How the passes of this package are compiled."""

from __future__ import annotations

from numba import njit

FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Liberties that leave NaN and infinity as they are: sums in any order, fused multiply and add."""

compiled = njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")

"""Compiled sines and cosines of the radial functions' waves, and the radial functions themselves.

A table holds both at points of x = |r|/cutoff that are close to one another; a short series in the phase
since the nearest point gives them between.  That is a quarter of the time of sin and cos, in either
precision.  The number of waves is a constant of the compiled code, which is made for each and kept on disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from himlip_ase.potential.compilation import compiled


def wave_table(waves: np.ndarray) -> np.ndarray:
    """Sines and cosines of all waves at x = 0, 1/n, 2/n … 1.

    Parameters
    ----------
    waves : ndarray (K,)
        Wave numbers κ.

    Returns
    -------
    ndarray (n + 1, 2, K)
        So dense that no phase κx changes by more than a sixteenth to the nearest point.
    """
    n = 1 << max(6, math.ceil(math.log2(8 * float(np.abs(waves).max()) + 1)))
    phases = (np.arange(n + 1) / n)[:, None] * waves.astype(np.float64)
    return np.stack([np.sin(phases), np.cos(phases)], 1).astype(waves.dtype)


@compiled
def continued(change, from_sine, from_cosine, sine, cosine):
    """Sines and cosines of phases that differ by small changes from those with known sines and cosines.

    The first terms of the series that are left out, d⁹/9! and d¹⁰/10!, are below 1e-16 for |d| ≤ 1/16.

    Parameters
    ----------
    change, from_sine, from_cosine, sine, cosine : ndarray (n,)
    """
    real = sine.dtype.type
    for q in range(len(change)):
        d = change[q]
        e = d * d
        s = d - d * e * (real(1 / 6) - e * (real(1 / 120) - e * real(1 / 5040)))
        c = e * (real(1 / 2) - e * (real(1 / 24) - e * (real(1 / 720) - e * real(1 / 40320))))
        sine[q] = from_sine[q] + (from_cosine[q] * s - from_sine[q] * c)
        cosine[q] = from_cosine[q] - (from_sine[q] * s + from_cosine[q] * c)


@dataclass(frozen=True)
class WavePasses:
    """The passes that are compiled for a number of waves."""

    sines: Any
    radial_functions: Any


@cache
def wave_passes(n_radial: int) -> WavePasses:
    """Compile, or find on disk, the passes of so many waves.

    Parameters
    ----------
    n_radial : int

    Returns
    -------
    WavePasses
    """

    @compiled
    def of_atom(distances, waves, table, changes, values):
        """(4, M, K): at the nearest points of the table sines and cosines, and then between them."""
        real = table.dtype.type
        last = len(table) - 1
        for m in range(len(distances)):
            x = distances[m]
            # beyond the cutoff, where no radial function reaches, the numbers mean nothing
            place = min(int(x * real(last) + real(0.5)), last)
            step = x - real(place) / real(last)
            for k in range(n_radial):
                changes[m, k] = waves[k] * step
                values[0, m, k] = table[place, 0, k]
                values[1, m, k] = table[place, 1, k]
        flat = values.reshape(4, -1)
        continued(changes.reshape(-1), flat[0], flat[1], flat[2], flat[3])

    @compiled
    def sines(start, stop, waves, table, scaled, sine, cosine):
        """sin κx and cos κx of all pairs, (N, M, K)."""
        width = scaled.shape[1]
        changes = np.empty((width, n_radial), dtype=scaled.dtype)
        values = np.empty((4, width, n_radial), dtype=scaled.dtype)
        for i in range(start, stop):
            of_atom(scaled[i], waves, table, changes, values)
            for m in range(width):
                for k in range(n_radial):
                    sine[i, m, k], cosine[i, m, k] = values[2, m, k], values[3, m, k]

    @compiled
    def radial_functions(start, stop, cutoff, waves, table, scaled, radial, slope):
        """The radial functions sin(κx) u⁴/x, u = 1 − x², and their slopes by the distance."""
        real = scaled.dtype.type
        shrink, width = real(1.0 / cutoff), scaled.shape[1]
        changes = np.empty((width, n_radial), dtype=scaled.dtype)
        values = np.empty((4, width, n_radial), dtype=scaled.dtype)
        for i in range(start, stop):
            of_atom(scaled[i], waves, table, changes, values)
            for m in range(width):
                x = scaled[i, m]
                u = max(real(1) - x * x, real(0))
                t = real(1) / x
                u3 = u * u * u
                w = u3 * u * t
                dw = -shrink * u3 * (real(8) + u * t * t)
                shrunk = shrink * w
                for k in range(n_radial):
                    slope[i, m, k] = waves[k] * values[3, m, k] * shrunk + values[2, m, k] * dw
                    radial[i, m, k] = values[2, m, k] * w

    return WavePasses(sines, radial_functions)

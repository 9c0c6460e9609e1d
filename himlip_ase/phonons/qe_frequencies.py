"""Frequencies that stand in a dyn file beside its matrices: the two must agree, or the file is damaged."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.relations import broken_by_few
from himlip_ase.units import (
    RY_PER_BOHR2_EV_PER_ANGSTROM2,
    SQRT_EV_PER_ANGSTROM2_AMU_CM,
    signed_frequencies_cm,
)

logger = logging.getLogger(__name__)

_FREQUENCY = re.compile(r"(?:freq|omega)\s*\(\s*\d+\s*\)\s*=.*=\s*(\S+)\s*\[cm-1\]")
RELATIVE = 2e-3
"""Of ω²: older versions of CellConstructor had 109691.4 cm⁻¹ for a Rydberg, 4e-4 less than it is."""
HERMITIAN = 1e-9
"""Of the largest element: what XML files have of rounding; text files are exact in their own digits."""
ROUNDING_RY = 2e-8
"""Of an element of Φ(q) in Ry/bohr², written with eight decimals, and what a sum over a row makes of it."""


def check_printed_frequencies(
    path: Path, lines: Sequence[str], matrices: np.ndarray, masses: np.ndarray
) -> None:
    """`check_frequencies` with those in the lines of a text file.

    Parameters
    ----------
    path : Path
        For the message.
    lines : sequence of str
        Of the file.
    matrices : (nq, 3n, 3n) ndarray
        Φ(q) in eV/Å².
    masses : (n,) ndarray
        amu.

    Raises
    ------
    InputError
        As `check_frequencies`.
    """
    words = [found[1] for line in lines if (found := _FREQUENCY.search(line))]
    try:
        printed = [float(word) for word in words]
    except ValueError:  # a field overflowed
        printed = []
    check_frequencies(path, printed, matrices, masses)


def check_frequencies(path: Path, printed: Sequence[float], matrices: np.ndarray, masses: np.ndarray) -> None:
    """Refuse a dyn file whose matrices do not have the frequencies that it states, tell if they are odd.

    All q-points of a dyn file are of one star and have the same frequencies. A file without frequencies, or
    with more than one set, is let through.

    Parameters
    ----------
    path : Path
        For the message.
    printed : sequence of float
        cm⁻¹, in any order.
    matrices : (nq, 3n, 3n) ndarray
        Φ(q) in eV/Å².
    masses : (n,) ndarray
        amu.

    Raises
    ------
    InputError
        A frequency differs by more than rounding; the message says which.
    """
    scale = float(np.abs(matrices).max(initial=0.0))
    if asymmetry := broken_by_few(matrices - matrices.conj().swapaxes(-1, -2), scale, HERMITIAN):
        logger.warning(
            "%s: a few elements are not those of Hermitian matrices, by %.3g eV/Å²: the file may be damaged",
            path,
            asymmetry,
        )
    stated = np.sort(printed)
    if len(stated) != matrices.shape[-1] or not np.isfinite(stated).all():
        return
    weights = np.sqrt(np.repeat(masses, 3))
    hermitian = (matrices + matrices.conj().swapaxes(-1, -2)) / 2
    own = np.linalg.eigvalsh(hermitian / np.outer(weights, weights))
    wanted = np.sign(stated) * (stated / SQRT_EV_PER_ANGSTROM2_AMU_CM) ** 2
    rounding = ROUNDING_RY * RY_PER_BOHR2_EV_PER_ANGSTROM2 * matrices.shape[-1] / float(np.min(masses))
    wrong = np.abs(own - wanted) > rounding + RELATIVE * np.abs(wanted)
    if wrong.any():
        number, mode = (int(i) for i in np.argwhere(wrong)[0])
        has = float(signed_frequencies_cm(own[number, mode]))
        raise InputError(
            f"{path}: q-point {number + 1} has a mode of {has:.2f} cm-1 where {stated[mode]:.2f} is "
            "printed below: the file was damaged or edited. Copy it again; if masses were changed on "
            "purpose, remove the lines from 'Diagonalizing the dynamical matrix' on"
        )

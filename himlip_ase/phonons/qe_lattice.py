"""Quantum ESPRESSO's `ibrav` lattices, which its dyn and fc files name instead of writing the cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from himlip_ase.errors import InputError

SUPPORTED = (1, 2, 3, -3, 4, 5, -5, 6, 7, 8, 9, -9, 91, 10, 11, 12, -12, 13, -13, 14)


def ibrav_cell(ibrav: int, celldm: Sequence[float]) -> np.ndarray:
    """Primitive vectors of a Bravais lattice of Quantum ESPRESSO (definitions of INPUT_PW, QE 6.5 and later).

    Parameters
    ----------
    ibrav : int
        One of `SUPPORTED`.
    celldm : six floats
        a, b/a, c/a and the cosines, as pw.x takes them.

    Returns
    -------
    (3, 3) ndarray
        Rows, in the unit of celldm(1).

    Raises
    ------
    InputError
        Unknown `ibrav`, or celldm that describe no lattice.
    """
    a, ba, ca, c4, c5, c6 = (float(x) for x in celldm)
    b, c = ba * a, ca * a
    needs_b = abs(ibrav) in (8, 9, 91, 10, 11, 12, 13, 14)
    needs_c = needs_b or ibrav in (4, 6, 7)
    cosines = {5: (c4,), 12: (c4,), -12: (c5,), 13: (c4,), -13: (c5,), 14: (c4, c5, c6), -5: (c4,)}.get(
        ibrav, ()
    )
    if a <= 0 or (needs_b and b <= 0) or (needs_c and c <= 0) or any(abs(x) >= 1 for x in cosines):
        raise InputError(f"celldm = {list(celldm)} describe no lattice with ibrav = {ibrav}")
    half = a / 2
    rows: list[list[float]]
    if ibrav in (1, 6, 8):
        rows = [[a, 0, 0], [0, b if ibrav == 8 else a, 0], [0, 0, a if ibrav == 1 else c]]
    elif ibrav == 2:
        rows = [[-half, 0, half], [0, half, half], [-half, half, 0]]
    elif ibrav == 3:
        rows = [[half, half, half], [-half, half, half], [-half, -half, half]]
    elif ibrav == -3:
        rows = [[-half, half, half], [half, -half, half], [half, half, -half]]
    elif ibrav == 4:
        rows = [[a, 0, 0], [-half, half * np.sqrt(3), 0], [0, 0, c]]
    elif ibrav in (5, -5):
        if c4 <= -0.5:
            raise InputError(f"celldm(4) = {c4} must lie above -1/2 with ibrav = {ibrav}")
        tx, ty, tz = np.sqrt((1 - c4) / 2), np.sqrt((1 - c4) / 6), np.sqrt((1 + 2 * c4) / 3)
        if ibrav == 5:
            rows = [[a * tx, -a * ty, a * tz], [0, 2 * a * ty, a * tz], [-a * tx, -a * ty, a * tz]]
        else:
            u, v = (a / np.sqrt(3) * x for x in (tz - 2 * np.sqrt(2) * ty, tz + np.sqrt(2) * ty))
            rows = [[u, v, v], [v, u, v], [v, v, u]]
    elif ibrav == 7:
        rows = [[half, -half, c / 2], [half, half, c / 2], [-half, -half, c / 2]]
    elif ibrav == 9:
        rows = [[half, b / 2, 0], [-half, b / 2, 0], [0, 0, c]]
    elif ibrav == -9:
        rows = [[half, -b / 2, 0], [half, b / 2, 0], [0, 0, c]]
    elif ibrav == 91:
        rows = [[a, 0, 0], [0, b / 2, -c / 2], [0, b / 2, c / 2]]
    elif ibrav == 10:
        rows = [[half, 0, c / 2], [half, b / 2, 0], [0, b / 2, c / 2]]
    elif ibrav == 11:
        rows = [[half, b / 2, c / 2], [-half, b / 2, c / 2], [-half, -b / 2, c / 2]]
    elif ibrav in (12, 13):
        oblique = [b * c4, b * np.sqrt(1 - c4**2), 0]
        rows = (
            [[a, 0, 0], oblique, [0, 0, c]] if ibrav == 12 else [[half, 0, -c / 2], oblique, [half, 0, c / 2]]
        )
    elif ibrav in (-12, -13):
        oblique = [c * c5, 0, c * np.sqrt(1 - c5**2)]
        rows = (
            [[a, 0, 0], [0, b, 0], oblique]
            if ibrav == -12
            else [[half, b / 2, 0], [-half, b / 2, 0], oblique]
        )
    elif ibrav == 14:
        sine = np.sqrt(1 - c6**2)
        square = 1 + 2 * c4 * c5 * c6 - c4**2 - c5**2 - c6**2
        if square <= 0:
            raise InputError(f"celldm = {list(celldm)} describe no lattice with ibrav = 14")
        rows = [
            [a, 0, 0],
            [b * c6, b * sine, 0],
            [c * c5, c * (c4 - c5 * c6) / sine, c * np.sqrt(square) / sine],
        ]
    else:
        raise InputError(f"ibrav = {ibrav} is not known; known are 0 and {SUPPORTED}")
    return np.array(rows, dtype=float)

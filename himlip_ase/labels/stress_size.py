"""The size of stresses beside that of forces, where atoms move in a cell that stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from himlip_ase.labels.frames import LabelledFrame

LEAST_FRAMES = 5
"""Of one cell, from which something is concluded."""
LEAST_FORCE = 0.1
"""eV/Å, root mean square; below it structures may be minima, whose stresses differ though nothing pulls."""


def stress_size(frames: Sequence[LabelledFrame]) -> float | None:
    """How much stresses change between frames of one cell, in units of what forces of their size do.

    A virial is a sum of forces times distances: N forces F that act at random along distances d = (V/N)^(1/3)
    change V σ by about √N F d. Found in hydrides, metals and salts: 0.02 (small random displacements of a
    cubic crystal) to 1.1 (one mode, displaced far). A wrong unit multiplies it by 160 (GPa) or 1602 (kbar).

    Parameters
    ----------
    frames : sequence of LabelledFrame

    Returns
    -------
    float or None
        The median over cells; None if too few frames have one cell, or their forces are small.
    """
    groups: dict[tuple[bytes, bytes], list[LabelledFrame]] = {}
    for frame in frames:
        if frame.forces is not None and frame.stress is not None and frame.atoms.pbc.all():
            cell = np.round(frame.atoms.cell.array, 4) + 0.0
            groups.setdefault((frame.atoms.numbers.tobytes(), cell.tobytes()), []).append(frame)
    found = []
    for members in groups.values():
        force = float(np.sqrt(np.mean([np.mean(np.square(f.forces)) for f in members])))  # type: ignore[arg-type]
        if len(members) < LEAST_FRAMES or force < LEAST_FORCE:
            continue
        n, volume = len(members[0].atoms), members[0].atoms.get_volume()
        stresses = np.array([f.stress[:3] for f in members])  # type: ignore[index]
        change = float(np.sqrt(np.mean((stresses - stresses.mean(axis=0)) ** 2)))
        found.append(volume * change / (force * (volume / n) ** (1 / 3) * n**0.5))
    return float(np.median(found)) if found else None

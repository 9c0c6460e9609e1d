"""Which labelled structures say something of their own: opposites and repetitions count as one.

An SSCHA draws configurations in opposite pairs, +u and −u. Their surroundings are much alike, so that the
distance from one to the other tells nothing of how far a fresh draw lies from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

if TYPE_CHECKING:
    from himlip_ase.labels.frames import LabelledFrame

ALIKE = 0.9
"""Least absolute correlation of the displacements of two frames that count as one."""
BY_CHANCE = 1e-4
"""Largest probability that two frames with independent displacements are taken for one."""
SAME_CELL = 0.02
"""Relative difference of cells whose displacements are compared."""


def independent_groups(frames: Sequence[Atoms]) -> np.ndarray:
    """Number of the group of each frame: opposite or repeated displacements share one.

    Displacements are taken from the mean of all frames with the same atoms in nearly the same cell, which is
    the centre of the draw where they come in pairs. Two such frames alone are opposites about their own mean,
    and count as one.

    Parameters
    ----------
    frames : sequence of Atoms

    Returns
    -------
    ndarray (n,) of int
        Each group is called by its first frame.
    """
    groups = np.arange(len(frames))
    for members in _comparable(frames):
        if len(members) < 2:
            continue
        first = frames[members[0]]
        moved = np.array([_from(first, frames[index]) for index in members])
        moved -= moved.mean(axis=0)
        sizes = np.linalg.norm(moved, axis=1)
        known = sizes > 1e-6 * np.sqrt(moved.shape[1])
        unit = moved[known] / sizes[known, None]
        alike = np.abs(unit @ unit.T) > _least_correlation(moved.shape[1] - 3)
        for row, index in enumerate(np.asarray(members)[known]):
            groups[index] = np.asarray(members)[known][int(np.argmax(alike[row]))]
    return groups


def grouped(frames: Sequence[LabelledFrame]) -> list[list[LabelledFrame]]:
    """Labelled frames with their opposites and repetitions, each group where its first frame was.

    Parameters
    ----------
    frames : sequence of LabelledFrame

    Returns
    -------
    list of list of LabelledFrame
    """
    members = independent_groups([frame.atoms for frame in frames])
    found: dict[int, list[LabelledFrame]] = {}
    for member, frame in zip(members.tolist(), frames, strict=True):
        found.setdefault(member, []).append(frame)
    return list(found.values())


def groups_on_lattice(
    moved: np.ndarray, dims: tuple[int, int, int], freedoms: np.ndarray, least: float = 0.0
) -> np.ndarray:
    """As `independent_groups`, of displacements from the sites of one supercell, whatever cell is the first.

    Parameters
    ----------
    moved : ndarray, shape (n, N, 3)
        Å; atoms in the order of ``primitive.repeat(dims)``.
    dims : tuple of int
    freedoms : ndarray, shape (n,)
        How many of a frame's displacements are independent: fewer than 3N where a smaller cell is repeated.
    least : float
        Correlation that counts as one at least; above it what chance does not explain. One soft mode may
        correlate cells that have nothing else in common.

    Returns
    -------
    ndarray (n,) of int
        Each group is called by its first frame.
    """
    cells = int(np.prod(dims))
    sizes = np.linalg.norm(moved.reshape(len(moved), -1), axis=1)
    waves = np.fft.fftn(moved.reshape(len(moved), *dims, -1), axes=(1, 2, 3))
    groups = np.arange(len(moved))
    for later in np.flatnonzero(sizes):
        firsts = np.flatnonzero((groups[:later] == np.arange(later)) & (freedoms[:later] == freedoms[later]))
        firsts = firsts[sizes[firsts] > 0]
        product = (waves[firsts].conj() * waves[later]).sum(axis=-1)
        overlaps = np.abs(np.fft.ifftn(product, axes=(1, 2, 3)).real).reshape(len(firsts), cells)
        alike = overlaps.max(axis=1, initial=0) / (sizes[firsts] * sizes[later])
        alike = firsts[alike > max(least, _least_correlation(freedoms[later], cells))]
        groups[later] = alike[0] if len(alike) else later
    return groups


def _least_correlation(freedoms: int, trials: int = 1) -> float:
    """Correlation from which on frames are alike: cos² of random directions is Beta(½, (d − 1)/2)."""
    from scipy.stats import beta

    if freedoms < 2:
        return 1.0
    return max(ALIKE, float(np.sqrt(beta.isf(BY_CHANCE / trials, 0.5, (freedoms - 1) / 2))))


def _comparable(frames: Sequence[Atoms]) -> list[list[int]]:
    """Frames with the same atoms in the same order in nearly the same periodic cell."""
    found: list[list[int]] = []
    for index, frame in enumerate(frames):
        for members in found:
            other = frames[members[0]]
            if (
                np.array_equal(frame.numbers, other.numbers)
                and frame.pbc.all()
                and other.pbc.all()
                and np.abs(frame.cell.array - other.cell.array).max()
                < SAME_CELL * np.abs(other.cell.array).max()
            ):
                members.append(index)
                break
        else:
            found.append([index])
    return found


def _from(first: Atoms, frame: Atoms) -> np.ndarray:
    """Displacements from one frame to another without the rigid shift, flat; Å in the cell of the first."""
    apart = (
        frame.get_scaled_positions(wrap=False) - first.get_scaled_positions(wrap=False)
    ) @ first.cell.array
    moved = find_mic(apart, first.cell, pbc=True)[0]
    return np.asarray((moved - moved.mean(axis=0)).ravel())

"""Energies, forces and stresses of structures, whoever calculated them.

One convention says "no stress", because there is no volume or nobody asked: None for one structure, a row of
NaN among many. A stress is ASE's: Voigt order xx yy zz yz xz xy, eV/Å³, positive in tension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from himlip_ase.errors import InputError

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Row and column of each Voigt component: xx, yy, zz, yz, xz, xy (ASE's order)."""


def matrix_from_voigt(voigt: np.ndarray) -> np.ndarray:
    """Symmetric tensors of Voigt components that are not doubled (stresses).

    Parameters
    ----------
    voigt : array_like (..., 6)
        xx, yy, zz, yz, xz, xy.

    Returns
    -------
    ndarray (..., 3, 3)
    """
    return np.asarray(voigt)[..., [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(*np.shape(voigt)[:-1], 3, 3)


def voigt_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Voigt components of tensors; the mean of each off-diagonal pair is taken.

    Parameters
    ----------
    matrix : array_like (..., 3, 3)

    Returns
    -------
    ndarray (..., 6)
        xx, yy, zz, yz, xz, xy.
    """
    matrix = np.asarray(matrix)
    rows, columns = (list(axis) for axis in zip(*VOIGT, strict=True))
    return (matrix[..., rows, columns] + matrix[..., columns, rows]) / 2


class SinglePoint(NamedTuple):
    """Energy, forces and stress of one structure.

    Attributes
    ----------
    energy : float
        eV.
    forces : ndarray (N, 3)
        eV/Å, as they act on the atoms: constraints are ignored.
    stress : ndarray (6,) or None
        eV/Å³, Voigt, positive in tension; None without one.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None


@dataclass(frozen=True, eq=False, init=False)
class Evaluation:
    """Energies, forces and stresses of a sequence of structures.

    ``evaluation[i]`` is the `SinglePoint` of one of them, a slice or a list of numbers the `Evaluation` of
    some, and iteration goes through them one by one.

    Parameters
    ----------
    energies : ndarray (n,)
        eV.
    forces : sequence of ndarray (N_i, 3), or ndarray (n, N, 3)
        eV/Å, constraints ignored.
    stresses : ndarray (n, 6), optional
        eV/Å³, Voigt, positive in tension; a row of NaN, or None for all, says that there is none.

    Raises
    ------
    InputError
        Shapes that do not match.
    """

    energies: np.ndarray
    forces: Sequence[np.ndarray] | np.ndarray
    stresses: np.ndarray

    def __init__(
        self,
        energies: np.ndarray,
        forces: Sequence[np.ndarray] | np.ndarray,
        stresses: np.ndarray | None = None,
    ) -> None:
        energies = np.asarray(energies, dtype=float)
        missing = np.full((*energies.shape, 6), np.nan)
        stresses = missing if stresses is None else np.asarray(stresses, dtype=float)
        shapes = {np.shape(force)[1:] for force in forces}
        if (
            energies.ndim != 1
            or stresses.shape != (len(energies), 6)
            or len(forces) != len(energies)
            or not shapes <= {(3,)}
        ):
            raise InputError(
                f"an evaluation has energies (n,), n arrays of forces (N, 3) and stresses (n, 6); got "
                f"{energies.shape}, {len(forces)} arrays and {stresses.shape}"
            )
        object.__setattr__(self, "energies", energies)
        object.__setattr__(self, "forces", forces)
        object.__setattr__(self, "stresses", stresses)

    @classmethod
    def stack(cls, points: Sequence[tuple[float, np.ndarray, np.ndarray | None]]) -> Evaluation:
        """The evaluation of structures that were calculated one by one.

        Parameters
        ----------
        points : sequence of SinglePoint, or of (energy, forces, stress)
            A stress of None or NaN says that there is none.
        """
        rows = [SinglePoint(*point) for point in points]
        stresses = [np.full(6, np.nan) if row.stress is None else row.stress for row in rows]
        return cls(
            np.array([row.energy for row in rows], dtype=float),
            [np.asarray(row.forces, dtype=float) for row in rows],
            np.array(stresses, dtype=float).reshape(-1, 6),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """The evaluations of several sequences, one after another."""
        return cls.stack([point for part in parts for point in part])

    def __len__(self) -> int:
        return len(self.energies)

    def __iter__(self) -> Iterator[SinglePoint]:
        return (self.at(index) for index in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> SinglePoint | Evaluation:
        if isinstance(index, (int, np.integer)):
            return self.at(int(index))
        return self.take(index)

    def at(self, index: int) -> SinglePoint:
        """Energy, forces and stress of one structure."""
        stress = self.stresses[index]
        return SinglePoint(
            float(self.energies[index]), self.forces[index], None if np.isnan(stress).all() else stress
        )

    def take(self, rows: slice | Sequence[int] | np.ndarray) -> Evaluation:
        """Some of the structures, by a slice, numbers or a mask."""
        chosen = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        return Evaluation(
            self.energies[chosen], [self.forces[index] for index in chosen], self.stresses[chosen]
        )

    @property
    def force_array(self) -> np.ndarray:
        """Forces (n, N, 3) in eV/Å, where all structures have N atoms.

        Raises
        ------
        InputError
            The structures differ in size.
        """
        sizes = {len(force) for force in self.forces}
        if len(sizes) > 1:
            raise InputError(f"structures of {sorted(sizes)} atoms have no common array of forces")
        return np.asarray(self.forces, dtype=float).reshape(len(self), *(sizes or {0}), 3)

    @property
    def has_stress(self) -> bool:
        """Whether every structure has a stress."""
        return bool(np.isfinite(self.stresses).all())

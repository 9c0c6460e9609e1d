"""Third-order force constants between waves of any q, interpolated from a supercell.

    φ_abc(q; k) = Σ_R'R'' Φ³(0a, R'b, R''c) exp 2πi [k·R' + (q-k)·R'']

is the force on a at wave vector q of waves k of b and q-k of c.  Off the commensurate grid each pair of atoms
is taken at its shortest images, those at equal distance sharing the constant.  Images are chosen from the
atom of one of the two waves and, as its mirror, of the other; the mean of the two is symmetric in them, is
exact on the grid, and obeys the acoustic sum rule of the leg q exactly: nothing scatters a translation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError

TIE = 1e-4
"""Images whose distances differ by less are equally near, Å."""


class ThirdOrderWaves:
    """φ(q; k) of a real-space tensor.

    Parameters
    ----------
    tensor : ndarray, shape (3n, 3N, 3N)
        Φ³ in eV/Å³, its first atom in cell 0, the others in the order of ``primitive.repeat(dims)``
        (:func:`~himlip_ase.sscha.curvature.third_order.third_order`); symmetric in its indices.
    primitive : Atoms
        n atoms.
    dims : three integers
        The supercell.

    Raises
    ------
    InputError
        A tensor of another shape.
    """

    def __init__(self, tensor: np.ndarray, primitive: Atoms, dims: Sequence[int]) -> None:
        self.n, self.cells = len(primitive), int(np.prod(dims))
        size = 3 * self.n * self.cells
        if tensor.shape != (3 * self.n, size, size):
            raise InputError(
                f"{self.n} atoms in a {tuple(dims)} supercell need third-order constants "
                f"({3 * self.n}, {size}, {size}); got {tensor.shape}"
            )
        self.tensor = tensor
        self._images = _shortest_images(primitive, dims)

    def phases(self, qpoints: np.ndarray) -> np.ndarray:
        """Mean of exp(2πi q·R) over the shortest images of each pair.

        Parameters
        ----------
        qpoints : ndarray, shape (k, 3)
            Fractional.

        Returns
        -------
        ndarray, shape (k, n, cells, n)
        """
        lattice, shares = self._images
        waves = np.exp(2j * np.pi * np.einsum("kx,pix->kpi", qpoints, lattice))
        return (waves * shares).sum(axis=-1).reshape(len(qpoints), self.n, self.cells, self.n)

    def leg(self, q: np.ndarray) -> np.ndarray:
        """The tensor with its wave q summed up: atom b in cell 0, then a, then c anywhere.

        Parameters
        ----------
        q : ndarray, shape (3,)

        Returns
        -------
        ndarray, shape (n, 3, 3n, cells, n, 3)
            Complex, eV/Å³.
        """
        n, cells = self.n, self.cells
        phases = self.phases(np.asarray(q, dtype=float)[None])[0].conj()
        blocks = self.tensor.reshape(n, 3, cells, n, 3, -1)
        summed = np.einsum("bla,bylaxj->byaxj", phases, blocks, optimize=True)
        return summed.reshape(n, 3, 3 * n, cells, n, 3)

    def between(self, leg: np.ndarray, q: np.ndarray, kpoints: np.ndarray) -> np.ndarray:
        """φ(q; k) at many k.

        Parameters
        ----------
        leg : ndarray
            From :meth:`leg` of q.
        q : ndarray, shape (3,)
        kpoints : ndarray, shape (k, 3)

        Returns
        -------
        ndarray, shape (k, 3n, 3n, 3n)
            a at q, b at k, c at q-k; eV/Å³.
        """
        from_b = self._from_first(leg, np.asarray(q) - kpoints)
        from_c = self._from_first(leg, np.asarray(kpoints))
        return (from_b + from_c.swapaxes(2, 3)) / 2

    def _from_first(self, leg: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Images counted from the wave that is not `others`: (k, a, first, other)."""
        n, phases = self.n, self.phases(others)
        found = np.empty((len(others), n, 3, 3 * n, n, 3), dtype=complex)
        for b in range(n):
            for c in range(n):
                block = leg[b, :, :, :, c]  # (3, 3n, cells, 3)
                flat = block.transpose(2, 0, 1, 3).reshape(self.cells, -1)
                found[:, b, :, :, c] = (phases[:, b, :, c] @ flat).reshape(len(others), 3, 3 * n, 3)
        return found.reshape(len(others), 3 * n, 3 * n, 3 * n).swapaxes(1, 2)


def _shortest_images(primitive: Atoms, dims: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Lattice vectors from each primitive atom to each supercell atom, and the share of each image.

    Shapes (n·N, images, 3) and (n·N, images), fractional in the primitive cell; shares of a pair add up to 1.
    """
    size = np.asarray(dims)
    cells = np.indices(tuple(dims)).reshape(3, -1).T
    shifts = (np.indices((5, 5, 5)).reshape(3, -1).T - 2) * size
    scaled = primitive.get_scaled_positions(wrap=False)
    offsets = cells[None, :, None] + scaled[None, None] - scaled[:, None, None]  # (n, cells, n, 3)
    # the nearest periodic image of each pair first, so that cells of any shape of atoms are covered
    nearest = -np.rint(offsets / size) * size
    lattice = cells[None, :, None, None] + nearest[..., None, :] + shifts
    vectors = (offsets + nearest)[..., None, :] + shifts
    lengths = np.linalg.norm(vectors @ primitive.cell.array, axis=-1)
    near = lengths < lengths.min(axis=-1, keepdims=True) + TIE
    most = int(near.sum(axis=-1).max())
    order = np.argsort(~near, axis=-1, kind="stable")[..., :most]
    chosen = np.take_along_axis(lattice, order[..., None], axis=-2).reshape(-1, most, 3)
    shares = np.take_along_axis(near, order, axis=-1).reshape(-1, most).astype(float)
    return chosen, shares / shares.sum(axis=1, keepdims=True)

"""Half of the q-grid: lattice fields and matrices block by block, each pair (q, -q) once.

Displacements and forces are real, so x(-q) = x(q)* and Φ(-q) = Φ(q)*: only one q of each pair is kept, and
where q = -q (modulo a reciprocal vector) everything is real.  A :class:`Sector` holds the q-points of one
kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from himlip_ase.lattice import commensurate_qpoints, grid_indices


@dataclass(frozen=True)
class Sector:
    """Representatives of one kind of q-point.

    Attributes
    ----------
    points, partners : ndarray of int, shape (k,)
        Place of q and of -q in :func:`~himlip_ase.lattice.commensurate_qpoints`.
    fft, fft_partners : ndarray of int, shape (k,)
        Place of q and of -q in a flattened ``fftn`` over the lattice, first index slowest.
    multiplicity : int
        1 where q = -q (real blocks), else 2.
    """

    points: np.ndarray
    partners: np.ndarray
    fft: np.ndarray
    fft_partners: np.ndarray
    multiplicity: int

    @property
    def dtype(self) -> type:
        """Real where q is its own inverse, else complex."""
        return float if self.multiplicity == 1 else complex


class HalfGrid:
    """Half of the grid of a diagonal supercell.

    Parameters
    ----------
    dims : (int, int, int)
        Supercell; atoms are in the order of ``primitive.repeat(dims)``.

    Attributes
    ----------
    sectors : list of Sector
        The q-points that are their own partner (Γ the first of them), then one of each other pair.
    """

    def __init__(self, dims: tuple[int, int, int]) -> None:
        self.dims = dims
        self.cells = int(np.prod(dims))
        qpoints = commensurate_qpoints(dims)
        partner = grid_indices(-qpoints, dims)
        place = np.arange(self.cells)
        triplets = np.rint(qpoints * dims).astype(int) % dims
        fft = np.ravel_multi_index(tuple(triplets.T), dims)
        self.sectors = []
        for chosen, multiplicity in ((place == partner, 1), (place < partner, 2)):
            if chosen.any():
                points = place[chosen]
                partners = partner[points]
                self.sectors.append(Sector(points, partners, fft[points], fft[partners], multiplicity))

    def fields(self, values: np.ndarray) -> list[np.ndarray]:
        """x(q) = Σ_R x_R exp(-2πi q·R) / √cells of real fields.

        Parameters
        ----------
        values : ndarray, shape (n, N, 3)
            One vector an atom of the supercell.

        Returns
        -------
        list of ndarray, shape (k, n, 3 n_primitive)
            One array a sector; Σ_q multiplicity |x(q)|² = Σ_R |x_R|².
        """
        n = len(values)
        waves = np.fft.fftn(values.reshape(n, *self.dims, -1), axes=(1, 2, 3), norm="ortho")
        return self.split_fft(waves.reshape(n, self.cells, -1).transpose(1, 0, 2))

    def whole(self, fields: list[np.ndarray]) -> np.ndarray:
        """Fields by sector, as :meth:`fields` gives them, on the whole grid.

        Parameters
        ----------
        fields : list of ndarray, shape (k, n, 3 n_primitive)

        Returns
        -------
        ndarray, shape (cells, n, 3 n_primitive)
            Complex, in the order of a flattened ``fftn`` over the lattice, first index slowest.
        """
        result = np.empty((self.cells, *fields[0].shape[1:]), dtype=complex)
        for sector, field in zip(self.sectors, fields, strict=True):
            result[sector.fft_partners] = field.conj()
            result[sector.fft] = field
        return result

    def split(self, matrices: np.ndarray) -> list[np.ndarray]:
        """Hermitian part of Φ(q), (nq, 3n, 3n) on the whole grid, by sector."""
        hermitian = (matrices + matrices.conj().transpose(0, 2, 1)) / 2
        return [
            np.ascontiguousarray(block.real if sector.multiplicity == 1 else block)
            for sector in self.sectors
            for block in [hermitian[sector.points]]
        ]

    def split_fft(self, waves: np.ndarray) -> list[np.ndarray]:
        """Blocks in the order of ``fftn``, (cells, ...), by sector."""
        return [
            np.ascontiguousarray(block.real if sector.multiplicity == 1 else block)
            for sector in self.sectors
            for block in [waves[sector.fft]]
        ]

    def join(self, blocks: list[np.ndarray]) -> np.ndarray:
        """The inverse of :meth:`split`; leading axes before (k, i, j) are kept."""
        lead, size = blocks[0].shape[:-3], blocks[0].shape[-1]
        result = np.empty((*lead, self.cells, size, size), dtype=complex)
        for sector, block in zip(self.sectors, blocks, strict=True):
            result[..., sector.partners, :, :] = block.conj()
            result[..., sector.points, :, :] = block
        return result

    def norm(self, blocks: list[np.ndarray]) -> float:
        """√(Σ_q |Φ(q)|²) over the whole grid."""
        total = sum(
            sector.multiplicity * float(np.linalg.norm(block)) ** 2
            for sector, block in zip(self.sectors, blocks, strict=True)
        )
        return float(np.sqrt(total))

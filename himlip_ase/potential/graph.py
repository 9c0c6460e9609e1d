"""From atoms to a batched neighbour graph.

The neighbour list gives integers only (atom pairs and lattice shifts, from vesin); every vector is built in
torch from positions and cell, so that derivatives of any order are those of the energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from vesin import NeighborList

from himlip_ase.errors import InputError

COINCIDENT_ANGSTROM = 1e-3
"""Atoms closer than this are taken for an input error."""


@dataclass
class Graph:
    """A batch of structures as padded neighbour tables.

    Attributes
    ----------
    positions : Tensor (N, 3)
        Cartesian positions in Å of all atoms of the batch.
    cells : Tensor (B, 3, 3)
        Row vectors in Å; zero rows along directions that are not periodic.
    species : Tensor (N,)
        Index into the model's elements.
    frame : Tensor (N,)
        Structure that each atom belongs to.
    neighbours : Tensor (N, M)
        Index of each neighbour; padding entries point at the atom itself.
    shifts : Tensor (N, M, 3)
        Lattice translations of the neighbours, in whole cells.
    mask : Tensor (N, M), bool
        True for real neighbours.
    n_frames : int
        Number of structures B.
    volumes : Tensor (B,)
        Cell volume in Å³; NaN where the structure is not periodic in three directions.
    """

    positions: torch.Tensor
    cells: torch.Tensor
    species: torch.Tensor
    frame: torch.Tensor
    neighbours: torch.Tensor
    shifts: torch.Tensor
    mask: torch.Tensor
    n_frames: int
    volumes: torch.Tensor

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Graph:
        """The same graph on another device or in another floating-point type."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return Graph(
            move(self.positions), move(self.cells), move(self.species), move(self.frame),
            move(self.neighbours), move(self.shifts), move(self.mask), self.n_frames, move(self.volumes),
        )  # fmt: skip

    def atoms_per_frame(self) -> torch.Tensor:
        """Number of atoms of each structure, (B,)."""
        return torch.bincount(self.frame, minlength=self.n_frames)

    def displacements(self, positions: torch.Tensor, strain: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors from each atom to its neighbours.

        Parameters
        ----------
        positions : Tensor (N, 3)
            Å; the tensor to differentiate with respect to.
        strain : Tensor (B, 3, 3), optional
            Homogeneous strain ε of each structure: every vector r becomes r + r ε.

        Returns
        -------
        Tensor (N, M, 3)
            Å; padding entries are not meaningful (see `mask`).
        """
        vectors = positions[self.neighbours] - positions[:, None, :]
        vectors = vectors + torch.einsum("nms,nsk->nmk", self.shifts, self.cells[self.frame])
        if strain is not None:
            vectors = vectors + torch.einsum("nmk,nkl->nml", vectors, strain[self.frame])
        return vectors

    def replicate(self, copies: int) -> Graph:
        """The batch repeated `copies` times, copy by copy: many exact rows in one backward pass."""
        n_atoms = len(self.positions)
        offsets = torch.arange(copies, device=self.frame.device)
        frame = (self.frame[None] + offsets[:, None] * self.n_frames).reshape(-1)
        neighbours = self.neighbours[None] + offsets[:, None, None] * n_atoms
        return Graph(
            self.positions.repeat(copies, 1),
            self.cells.repeat(copies, 1, 1),
            self.species.repeat(copies),
            frame,
            neighbours.reshape(-1, self.neighbours.shape[1]),
            self.shifts.repeat(copies, 1, 1),
            self.mask.repeat(copies, 1),
            self.n_frames * copies,
            self.volumes.repeat(copies),
        )


def build_graph(
    images: Atoms | Sequence[Atoms],
    elements: Sequence[str],
    cutoff: float,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
) -> Graph:
    """Build the neighbour graph of one structure or a batch.

    Parameters
    ----------
    images : Atoms or sequence of Atoms
        Any mixture of molecules, slabs and crystals; cells may be smaller than the cutoff.
    elements : sequence of str
        Chemical symbols that the model knows.
    cutoff : float
        Å.

    Raises
    ------
    InputError
        No atoms, a non-finite position (named), an unknown element, a periodic direction without a cell
        vector, a singular cell, or two coincident atoms (the pair is named).
    """
    frames = [images] if isinstance(images, Atoms) else list(images)
    if not frames:
        raise InputError("no structure given: pass an ase.Atoms or a non-empty list of them")
    lookup = {symbol: index for index, symbol in enumerate(elements)}
    species, cells, volumes, tables = [], [], [], []
    offset = 0
    for atoms in frames:
        _check_atoms(atoms, lookup)
        species.append(np.array([lookup[symbol] for symbol in atoms.get_chemical_symbols()]))
        cells.append(np.where(np.asarray(atoms.pbc)[:, None], atoms.cell.array, 0.0))
        volumes.append(abs(atoms.cell.volume) if atoms.pbc.all() else np.nan)
        tables.append((*_neighbour_list(atoms, cutoff), offset))
        offset += len(atoms)
    counts = [len(atoms) for atoms in frames]
    neighbours, shifts, mask = _pad(tables, offset)
    return Graph(
        torch.as_tensor(np.concatenate([atoms.positions for atoms in frames]), dtype=dtype),
        torch.as_tensor(np.array(cells), dtype=dtype),
        torch.as_tensor(np.concatenate(species)),
        torch.repeat_interleave(torch.arange(len(frames)), torch.tensor(counts)),
        torch.as_tensor(neighbours),
        torch.as_tensor(shifts, dtype=dtype),
        torch.as_tensor(mask),
        len(frames),
        torch.as_tensor(np.array(volumes), dtype=dtype),
    ).to(device=device)


def _check_atoms(atoms: Atoms, lookup: dict[str, int]) -> None:
    if len(atoms) == 0:
        raise InputError("the structure has no atoms")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise InputError(
            f"atom {bad[0]} ({atoms[int(bad[0])].symbol}) has the position {atoms.positions[bad[0]]}"
        )
    unknown = sorted({chemical_symbols[z] for z in atoms.numbers} - set(lookup))
    if unknown:
        raise InputError(
            f"the model does not know {', '.join(unknown)}; it was trained on {', '.join(lookup)}. "
            "Choose another model or fine-tune one with labels that contain these elements"
        )
    cell = atoms.cell.array
    if not np.isfinite(cell).all():
        raise InputError(f"the cell contains non-finite numbers: {cell.tolist()}")
    periodic = cell[np.asarray(atoms.pbc)]
    if len(periodic):
        lengths = np.linalg.norm(periodic, axis=1)
        if lengths.min() < 1e-8:
            raise InputError("a periodic direction has no cell vector; set atoms.cell or atoms.pbc = False")
        if np.linalg.svd(periodic / lengths[:, None], compute_uv=False).min() < 1e-4:
            raise InputError(f"the periodic cell vectors are linearly dependent: {periodic.tolist()}")


def _neighbour_list(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted full list (i, j, S) of pairs within the cutoff, image-independent and for any periodicity."""
    cell = atoms.cell.complete().array if not atoms.pbc.all() else atoms.cell.array
    periodic = np.asarray(atoms.pbc)
    if np.linalg.det(cell) < 0 and periodic.all():
        # A left-handed cell is listed through its mirror order of vectors, then shifts are put back.
        order = [1, 0, 2]
    else:
        order = [0, 1, 2]
    calculator = NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    i, j, shifts = calculator.compute(
        points=atoms.positions, box=cell[order], periodic=periodic[order], quantities="ijS"
    )
    shifts = np.asarray(shifts)[:, np.argsort(order)]
    distances = np.linalg.norm(atoms.positions[j] - atoms.positions[i] + shifts @ cell, axis=1)
    if len(distances) and distances.min() < COINCIDENT_ANGSTROM:
        pair = int(distances.argmin())
        raise InputError(f"atoms {i[pair]} and {j[pair]} coincide: {distances[pair]:.2e} Å apart")
    return i.astype(np.int64), j.astype(np.int64), shifts.astype(np.int64)


def _pad(tables: list, n_atoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbour tables of all frames as rectangular arrays (N, M), padded with the atom itself."""
    centre = np.concatenate([i + offset for i, _, _, offset in tables])
    neighbour = np.concatenate([j + offset for _, j, _, offset in tables])
    shift = np.concatenate([s for _, _, s, _ in tables])
    counts = np.bincount(centre, minlength=n_atoms)
    width = max(int(counts.max(initial=0)), 1)
    slot = np.arange(len(centre)) - np.repeat(np.cumsum(counts) - counts, counts)
    neighbours = np.repeat(np.arange(n_atoms)[:, None], width, axis=1)
    shifts = np.zeros((n_atoms, width, 3))
    mask = np.zeros((n_atoms, width), dtype=bool)
    neighbours[centre, slot] = neighbour
    shifts[centre, slot] = shift
    mask[centre, slot] = True
    return neighbours, shifts, mask

"""From atoms to a batched neighbour graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from himlip_ase.errors import InputError
from himlip_ase.potential.compilation import compiled_here
from himlip_ase.potential.neighbours import (
    PADDING_ANGSTROM,
    PairList,
    crystal_table,
    find_pairs,
    joined,
    neighbour_table,
)
from himlip_ase.potential.operators import pair_difference

_NO_CELL = np.full((3, 3), np.nan)


@dataclass
class Graph:
    """A batch of structures as padded neighbour tables.

    Attributes
    ----------
    positions : Tensor (N, 3)
        Cartesian positions in Å of all atoms of the batch.
    species : Tensor (N,)
        Index into the model's elements.
    frame : Tensor (N,)
        Structure that each atom belongs to.
    neighbours : Tensor (N, M)
        Index of each neighbour; padding entries point at the atom itself.
    offsets : Tensor (N, 3, M)
        Lattice translations of the neighbours in Å; padding entries lie outside the cutoff.
    mask : Tensor (N, M), bool
        True for real neighbours.
    reverse : Tensor (N, M)
        Flat index of the same pair in the table of its other atom; padding entries point at themselves.
    n_frames : int
        Number of structures B.
    volumes : Tensor (B,)
        Cell volume in Å³; NaN where the structure is not periodic in three directions.
    cells : Tensor (B, 3, 3), optional
        Cell vectors in Å, in double precision always; NaN where the structure is not periodic in three
        directions. For potentials that are tied to a lattice; networks need them not.
    """

    positions: torch.Tensor
    species: torch.Tensor
    frame: torch.Tensor
    neighbours: torch.Tensor
    offsets: torch.Tensor
    mask: torch.Tensor
    reverse: torch.Tensor
    n_frames: int
    volumes: torch.Tensor
    cells: torch.Tensor | None = None

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Graph:
        """The same graph on another device or in another floating-point type.

        Parameters
        ----------
        device : torch.device or str, optional
        dtype : torch.dtype, optional
            Both as they are by default.
        """

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return Graph(
            move(self.positions), move(self.species), move(self.frame), move(self.neighbours),
            move(self.offsets), move(self.mask), move(self.reverse), self.n_frames, move(self.volumes),
            None if self.cells is None else self.cells.to(device=device),
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
        Tensor (N, 3, M)
            Å; padding entries are not meaningful (see `mask`).
        """
        vectors = self.offsets + pair_difference(positions, self.neighbours, self.reverse)
        if strain is not None:
            vectors = vectors + torch.bmm(strain.transpose(1, 2)[self.frame], vectors)
        return vectors

    def replicate(self, copies: int) -> Graph:
        """The batch repeated `copies` times, copy by copy: many exact rows in one backward pass."""
        return concatenate([self] * copies)


def concatenate(graphs: Sequence[Graph]) -> Graph:
    """One graph of several, neighbour tables padded to the widest."""
    width = max(graph.neighbours.shape[1] for graph in graphs)
    padded = [widened(graph, width) for graph in graphs]
    atoms = np.cumsum([0, *(len(graph.positions) for graph in graphs)]).tolist()
    frames = np.cumsum([0, *(graph.n_frames for graph in graphs)]).tolist()
    cells = [graph.cells for graph in padded if graph.cells is not None]
    return Graph(
        torch.cat([graph.positions for graph in padded]),
        torch.cat([graph.species for graph in padded]),
        torch.cat([graph.frame + start for graph, start in zip(padded, frames, strict=False)]),
        torch.cat([graph.neighbours + start for graph, start in zip(padded, atoms, strict=False)]),
        torch.cat([graph.offsets for graph in padded]),
        torch.cat([graph.mask for graph in padded]),
        torch.cat([graph.reverse + width * start for graph, start in zip(padded, atoms, strict=False)]),
        frames[-1],
        torch.cat([graph.volumes for graph in padded]),
        torch.cat(cells) if len(cells) == len(padded) else None,
    )


def widened(graph: Graph, width: int) -> Graph:
    """The same graph with more padding.

    Parameters
    ----------
    graph : Graph
    width : int
        Neighbours of an atom that there shall be room for.

    Returns
    -------
    Graph
    """
    n_atoms, old = graph.neighbours.shape
    if old == width:
        return graph
    own = torch.arange(n_atoms, device=graph.neighbours.device)[:, None].expand(-1, width - old)
    places = torch.arange(n_atoms * width, device=graph.neighbours.device).reshape(n_atoms, width)
    moved = graph.reverse // old * width + graph.reverse % old
    far = graph.positions.new_zeros(n_atoms, 3, width - old)
    far[:, 2] = PADDING_ANGSTROM
    return replace(
        graph,
        neighbours=torch.cat([graph.neighbours, own], dim=1),
        offsets=torch.cat([graph.offsets, far], dim=2),
        mask=torch.cat([graph.mask, graph.mask.new_zeros(n_atoms, width - old)], dim=1),
        reverse=torch.cat([moved, places[:, old:]], dim=1),
    )


def build_graph(
    images: Atoms | Sequence[Atoms],
    elements: Sequence[str],
    cutoff: float,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
    find: Callable[[Atoms], PairList] | None = None,
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
    find : callable, optional
        Gives pairs of a structure, all that lie within the cutoff (see `VerletList`); found anew by default.

    Returns
    -------
    Graph

    Raises
    ------
    InputError
        No atoms, a non-finite position (named), an unknown element, a periodic direction without a cell
        vector, a singular cell, or two coincident atoms (the pair is named).
    """
    frames = [images] if isinstance(images, Atoms) else list(images)
    if not frames:
        raise InputError("no structure given: pass an ase.Atoms or a non-empty list of them")
    lookup = _element_lookup(tuple(elements))
    species = lookup[joined([atoms.numbers for atoms in frames])]
    table = crystal_table(frames[0], species, cutoff) if find is None and len(frames) == 1 else None
    if table is None:
        for atoms in frames:
            check_atoms(atoms, elements)
        pairs = [find(atoms) if find is not None else find_pairs(atoms, cutoff) for atoms in frames]
        table = neighbour_table(frames, pairs, cutoff)
    volumes = np.array([_volume(atoms) for atoms in frames])
    graph = Graph(
        torch.from_numpy(np.concatenate([atoms.positions for atoms in frames])).to(dtype),
        torch.from_numpy(species),
        torch.from_numpy(np.repeat(np.arange(len(frames)), [len(atoms) for atoms in frames])),
        torch.from_numpy(table.neighbours),
        torch.from_numpy(table.offsets).to(dtype),
        torch.from_numpy(table.mask),
        torch.from_numpy(table.reverse),
        len(frames),
        torch.from_numpy(volumes).to(dtype),
        torch.from_numpy(np.array([atoms.cell.array if atoms.pbc.all() else _NO_CELL for atoms in frames])),
    )
    return graph if device is None or torch.device(device).type == "cpu" else graph.to(device=device)


def _volume(atoms: Atoms) -> float:
    """Å³; NaN where the structure is not periodic in three directions."""
    if not atoms.pbc.all():
        return np.nan
    a, b, c = atoms.cell.array.tolist()
    return abs(
        a[0] * (b[1] * c[2] - b[2] * c[1])
        + a[1] * (b[2] * c[0] - b[0] * c[2])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


@cache
def _element_lookup(elements: tuple[str, ...]) -> np.ndarray:
    """Index of each atomic number among the model's elements, −1 where it is not one of them."""
    lookup = np.full(len(chemical_symbols), -1)
    lookup[[atomic_numbers[symbol] for symbol in elements]] = np.arange(len(elements))
    return lookup


def check_atoms(atoms: Atoms, elements: Sequence[str]) -> None:
    """Refuse a structure that a model of these elements cannot take; for the errors see `build_graph`.

    Parameters
    ----------
    atoms : Atoms
    elements : sequence of str
        That the model knows.
    """
    if len(atoms) == 0:
        raise InputError("the structure has no atoms")
    places = _element_lookup(tuple(elements))[atoms.numbers]
    if compiled_here():
        from himlip_ase.potential.pair_search import surely_sound

        if surely_sound(atoms.positions, places, atoms.cell.array, atoms.pbc):
            return
    if not np.isfinite(atoms.positions).all():
        bad = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
        raise InputError(f"atom {bad} ({atoms[bad].symbol}) has the position {atoms.positions[bad]}")
    if (places < 0).any():
        unknown = sorted({chemical_symbols[z] for z in atoms.numbers} - set(elements))
        raise InputError(
            f"the model does not know {', '.join(unknown)}; it was trained on {', '.join(elements)}. "
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

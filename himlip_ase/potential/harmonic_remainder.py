"""A harmonic energy of displacements from the sites of a reference lattice, E = ½ Σ u_i ΔΦ_ij u_j.

It holds what a local network cannot: the part of given force constants that electrons carry further than the
network reaches. u is measured from the sites of the reference lattice, strained as the cell is; a rigid shift
costs nothing, because ΔΦ obeys the acoustic sum rule. Under a homogeneous strain ε of cell and atoms every u
becomes u + u ε, so that ∂E/∂ε_ab = Σ_i u_ia (ΔΦ u)_ib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from torch import Tensor, nn

from himlip_ase.errors import InputError
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.lattice_sites import ADVICE, LatticeSites
from himlip_ase.potential.lattice_translations import minimum_images

SUM_RULE = 1e-8
"""Relative violation of sum rule and permutation symmetry that is rounding."""

CHUNK_BYTES = 64 * 1024**2
"""Of displacements that are gathered at once for products."""


@dataclass(frozen=True)
class ReferenceLattice:
    """The lattice that a remainder is tied to.

    Attributes
    ----------
    symbols : tuple of str
        Of the primitive cell's atoms.
    cell : tuple of three tuples
        Primitive vectors, Å.
    scaled : tuple of tuples
        Fractional coordinates of the sites.
    dims : three int
        Diagonal supercell on whose q-grid the force constants are exact.
    """

    symbols: tuple[str, ...]
    cell: tuple[tuple[float, ...], ...]
    scaled: tuple[tuple[float, ...], ...]
    dims: tuple[int, int, int]

    @classmethod
    def of(cls, primitive: Atoms, dims: Sequence[int]) -> ReferenceLattice:
        """The lattice of a primitive cell with each atom at its site.

        Parameters
        ----------
        primitive : Atoms
        dims : three int
        """
        a, b, c = (int(side) for side in dims)
        return cls(
            tuple(primitive.get_chemical_symbols()),
            tuple(tuple(row) for row in primitive.cell.array.tolist()),
            tuple(tuple(row) for row in primitive.get_scaled_positions(wrap=False).tolist()),
            (a, b, c),
        )

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> ReferenceLattice:
        """From what JSON keeps of it.

        Parameters
        ----------
        values : dict
        """
        a, b, c = values["dims"]
        return cls(
            tuple(values["symbols"]),
            tuple(tuple(row) for row in values["cell"]),
            tuple(tuple(row) for row in values["scaled"]),
            (a, b, c),
        )

    @property
    def primitive(self) -> Atoms:
        """Primitive cell, each atom at its site."""
        return Atoms(self.symbols, cell=self.cell, scaled_positions=self.scaled, pbc=True)


@dataclass(frozen=True)
class _OnSites:
    """A batch on its sites: what follows is one matrix product."""

    displacements: Tensor
    """(N, 3), Å, double precision; differentiable where the positions are."""
    atoms: Tensor
    """(cells, n): atom at each site, over the batch."""
    others: Tensor
    """(cells, K): primitive cell R away from each."""
    frames: Tensor
    """(cells,): structure of each primitive cell."""


class HarmonicRemainder(nn.Module):
    """Energy, forces, virials and Hessian-vector products of ½ u ΔΦ u; always in double precision.

    Parameters
    ----------
    lattice : ReferenceLattice
    elements : sequence of str
        Chemical symbols in the order of the species index of the graphs.

    Attributes
    ----------
    compact : Tensor (n, n_super, 3, 3)
        ΔΦ in eV/Å², phonopy's compact layout and order; a buffer.
    """

    compact: Tensor
    _weights: Tensor

    def __init__(self, lattice: ReferenceLattice, elements: Sequence[str]) -> None:
        super().__init__()
        self.lattice = lattice
        self.sites = LatticeSites(lattice.primitive)
        self._numbers = np.array([atomic_numbers[symbol] for symbol in elements])
        n, count = len(lattice.symbols), int(np.prod(lattice.dims))
        shifts, weights = minimum_images(lattice.primitive, lattice.dims)
        self._shift_table = shifts
        d1, d2, _ = lattice.dims
        inside = shifts % np.array(lattice.dims)
        self._known: tuple[tuple[int, int], Tensor] | None = None
        self._inside = torch.from_numpy(inside[:, 0] + d1 * (inside[:, 1] + d2 * inside[:, 2]))
        self.register_buffer("compact", torch.zeros(n, n * count, 3, 3, dtype=torch.float64))
        self.register_buffer("_weights", torch.from_numpy(weights), persistent=False)

    @torch.no_grad()
    def set(self, compact: np.ndarray) -> None:
        """Take force constants.

        Parameters
        ----------
        compact : ndarray (n, n_super, 3, 3)
            eV/Å², phonopy's compact layout.

        Raises
        ------
        InputError
            Another shape, or the acoustic sum rule or permutation symmetry is broken.
        """
        given = torch.as_tensor(np.array(compact, dtype=float))
        if given.shape != self.compact.shape or not torch.isfinite(given).all():
            raise InputError(
                f"force constants of this lattice must be finite and of shape {tuple(self.compact.shape)}; "
                f"got {tuple(given.shape)}"
            )
        old = self.compact
        self.compact = given.to(old.device)
        allowed = SUM_RULE * max(float(given.abs().max()), 1e-6)
        matrix, table = self._matrix(), {tuple(r): k for k, r in enumerate(self._shift_table.tolist())}
        back = [table[tuple(-r for r in shift)] for shift in self._shift_table.tolist()]
        asymmetry = float((matrix - matrix[back].transpose(1, 2)).abs().max())
        drift = float(given.sum(dim=1).abs().max())
        if max(asymmetry, drift) > allowed:
            self.compact = old
            raise InputError(
                f"force constants of a remainder must obey the acoustic sum rule (broken by {drift:.2g} "
                f"eV/Å²) and permutation symmetry ({asymmetry:.2g}); use "
                "ForceConstants.with_acoustic_sum_rule()"
            )

    def _apply(self, fn: Any, recurse: bool = True) -> HarmonicRemainder:
        """Conversions of device; precision stays double."""
        kept = self.compact, self._weights
        super()._apply(fn, recurse)
        self.compact, self._weights = (old.to(self.compact.device) for old in kept)
        return self

    def _matrix(self) -> Tensor:
        """ΔΦ(R) of the infinite crystal, (K, 3n, 3n)."""
        state = self.compact.data_ptr(), self.compact._version
        if self._known is None or self._known[0] != state:
            self._known = state, self._unfolded()
        return self._known[1]

    def _unfolded(self) -> Tensor:
        n = len(self.lattice.symbols)
        blocks = self.compact.reshape(n, n, -1, 3, 3)[:, :, self._inside.to(self.compact.device)]
        weighted = blocks.permute(2, 0, 1, 3, 4) * self._weights[..., None, None]
        return weighted.transpose(2, 3).reshape(-1, 3 * n, 3 * n)

    def _on_sites(self, graph: Graph, positions: Tensor) -> _OnSites:
        if graph.cells is None:
            raise InputError(f"the graph has no cells, which the harmonic remainder needs: {ADVICE}")
        moved = graph.positions.detach().double().cpu().numpy()
        numbers = self._numbers[graph.species.cpu().numpy()]
        cells = graph.cells.detach().double().cpu().numpy()
        places, atoms, others, frames = [], [], [], []
        first_atom = first_cell = 0
        for frame, size in enumerate(graph.atoms_per_frame().tolist()):
            own = slice(first_atom, first_atom + size)
            try:
                found = self.sites.place(moved[own], numbers[own], cells[frame])
            except InputError as error:
                if graph.n_frames == 1:
                    raise
                raise InputError(f"structure {frame} of the batch: {error}") from error
            places.append(found.places)
            atoms.append(found.atoms + first_atom)
            others.append(found.translations.moved(self._shift_table) + first_cell)
            frames.append(np.full(len(found.atoms), frame))
            first_atom, first_cell = first_atom + size, first_cell + len(found.atoms)
        device = positions.device
        at, table, cell, owner = (
            torch.from_numpy(np.concatenate(parts)).to(device) for parts in (places, atoms, others, frames)
        )
        return _OnSites(positions.double() - at, table, cell, owner)

    def _times(self, vectors: Tensor, batch: _OnSites) -> Tensor:
        """ΔΦ times vectors (…, N, 3), site by site: (…, cells, 3n)."""
        by_cell = vectors[..., batch.atoms, :].flatten(-2)  # (…, cells, 3n)
        gathered = by_cell[..., batch.others, :].flatten(-2)  # (…, cells, K · 3n)
        return gathered @ self._matrix().transpose(1, 2).reshape(-1, by_cell.shape[-1])

    def _by_atom(self, values: Tensor, batch: _OnSites, n_atoms: int) -> Tensor:
        """(…, cells, 3n) in the order of the atoms, (…, N, 3)."""
        flat = values.unflatten(-1, (-1, 3)).flatten(-3, -2)
        found = flat.new_empty((*flat.shape[:-2], n_atoms, 3))
        found[..., batch.atoms.flatten(), :] = flat
        return found

    def forward(self, graph: Graph, strain: Tensor | None = None) -> Tensor:
        """Energy of each structure, (B,) in eV, differentiable to any order.

        Parameters
        ----------
        graph : Graph
        strain : Tensor (B, 3, 3), optional

        Returns
        -------
        Tensor (B,)
        """
        batch = self._on_sites(graph, graph.positions)
        moved = batch.displacements
        if strain is not None:
            moved = moved + torch.bmm(moved[:, None], strain.double()[graph.frame])[:, 0]
        by_cell = moved[batch.atoms].flatten(-2)
        each = 0.5 * (by_cell * self._times(moved, batch)).sum(-1)
        return each.new_zeros(graph.n_frames).index_add(0, batch.frames, each)

    @torch.no_grad()
    def energy_forces_virials(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        """The same with its derivatives in closed form.

        Parameters
        ----------
        graph : Graph

        Returns
        -------
        energies : Tensor (B,)
            eV.
        forces : Tensor (N, 3)
            −∂E/∂x, eV/Å.
        virials : Tensor (B, 3, 3)
            ∂E/∂ε, symmetric, eV.
        """
        batch = self._on_sites(graph, graph.positions)
        moved = batch.displacements
        gradient = self._by_atom(self._times(moved, batch), batch, len(moved))
        energies = moved.new_zeros(graph.n_frames).index_add(0, graph.frame, 0.5 * (moved * gradient).sum(-1))
        each = moved[:, :, None] * gradient[:, None]
        virials = moved.new_zeros(graph.n_frames, 3, 3).index_add(0, graph.frame, each)
        return energies, -gradient, 0.5 * (virials + virials.transpose(1, 2))

    @torch.no_grad()
    def products(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Products of the Hessian, which is ΔΦ wherever the atoms are.

        Parameters
        ----------
        graph : Graph
        vectors : Tensor (K, N, 3)

        Returns
        -------
        Tensor (K, N, 3)
            eV/Å² times the unit of `vectors`.
        """
        batch = self._on_sites(graph, graph.positions)
        bytes_of_one = 24 * batch.others.numel() * len(self.lattice.symbols)
        parts = (
            vectors.double().split(max(1, CHUNK_BYTES // bytes_of_one))
            if len(vectors)
            else [vectors.double()]
        )
        found = [self._by_atom(self._times(part, batch), batch, len(graph.positions)) for part in parts]
        return torch.cat(found).to(vectors)

"""Normal modes on the q-grid, the space group acting on them, and the irreducible displacements of each q.

Fields are Fourier transformed with u(k) = n_q^-1/2 Σ_L exp(-2πi k·L) u(L), L the lattice vector of the cell:
no atomic position enters the phase.  An operation {R|t} that takes atom a of cell L to atom π(a) of cell WL +
c_a takes u(k) to

    (g u)(k')_π(a) = exp(-2πi k'·c_a) R u_a(k),   k' = W^-T k,

with c_a counted from c_0: the common translation left out is a phase at each q that cancels in everything
that conserves crystal momentum.  Real force constants also commute with complex conjugation, which takes k to
-k; with an operation that takes q to -q it gives an antiunitary operation of q.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_EV

DEGENERATE = 1e-6
"""Eigenvalues of a random symmetric matrix closer than this fraction of the largest belong together."""


@dataclass(frozen=True, eq=False)
class GridModes:
    """Modes of a Gaussian at each point of its grid, first lattice index slowest.

    Attributes
    ----------
    dims : (int, int, int)
    temperature_k : float
    energies : ndarray, shape (nq, 3n)
        ħω in eV; infinite for the three translations.
    vectors : ndarray, shape (nq, 3n, 3n)
        Mass-reduced polarisations e (amu^-1/2 e is the displacement), one a column; zero for translations.
    inverse_roots : ndarray, shape (3n,)
        1/√m of each coordinate, amu^-1/2.
    """

    dims: tuple[int, int, int]
    temperature_k: float
    energies: np.ndarray
    vectors: np.ndarray
    inverse_roots: np.ndarray

    @cached_property
    def triplets(self) -> np.ndarray:
        """Integer coordinates of each k, (nq, 3)."""
        return np.indices(self.dims).reshape(3, -1).T

    def index(self, triplets: np.ndarray) -> np.ndarray:
        """Place of integer triplets, taken modulo the grid."""
        wrapped = np.asarray(triplets) % np.array(self.dims)
        return np.ravel_multi_index(tuple(np.moveaxis(wrapped, -1, 0)), self.dims)

    @cached_property
    def minus(self) -> np.ndarray:
        """Place of -k."""
        return self.index(-self.triplets)

    def partner(self, q: int) -> np.ndarray:
        """Place of q - k for each k."""
        return self.index(self.triplets[q] - self.triplets)

    def normal_coordinates(self, fields: np.ndarray, mass_power: float) -> np.ndarray:
        """e† M^p x(k) of fields on the grid.

        Parameters
        ----------
        fields : ndarray, shape (nq, n, 3n)
            x(k), see :meth:`himlip_ase.sscha.ensembles.half_grid.HalfGrid.whole`.
        mass_power : float
            p: 1/2 for displacements and -1/2 for forces.

        Returns
        -------
        ndarray, shape (nq, n, 3n)
        """
        return fields * self.inverse_roots ** (-2 * mass_power) @ self.vectors.conj()


def grid_modes(distribution: HarmonicDistribution) -> GridModes:
    """Modes of a distribution on its whole grid."""
    dynamical = distribution.dynamical
    scale = distribution.inverse_root_masses
    blocks = np.empty_like(dynamical.matrices)
    blocks[distribution.grid_order] = dynamical.matrices
    blocks = blocks * scale[:, None] * scale[None, :]
    energies = np.full(blocks.shape[:2], np.inf)
    vectors = np.zeros_like(blocks)
    masses = dynamical.primitive.get_masses()
    rigid = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
    for index, block in enumerate(blocks):
        hermitian = (block + block.conj().T) / 2
        basis = np.linalg.qr(rigid, mode="complete")[0][:, 3:] if index == 0 else np.eye(len(scale))
        values, columns = np.linalg.eigh(basis.T @ (hermitian.real if index == 0 else hermitian) @ basis)
        start = len(scale) - len(values)
        energies[index, start:] = np.sqrt(values) * SQRT_EV_PER_ANGSTROM2_AMU_EV
        vectors[index, :, start:] = basis @ columns
    return GridModes(distribution.dims, distribution.temperature_k, energies, vectors, scale)


@dataclass(frozen=True)
class LittleOperation:
    """An operation that keeps q.

    Attributes
    ----------
    index : int
        Place in the space group.
    conjugates : bool
        Whether complex conjugation comes first.
    """

    index: int
    conjugates: bool


class GridSymmetry:
    """Space group acting on Fourier components.

    Parameters
    ----------
    group : SpaceGroup
        Operations that map the supercell onto itself.
    modes : GridModes
        Of a Gaussian with that symmetry.
    """

    def __init__(self, group: SpaceGroup, cell: np.ndarray, modes: GridModes) -> None:
        self.modes, self.group = modes, group
        dims = np.array(modes.dims)
        columns = np.asarray(cell).T
        self._maps, self._shifts = [], []
        for rotation, target in zip(group.rotations, group.targets, strict=True):
            turn = np.rint(np.linalg.inv(columns) @ rotation @ columns)
            fractions = modes.triplets / dims @ np.linalg.inv(turn)
            self._maps.append(modes.index(np.rint(fractions * dims).astype(int)))
            self._shifts.append(group.cells[target[0, : group.n] // group.n])

    def image(self, operation: LittleOperation, k: int) -> int:
        """Where an operation takes k.

        Parameters
        ----------
        operation : LittleOperation
        k : int
            Place in the grid.

        Returns
        -------
        int
            Place in the grid.
        """
        return int(self._maps[operation.index][self.modes.minus[k] if operation.conjugates else k])

    def matrix(self, operation: LittleOperation, k: int) -> np.ndarray:
        """Unitary (3n, 3n) that takes u(k), or the conjugate of u(k), to the image of k.

        Parameters
        ----------
        operation : LittleOperation
        k : int
            Place in the grid.

        Returns
        -------
        ndarray, shape (3n, 3n)
        """
        image = self.image(operation, k)
        phases = np.exp(
            -2j * np.pi * (self._shifts[operation.index] @ (self.modes.triplets[image] / self.modes.dims))
        )
        n = self.group.n
        result = np.zeros((n, 3, n, 3), dtype=complex)
        atoms = self.group.images[operation.index]
        result[atoms, :, np.arange(n), :] = phases[:, None, None] * self.group.rotations[operation.index]
        return result.reshape(3 * n, 3 * n)

    def on_modes(self, operation: LittleOperation, k: int) -> np.ndarray:
        """The same between the normal coordinates of k and of its image.

        Parameters
        ----------
        operation : LittleOperation
        k : int
            Place in the grid.

        Returns
        -------
        ndarray, shape (3n, 3n)
        """
        vectors = self.modes.vectors
        source = vectors[k].conj() if operation.conjugates else vectors[k]
        return vectors[self.image(operation, k)].conj().T @ self.matrix(operation, k) @ source

    def operations(self, q: int) -> list[LittleOperation]:
        """All operations that keep q, antiunitary ones included."""
        every = [LittleOperation(i, c) for c in (False, True) for i in range(len(self.group.rotations))]
        return [operation for operation in every if self.image(operation, q) == q]

    def star(self, q: int) -> dict[int, LittleOperation]:
        """Images of q, each with an operation that takes q there."""
        found: dict[int, LittleOperation] = {}
        for conjugates in (False, True):
            for index in range(len(self.group.rotations)):
                operation = LittleOperation(index, conjugates)
                found.setdefault(self.image(operation, q), operation)
        return found

    def arms(self, q: int) -> list[LittleOperation]:
        """Operations that take q to the arms of its star, one for each pair of opposite arms."""
        found: dict[int, LittleOperation] = {}
        for index in range(len(self.group.rotations)):
            operation = LittleOperation(index, conjugates=False)
            image = self.image(operation, q)
            if int(self.modes.minus[image]) not in found:
                found.setdefault(image, operation)
        return list(found.values())


@dataclass(frozen=True, eq=False)
class Multiplet:
    """Equivalent irreducible subspaces of the displacements at one q.

    Attributes
    ----------
    copies : ndarray, shape (mult, 3n, d)
        Orthonormal bases that transform alike; together they span the isotypic subspace.
    factors : ndarray, shape (operations, d, d)
        D(g) in each copy: g w_m = Σ_m' w_m' D_m'm.
    commutant : ndarray, shape (1, 2 or 4, d, d)
        Real-orthonormal basis of the matrices that commute with every operation, the identity first; it has
        one element unless the irreducible representation is complex or quaternionic over the reals.
    """

    copies: np.ndarray
    factors: np.ndarray
    commutant: np.ndarray

    @property
    def dimension(self) -> int:
        """Dimension of the irreducible representation."""
        return self.copies.shape[2]


def multiplets(symmetry: GridSymmetry, q: int, operations: list[LittleOperation]) -> list[Multiplet]:
    """Irreducible displacements at q, equivalent ones together (eigenspaces of random invariant matrices).

    Parameters
    ----------
    symmetry : GridSymmetry
    q : int
        Place in the grid.
    operations : list of LittleOperation
        Those that keep q.

    Returns
    -------
    list of Multiplet
    """
    real = bool(symmetry.modes.minus[q] == q)
    size = 3 * symmetry.group.n
    matrices = [symmetry.matrix(operation, q) for operation in operations]
    generator = np.random.default_rng(0)

    def average(matrix: np.ndarray, left: list[np.ndarray], right: list[np.ndarray]) -> np.ndarray:
        total = np.zeros((left[0].shape[0], right[0].shape[0]), dtype=complex)
        for a, b, operation in zip(left, right, operations, strict=True):
            total += a @ (matrix.conj() if operation.conjugates else matrix) @ b.conj().T
        return total / len(operations)

    def draw(rows: int, columns: int) -> np.ndarray:
        matrix = generator.normal(size=(rows, columns)) + 0j
        return matrix if real else matrix + 1j * generator.normal(size=(rows, columns))

    seed = draw(size, size)
    invariant = average(seed + seed.conj().T, matrices, matrices)
    values, vectors = np.linalg.eigh(invariant.real if real else invariant)
    bounds = np.flatnonzero(np.diff(values) > DEGENERATE * np.abs(values).max()) + 1
    classes: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
    for space in np.split(vectors.astype(complex), bounds, axis=1):
        factors = [
            space.conj().T @ matrix @ (space.conj() if operation.conjugates else space)
            for matrix, operation in zip(matrices, operations, strict=True)
        ]
        _check_closed(factors)
        for copies, known in classes:
            if known[0].shape != factors[0].shape:
                continue
            link = average(draw(*known[0].shape), factors, known)  # a multiple of an isometry, or zero
            norm = np.linalg.norm(link) / np.sqrt(len(link))
            if norm > 1e-8:
                copies.append(space @ link / norm)
                break
        else:
            classes.append(([space], factors))
    found = []
    for copies, factors in classes:
        d = factors[0].shape[0]
        basis = [np.eye(d, dtype=complex)]
        for _ in range(6):
            extra = average(draw(d, d), factors, factors)
            for _ in range(2):
                for known_matrix in basis:
                    extra = extra - known_matrix * (known_matrix.conj() * extra).sum().real / d
            norm = np.linalg.norm(extra) / np.sqrt(d)
            if norm > 1e-8:
                basis.append(extra / norm)
        found.append(Multiplet(np.array(copies), np.array(factors), np.array(basis)))
    return found


def _check_closed(factors: list[np.ndarray]) -> None:
    identity = np.eye(len(factors[0]))
    worst = max(float(np.abs(f @ f.conj().T - identity).max()) for f in factors)
    if worst > 1e-6:
        raise CalculationError(
            f"the displacements do not split into irreducible ones (a subspace is left by {worst:.1e}); "
            "the centroids or the auxiliary do not have the symmetry of the space group"
        )

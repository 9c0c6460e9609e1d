"""Rows of a Hessian from products along symmetry-irreducible displacements.

An operation that carries atom a to b carries its rows: Φ(R b, R t) = R Φ(a, t) Rᵀ. One atom of each orbit is
displaced, in as few directions as its site symmetry needs to make the others: one for Td or C2v, two for a
mirror plane, three for no symmetry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.symmetry.operations import Operations, identity_operation

logger = logging.getLogger(__name__)

Products = Callable[[np.ndarray], np.ndarray]
"""Hessian-vector products of one structure, (K, N, 3) → (K, N, 3) in eV/Å² times the unit of the vectors."""

EXACT_DEVIATION = 1e-9
"""Å; a structure that deviates less from its symmetry is symmetric to rounding."""

ALLOWED_ERROR = 1e-5
"""eV/Å²; a symmetric reconstruction that is worse than this is given up for all rows."""

_WELL_CONDITIONED = 0.1


@dataclass(frozen=True)
class RowsReport:
    """How rows of a Hessian were obtained, and what is known about their error.

    Attributes
    ----------
    products, without_symmetry : int
        Hessian-vector products that were taken (a check included), and that would be without symmetry.
    operations : int
        Order of the group that was used, translations not counted.
    deviation : float
        Å; how far the structure is from its symmetry.
    sum_rule : float
        eV/Å²; largest violation of the acoustic sum rule.
    asymmetry : float
        eV/Å²; largest violation of the permutation symmetry.
    check : float or None
        eV/Å²; largest error of a product with a vector of random signs, an upper estimate of that of an
        element. Taken when the structure is not symmetric to rounding.
    fallback : bool
        Whether the symmetric rows failed and all rows were computed.
    """

    products: int
    without_symmetry: int
    operations: int
    deviation: float
    sum_rule: float
    asymmetry: float
    check: float | None = None
    fallback: bool = False

    def __str__(self) -> str:
        text = (
            f"{self.products} Hessian-vector products instead of {self.without_symmetry} "
            f"({self.operations} operations), sum rule {self.sum_rule:.1e}, "
            f"asymmetry {self.asymmetry:.1e} eV/Å²"
        )
        if self.check is not None:
            text += f", off its symmetry by {self.deviation:.1e} Å: error {self.check:.1e} eV/Å²"
        return text + (", symmetry given up" if self.fallback else "")


@dataclass(frozen=True, eq=False)
class Orbit:
    """Equivalent atoms of the first cell, and the displacements of the first of them.

    Attributes
    ----------
    atom : int
    directions : ndarray (K, 3)
        Unit vectors whose images under the site symmetry span space.
    site : ndarray (S,)
        Operations that leave the atom where it is, up to a translation.
    members : dict of int to int
        An operation that carries `atom` to each atom of the orbit.
    """

    atom: int
    directions: np.ndarray
    site: np.ndarray
    members: dict[int, int]


def orbits(operations: Operations) -> list[Orbit]:
    """The orbits of the atoms of the first cell."""
    found: list[Orbit] = []
    done: set[int] = set()
    for atom in operations.first_atoms().tolist():
        if atom in done:
            continue
        targets = operations.carried(atom)[0].tolist()
        members: dict[int, int] = {}
        for operation, target in enumerate(targets):
            members.setdefault(target, operation)
        done.update(members)
        site = np.flatnonzero(np.array(targets) == atom)
        found.append(Orbit(atom, spanning_directions(operations.rotations[site]), site, members))
    return found


def spanning_directions(rotations: np.ndarray) -> np.ndarray:
    """Fewest unit vectors (K, 3) whose images under some rotations span space, well conditioned."""
    candidates = np.concatenate(direction_candidates(200))
    images = np.einsum("sij,cj->csi", rotations, candidates)
    chosen = spanning_choice(np.einsum("csi,csj->cij", images, images) / len(rotations), _WELL_CONDITIONED)
    return np.eye(3) if chosen is None else candidates[chosen]


def spanning_choice(squares: np.ndarray, smallest: float) -> list[int] | None:
    """Fewest candidates, chosen one by one, whose summed squares have full rank and are well conditioned.

    Parameters
    ----------
    squares : ndarray (C, d, d)
        Σ v vᵀ over the images of each candidate, normalised.
    smallest : float
        Eigenvalue above which a dimension counts as reached.

    Returns
    -------
    list of int or None
        At most d indices; None where d of them do not span the space.
    """
    dimension = squares.shape[-1]
    chosen: list[int] = []
    total = np.zeros((dimension, dimension))
    while len(chosen) < dimension:
        values = np.linalg.eigvalsh(total + squares)
        ranks = (values > smallest).sum(axis=1)
        # among those that reach most dimensions, the best conditioned
        spread = np.where(values > smallest, values, np.inf).min(axis=1)
        best = int(np.lexsort((-np.round(spread, 9), -ranks))[0])
        chosen.append(best)
        total = total + squares[best]
        if ranks[best] == dimension:
            return chosen
    return None


def direction_candidates(n_general: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors: axes and diagonals, and a fixed set of general directions."""
    grid = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:13]
    general = np.random.default_rng(0).normal(size=(n_general, 3))
    special = np.concatenate([np.eye(3), -grid[np.abs(grid).sum(axis=1) > 1]])
    return tuple(v / np.linalg.norm(v, axis=1)[:, None] for v in (special, general))


def displacements(operations: Operations, found: list[Orbit]) -> np.ndarray:
    """Displacement fields (K, N, 3) of the orbits, one after another.

    Parameters
    ----------
    operations : Operations
    found : list of Orbit
        From `orbits`.

    Returns
    -------
    ndarray (K, N, 3)
        Of length 1.
    """
    fields = []
    for orbit in found:
        for direction in orbit.directions:
            field = np.zeros((operations.n_atoms, 3))
            field[orbit.atom] = direction
            fields.append(field)
    return np.array(fields)


def expand(operations: Operations, found: list[Orbit], products: np.ndarray) -> np.ndarray:
    """Blocks Φ(a, t) = ∂²E/∂u_a∂u_t (n, N, 3, 3) of the atoms of the first cell from `displacements`.

    Parameters
    ----------
    operations : Operations
    found : list of Orbit
        From `orbits`.
    products : ndarray (K, N, 3)
        Hessian-vector products with `displacements`, eV/Å².

    Returns
    -------
    ndarray (n, N, 3, 3)
        eV/Å².
    """
    cells, n_atoms = operations.cells, operations.n_atoms
    blocks = np.empty((n_atoms // cells, n_atoms, 3, 3))
    start = 0
    for orbit in found:
        count = len(orbit.directions)
        own = products[start : start + count]
        start += count
        permutations = operations.carried(orbit.atom)[1]
        total = np.zeros((n_atoms, 3, 3))
        normal = np.zeros((3, 3))
        for index in orbit.site:
            rotation = operations.rotations[index]
            images = orbit.directions @ rotation.T
            # least squares over all images, so that rounding averages out
            total[permutations[index]] += np.einsum("kx,kty->txy", images, own @ rotation.T)
            normal += images.T @ images
        block = np.linalg.solve(normal, total)
        for target, index in orbit.members.items():
            rotation = operations.rotations[index]
            blocks[target // cells, permutations[index]] = rotation @ block @ rotation.T
    return blocks


def symmetric_rows(products: Products, operations: Operations) -> tuple[np.ndarray, RowsReport]:
    """Rows of the Hessian of all atoms of the first cell, from as few products as symmetry allows.

    Where the atoms do not lie on their symmetric sites to rounding, the result is compared with the exact
    product along a random vector; where that disagrees by more than `ALLOWED_ERROR`, or the sum rule or the
    permutation symmetry fails by as much, every row is computed.

    Parameters
    ----------
    products : callable
        Hessian-vector products of the structure (or supercell).
    operations : Operations

    Returns
    -------
    blocks : ndarray (n, N, 3, 3)
        ∂²E/∂u_a∂u_t in eV/Å², a an atom of the first cell.
    report : RowsReport

    Raises
    ------
    CalculationError
        A non-finite product.
    """
    found = orbits(operations)
    fields = displacements(operations, found)
    blocks = expand(operations, found, _finite(products(fields)))
    taken = len(fields)
    full = 3 * len(blocks)
    sum_rule, asymmetry = residuals(blocks, operations)
    check = None
    if operations.order > 1 and operations.deviation > EXACT_DEVIATION:
        vector = np.random.default_rng(0).choice([-1.0, 1.0], size=(1, operations.n_atoms, 3))
        exact = _finite(products(vector))[0, operations.first_atoms()]
        check = float(np.abs(np.einsum("atxy,ty->ax", blocks, vector[0]) - exact).max())
        taken += 1
    wrong = max(sum_rule, asymmetry, check or 0.0) > ALLOWED_ERROR
    if wrong and operations.order > 1:
        logger.warning(
            "the Hessian does not have the symmetry of the structure (off by %.1e Å): sum rule %.1e, "
            "asymmetry %.1e, check %s eV/Å²; all %d rows are computed. Relax with --keep-symmetry for fewer",
            operations.deviation, sum_rule, asymmetry, "none" if check is None else f"{check:.1e}", full,
        )  # fmt: skip
        blocks, plain = symmetric_rows(products, _without_symmetry(operations))
        taken += plain.products
        sum_rule, asymmetry = plain.sum_rule, plain.asymmetry
    report = RowsReport(
        taken, full, operations.order, operations.deviation, sum_rule, asymmetry, check,
        wrong and operations.order > 1,
    )  # fmt: skip
    logger.info("force constants: %s", report)
    return blocks, report


def _without_symmetry(operations: Operations) -> Operations:
    plain = identity_operation(operations.n_atoms)
    return Operations(plain.rotations, plain.permutations, operations.translations, 0.0)


def residuals(blocks: np.ndarray, operations: Operations) -> tuple[float, float]:
    """Largest violations of the acoustic sum rule and of permutation symmetry, eV/Å².

    Parameters
    ----------
    blocks : ndarray (n, N, 3, 3)
        eV/Å², rows of the atoms of the first cell.
    operations : Operations
        Of which the translations count.

    Returns
    -------
    sum_rule, asymmetry : float
        eV/Å².
    """
    cells, targets = operations.cells, np.arange(operations.n_atoms)
    sum_rule = float(np.abs(blocks.sum(axis=1)).max())
    asymmetry = 0.0
    for row, atom in enumerate(operations.first_atoms().tolist()):
        # Φ(a 0, b R) is Φ(b R, a 0) transposed, which the translation of cell R brings to the first cell
        mirrored = blocks[targets // cells, operations.translations[targets % cells, atom]]
        asymmetry = max(asymmetry, float(np.abs(blocks[row] - mirrored.swapaxes(1, 2)).max()))
    return sum_rule, asymmetry


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise CalculationError(
            "non-finite Hessian-vector product; check the structure for colliding atoms, and the model"
        )
    return values

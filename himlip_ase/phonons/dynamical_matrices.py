"""Mass-free dynamical matrices Φ(q) on the full commensurate grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import (
    check_dims,
    check_primitive,
    commensurate_qpoints,
    grid_indices,
    replace_masses,
)
from himlip_ase.units import signed_frequencies_cm

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import ForceConstants


def mass_reduced(matrices: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """D(q) = M^(-1/2) Φ(q) M^(-1/2), hermitian part, in eV/Å²/amu.

    Parameters
    ----------
    matrices : (..., 3n, 3n) complex ndarray
        Φ(q) in eV/Å².
    masses : (n,) ndarray
        amu.
    """
    inverse = 1 / np.sqrt(np.repeat(masses, 3))
    reduced = matrices * inverse[:, None] * inverse[None, :]
    return (reduced + np.conj(np.swapaxes(reduced, -1, -2))) / 2


@dataclass(frozen=True, eq=False)
class DynamicalMatrices:
    """Fourier-transformed force constants on a Γ-centred grid, without masses.

    Φ_ab(q) = Σ_R Φ(0a, Rb) exp(+2πi q·R) with R a lattice vector of the primitive cell: no atomic position
    enters the phase, so Φ(q + G) = Φ(q). This is also what Quantum ESPRESSO writes into its dyn files.

    Parameters
    ----------
    primitive : Atoms
        Primitive cell; its masses (amu) are the ones that frequencies are made with.
    dims : (int, int, int)
        Grid, which is also the diagonal supercell it is commensurate with.
    qpoints : (nq, 3) ndarray
        Fractional coordinates in the reciprocal primitive basis; the whole grid, nq = prod(dims). Any order
        is accepted; points and matrices are kept in the order of `lattice.commensurate_qpoints`.
    matrices : (nq, 3n, 3n) complex ndarray
        Φ(q) in eV/Å², rows and columns ordered (atom, direction).

    Raises
    ------
    InputError
        Shapes that do not match, non-finite numbers, q-points off the grid, missing or repeated.
    """

    primitive: Atoms
    dims: tuple[int, int, int]
    qpoints: np.ndarray
    matrices: np.ndarray

    def __post_init__(self) -> None:
        dims = check_dims(self.dims)
        primitive = check_primitive(self.primitive)
        count, size = int(np.prod(dims)), 3 * len(primitive)
        qpoints = np.asarray(self.qpoints, dtype=float)
        matrices = np.asarray(self.matrices, dtype=complex)
        if qpoints.shape != (count, 3) or matrices.shape != (count, size, size):
            raise InputError(
                f"a {dims} grid of {len(primitive)} atoms needs qpoints ({count}, 3) and matrices "
                f"({count}, {size}, {size}); got {qpoints.shape} and {matrices.shape}"
            )
        if not np.isfinite(matrices).all():
            raise InputError("the dynamical matrices hold numbers that are not finite")
        indices = grid_indices(qpoints, dims)
        if (indices < 0).any():
            raise InputError(
                f"q = {qpoints[int(np.argmin(indices))]} does not lie on the Γ-centred {dims} grid"
            )
        missing = sorted(set(range(count)) - set(indices.tolist()))
        if missing:
            raise InputError(
                f"q-points missing from the {dims} grid: {commensurate_qpoints(dims)[missing].tolist()}"
            )
        ordered = np.empty_like(matrices)
        ordered[indices] = matrices
        grid = commensurate_qpoints(dims)
        ordered.setflags(write=False)
        grid.setflags(write=False)
        object.__setattr__(self, "dims", dims)
        object.__setattr__(self, "primitive", primitive)
        object.__setattr__(self, "qpoints", grid)
        object.__setattr__(self, "matrices", ordered)

    def index(self, qpoint: Sequence[float]) -> int:
        """Place of a q-point (fractional, modulo reciprocal lattice vectors), else `InputError`."""
        found = int(grid_indices(np.asarray(qpoint, dtype=float), self.dims)[0])
        if found < 0:
            raise InputError(f"q = {list(qpoint)} does not lie on the Γ-centred {self.dims} grid")
        return found

    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Frequencies and polarisation vectors.

        Returns
        -------
        frequencies : (nq, 3n) ndarray
            cm⁻¹, ascending, imaginary ones negative.
        vectors : (nq, 3n, 3n) complex ndarray
            Orthonormal eigenvectors of D(q) = M^(-1/2) Φ(q) M^(-1/2), one a column.
        """
        values, vectors = np.linalg.eigh(mass_reduced(self.matrices, self.primitive.get_masses()))
        return signed_frequencies_cm(values), vectors

    def frequencies(self) -> np.ndarray:
        """Frequencies (nq, 3n) in cm⁻¹, ascending, imaginary ones negative."""
        return signed_frequencies_cm(
            np.linalg.eigvalsh(mass_reduced(self.matrices, self.primitive.get_masses()))
        )

    def hermiticity_violation(self) -> float:
        """Largest |Φ(q) − Φ(q)†| in eV/Å²."""
        return float(np.abs(self.matrices - np.conj(self.matrices.swapaxes(1, 2))).max())

    def time_reversal_violation(self) -> float:
        """Largest |Φ(−q) − Φ(q)*| in eV/Å²; force constants are real only if it vanishes."""
        reverse = grid_indices(-self.qpoints, self.dims)
        return float(np.abs(self.matrices[reverse] - np.conj(self.matrices)).max())

    def acoustic_sum_rule_violation(self) -> float:
        """Largest |Σ_b Φ_ab(Γ)| in eV/Å²."""
        n = len(self.primitive)
        return float(np.abs(self.matrices[0].reshape(n, 3, n, 3).sum(axis=2)).max())

    def with_acoustic_sum_rule(self) -> DynamicalMatrices:
        """The nearest matrices that obey the acoustic sum rule: uniform shifts are projected out at Γ."""
        n = len(self.primitive)
        projector = np.eye(3 * n) - np.kron(np.full((n, n), 1 / n), np.eye(3))
        matrices = self.matrices.copy()
        matrices[0] = projector @ matrices[0] @ projector
        return DynamicalMatrices(self.primitive, self.dims, self.qpoints, matrices)

    def with_masses(self, masses: dict[str, float] | Sequence[float] | np.ndarray) -> DynamicalMatrices:
        """The same Φ(q) with other masses (amu), by element or one for each atom."""
        return DynamicalMatrices(
            replace_masses(self.primitive, masses), self.dims, self.qpoints, self.matrices
        )

    def force_constants(self, tolerance: float = 1e-3) -> ForceConstants:
        """Real-space force constants of the commensurate supercell (inverse Fourier transform).

        Parameters
        ----------
        tolerance : float
            Allowed deviation from Φ(q) = Φ(q)† and Φ(−q) = Φ(q)*, relative to the largest element. What lies
            below (the rounding of a text file) is removed.

        Raises
        ------
        InputError
            A deviation above `tolerance`: the matrices do not belong to real, symmetric force constants.
        """
        from himlip_ase.phonons.force_constants import ForceConstants

        scale = float(np.abs(self.matrices).max()) or 1.0
        for name, deviation in (
            ("Φ(q) = Φ(q)†", self.hermiticity_violation()),
            ("Φ(−q) = Φ(q)*", self.time_reversal_violation()),
        ):
            if deviation > tolerance * scale:
                raise InputError(
                    f"the dynamical matrices break {name} by {deviation:.3g} eV/Å² "
                    f"(largest element {scale:.3g}); "
                    "check the units, the phase convention and that all files belong to one run"
                )
        n = len(self.primitive)
        d1, d2, d3 = self.dims
        hermitian = (self.matrices + np.conj(self.matrices.swapaxes(1, 2))) / 2
        grid = hermitian.reshape(d3, d2, d1, n, 3, n, 3)
        real = np.fft.fftn(grid, axes=(0, 1, 2)).real / (d1 * d2 * d3)
        compact = real.transpose(3, 5, 0, 1, 2, 4, 6).reshape(n, n * d1 * d2 * d3, 3, 3)
        return ForceConstants(self.primitive, self.dims, compact)

    def interpolated(self, dims: Sequence[int]) -> DynamicalMatrices:
        """Fourier interpolation onto another grid (minimum images, see `ForceConstants.matrices`)."""
        dims = check_dims(dims)
        qpoints = commensurate_qpoints(dims)
        return DynamicalMatrices(self.primitive, dims, qpoints, self.force_constants().matrices(qpoints))


def acoustic(dynamical: DynamicalMatrices) -> np.ndarray:
    """Indices of the three translations among the modes at Γ."""
    _, vectors = dynamical.eigen()
    masses = dynamical.primitive.get_masses()
    rigid = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
    overlap = (np.abs(rigid.T @ vectors[0]) ** 2).sum(axis=0)
    return np.sort(np.argsort(overlap)[-3:])

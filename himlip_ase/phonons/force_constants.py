"""Force constants in real space and dynamical matrices Φ(q): the two sides of one Fourier transform.

Both belong to a primitive cell and a diagonal supercell, whose commensurate q-points are the grid. Real space
is in phonopy's compact layout. Neither side knows masses; frequencies are made with those of the primitive
cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import (
    build_supercell,
    check_dims,
    check_primitive,
    commensurate_qpoints,
    grid_indices,
    replace_masses,
)
from himlip_ase.phonons.born_charges import BornCharges, check_number
from himlip_ase.phonons.interpolation import interpolated_matrices
from himlip_ase.phonons.layouts import (
    Order,
    all_pairs,
    compact_of_hessian,
    compact_of_matrices,
    hessian_of_compact,
    matrices_of_compact,
)
from himlip_ase.phonons.phonopy_objects import to_phonopy
from himlip_ase.units import signed_frequencies_cm

if TYPE_CHECKING:
    from phonopy import Phonopy


def mass_reduced(matrices: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """D(q) = M^(-1/2) Φ(q) M^(-1/2), hermitian part, in eV/Å²/amu.

    Parameters
    ----------
    matrices : (..., 3n, 3n) complex ndarray
        Φ(q) in eV/Å².
    masses : (n,) ndarray
        amu.

    Returns
    -------
    ndarray (..., 3n, 3n), complex
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
        Φ(q) in eV/Å², rows and columns ordered (atom, direction). At Γ without the non-analytical part.
    born : BornCharges, optional
        Of a polar insulator: with them, what is interpolated off the grid has the LO–TO splitting.

    Raises
    ------
    InputError
        Shapes that do not match, non-finite numbers, q-points off the grid, missing or repeated.
    """

    primitive: Atoms
    dims: tuple[int, int, int]
    qpoints: np.ndarray
    matrices: np.ndarray
    born: BornCharges | None = None

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
        check_number(self.born, len(primitive))
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
        """The nearest matrices that obey the acoustic sum rule: uniform shifts are projected out at Γ.

        Born charges are made to add up to zero.
        """
        n = len(self.primitive)
        projector = np.eye(3 * n) - np.kron(np.full((n, n), 1 / n), np.eye(3))
        matrices = self.matrices.copy()
        matrices[0] = projector @ matrices[0] @ projector
        return replace(self, matrices=matrices, born=self.born and self.born.with_sum_rule())

    def with_matrices(self, matrices: np.ndarray) -> DynamicalMatrices:
        """Other Φ(q) of the same crystal on the same grid (nq, 3n, 3n), eV/Å²; Born charges are kept."""
        return replace(self, matrices=matrices)

    def with_born(self, born: BornCharges | None) -> DynamicalMatrices:
        """The same Φ(q) with other Born charges, or without."""
        return replace(self, born=born)

    def with_masses(self, masses: dict[str, float] | Sequence[float] | np.ndarray) -> DynamicalMatrices:
        """The same Φ(q) with other masses (amu), by element or one for each atom."""
        return replace(self, primitive=replace_masses(self.primitive, masses))

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
        compact = compact_of_matrices(self.matrices, self.dims)
        return ForceConstants(self.primitive, self.dims, compact, self.born)

    def interpolated(self, dims: Sequence[int]) -> DynamicalMatrices:
        """Fourier interpolation onto another grid (minimum images, see `ForceConstants.matrices`)."""
        dims = check_dims(dims)
        qpoints = commensurate_qpoints(dims)
        matrices = self.force_constants().matrices(qpoints)
        return DynamicalMatrices(self.primitive, dims, qpoints, matrices, self.born)


@dataclass(frozen=True, eq=False)
class ForceConstants:
    """Second derivatives of the energy for a primitive atom and any atom of a diagonal supercell.

    Parameters
    ----------
    primitive : Atoms
        Primitive cell with its masses (amu).
    dims : (int, int, int)
        Diagonal supercell.
    compact : (n_prim, n_super, 3, 3) ndarray
        ∂²E/∂u_i∂u_J in eV/Å²: i a primitive atom at R = 0, J an atom of the supercell in phonopy's order
        (each primitive atom with all its translations, first lattice index fastest).
    born : BornCharges, optional
        Of a polar insulator: frequencies off the commensurate grid then have the LO–TO splitting.

    Attributes
    ----------
    supercell : Atoms
        Made from `primitive` and `dims`, atom i at translation R lying at r_i + R.

    Raises
    ------
    InputError
        Shapes that do not match, or non-finite numbers.
    """

    primitive: Atoms
    dims: tuple[int, int, int]
    compact: np.ndarray
    born: BornCharges | None = None
    supercell: Atoms = field(init=False, repr=False)

    def __post_init__(self) -> None:
        dims = check_dims(self.dims)
        primitive = check_primitive(self.primitive)
        n = len(primitive)
        shape = (n, n * int(np.prod(dims)), 3, 3)
        compact = np.array(self.compact, dtype=float, order="C")
        if compact.shape != shape:
            raise InputError(
                f"{n} atoms in a {dims} supercell need compact force constants {shape}; got {compact.shape}"
            )
        check_number(self.born, n)
        if not np.isfinite(compact).all():
            raise InputError("the force constants hold numbers that are not finite")
        compact.setflags(write=False)
        object.__setattr__(self, "dims", dims)
        object.__setattr__(self, "primitive", primitive)
        object.__setattr__(self, "compact", compact)
        object.__setattr__(self, "supercell", build_supercell(primitive, dims))

    # -- construction ----------------------------------------------------------------------------------------

    @classmethod
    def from_full(
        cls,
        primitive: Atoms,
        dims: Sequence[int],
        full: np.ndarray,
        order: Order = "phonopy",
        tolerance: float = 1e-2,
    ) -> ForceConstants:
        """From all pairs of supercell atoms.

        Parameters
        ----------
        primitive, dims
            As in the class.
        full : (n_super, n_super, 3, 3) ndarray
            eV/Å².
        order : {"phonopy", "ase"}
            Order of the supercell atoms; "ase" is that of ``primitive.repeat(dims)``.
        tolerance : float
            Allowed deviation from permutation symmetry and from lattice periodicity, relative to the largest
            element. What lies below is averaged out.

        Raises
        ------
        InputError
            A deviation above `tolerance` (wrong atom order, wrong cell, displaced atoms), or a wrong shape.
        """
        full = np.asarray(full, dtype=float)
        if full.ndim != 4 or full.shape[0] != full.shape[1] or full.shape[2:] != (3, 3):
            raise InputError(f"full force constants must have shape (N, N, 3, 3); got {full.shape}")
        return cls.from_hessian(primitive, dims, full.transpose(0, 2, 1, 3), order=order, tolerance=tolerance)

    @classmethod
    def from_hessian(
        cls,
        primitive: Atoms,
        dims: Sequence[int],
        hessian: np.ndarray,
        order: Order = "phonopy",
        tolerance: float = 1e-2,
    ) -> ForceConstants:
        """From the Hessian of the undistorted supercell.

        Parameters
        ----------
        primitive, dims, order, tolerance
            As in `from_full`.
        hessian : (N, 3, N, 3) ndarray
            eV/Å², indices (atom, direction, atom, direction); N = len(primitive)·prod(dims).

        Raises
        ------
        InputError
            See `from_full`.
        """
        dims = check_dims(dims)
        return cls(primitive, dims, compact_of_hessian(hessian, len(primitive), dims, order, tolerance))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """`compact`, so that numpy takes force constants for an array: ``phonopy.force_constants = fc``."""
        if copy:
            return np.array(self.compact, dtype=dtype)
        found = np.asarray(self.compact, dtype=dtype)  # numpy 1 knows no copy=None
        if copy is False and found is not self.compact:
            raise ValueError(f"force constants of {self.compact.dtype} are no {dtype} without a copy")
        return found

    # -- layouts ---------------------------------------------------------------------------------------------

    def full(self) -> np.ndarray:
        """Force constants of all pairs, (n_super, n_super, 3, 3) in eV/Å², phonopy's order."""
        return all_pairs(self.compact, self.dims)

    def hessian(self, order: Order = "phonopy") -> np.ndarray:
        """Hessian (N, 3, N, 3) in eV/Å², atoms ordered as `supercell` or, for "ase", ``primitive.repeat``."""
        return hessian_of_compact(self.compact, self.dims, order)

    def dynamical_matrices(self) -> DynamicalMatrices:
        """Φ(q) on the commensurate grid (exact; the inverse is `DynamicalMatrices.force_constants`)."""
        matrices = matrices_of_compact(self.compact, self.dims)
        qpoints = commensurate_qpoints(self.dims)
        return DynamicalMatrices(self.primitive, self.dims, qpoints, matrices, self.born)

    # -- q-space ---------------------------------------------------------------------------------------------

    @cached_property
    def _phonopy(self) -> Phonopy:
        return self.to_phonopy(symmetry=False)

    def to_phonopy(self, symmetry: bool = True, symprec: float = 1e-5) -> Phonopy:
        """A `phonopy.Phonopy` object with these force constants.

        Parameters
        ----------
        symmetry : bool
            Whether phonopy searches the space group (needed for meshes reduced by symmetry and for
            symmetrisation).
        symprec : float
            Tolerance of that search, Å.

        Returns
        -------
        Phonopy
            In phonopy's default units (eV, Å, amu, THz); the primitive cell is both its unit and its
            primitive cell.
        """
        return to_phonopy(self.primitive, self.dims, self.compact, symmetry, symprec, self.born)

    def matrices(self, qpoints: np.ndarray, directions: np.ndarray | None = None) -> np.ndarray:
        """Φ(q) at any q-points, interpolated by phonopy.

        Pairs at equal distance from several periodic images share their force constant between them
        (minimum-image convention), so off the commensurate grid the result has the symmetry of the crystal;
        on it, it is exact. With Born charges the dipole-dipole part is taken out before and put back
        analytically (Gonze and Lee, PRB 55, 10355 (1997)), which splits LO from TO modes near Γ.

        Parameters
        ----------
        qpoints : (nq, 3) ndarray
            Fractional coordinates in the reciprocal primitive basis.
        directions : (nq, 3) ndarray, optional
            Fractional directions from which Γ is approached, where a q-point is Γ and there are Born charges;
            zero, and the default, is Γ itself, without LO–TO splitting.

        Returns
        -------
        (nq, 3n, 3n) complex ndarray
            eV/Å², in the phase convention of `DynamicalMatrices`.
        """
        return interpolated_matrices(self._phonopy, self.primitive, qpoints, directions)

    def frequencies(self, qpoints: np.ndarray, directions: np.ndarray | None = None) -> np.ndarray:
        """Frequencies at any q-points.

        Parameters
        ----------
        qpoints, directions
            As in `matrices`.

        Returns
        -------
        (nq, 3n) ndarray
            cm⁻¹, ascending, imaginary ones negative.
        """
        matrices = self.matrices(qpoints, directions)
        return signed_frequencies_cm(np.linalg.eigvalsh(mass_reduced(matrices, self.primitive.get_masses())))

    # -- symmetry, sum rule, masses --------------------------------------------------------------------------

    def permutation_violation(self) -> float:
        """Largest |Φ(iα, jβ) − Φ(jβ, iα)| in eV/Å²."""
        return self.dynamical_matrices().hermiticity_violation()

    def acoustic_sum_rule_violation(self) -> float:
        """Largest |Σ_J Φ(i, J)| in eV/Å²."""
        return float(np.abs(self.compact.sum(axis=1)).max())

    def with_acoustic_sum_rule(
        self, method: Literal["projection", "onsite"] = "projection"
    ) -> ForceConstants:
        """Force constants that obey the acoustic sum rule, and Born charges that add up to zero.

        Parameters
        ----------
        method : {"projection", "onsite"}
            "projection": the nearest ones in the least-squares sense; on the commensurate grid only Γ
            changes. "onsite": the self-term of each atom takes the deviation (QE's ``asr='simple'``); every q
            changes.
        """
        if method == "projection":
            return self.dynamical_matrices().with_acoustic_sum_rule().force_constants()
        if method != "onsite":
            raise InputError(f"method must be 'projection' or 'onsite'; got {method!r}")
        compact = self.compact.copy()
        atoms = np.arange(len(self.primitive))
        compact[atoms, atoms * int(np.prod(self.dims))] -= self.compact.sum(axis=1)
        return replace(self, compact=compact, born=self.born and self.born.with_sum_rule())

    def symmetrized(self) -> ForceConstants:
        """Projection onto the space group, permutation symmetry and sum rules (phonopy with symfc)."""
        ph = self.to_phonopy()
        ph.symmetrize_force_constants(use_symfc_projector=True)
        return replace(
            self, compact=np.asarray(ph.force_constants), born=self.born and self.born.with_sum_rule()
        )

    def with_masses(self, masses: dict[str, float] | Sequence[float] | np.ndarray) -> ForceConstants:
        """The same force constants with other masses (amu), by element (``{"H": 2.014}``) or atom."""
        return replace(self, primitive=replace_masses(self.primitive, masses))

    def with_born(self, born: BornCharges | None) -> ForceConstants:
        """The same force constants with other Born charges, or without."""
        return replace(self, born=born)


def acoustic(dynamical: DynamicalMatrices) -> np.ndarray:
    """Indices of the three translations among the modes at Γ."""
    _, vectors = dynamical.eigen()
    masses = dynamical.primitive.get_masses()
    rigid = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
    overlap = (np.abs(rigid.T @ vectors[0]) ** 2).sum(axis=0)
    return np.sort(np.argsort(overlap)[-3:])

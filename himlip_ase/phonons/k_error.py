"""What the k-mesh of DFT does to phonons: the change at one q-point, carried to all others.

ΔD = D(denser mesh) − D(mesh of the labels), mass-reduced, is known at one q-point only. Its absolute value
|ΔD| = (ΔD²)^½ has blocks B_a on the diagonal, 3×3, positive: how much the mesh can change the energy of a
motion of atom a. For a mode e of any q-point

    δ(ω²) = max over the space group of (Σ_a (e_a† B_a e_a)^½)²,

which is Cauchy and Schwarz for e†|ΔD|e with the phases between the atoms chosen worst. At the tested q-point
it is never below |e†ΔD e|. Elsewhere it rests on one assumption: that the mesh moves the same motions of the
same atoms no more there than where it was tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints, crystal_mismatch, grid_indices
from himlip_ase.phonons.force_constants import DynamicalMatrices, acoustic, mass_reduced
from himlip_ase.phonons.mode_pairs import partners
from himlip_ase.symmetry.operations import crystal_operations
from himlip_ase.units import signed_frequencies_cm

_DEGENERATE_CM = 0.5
"""cm⁻¹; modes closer than this share one error, that of the worst vector of their space."""


@dataclass(frozen=True, eq=False)
class KMeshChange:
    """Φ(q) at one q-point on two k-meshes.

    Parameters
    ----------
    primitive : Atoms
        Primitive cell, its masses (amu).
    qpoint : (3,) ndarray
        In units of the reciprocal vectors.
    coarse, dense : (3n, 3n) complex ndarray
        Φ(q) in eV/Å², on the mesh of the labels and on the denser one.

    Raises
    ------
    InputError
        Matrices of another size, or not finite.
    """

    primitive: Atoms
    qpoint: np.ndarray
    coarse: np.ndarray
    dense: np.ndarray

    def __post_init__(self) -> None:
        size = 3 * len(self.primitive)
        for name in ("coarse", "dense"):
            matrix = np.asarray(getattr(self, name), dtype=complex)
            if matrix.shape != (size, size) or not np.isfinite(matrix).all():
                raise InputError(f"Φ(q) on the {name} mesh has to be finite and {size}×{size}")
            object.__setattr__(self, name, matrix)
        object.__setattr__(self, "qpoint", np.asarray(self.qpoint, dtype=float))

    def frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Frequencies on both meshes.

        Returns
        -------
        coarse, dense : (3n,) ndarray
            cm⁻¹, ascending, imaginary ones negative.
        """
        masses = self.primitive.get_masses()
        coarse, dense = (
            signed_frequencies_cm(np.linalg.eigvalsh(mass_reduced(m, masses)))
            for m in (self.coarse, self.dense)
        )
        return coarse, dense

    def largest_shift(self) -> float:
        """Largest change of a frequency from one mesh to the other, cm⁻¹.

        Modes are paired by their vectors, not by their order: what a mesh does to one that passes another
        would be understated.
        """
        masses = self.primitive.get_masses()
        coarse, before = np.linalg.eigh(mass_reduced(self.coarse, masses))
        dense, after = np.linalg.eigh(mass_reduced(self.dense, masses))
        moved = signed_frequencies_cm(dense)[partners(before, after)] - signed_frequencies_cm(coarse)
        return float(np.abs(moved).max())

    def blocks(self) -> np.ndarray:
        """B_a, (n, 3, 3) complex, eV/Å²/amu: the diagonal blocks of |ΔD|."""
        values, vectors = np.linalg.eigh(mass_reduced(self.dense - self.coarse, self.primitive.get_masses()))
        n = len(self.primitive)
        absolute = ((vectors * np.abs(values)) @ vectors.conj().T).reshape(n, 3, n, 3)
        return np.einsum("aiaj->aij", absolute)

    def errors(self, matrices: DynamicalMatrices) -> np.ndarray:
        """The k-error of every frequency of other matrices of the same crystal.

        Parameters
        ----------
        matrices : DynamicalMatrices
            Those of the coarse mesh, on any q-grid, with any masses.

        Returns
        -------
        (nq, 3n) ndarray
            cm⁻¹, in the order of ``matrices.frequencies()``: how far ω² ± δ(ω²) takes a frequency at most, by
            the rule of this module. The translations at Γ have none.

        Raises
        ------
        InputError
            Another crystal.
        """
        mismatch = crystal_mismatch(self.primitive, matrices.primitive)
        if mismatch is not None:
            raise InputError(
                f"the k-mesh was tested on another crystal than that of the matrices: {mismatch}"
            )
        images = self._images()
        # B_a is mass-reduced with the masses of the DFT run; isotopes carry √(M/M') on either side
        ratio = np.sqrt(self.primitive.get_masses() / matrices.primitive.get_masses())
        images = images * (ratio**2)[None, :, None, None]
        values, vectors = np.linalg.eigh(mass_reduced(matrices.matrices, matrices.primitive.get_masses()))
        frequencies = signed_frequencies_cm(values)
        n = len(self.primitive)
        result = np.zeros_like(frequencies)
        for index, (own, columns) in enumerate(zip(frequencies, vectors, strict=True)):
            for group in _degenerate(own):
                space = columns[:, group].reshape(n, 3, len(group))
                inside = np.einsum("aiv,gaij,ajw->gavw", space.conj(), images, space)
                largest = np.linalg.eigvalsh(inside)[..., -1].clip(min=0)
                change = float((np.sqrt(largest).sum(axis=1) ** 2).max())
                mean = float(values[index, group].mean())
                ends = signed_frequencies_cm(np.array([mean - change, mean + change]))
                result[index, group] = np.abs(ends - signed_frequencies_cm(np.array(mean))).max()
        result[0, acoustic(matrices)] = 0.0
        return result

    def _images(self) -> np.ndarray:
        """B_a carried by every operation of the space group, and by time reversal: (2G, n, 3, 3)."""
        blocks = self.blocks()
        operations = crystal_operations(self.primitive, (1, 1, 1), symprec=1e-4)
        images = np.empty((operations.order, *blocks.shape), dtype=complex)
        for index, (rotation, targets) in enumerate(
            zip(operations.rotations, operations.permutations, strict=True)
        ):
            images[index, targets] = rotation @ blocks @ rotation.T
        return np.concatenate([images, images.conj()])


def telling_qpoint(matrices: DynamicalMatrices) -> np.ndarray:
    """The q-point at which to test the k-mesh: off the grid, and the softest of its kind.

    Of the grid with one division more along each direction (3×3×3 for 2×2×2), the points that the grid itself
    lacks; among them the one with the lowest Fourier-interpolated frequency. High-symmetry points, which
    every grid has, look converged long before others do.

    Parameters
    ----------
    matrices : DynamicalMatrices
        Of the run.

    Returns
    -------
    (3,) ndarray
        In units of the reciprocal vectors.
    """
    finer = tuple(d + 1 for d in matrices.dims)
    qpoints = commensurate_qpoints(finer)
    new = qpoints[grid_indices(qpoints, matrices.dims) < 0]
    lowest = matrices.force_constants().frequencies(new)[:, 0]
    # equivalent points differ by rounding only: take the first of them, on every machine the same
    return new[int(np.flatnonzero(lowest < lowest.min() + 0.01)[0])]


def _degenerate(frequencies: np.ndarray) -> list[np.ndarray]:
    starts = np.flatnonzero(np.diff(frequencies) > _DEGENERATE_CM) + 1
    return np.split(np.arange(len(frequencies)), starts)

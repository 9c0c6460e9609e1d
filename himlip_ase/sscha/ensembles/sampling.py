"""Quantum harmonic Gaussian distribution of a crystal: its covariance, its samples, its free energy.

A harmonic crystal at temperature T displaces its atoms as a Gaussian with covariance

    ⟨u_a u_b⟩ = Σ_μ e_aμ e_bμ / √(m_a m_b) · ħ (1 + 2 n_μ) / (2 ω_μ),   n_μ = 1 / (exp(ħω_μ/k_BT) - 1)

(Monacelli et al., J. Phys.: Condens. Matter 33, 363001 (2021), eqs. 16-18), T = 0 included.  Everything is
done block by block in q: white noise is Fourier transformed over the lattice, multiplied by the square
root of the covariance and transformed back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.units import EV_CM, KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices

SOFTEST_CM = 1.0
"""Modes below this wavenumber (cm⁻¹), translations apart, have no usable Gaussian and are refused."""

SOFTEST_EV = SOFTEST_CM / EV_CM


@dataclass(frozen=True)
class HarmonicDistribution:
    """The Gaussian of one set of dynamical matrices at one temperature.

    Parameters
    ----------
    dynamical : DynamicalMatrices
        Mass-free Φ(q) (eV/Å²) on the full commensurate grid; its primitive cell holds the centroids
        (Å) and the masses (amu).
    temperature_k : float
        Temperature in kelvin, 0 for the quantum ground state.
    flip_imaginary : bool
        Take |ω| for imaginary modes instead of refusing them.

    Raises
    ------
    InputError
        The temperature is negative, the grid is incomplete, a matrix is not finite or not Hermitian, or
        a mode other than the three translations is imaginary (unless `flip_imaginary`) or below 1 cm⁻¹.
    """

    dynamical: DynamicalMatrices
    temperature_k: float = 0.0
    flip_imaginary: bool = False

    def __post_init__(self) -> None:
        if not np.isfinite(self.temperature_k) or self.temperature_k < 0:
            raise InputError(f"temperature is {self.temperature_k} K; give 0 or a positive number")
        self._blocks  # noqa: B018  refuses bad matrices at construction

    @property
    def dims(self) -> tuple[int, int, int]:
        """The supercell, in unit cells."""
        return tuple(int(d) for d in self.dynamical.dims)  # type: ignore[return-value]

    @property
    def supercell(self) -> Atoms:
        """Centroids of the supercell, in the order of ``primitive.repeat(dims)``."""
        atoms = Atoms(
            numbers=self.dynamical.primitive.numbers,
            positions=self.dynamical.primitive.positions,
            cell=self.dynamical.primitive.cell,
            masses=self.dynamical.primitive.get_masses(),
            pbc=True,
        )
        return atoms.repeat(self.dims)

    @cached_property
    def grid_order(self) -> np.ndarray:
        """Place of each q-point of `dynamical` in the FFT grid of `dims`, first lattice index slowest."""
        grid = np.rint(np.asarray(self.dynamical.qpoints) * self.dims).astype(int) % self.dims
        return np.ravel_multi_index(tuple(grid.T), self.dims)

    @cached_property
    def inverse_root_masses(self) -> np.ndarray:
        """1/√m (amu^-1/2) for each of the 3n coordinates."""
        return np.repeat(1 / np.sqrt(self.dynamical.primitive.get_masses()), 3)

    @cached_property
    def _blocks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Energies ħω (eV) and polarisation vectors of each q of the grid, first lattice index slowest."""
        dims, matrices = self.dims, np.asarray(self.dynamical.matrices, dtype=complex)
        flat = self.grid_order
        if sorted(flat) != list(range(int(np.prod(dims)))):
            raise InputError(
                f"{len(flat)} q-points do not fill the {dims[0]}x{dims[1]}x{dims[2]} grid once each; "
                "give dynamical matrices on the whole commensurate grid"
            )
        if not np.isfinite(matrices).all():
            raise InputError("the dynamical matrices hold NaN or infinity")
        asymmetry = np.abs(matrices - matrices.conj().transpose(0, 2, 1)).max()
        if asymmetry > 1e-4 * np.abs(matrices).max():
            raise InputError(
                f"the dynamical matrices are not Hermitian: largest deviation {asymmetry:.2g} eV/Å²"
            )
        ordered = np.empty_like(matrices)
        ordered[flat] = matrices
        scale = self.inverse_root_masses
        blocks, refused = [], []
        for index, matrix in enumerate(ordered):
            mass_reduced = (matrix + matrix.conj().T) / 2 * scale[:, None] * scale[None, :]
            if self._is_real(index):
                if np.abs(matrix.imag).max() > 1e-4 * np.abs(matrices).max():
                    raise InputError("the dynamical matrix at a q that equals -q is not real")
                mass_reduced = mass_reduced.real
            basis = self._without_translations() if index == 0 else np.eye(len(scale))
            eigenvalues, vectors = np.linalg.eigh(basis.T @ mass_reduced @ basis)
            energies = np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) * SQRT_EV_PER_ANGSTROM2_AMU_EV
            if self.flip_imaginary:
                energies = np.abs(energies)
            refused += [(index, e) for e in energies if e < SOFTEST_EV]
            blocks.append((energies, basis @ vectors))
        if refused:
            index, energy = min(refused, key=lambda item: item[1])
            q = np.array(np.unravel_index(index, dims)) / dims
            raise InputError(
                f"{len(refused)} modes have no Gaussian; the lowest is at q = "
                f"({q[0]:.3g}, {q[1]:.3g}, {q[2]:.3g}) with {energy * EV_CM:.1f} cm⁻¹ (negative is "
                "imaginary, translations left out): give positive-definite matrices, such as an SSCHA "
                "auxiliary, or pass flip_imaginary=True to take |ω|"
            )
        return blocks

    def _is_real(self, index: int) -> bool:
        """Whether q and -q of the FFT grid are the same point, where the matrices are real."""
        cell = np.array(np.unravel_index(index, self.dims))
        return not (2 * cell % self.dims).any()

    def _without_translations(self) -> np.ndarray:
        """Orthonormal columns spanning the mass-reduced space without the three translations."""
        masses = self.dynamical.primitive.get_masses()
        rigid = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
        complete, _ = np.linalg.qr(rigid, mode="complete")
        return complete[:, 3:]

    def _functions(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Mass-free-to-displacement blocks M^-1/2 [Σ e f(ħω) e†] over q, shape (nq, 3n, 3n)."""
        return np.array(
            [(vectors * function(energies)) @ vectors.conj().T for energies, vectors in self._blocks]
        )

    def _variance(self, energies: np.ndarray) -> np.ndarray:
        return mode_variance(energies, self.temperature_k)

    def energies(self) -> np.ndarray:
        """ħω in eV of every mode of the supercell but the translations, ascending."""
        return np.sort(np.concatenate([energies for energies, _ in self._blocks]))

    def free_energy(self) -> float:
        """Harmonic free energy in eV per primitive cell, Σ ħω/2 + k_BT ln(1 - exp(-ħω/k_BT))."""
        energies = self.energies()
        total = energies.sum() / 2
        if self.temperature_k > 0:
            thermal = KB_EV_PER_K * self.temperature_k
            total += thermal * np.log(-np.expm1(-energies / thermal)).sum()
        return float(total / np.prod(self.dims))

    def covariance(self) -> np.ndarray:
        """⟨u u⟩ in Å² of the supercell in the order of ``primitive.repeat(dims)``, shape (3N, 3N)."""
        blocks = self._functions(self._variance) * np.outer(
            self.inverse_root_masses, self.inverse_root_masses
        )
        dims, size = self.dims, len(self.inverse_root_masses)
        real = np.fft.fftn(blocks.reshape(*dims, size, size), axes=(0, 1, 2)).real / np.prod(dims)
        cells = np.indices(dims).reshape(3, -1).T
        relative = (cells[None] - cells[:, None]) % dims
        full = real[tuple(np.moveaxis(relative, -1, 0))]  # (cell, cell', 3n, 3n)
        return full.transpose(0, 2, 1, 3).reshape(len(cells) * size, len(cells) * size)

    def covariance_at_q(self) -> np.ndarray:
        """⟨u u†⟩ in Å² at each q, (nq, 3n, 3n) in the order of ``dynamical.qpoints``."""
        scale = self.inverse_root_masses
        return self._functions(self._variance)[self.grid_order] * scale[:, None] * scale[None, :]

    def inverse_covariance(self) -> np.ndarray:
        """Υ(q) in Å⁻², (nq, 3n, 3n) in the order of ``dynamical.qpoints``; translations have weight 0."""
        inner = self._functions(lambda energies: 1 / self._variance(energies))
        roots = 1 / self.inverse_root_masses
        return inner[self.grid_order] * roots[:, None] * roots[None, :]

    def displacements(
        self, n: int, seed: int | np.random.SeedSequence | np.random.Generator, pairs: bool = False
    ) -> np.ndarray:
        """Draw displacements from the centroids.

        Parameters
        ----------
        n : int
            Number of configurations.
        seed : int, SeedSequence or Generator
            Source of randomness; the same seed gives the same displacements.
        pairs : bool
            Draw n/2 and follow each with its opposite (`n` even), which cancels every odd error.

        Returns
        -------
        ndarray, shape (n, N, 3)
            Å, in the order of ``primitive.repeat(dims)``.  No net mass-weighted translation.
        """
        if n < 1 or (pairs and n % 2):
            raise InputError(f"n is {n}; give a positive{' even' if pairs else ''} number of configurations")
        generator = np.random.default_rng(seed)
        dims, size = self.dims, len(self.inverse_root_masses)
        drawn = n // 2 if pairs else n
        noise = np.fft.fftn(generator.standard_normal((drawn, *dims, size)), axes=(1, 2, 3))
        root = self._functions(lambda energies: np.sqrt(self._variance(energies)))
        at_q = noise.reshape(drawn, -1, size).transpose(1, 0, 2) @ root.transpose(0, 2, 1)
        result = self._real_space(at_q)
        return np.stack([result, -result], axis=1).reshape(n, *result.shape[1:]) if pairs else result

    def _real_space(self, at_q: np.ndarray) -> np.ndarray:
        """Displacements (n, N, 3) in Å of mass-reduced Fourier coefficients (nq of the FFT grid, n, 3n)."""
        dims, n = self.dims, at_q.shape[1]
        moved = np.fft.ifftn(at_q.transpose(1, 0, 2).reshape(n, *dims, -1), axes=(1, 2, 3))
        if np.abs(moved.imag).max() > 1e-6 * np.abs(moved.real).max():
            raise InputError("the dynamical matrices at q and -q are not complex conjugates of each other")
        return (moved.real * self.inverse_root_masses).reshape(n, -1, 3)

    @property
    def n_modes(self) -> int:
        """Number of modes of the supercell but the three translations."""
        return int(np.prod(self.dims)) * len(self.inverse_root_masses) - 3

    def from_modes(self, normal: np.ndarray) -> np.ndarray:
        """Displacements whose normal coordinates, in units of their standard deviations, are given.

        Parameters
        ----------
        normal : ndarray, shape (n, n_modes)
            Columns belong to the real standing waves of the supercell, lowest ħω first (ties, to 1 μeV: in
            the order of the grid).  Independent normal deviates give a draw from the distribution.

        Returns
        -------
        ndarray, shape (n, N, 3)
            Å, in the order of ``primitive.repeat(dims)``.
        """
        dims, size = self.dims, len(self.inverse_root_masses)
        cells = np.indices(dims).reshape(3, -1).T
        opposite = np.ravel_multi_index(tuple(((-cells) % dims).T), dims)
        ranked = []
        for index, partner in enumerate(opposite):
            energies = self._blocks[index][0]
            copies = 1 if partner == index else 2  # cosine and sine of a travelling wave
            if partner >= index:
                ranked += [
                    (round(float(energy), 6), index, branch, part)
                    for branch, energy in enumerate(energies)
                    for part in range(copies)
                ]
        place = {wave[1:]: column for column, wave in enumerate(sorted(ranked))}
        at_q = np.zeros((len(cells), len(normal), size), dtype=complex)
        for index, partner in enumerate(opposite):
            if partner < index:
                continue
            energies, vectors = self._blocks[index]
            polarised = _canonical(vectors) * np.sqrt(self._variance(energies) * len(cells))
            real = normal[:, [place[index, branch, 0] for branch in range(len(energies))]]
            if partner == index:
                at_q[index] = real @ polarised.T
            else:
                imaginary = normal[:, [place[index, branch, 1] for branch in range(len(energies))]]
                at_q[index] = (real + 1j * imaginary) / np.sqrt(2) @ polarised.T
                at_q[partner] = at_q[index].conj()
        return self._real_space(at_q)


def _canonical(vectors: np.ndarray) -> np.ndarray:
    """Eigenvectors (columns) with the phase that makes the first of their largest elements positive."""
    sizes = np.abs(vectors)
    first = (sizes > sizes.max(axis=0) - 1e-6).argmax(axis=0)
    largest = vectors[first, np.arange(vectors.shape[1])]
    return vectors * (largest.conj() / np.abs(largest))


def mode_variance(energies: np.ndarray, temperature_k: float) -> np.ndarray:
    """Mean square of a mass-reduced normal coordinate, ħ²(1 + 2n)/(2ħω).

    Parameters
    ----------
    energies : ndarray
        ħω in eV.
    temperature_k : float

    Returns
    -------
    ndarray
        amu Å².
    """
    squared = SQRT_EV_PER_ANGSTROM2_AMU_EV**2  # ħ² in eV amu Å²
    return squared / (2 * energies) * _coth_half(energies, temperature_k)


def _coth_half(energies: np.ndarray, temperature_k: float) -> np.ndarray:
    """1 + 2n = coth(ħω / 2k_BT) of energies in eV; 1 at T = 0."""
    if temperature_k == 0:
        return np.ones_like(energies)
    return 1 / np.tanh(energies / (2 * KB_EV_PER_K * temperature_k))


def draw_configurations(
    dynamical: DynamicalMatrices,
    n: int,
    temperature_k: float = 0.0,
    seed: int | np.random.SeedSequence | np.random.Generator = 0,
    flip_imaginary: bool = False,
) -> list[Atoms]:
    """Draw supercells from the Gaussian of (auxiliary) dynamical matrices.

    Parameters
    ----------
    dynamical : DynamicalMatrices
        Φ(q) on a full commensurate grid; `primitive` holds centroids and masses.
    n : int
        Number of supercells.
    temperature_k : float
        Kelvin; 0 gives the zero-point distribution.
    seed : int, SeedSequence or Generator
        The same seed gives the same supercells.
    flip_imaginary : bool
        Take |ω| for imaginary modes instead of refusing them.

    Returns
    -------
    list of Atoms
        Supercells in the order of ``primitive.repeat(dims)``, periodic, with the masses of `primitive`.

    Raises
    ------
    InputError
        As :class:`HarmonicDistribution`.
    """
    distribution = HarmonicDistribution(dynamical, temperature_k, flip_imaginary)
    ideal = distribution.supercell
    images = []
    for displacement in distribution.displacements(n, seed):
        image = ideal.copy()
        image.positions += displacement
        images.append(image)
    return images

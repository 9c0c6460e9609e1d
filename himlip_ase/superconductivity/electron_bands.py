"""Band energies of the dense k-grid, which ``pw.x`` with ``la2F`` leaves in ``<prefix>.a2Fsave``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.superconductivity.electronic_dos import ElectronicDos
from himlip_ase.superconductivity.elph_files import read_text


@dataclass(frozen=True)
class ElectronBands:
    """Energies on the irreducible points of the dense k-grid of an electron-phonon run.

    Attributes
    ----------
    energies_ev : ndarray, shape (nk, nbands)
    weights : ndarray, shape (nk,)
        Sum 1.
    k_grid : tuple of 3 int
    """

    energies_ev: np.ndarray
    weights: np.ndarray
    k_grid: tuple[int, int, int]

    def density(self, energies_ev: np.ndarray, sigma_ry: float) -> np.ndarray:
        """N(ε) per spin and Ry, each state a Gaussian as ph.x takes them, exp(−(Δ/σ)²)/(σ√π).

        Parameters
        ----------
        energies_ev : ndarray, shape (n,)
            On the scale of the bands.
        sigma_ry : float
            Ry.

        Returns
        -------
        ndarray, shape (n,)
        """
        sigma = sigma_ry * units.RY_EV
        density = np.empty(len(energies_ev))
        for place, energy in enumerate(energies_ev):
            density[place] = self.weights @ np.exp(-(((energy - self.energies_ev) / sigma) ** 2)).sum(axis=1)
        return density / (np.sqrt(np.pi) * sigma_ry)

    def dos(
        self, fermi_ev: float, sigma_ry: float, expected: float | None = None, step_ev: float = 0.05
    ) -> ElectronicDos:
        """N(ε) from the bottom of the bands to where the highest of them begins.

        Parameters
        ----------
        fermi_ev, sigma_ry : float
            Of the electron-phonon matrices, so that N(E_F) is theirs.
        expected : float, optional
            N(E_F) per spin and Ry in the ``a2Fq2r`` files, to be compared with.
        step_ev : float

        Returns
        -------
        ElectronicDos

        Raises
        ------
        InputError
            N(E_F) is another: the file is of another run; or the Fermi level is not below the highest band.
        """
        here = float(self.density(np.array([fermi_ev]), sigma_ry)[0])
        if expected is not None and abs(here / expected - 1) > 1e-3:
            raise InputError(
                f"the band energies give N(E_F) = {here:.5f} states/spin/Ry at σ = {sigma_ry:g} Ry, the "
                f"a2Fq2r files {expected:.5f}: the a2Fsave file is of another run"
            )
        low = float(self.energies_ev.min()) - 4 * sigma_ry * units.RY_EV
        high = float(self.energies_ev[:, -1].min())
        if not low < fermi_ev < high - step_ev:
            raise InputError(
                f"the bands are complete from {low:.2f} to {high:.2f} eV, which does not hold the Fermi "
                f"level {fermi_ev:.2f} eV; run pw.x with more bands"
            )
        energies = np.arange(low, high, step_ev)
        return ElectronicDos(energies - fermi_ev, self.density(energies, sigma_ry))


def read_a2fsave(path: str | Path) -> ElectronBands:
    """Read ``<prefix>.a2Fsave`` (plain or gz).

    Raises
    ------
    InputError
        Truncated, or no such file; spin-polarised files (weights that do not sum to 2) are not read.
    """
    path = Path(path)
    words = read_text(path).split()
    try:
        bands, points = int(words[0]), int(words[1])
        count = bands * points
        energies = np.array(words[2 : 2 + count], dtype=float).reshape(points, bands) * units.RY_EV
        start = 2 + count + 3 * points
        weights = np.array(words[start : start + points], dtype=float)
        grid = tuple(int(word) for word in words[start + points : start + points + 3])
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is not a complete a2Fsave file of pw.x (la2F = .true.): {error}") from error
    if len(grid) != 3 or not np.isfinite(energies).all() or abs(weights.sum() - 2) > 1e-6:
        raise InputError(
            f"{path}: grid {grid}, k-weights that sum to {weights.sum():.6f}; a complete file without spin "
            "polarisation is wanted (sum 2)"
        )
    return ElectronBands(energies, weights / 2, (grid[0], grid[1], grid[2]))

"""The electrons' bare static susceptibility at one q: what a k-mesh has to converge for a phonon.

χ(q) = 2/N Σ_k Σ_mn (f_mk − f_nk+q)/(ε_mk − ε_nk+q) w(ε_mk) w(ε_nk+q) with every matrix element 1. Far from
the Fermi level the summand is smooth and any mesh does, so that a Gaussian window w about E_F leaves what
matters. Bands on one dense mesh give χ on every mesh that it contains, for any smearing, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from scipy.special import erf

from himlip_ase.symmetry.operations import crystal_operations
from himlip_ase.units import RY_EV

WINDOW_EV = 2.0


def methfessel_paxton(x: np.ndarray) -> np.ndarray:
    """First order; x = (E_F − ε)/width. Phys. Rev. B 40, 3616 (1989)."""
    return 0.5 * (1 + erf(x)) + x * np.exp(-np.minimum(x**2, 200)) / (2 * np.sqrt(np.pi))


def marzari_vanderbilt(x: np.ndarray) -> np.ndarray:
    """Cold smearing. Phys. Rev. Lett. 82, 3296 (1999)."""
    shifted = x - 1 / np.sqrt(2)
    return 0.5 * (1 + erf(shifted)) + np.exp(-np.minimum(shifted**2, 200)) / np.sqrt(2 * np.pi)


def gaussian(x: np.ndarray) -> np.ndarray:
    """Gaussian broadening."""
    return 0.5 * (1 + erf(x))


OCCUPATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mp": methfessel_paxton,
    "mv": marzari_vanderbilt,
    "gauss": gaussian,
}


def on_whole_mesh(kpoints: np.ndarray, energies_ev: np.ndarray, mesh: int, atoms: Atoms) -> np.ndarray:
    """Energies (mesh, mesh, mesh, bands) of all k-points from those of the irreducible ones.

    Parameters
    ----------
    kpoints : (nk, 3) ndarray
        In units of the reciprocal vectors.
    """
    cell = atoms.cell.array
    whole = np.full((mesh, mesh, mesh, energies_ev.shape[1]), np.nan)
    for rotation in crystal_operations(atoms, (1, 1, 1), symprec=1e-4).rotations:
        for sign in (1, -1):
            moved = sign * kpoints @ np.linalg.inv(cell).T @ rotation.T @ cell.T
            i, j, k = (np.rint(moved * mesh).astype(int) % mesh).T
            whole[i, j, k] = energies_ev
    if not np.isfinite(whole).all():
        raise ValueError(f"the k-points do not fill the {mesh}×{mesh}×{mesh} mesh")
    return whole


def fermi_level(energies_ev: np.ndarray, electrons: int, smearing: str, width_ry: float) -> float:
    """E_F, eV, by bisection."""
    low, high = float(energies_ev.min()), float(energies_ev.max())
    points = np.prod(energies_ev.shape[:3])
    for _ in range(60):
        middle = (low + high) / 2
        count = 2 * OCCUPATIONS[smearing]((middle - energies_ev) / (width_ry * RY_EV)).sum() / points
        low, high = (middle, high) if count < electrons else (low, middle)
    return (low + high) / 2


def susceptibility(
    energies_ev: np.ndarray, q: Sequence[float], electrons: int, smearing: str, width_ry: float
) -> float:
    """χ(q) in 1/eV and cell (negative).

    Parameters
    ----------
    energies_ev : (N, N, N, bands) ndarray
    q : three floats
        In units of the reciprocal vectors, a point of the mesh.
    """
    mesh, width = len(energies_ev), width_ry * RY_EV
    steps = np.rint(np.asarray(q) * mesh).astype(int)
    if np.abs(np.asarray(q) * mesh - steps).max() > 1e-6:
        raise ValueError(f"q = {list(q)} is no point of the {mesh}×{mesh}×{mesh} mesh")
    level = fermi_level(energies_ev, electrons, smearing, width_ry)
    here = energies_ev - level
    here = here[
        ..., np.abs(here).min(axis=(0, 1, 2)) < 2.5 * WINDOW_EV
    ]  # farther bands weigh exp(-6) and less
    there = np.roll(here, tuple(-steps), axis=(0, 1, 2))
    occupation = OCCUPATIONS[smearing]
    total = 0.0
    for m in range(here.shape[-1]):
        a = here[..., m, None]
        difference = a - there
        equal = np.abs(difference) < 1e-4
        slope = (occupation((-a + 1e-3) / width) - occupation((-a - 1e-3) / width)) / -2e-3
        ratio = np.where(
            equal,
            slope,
            (occupation(-a / width) - occupation(-there / width)) / np.where(equal, 1.0, difference),
        )
        total += float((ratio * np.exp(-(a**2 + there**2) / WINDOW_EV**2)).sum())
    return 2 * total / mesh**3

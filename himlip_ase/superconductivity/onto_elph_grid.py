"""Anharmonic phonons on the finer q-grid of the electron-phonon matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from himlip_ase.lattice import check_dims, commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity.cell_strain import check_same_crystal


def swap_onto_grid(anharmonic: DynamicalMatrices, harmonic: DynamicalMatrices) -> DynamicalMatrices:
    """Anharmonic phonons on the grid of harmonic ones: D_harm + interpolation of D_anh − D_harm.

    The difference is short-ranged, so that it may be interpolated from the SSCHA grid onto the grid of the
    electron-phonon matrices, where the harmonic matrices are known. On the q-points that both grids have the
    result is the anharmonic matrix itself. Anharmonic matrices on a finer grid than wanted are taken at
    the points of that grid.

    Parameters
    ----------
    anharmonic : DynamicalMatrices
        On the SSCHA grid; its masses are kept.
    harmonic : DynamicalMatrices
        On the grid wanted, of DFT or of a potential. Where the SSCHA has q-points that are not on it, these
        matrices are Fourier-interpolated there, which is as good as their range is short.

    Returns
    -------
    DynamicalMatrices

    Raises
    ------
    InputError
        Different crystals.
    """
    check_same_crystal(anharmonic.primitive, harmonic.primitive, "anharmonic phonons", "harmonic phonons")
    if anharmonic.dims == harmonic.dims:
        return anharmonic
    if nests(harmonic.dims, anharmonic.dims):
        return at_grid(anharmonic, harmonic.dims)
    there = at_grid(harmonic, anharmonic.dims)
    change = anharmonic.with_born(None).with_matrices(anharmonic.matrices - there.matrices)
    difference = change.interpolated(harmonic.dims)
    return DynamicalMatrices(
        anharmonic.primitive, harmonic.dims, harmonic.qpoints, harmonic.matrices + difference.matrices
    )


def nests(dims: Sequence[int], finer: Sequence[int]) -> bool:
    """Whether all q-points of a grid are points of another.

    Parameters
    ----------
    dims, finer : sequence of 3 int

    Returns
    -------
    bool
    """
    return all(fine % coarse == 0 for coarse, fine in zip(dims, finer, strict=True))


def at_grid(phonons: DynamicalMatrices, dims: Sequence[int]) -> DynamicalMatrices:
    """Phonons at the q-points of another grid: those of their own grid as they are, others interpolated.

    Parameters
    ----------
    phonons : DynamicalMatrices
    dims : sequence of 3 int

    Returns
    -------
    DynamicalMatrices
    """
    wanted = check_dims(dims)
    if not nests(wanted, phonons.dims):
        return phonons.interpolated(wanted)
    qpoints = commensurate_qpoints(wanted)
    picked = np.array([phonons.matrices[phonons.index(q)] for q in qpoints])
    return DynamicalMatrices(phonons.primitive, wanted, qpoints, picked)


def carry_deviations(deviations: np.ndarray, phonons: DynamicalMatrices, dims: Sequence[int]) -> np.ndarray:
    """Small changes of Φ(q) brought from the grid of `phonons` onto `dims` as `swap_onto_grid` does.

    Parameters
    ----------
    deviations : ndarray, shape (blocks, nq, 3n, 3n)
        On the grid of `phonons`, eV/Å².
    phonons : DynamicalMatrices
        Only crystal and grid are used.
    dims : sequence of 3 int

    Returns
    -------
    ndarray, shape (blocks, prod(dims), 3n, 3n)
    """
    if tuple(dims) == tuple(phonons.dims):
        return np.asarray(deviations)
    carried = []
    nothing = np.zeros((int(np.prod(dims)), *np.shape(deviations)[2:]))
    wanted = DynamicalMatrices(phonons.primitive, check_dims(dims), commensurate_qpoints(dims), nothing)
    for change in deviations:  # onto "harmonic" matrices that vanish
        one = DynamicalMatrices(phonons.primitive, phonons.dims, phonons.qpoints, change)
        carried.append(swap_onto_grid(one, wanted).matrices)
    return np.array(carried)

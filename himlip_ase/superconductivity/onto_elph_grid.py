"""Anharmonic phonons on the finer q-grid of the electron-phonon matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.lattice import check_dims, commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity.cell_strain import check_same_crystal


def swap_onto_grid(anharmonic: DynamicalMatrices, harmonic: DynamicalMatrices) -> DynamicalMatrices:
    """Anharmonic phonons on the grid of harmonic ones: D_harm + interpolation of D_anh − D_harm.

    The difference is short-ranged, so that it may be interpolated from the SSCHA grid onto the finer
    electron-phonon q-grid where the harmonic matrices are known exactly. On the q-points that both grids have
    the result is the anharmonic matrix itself. Anharmonic matrices on a finer grid than wanted are
    taken at the points of that grid.

    Parameters
    ----------
    anharmonic : DynamicalMatrices
        On the SSCHA grid; its masses are kept.
    harmonic : DynamicalMatrices
        On the grid wanted.

    Returns
    -------
    DynamicalMatrices

    Raises
    ------
    InputError
        Different crystals, or grids of which none is a multiple of the other.
    """
    check_same_crystal(anharmonic.primitive, harmonic.primitive, "anharmonic phonons", "harmonic phonons")
    if anharmonic.dims == harmonic.dims:
        return anharmonic
    pairs = list(zip(harmonic.dims, anharmonic.dims, strict=True))
    if all(coarse % fine == 0 for fine, coarse in pairs):
        picked = np.array([anharmonic.matrices[anharmonic.index(q)] for q in harmonic.qpoints])
        return DynamicalMatrices(anharmonic.primitive, harmonic.dims, harmonic.qpoints, picked)
    if any(fine % coarse for fine, coarse in pairs):
        raise InputError(
            f"the harmonic grid {harmonic.dims} is no multiple of the anharmonic grid {anharmonic.dims}: "
            "run the SSCHA on a supercell whose dimensions divide the el-ph q-grid"
        )
    coarse_harmonic = np.array([harmonic.matrices[harmonic.index(q)] for q in anharmonic.qpoints])
    difference = DynamicalMatrices(
        anharmonic.primitive, anharmonic.dims, anharmonic.qpoints, anharmonic.matrices - coarse_harmonic
    ).interpolated(harmonic.dims)
    return DynamicalMatrices(
        anharmonic.primitive, harmonic.dims, harmonic.qpoints, harmonic.matrices + difference.matrices
    )


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

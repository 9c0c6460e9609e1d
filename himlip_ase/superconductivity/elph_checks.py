"""Checks of G(q) against its symmetries and against the other files of the same run."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints, grid_indices

logger = logging.getLogger(__name__)
_TOLERANCE = 1e-3


def check_symmetries(matrices: np.ndarray, dims: tuple[int, int, int], place: Path) -> None:
    """InputError unless G(q) (nsigma, nq, 3n, 3n) is Hermitian and G(−q) = G(q)*, to 1e-3 of the largest.

    Parameters
    ----------
    matrices : ndarray, shape (nsigma, nq, 3n, 3n)
    dims : tuple of 3 int
    place : Path
        What the message names.
    """
    scale = np.abs(matrices).max(axis=(1, 2, 3))
    asymmetry = np.abs(matrices - matrices.conj().swapaxes(2, 3)).max(axis=(1, 2, 3)) / scale
    partner = grid_indices(-commensurate_qpoints(dims), dims)
    reversal = np.abs(matrices[:, partner] - matrices.conj()).max(axis=(1, 2, 3)) / scale
    for name, deviation in (("G is not Hermitian", asymmetry), ("G(−q) is not G(q)*", reversal)):
        if deviation.max() > _TOLERANCE:
            raise InputError(
                f"{place}: {name} (relative {deviation.max():.1e}, allowed 1e-3): damaged or mixed a2Fq2r "
                "files"
            )


def check_stars(blocks: Sequence[np.ndarray], lengths: Sequence[int], names: Sequence[str]) -> None:
    """InputError unless the matrices of a star have the same eigenvalues, as those of images must.

    Parameters
    ----------
    blocks : sequence of ndarray (nq, 3n, 3n)
        For each broadening, G(q) in the order of the files, star by star.
    lengths : sequence of int
        q-points in each file.
    names : sequence of str
        Names of the files.
    """
    for matrices in blocks:
        values = np.linalg.eigvalsh((matrices + matrices.conj().swapaxes(1, 2)) / 2)
        scale = float(np.abs(values).max())
        start = 0
        for length, name in zip(lengths, names, strict=True):
            star = values[start : start + length]
            start += length
            spread = float(np.ptp(star, axis=0).max()) / scale
            if spread > _TOLERANCE:
                raise InputError(
                    f"{name}: the matrices of its star are not one another's images (eigenvalues differ by "
                    f"{spread:.1e} of the largest, allowed 1e-3): a damaged file, or files of different runs"
                )


def check_real_space(
    matrices: np.ndarray,
    grid: np.ndarray,
    dims: tuple[int, int, int],
    sigma_ry: np.ndarray,
    dos: np.ndarray,
    place: Path,
) -> None:
    """Check ``a2Fmatdyn`` files of q2r.x that lie beside the ``a2Fq2r`` files, where there are any.

    Parameters
    ----------
    matrices : ndarray, shape (nsigma, nq, 3n, 3n)
    grid : ndarray, shape (nq, 3)
        Fractional.
    dims : tuple of 3 int
    sigma_ry, dos : ndarray, shape (nsigma,)
        Ry; states/spin/Ry.
    place : Path
        Folder of the ``a2Fq2r`` files.

    Raises
    ------
    InputError
        Another grid, σ, N(E_F) or G: they come from another run.
    """
    from himlip_ase.superconductivity.qe_outputs import read_a2fmatdyn

    n_atoms = matrices.shape[-1] // 3
    cells = commensurate_qpoints(dims) * np.array(dims)
    phases = np.exp(-2j * np.pi * grid @ cells.T)
    checked = 0
    for path in sorted([*place.glob("a2Fmatdyn.*"), *place.parent.glob("a2Fmatdyn.*")]):
        found = re.fullmatch(r"a2Fmatdyn\.(\d+)(\.gz)?", path.name)
        index = int(found.group(1)) - 61 if found else -1
        if not 0 <= index < len(sigma_ry):
            continue
        theirs = read_a2fmatdyn(path, n_atoms)
        for name, value, ours in (
            ("q-grid", theirs.dims, dims),
            ("σ (Ry)", theirs.sigma_ry, float(sigma_ry[index])),
            ("N(E_F)", theirs.dos_per_spin_per_ry, float(dos[index])),
        ):
            if not np.allclose(value, ours, rtol=1e-5, atol=1e-6):
                raise InputError(f"{path} has {name} = {value}, the a2Fq2r files {ours}: different runs")
        ordered = theirs.matrices.transpose(2, 1, 0, 3, 4).reshape(len(cells), 3 * n_atoms, 3 * n_atoms)
        back = np.einsum("qr,rij->qij", phases, ordered)
        deviation = float(np.abs(back - matrices[index]).max() / np.abs(matrices[index]).max())
        if deviation > _TOLERANCE:
            raise InputError(
                f"{path} and the a2Fq2r files hold different G (by {deviation:.1e} of the largest element, "
                "allowed 1e-3): different runs, or a cell that is not the one of ph.x"
            )
        checked += 1
    if checked:
        logger.info("%d a2Fmatdyn files checked against %s", checked, place)

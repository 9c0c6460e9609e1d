"""ElphMatrices: G(q) on a whole q-grid for several broadenings, gathered from a ph.x run and checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints, grid_indices
from himlip_ase.superconductivity.cell_strain import check_same_crystal
from himlip_ase.superconductivity.elph_checks import check_real_space, check_stars, check_symmetries
from himlip_ase.superconductivity.elph_files import (
    LambdaInput,
    list_a2fq2r,
    read_a2fq2r,
    read_alat,
    read_elph_inp_lambda,
)

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.phonons.force_constants import DynamicalMatrices

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ElphMatrices:
    """Mass-free electron-phonon matrices on a full Γ-centred q-grid.

    Attributes
    ----------
    primitive : ase.Atoms
        The crystal; only cell, species and positions are used.
    dims : tuple of 3 int
    qpoints : ndarray, shape (nq, 3)
        Fractional in the reciprocal primitive basis, the whole grid in the order of
        `himlip_ase.lattice.commensurate_qpoints`, which is also that of `DynamicalMatrices`.
    matrices : ndarray, shape (nsigma, nq, 3n, 3n), complex
        G(q), Cartesian, mass-free, Rydberg atomic units, phases with lattice vectors only (as in QE dyn
        files).
    sigma_ry, dos_per_spin_per_ry, fermi_energy_ev : ndarray, shape (nsigma,)
        Broadening (Ry), N(E_F) (states/spin/Ry/cell) and Fermi energy (eV) that belong to each G.
    printed : tuple of LambdaInput
        ph.x's own per-mode results where ``elph.inp_lambda`` files were there, q fractional.
    """

    primitive: Atoms
    dims: tuple[int, int, int]
    qpoints: np.ndarray
    matrices: np.ndarray
    sigma_ry: np.ndarray
    dos_per_spin_per_ry: np.ndarray
    fermi_energy_ev: np.ndarray
    printed: tuple[LambdaInput, ...] = ()

    def sigma_index(self, sigma_ry: float | None = None) -> int:
        """Index of a broadening; None takes the middle one (a default, not a converged choice).

        Raises
        ------
        InputError
            The run has no such broadening; the message lists them.
        """
        if sigma_ry is None:
            return len(self.sigma_ry) // 2
        index = int(np.abs(self.sigma_ry - sigma_ry).argmin())
        if abs(self.sigma_ry[index] - sigma_ry) > 1e-6:
            listed = ", ".join(f"{s:g}" for s in self.sigma_ry)
            raise InputError(f"no el-ph matrices for σ = {sigma_ry:g} Ry; the ph.x run has {listed} Ry")
        return index

    def at(self, sigma_ry: float | None = None) -> ElphMatrices:
        """The matrices of one broadening alone, with its N(E_F) and Fermi level.

        Parameters
        ----------
        sigma_ry : float, optional
            Ry; None takes the middle of the list.

        Raises
        ------
        InputError
            The run has no such broadening; the message lists them.
        """
        one = slice(index := self.sigma_index(sigma_ry), index + 1)
        return replace(
            self,
            matrices=self.matrices[one],
            sigma_ry=self.sigma_ry[one],
            dos_per_spin_per_ry=self.dos_per_spin_per_ry[one],
            fermi_energy_ev=self.fermi_energy_ev[one],
            printed=(),
        )

    def part(self, dims: Sequence[int]) -> ElphMatrices:
        """The matrices at those of their q-points that form a coarser grid.

        Parameters
        ----------
        dims : sequence of 3 int
            Each divides that of the grid.

        Returns
        -------
        ElphMatrices
            Without what ph.x printed.

        Raises
        ------
        InputError
            A point of that grid is none of this one.
        """
        qpoints = commensurate_qpoints(dims)
        places = grid_indices(qpoints, self.dims)
        n1, n2, n3 = (int(n) for n in dims)
        return replace(
            self, dims=(n1, n2, n3), qpoints=qpoints, matrices=self.matrices[:, places], printed=()
        )

    def rescaled(self, fermi_dos: float | None) -> ElphMatrices:
        """With the double delta of every broadening scaled to one density of states at the Fermi level.

        The sum over two delta functions grows as N(E_F)², λ divides by N(E_F): where the states at the Fermi
        level couple alike, a k-mesh and a broadening that miss N(E_F) by a factor miss λ by the same factor
        (Bozier et al., arXiv:2508.18371).

        Parameters
        ----------
        fermi_dos : float or None
            N(E_F) of converged bands, states per spin, Ry and cell; None changes nothing.

        Returns
        -------
        ElphMatrices
            Without what ph.x printed, which is of the matrices as they came.

        Raises
        ------
        InputError
            `fermi_dos` is not positive, or more than a factor of two from that of a broadening: the unit or
            the cell is another.
        """
        if fermi_dos is None:
            return self
        if not (np.isfinite(fermi_dos) and fermi_dos > 0):
            raise InputError(f"N(E_F) = {fermi_dos}; a positive number is wanted")
        factors = fermi_dos / self.dos_per_spin_per_ry
        middle = float(np.median(factors))
        if not 0.5 <= middle <= 2:
            raise InputError(
                f"N(E_F) = {fermi_dos:g} states/spin/Ry is {middle:.3g} times that of the electron-phonon "
                f"matrices ({np.median(self.dos_per_spin_per_ry):g}): another unit (dos.x counts both spins, "
                "per eV) or another cell"
            )
        return replace(
            self,
            matrices=self.matrices * (factors**2)[:, None, None, None],
            dos_per_spin_per_ry=np.full_like(self.dos_per_spin_per_ry, fermi_dos),
            printed=(),
        )

    def check_crystal(self, dm: DynamicalMatrices) -> None:
        """Refuse dynamical matrices of another crystal or on another grid.

        Raises
        ------
        InputError
            Other cell, species, positions (> 0.1 Å) or q-grid; the message names the difference.
        """
        check_same_crystal(self.primitive, dm.primitive, "el-ph matrices", "dynamical matrices")
        if tuple(self.dims) != tuple(dm.dims):
            raise InputError(
                f"the el-ph matrices are on a {'×'.join(map(str, self.dims))} q-grid, the dynamical "
                "matrices on "
                f"{'×'.join(map(str, dm.dims))}: bring the phonons onto the el-ph grid with "
                "himlip_ase.superconductivity.swap_onto_grid(anharmonic, harmonic)"
            )

    def check_against(self, dm: DynamicalMatrices, tolerance_cm: float = 2.0) -> float:
        """Check that `dm` are the phonons of the same ph.x run, through what ``elph.inp_lambda`` prints.

        Compared are the frequencies, and for each σ the linewidths summed over the branches (z†Gz of a single
        mode in a degenerate set depends on the choice of its eigenvectors).

        Parameters
        ----------
        dm : DynamicalMatrices
        tolerance_cm : float
            cm⁻¹.

        Returns
        -------
        float
            Largest difference (cm⁻¹) between the two files' frequencies; nan when there is nothing to
            compare.

        Raises
        ------
        InputError
            Frequencies differ by more than `tolerance_cm`, or linewidths by more than 1 %: another crystal or
            run.
        """
        self.check_crystal(dm)
        worst = 0.0 if self.printed else float("nan")
        frequencies = dm.frequencies()
        inverse = 1 / np.repeat(dm.primitive.get_masses() * units.AMU_RY, 3)
        for entry in self.printed:
            index = int(grid_indices(entry.qpoint, self.dims)[0])
            trace = np.einsum("sii,i->s", self.matrices[:, index], inverse).real  # Σ_ν z†Gz, Ry
            ours_ghz, theirs_ghz = (
                0.5 * np.pi * trace * units.RY_EV / units.PLANCK_EV_S / 1e9,
                entry.gammas_ghz.sum(1),
            )
            rounding = 0.01 * entry.gammas_ghz.shape[1]
            if (np.abs(ours_ghz - theirs_ghz) > 0.01 * theirs_ghz + rounding).any():
                raise InputError(
                    f"at q = {dm.qpoints[index]} (fractional) G(q) gives linewidths that sum to "
                    f"{ours_ghz.round(2)} GHz, "
                    f"elph.inp_lambda prints {theirs_ghz.round(2)}: masses or files of another crystal or run"
                )
            ours = frequencies[index]
            theirs = np.sign(entry.omega2_ry2) * np.sqrt(np.abs(entry.omega2_ry2)) * units.RY_CM
            # near zero the printed ω² has lost its digits: compare ω² there
            difference = np.abs(ours * np.abs(ours) - theirs * np.abs(theirs))
            scale = np.maximum(np.abs(ours) + np.abs(theirs), 40.0)
            worst = max(worst, float((difference / scale).max()))
        if worst > tolerance_cm:
            raise InputError(
                f"the dynamical matrices and the elph.inp_lambda files differ by up to {worst:.1f} cm⁻¹ "
                f"(allowed {tolerance_cm:g}): they come from different crystals or runs; give the dyn files "
                "that "
                "ph.x wrote beside this elph_dir"
            )
        return worst


def read_elph(
    folder: str | Path, primitive: Atoms, alat_bohr: float | str | Path | None = None
) -> ElphMatrices:
    """Read every ``a2Fq2r`` file of a ph.x run, all broadenings, and check them against one another.

    Parameters
    ----------
    folder : path-like
        ``elph_dir``, or the folder that holds it; files may be gzip-compressed.
    primitive : ase.Atoms
        The crystal, atoms in ph.x's order (``DynamicalMatrices.primitive``).
    alat_bohr : float, path-like or None
        Unit of the q-points in these files: alat in bohr, or a dyn file of the same ph.x run. None looks for
        a dyn file beside the folder.

    Returns
    -------
    ElphMatrices

    Raises
    ------
    InputError
        A block missing, a file truncated, σ or N(E_F) different among files, a matrix not Hermitian,
        G(−q) ≠ G(q)*, a star whose matrices are not one another's images, ``a2Fmatdyn`` files beside it of
        another run, or q-points that are no Γ-centred grid of this cell.
    """
    folder = Path(folder)
    paths = list_a2fq2r(folder)
    place = next(iter(paths.values())).parent
    alat = _find_alat(place, alat_bohr) * units.BOHR_ANGSTROM
    sigmas = sorted({key[0] for key in paths})
    numbers = sorted({key[1] for key in paths})
    for isigma in sigmas:
        for iq in numbers:
            if (isigma, iq) not in paths:
                raise InputError(
                    f"{place}/a2Fq2r.{50 + isigma}.{iq} is missing (others have {len(sigmas)} broadenings of "
                    f"{len(numbers)} q-points); copy it, or rerun ph.x for that q-point (start_q, last_q)"
                )
    to_fractional = primitive.cell.array / alat
    sigma, dos, fermi, blocks = [], [], [], []
    qpoints: np.ndarray | None = None
    for isigma in sigmas:
        files = [read_a2fq2r(paths[isigma, iq], len(primitive)) for iq in numbers]
        for iq, entry in zip(numbers, files, strict=True):
            for name, mine, reference, unit in (
                ("σ", entry.sigma_ry, files[0].sigma_ry, "Ry"),
                ("N(E_F)", entry.dos_per_spin_per_ry, files[0].dos_per_spin_per_ry, "states/spin/Ry"),
                ("E_F", entry.fermi_energy_ry, files[0].fermi_energy_ry, "Ry"),
            ):
                if abs(mine - reference) > 1e-5 * max(1.0, abs(reference)):
                    raise InputError(
                        f"{paths[isigma, iq]} has {name} = {mine:g} {unit}, "
                        f"{paths[isigma, numbers[0]].name} has "
                        f"{reference:g}: the files come from different runs"
                    )
        fractional = np.concatenate([entry.qpoints for entry in files]) @ to_fractional.T
        if qpoints is None:
            qpoints = fractional
        elif not np.allclose(fractional, qpoints, atol=1e-6):
            raise InputError(
                f"{paths[isigma, numbers[0]].name} lists other q-points than the first broadening"
            )
        sigma.append(files[0].sigma_ry)
        dos.append(files[0].dos_per_spin_per_ry)
        fermi.append(files[0].fermi_energy_ry * units.RY_EV)
        blocks.append(np.concatenate([entry.matrices for entry in files]))
    assert qpoints is not None
    dims = grid_dimensions(qpoints)
    indices = grid_indices(qpoints, dims)
    grid = commensurate_qpoints(dims)
    if len(qpoints) != len(grid):
        values, counts = np.unique(indices, return_counts=True)
        raise InputError(f"q = {grid[values[counts > 1][0]]} (fractional) comes more than once in {place}")
    matrices = np.empty((len(sigmas), *np.shape(blocks)[1:]), dtype=complex)
    matrices[:, indices] = blocks
    check_symmetries(matrices, dims, place)
    check_stars(blocks, [len(entry.qpoints) for entry in files], [paths[sigmas[0], n].name for n in numbers])
    check_real_space(matrices, grid, dims, np.array(sigma), np.array(dos), place)
    printed = _read_printed(place, to_fractional, np.array(sigma), np.array(dos))
    return ElphMatrices(
        primitive.copy(), dims, grid, matrices, np.array(sigma), np.array(dos), np.array(fermi), printed
    )


def grid_dimensions(qpoints: np.ndarray, max_denominator: int = 48) -> tuple[int, int, int]:
    """Dimensions of the Γ-centred grid that fractional `qpoints` (nq, 3), in any order, fill.

    Parameters
    ----------
    qpoints : ndarray, shape (nq, 3)
        Fractional.
    max_denominator : int

    Returns
    -------
    tuple of 3 int

    Raises
    ------
    InputError
        The points are no complete Γ-centred grid; the message names the missing ones.
    """
    dims = []
    for axis in range(3):
        for denominator in range(1, max_denominator + 1):
            scaled = qpoints[:, axis] * denominator
            if np.abs(scaled - np.round(scaled)).max() < 2e-4 * denominator:
                dims.append(denominator)
                break
        else:
            raise InputError(
                f"the q-points do not lie on a Γ-centred grid (component {axis + 1} needs more than "
                f"{max_denominator} points): is alat that of the ph.x run, and the cell that of the same "
                "crystal?"
            )
    n1, n2, n3 = dims
    missing = np.setdiff1d(np.arange(n1 * n2 * n3), grid_indices(qpoints, dims, tolerance=2e-4))
    if len(missing):
        names = ", ".join(
            str(tuple(float(v) for v in q.round(4))) for q in commensurate_qpoints(dims)[missing[:4]]
        )
        raise InputError(
            f"{len(missing)} of the {n1 * n2 * n3} q-points of the {n1}×{n2}×{n3} grid are missing "
            f"(fractional {names}{', …' if len(missing) > 4 else ''}): the files of their stars are not there"
        )
    return n1, n2, n3


def _find_alat(place: Path, given: float | str | Path | None) -> float:
    if isinstance(given, int | float):
        if not given > 0:
            raise InputError(f"alat = {given} bohr; a positive number is wanted")
        return float(given)
    if given is not None:
        return read_alat(given)
    for candidate in sorted(place.parent.glob("*dyn*")):
        if re_number(candidate.name) and candidate.is_file():
            try:
                return read_alat(candidate)
            except InputError:
                continue
    raise InputError(
        f"the unit of the q-points in {place} is unknown: no dyn file of that ph.x run lies in "
        f"{place.parent}; "
        "pass alat_bohr (a number, or the path of one of its dyn files)"
    )


def re_number(name: str) -> bool:
    """Whether a file name ends in a positive number, perhaps with .gz: dyn1, al.dyn5.gz, but not dyn0."""
    stem = name.removesuffix(".gz")
    digits = stem[len(stem.rstrip("0123456789")) :]
    return bool(digits) and int(digits) > 0


def _read_printed(
    place: Path, to_fractional: np.ndarray, sigma: np.ndarray, dos: np.ndarray
) -> tuple[LambdaInput, ...]:
    entries = []
    for path in sorted(place.glob("elph.inp_lambda.*")):
        if not re_number(path.name):
            continue
        entry = read_elph_inp_lambda(path)
        if len(entry.sigma_ry) != len(sigma) or np.abs(entry.sigma_ry - sigma).max() > 6e-4:
            raise InputError(
                f"{path} has broadenings {entry.sigma_ry} Ry, the a2Fq2r files {np.round(sigma, 4)}"
            )
        if np.abs(entry.dos_per_spin_per_ry - dos).max() > 2e-5 * max(1.0, float(dos.max())):
            raise InputError(
                f"{path} has N(E_F) = {entry.dos_per_spin_per_ry} states/spin/Ry, the a2Fq2r files "
                f"{np.round(dos, 6)}: they come from different runs"
            )
        entries.append(replace(entry, qpoint=to_fractional @ entry.qpoint))
    logger.info("%d elph.inp_lambda files checked against %s", len(entries), place)
    return tuple(entries)

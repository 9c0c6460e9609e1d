"""The only place that talks to python-sscha: ensembles in, minimised matrices and Hessian out.

Units inside python-sscha are mixed: dynamical matrices Ry/bohr², positions and displacements Å, energies Ry,
forces Ry/Å, stresses Ry/bohr³ with the opposite sign.  The conversions here use its own constants.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.cellconstructor import from_cellconstructor, to_cellconstructor
from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.sscha.ensemble import Ensemble
from himlip_ase.sscha.residual import Symmetriser
from himlip_ase.sscha.settings import SschaSettings

log = logging.getLogger(__name__)

OLDEST = (1, 6, 2)
"""Versions before 1.6.2 without Julia return ones for the gradient's error, which voids their convergence."""

NEGLIGIBLE_GRADIENT = 1e-6
"""Modulus of the preconditioned gradient (Ry/bohr²) that ends a minimisation whatever its error: below it lie
the differences between the constants inside python-sscha and CellConstructor (2e-7 relative)."""


def engine() -> SimpleNamespace:
    """python-sscha's modules and constants, checked for version.

    Raises
    ------
    InputError
        It is not installed, or older than 1.6.2.
    """
    try:
        with _quiet():
            import cellconstructor.symmetries as symmetries
            import sscha.Ensemble as ensemble
            import sscha.SchaMinimizer as minimizer
        version = metadata.version("python-sscha")
    except (ImportError, metadata.PackageNotFoundError) as error:
        raise InputError(
            f"SSCHA needs python-sscha and cellconstructor ({error}); install them with "
            "pip install 'himlip-ase[sscha]' (needs gfortran, LAPACK, MPI headers and pkg-config)"
        ) from error
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST:
        raise InputError(f"python-sscha {version} is too old; install python-sscha>=1.6.2")
    return SimpleNamespace(ensemble=ensemble, minimizer=minimizer, symmetries=symmetries, version=version)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what python-sscha and its Fortran parts print to the debug log."""
    captured = io.StringIO()
    with tempfile.TemporaryFile(mode="w+", errors="replace") as printed:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(printed.fileno(), 1)
        try:
            with contextlib.redirect_stdout(captured), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # casts of real matrices, 1/ω of translations it masks later
                yield
        finally:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libgfortran.so.5")._gfortran_flush_i4(None)
            os.dup2(kept, 1)
            os.close(kept)
            if log.isEnabledFor(logging.DEBUG):
                printed.seek(0)
                for line in (captured.getvalue() + printed.read()).splitlines():
                    if line.strip():
                        log.debug("python-sscha: %s", line.rstrip())


def peer_matrices(dynamical: DynamicalMatrices) -> Any:
    """CellConstructor's ``Phonons`` of `dynamical`.

    Raises
    ------
    InputError
        The grid does not have the symmetry of the crystal, which python-sscha cannot work with.
    """
    try:
        with _quiet():
            return to_cellconstructor(dynamical)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"a {dynamical.dims} grid lacks rotations of the crystal (python-sscha: {error}); give a grid that "
            "they map onto itself, such as (2, 2, 2) for a cubic crystal"
        ) from error


def atom_order(dynamical: DynamicalMatrices, cc_dyn: Any) -> np.ndarray:
    """Index of CellConstructor's supercell atoms in ``primitive.repeat(dims)``: theirs = ours[order]."""
    dims, primitive = dynamical.dims, dynamical.primitive
    structure, itau = cc_dyn.structure.generate_supercell(dims, get_itau=True)
    shifts = (structure.coords - primitive.positions[itau]) @ np.linalg.inv(np.asarray(primitive.cell))
    cells = np.rint(shifts).astype(int)
    order = np.ravel_multi_index(tuple((cells % dims).T), dims) * len(primitive) + itau
    if np.abs(shifts - cells).max() > 1e-4 or len(set(order)) != len(order):
        raise CalculationError("CellConstructor's supercell could not be matched to the primitive cell")
    return order


def build_ensemble(dynamical: DynamicalMatrices, ensemble: Ensemble, temperature_k: float) -> Any:
    """A python-sscha ensemble that holds `ensemble`, generated by `dynamical`."""
    peer = engine()
    rydberg, bohr = peer.ensemble.Rydberg, peer.ensemble.Bohr
    cc_dyn = peer_matrices(dynamical)
    order = atom_order(dynamical, cc_dyn)
    with _quiet():
        result = peer.ensemble.Ensemble(cc_dyn, temperature_k, supercell=list(dynamical.dims))
        result.fourier_gradient = False
        structures = []
        for displacement in ensemble.displacements:
            structure = result.supercell_structure.copy()
            structure.coords = structure.coords + displacement[order]
            structures.append(structure)
        result.init_from_structures(structures)
        result.energies = ensemble.energies / rydberg
        result.forces[:] = ensemble.forces[:, order] / rydberg
        result.has_stress = ensemble.stresses is not None
        if ensemble.stresses is not None:
            full = np.array([voigt_6_to_full_3x3_stress(stress) for stress in ensemble.stresses])
            result.stresses[:] = -full * bohr**3 / rydberg
            result.stress_computed[:] = True
        result.force_computed[:] = True
        result.init()
    return result


@dataclass(frozen=True)
class Minimisation:
    """History of the minimisation on one population, energies in eV per primitive cell.

    Attributes
    ----------
    auxiliary : DynamicalMatrices
        Matrices and centroids at the end.
    weights : ndarray, shape (n,)
        Importance weights of the ensemble at the end.
    ended : str
        "gradient", "kong-liu", "steps" or "stuck".
    free_energy, free_energy_sigma, kong_liu : ndarray, shape (steps + 1,)
        Free energy relative to the static energy of the starting centroids and its error (eV per primitive
        cell); Kong-Liu ratio.
    gradient, gradient_sigma : ndarray, shape (steps,)
        Preconditioned gradient modulus and its error before each step, as python-sscha gives them.
    frequencies : ndarray, shape (steps, 3N)
        All modes of the supercell after each step, cm⁻¹, ascending.
    """

    auxiliary: DynamicalMatrices
    weights: np.ndarray
    ended: str
    free_energy: np.ndarray
    free_energy_sigma: np.ndarray
    gradient: np.ndarray
    gradient_sigma: np.ndarray
    kong_liu: np.ndarray
    frequencies: np.ndarray


def minimise(
    peer_ensemble: Any,
    settings: SschaSettings,
    static_energy: float,
    on_step: Callable[[int], None] | None = None,
) -> Minimisation:
    """Minimise the free energy on one ensemble until its gradient vanishes or the Kong-Liu ratio runs out.

    Parameters
    ----------
    peer_ensemble
        From :func:`build_ensemble`.
    settings : SschaSettings
        Step, thresholds and limits.
    static_energy : float
        Energy subtracted from the free energy, eV per primitive cell.
    on_step : callable, optional
        Called with the number of steps made.
    """
    peer = engine()
    rydberg = peer.ensemble.Rydberg
    to_cm = peer.minimizer.__RyToCm__
    frequencies = []

    def record(minimizer: Any) -> None:
        frequencies.append(np.sort(minimizer.ensemble.current_w) * to_cm)
        if on_step is not None:
            on_step(len(frequencies))

    with _quiet():
        minimizer = peer.minimizer.SSCHA_Minimizer(
            peer_ensemble,
            kong_liu_ratio=settings.kong_liu,
            meaningful_factor=settings.meaningful_factor,
            max_ka=settings.max_steps,
            use_julia=False,
            eq_energy=static_energy / rydberg,
        )
        minimizer.minim_struct = settings.minimise_structure and _has_free_coordinates(peer_ensemble)
        minimizer.set_minimization_step(settings.step)
        minimizer.abs_conv_thr = NEGLIGIBLE_GRADIENT
        try:
            minimizer.init(init_timer=False)
            minimizer.run(verbose=0, custom_function_post=record)
        except ValueError as error:
            raise CalculationError(
                "python-sscha could not make a step (imaginary frequencies or a failed diagonalisation); "
                "use a smaller step or more configurations"
            ) from error
    kong_liu = np.array(minimizer.__KL__) / peer_ensemble.N
    if minimizer.is_converged():
        ended = "gradient"
    elif kong_liu[-1] < settings.kong_liu:
        ended = "kong-liu"
    elif len(minimizer.__fe__) > settings.max_steps:
        ended = "steps"
    else:
        ended = "stuck"
    return Minimisation(
        from_cellconstructor(minimizer.dyn),
        np.array(peer_ensemble.rho),
        ended,
        np.real(minimizer.__fe__) * rydberg,
        np.real(minimizer.__fe_err__) * rydberg,
        np.array(minimizer.__gc__),
        np.array(minimizer.__gc_err__),
        kong_liu,
        np.array(frequencies),
    )


def _has_free_coordinates(peer_ensemble: Any) -> bool:
    """Whether the space group leaves any atomic coordinate free, translations apart."""
    structure = peer_ensemble.current_dyn.structure
    test = np.random.default_rng(0).normal(size=structure.coords.shape)
    projected = _vector_projection(structure, test - test.mean(axis=0))
    return bool(np.abs(projected - projected.mean(axis=0)).max() > 1e-8)


def _vector_projection(structure: Any, vectors: np.ndarray) -> np.ndarray:
    symmetry = engine().symmetries.QE_Symmetry(structure)
    symmetry.SetupQPoint()
    projected = np.array(vectors, dtype=np.float64, order="C")
    symmetry.SymmetrizeVector(projected)
    return projected


def symmetriser(dynamical: DynamicalMatrices) -> Symmetriser:
    """Projections onto the space group of `dynamical` (acoustic sum rule included)."""
    peer = engine()
    cc_dyn = peer_matrices(dynamical)

    def matrices(blocks: np.ndarray) -> np.ndarray:
        work = peer_matrices(
            DynamicalMatrices(dynamical.primitive, dynamical.dims, dynamical.qpoints, blocks)
        )
        fcq = np.array(work.dynmats, dtype=np.complex128)
        with _quiet():
            peer.symmetries.QE_Symmetry(work.structure).SymmetrizeFCQ(fcq, work.q_stars, asr="custom")
        for index, block in enumerate(fcq):
            work.dynmats[index] = block
        return from_cellconstructor(work).matrices

    def vectors(values: np.ndarray) -> np.ndarray:
        with _quiet():
            return _vector_projection(cc_dyn.structure, values)

    return Symmetriser(matrices, vectors)


def free_energy(peer_ensemble: Any) -> tuple[float, float]:
    """Free energy and its standard error, eV per primitive cell, potential energy included."""
    rydberg, cells = engine().ensemble.Rydberg, int(np.prod(peer_ensemble.supercell))
    with _quiet():
        value, error = peer_ensemble.get_free_energy(return_error=True)
    return float(np.real(value)) / cells * rydberg, float(np.real(error)) / cells * rydberg


def stress(peer_ensemble: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Stress of the quantum crystal and its standard error, ASE Voigt in eV/Å³, None without stresses."""
    if not peer_ensemble.has_stress:
        return None
    module = engine().ensemble
    scale = module.Rydberg / module.Bohr**3
    with _quiet():
        value, error = peer_ensemble.get_stress_tensor()
    return (
        -full_3x3_to_voigt_6_stress(np.real(value)) * scale,
        np.abs(full_3x3_to_voigt_6_stress(np.real(error))) * scale,
    )


def free_energy_hessian(peer_ensemble: Any) -> DynamicalMatrices:
    """Free-energy Hessian with the third-order term (Bianco 2017, PRB 96 014111), symmetrised.

    The ensemble must be a fresh draw from the auxiliary: python-sscha converts it in place and back.
    """
    with _quiet():
        hessian = peer_ensemble.get_free_energy_hessian(include_v4=False, use_symmetries=True)
        hessian.Symmetrize()
    return from_cellconstructor(hessian)

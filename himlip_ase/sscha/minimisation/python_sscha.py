"""The engine python-sscha, and the only place that talks to it: ensembles in, matrices and averages out.

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
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.evaluation import matrix_from_voigt, voigt_from_matrix
from himlip_ase.phonons.cellconstructor import from_cellconstructor, to_cellconstructor
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import Minimisation, MinimisationProblem, MinimiserSettings
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import EV_CM

logger = logging.getLogger(__name__)

OLDEST = (1, 6, 2)
"""Versions before 1.6.2 without Julia return ones for the gradient's error, which voids their convergence."""

NEGLIGIBLE_GRADIENT = 1e-6
"""Modulus of the preconditioned gradient (Ry/bohr²) that ends a minimisation whatever its error: below it lie
the differences between the constants inside python-sscha and CellConstructor (2e-7 relative)."""


def modules() -> SimpleNamespace:
    """python-sscha's modules and constants, checked for version.

    Raises
    ------
    InputError
        It is not installed, or older than 1.6.2.
    """
    try:
        with _quiet():
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
    return SimpleNamespace(ensemble=ensemble, minimizer=minimizer, version=version)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what python-sscha and its Fortran parts print to the debug log."""
    captured = io.StringIO()
    with tempfile.TemporaryFile(mode="w+", errors="replace") as printed:
        sys.stdout.flush()
        stdout = os.dup(1)
        os.dup2(printed.fileno(), 1)
        try:
            with contextlib.redirect_stdout(captured), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # casts of real matrices, 1/ω of translations it masks later
                yield
        finally:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libgfortran.so.5")._gfortran_flush_i4(None)
            os.dup2(stdout, 1)
            os.close(stdout)
            if logger.isEnabledFor(logging.DEBUG):
                printed.seek(0)
                for line in (captured.getvalue() + printed.read()).splitlines():
                    if line.strip():
                        logger.debug("python-sscha: %s", line.rstrip())


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
            f"a {dynamical.dims} grid lacks rotations of the crystal (python-sscha: {error}); give a grid "
            "that they map onto itself, such as (2, 2, 2) for a cubic crystal"
        ) from error


def atom_order(dynamical: DynamicalMatrices, cc_dyn: Any) -> np.ndarray:
    """Index of CellConstructor's supercell atoms in ``primitive.repeat(dims)``: theirs = ours[order].

    Parameters
    ----------
    dynamical : DynamicalMatrices
    cc_dyn : cellconstructor.Phonons.Phonons

    Returns
    -------
    ndarray of int, shape (N,)
    """
    dims, primitive = dynamical.dims, dynamical.primitive
    structure, itau = cc_dyn.structure.generate_supercell(dims, get_itau=True)
    shifts = (structure.coords - primitive.positions[itau]) @ np.linalg.inv(np.asarray(primitive.cell))
    cells = np.rint(shifts).astype(int)
    order = np.ravel_multi_index(tuple((cells % dims).T), dims) * len(primitive) + itau
    if np.abs(shifts - cells).max() > 1e-4 or len(set(order)) != len(order):
        raise CalculationError("CellConstructor's supercell could not be matched to the primitive cell")
    return order


def build_ensemble(ensemble: Ensemble, target: HarmonicDistribution | None = None) -> Any:
    """A python-sscha ensemble that holds `ensemble`.

    Parameters
    ----------
    ensemble : Ensemble
        Its Gaussian becomes ``dyn_0`` and ``T0``.
    target : HarmonicDistribution, optional
        Reweight to it (``current_dyn``); other force constants and centroids only.

    Returns
    -------
    sscha.Ensemble.Ensemble

    Raises
    ------
    InputError
        `target` has other masses or another temperature, or python-sscha cannot work with the grid.
    """
    dynamical, temperature_k = ensemble.drawn_from.dynamical, ensemble.drawn_from.temperature_k
    peer = modules()
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
            full = matrix_from_voigt(ensemble.stresses)
            result.stresses[:] = -full * bohr**3 / rydberg
            result.stress_computed[:] = True
        result.force_computed[:] = True
        result.init()
    if target is not None and target is not ensemble.drawn_from:
        _reweight(result, ensemble.drawn_from, target)
    return result


def _reweight(peer_ensemble: Any, drawn_from: HarmonicDistribution, target: HarmonicDistribution) -> None:
    """Importance weights of python-sscha, in place."""
    masses = drawn_from.dynamical.primitive.get_masses(), target.dynamical.primitive.get_masses()
    if target.temperature_k != drawn_from.temperature_k or not np.array_equal(masses[0], masses[1]):
        raise InputError(
            "python-sscha cannot reweight an ensemble to other masses or another temperature; "
            "use engine='native' or draw a new ensemble"
        )
    with _quiet():
        peer_ensemble.update_weights(peer_matrices(target.dynamical), target.temperature_k)


def minimise(
    peer_ensemble: Any,
    settings: MinimiserSettings,
    static_energy: float,
    move_centroids: bool,
    on_progress: Callable[[int], None] | None = None,
) -> Minimisation:
    """Minimise the free energy on one ensemble until its gradient vanishes or the Kong-Liu ratio runs out.

    Parameters
    ----------
    peer_ensemble
        From :func:`build_ensemble`.
    settings : MinimiserSettings
        Step, thresholds and limits.
    static_energy : float
        Energy subtracted from the free energy, eV per primitive cell.
    move_centroids : bool
        Minimise the structure too.
    on_progress : callable, optional
        Called with the number of steps made.

    Returns
    -------
    Minimisation
    """
    peer = modules()
    rydberg, bohr = peer.ensemble.Rydberg, peer.ensemble.Bohr
    frequencies = []

    def record(minimizer: Any) -> None:
        frequencies.append(np.sort(minimizer.ensemble.current_w) * rydberg * EV_CM)
        if on_progress is not None:
            on_progress(len(frequencies))

    with _quiet():
        minimizer = peer.minimizer.SSCHA_Minimizer(
            peer_ensemble,
            kong_liu_ratio=settings.kong_liu,
            meaningful_factor=settings.meaningful_factor,
            max_ka=settings.max_steps,
            use_julia=False,
            eq_energy=static_energy / rydberg,
        )
        minimizer.minim_struct = move_centroids
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
    steps = len(minimizer.__fe__) - 1
    if minimizer.is_converged():
        ended, reason = "gradient", "python-sscha found the gradient below its threshold"
    elif kong_liu[-1] < settings.kong_liu:
        ended, reason = "kong-liu", f"a step took the Kong-Liu ratio to {kong_liu[-1]:.2f}"
    elif steps + 1 > settings.max_steps:
        ended, reason = "steps", f"{steps} steps were made"
    else:
        ended, reason = "stuck", "python-sscha stopped at imaginary frequencies"
    accepted = slice(None) if ended == "gradient" or not steps else slice(-1)  # it takes its last step back
    unit = rydberg / bohr**2
    return Minimisation(
        auxiliary=from_cellconstructor(minimizer.dyn),
        weights=np.array(peer_ensemble.rho),
        ended=ended,
        reason=reason,
        free_energy=np.real(minimizer.__fe__)[accepted] * rydberg,
        free_energy_sigma=np.real(minimizer.__fe_err__)[accepted] * rydberg,
        gradient=np.array(minimizer.__gc__) * unit,
        gradient_sigma=np.array(minimizer.__gc_err__) * unit,
        shift=np.array(minimizer.__gw__, dtype=float),
        shift_sigma=np.full(len(minimizer.__gw__), np.nan),
        kong_liu=kong_liu[accepted],
        frequencies=np.array(frequencies),
    )


def free_energy(peer_ensemble: Any) -> tuple[float, float]:
    """Free energy and its standard error, eV per primitive cell, potential energy included."""
    rydberg, cells = modules().ensemble.Rydberg, int(np.prod(peer_ensemble.supercell))
    with _quiet():
        value, error = peer_ensemble.get_free_energy(return_error=True)
    return float(np.real(value)) / cells * rydberg, float(np.real(error)) / cells * rydberg


def stress(peer_ensemble: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Stress of the quantum crystal and its standard error, ASE Voigt in eV/Å³, None without stresses."""
    if not peer_ensemble.has_stress:
        return None
    module = modules().ensemble
    scale = module.Rydberg / module.Bohr**3
    with _quiet():
        value, error = peer_ensemble.get_stress_tensor()
    return (
        -voigt_from_matrix(np.real(value)) * scale,
        np.abs(voigt_from_matrix(np.real(error))) * scale,
    )


class PythonSschaEngine:
    """python-sscha as an engine of the loop; see :class:`himlip_ase.sscha.minimisation.engine.Engine`.

    Its errors count opposite configurations as independent, and its weights know neither other masses nor
    another temperature than those of the draw.

    Parameters
    ----------
    minimiser : str
        Of the native engine; python-sscha always descends in the force constants.

    Raises
    ------
    InputError
        It is not installed, or older than 1.6.2.
    """

    def __init__(self, minimiser: str = "descent") -> None:
        self._version = modules().version

    @property
    def name(self) -> str:
        """The engine and its version, for records."""
        return f"python-sscha {self._version}"

    def minimise(
        self, problem: MinimisationProblem, on_progress: Callable[[int], None] | None = None
    ) -> Minimisation:
        """Minimise with its own symmetries (`problem.group` is not used).

        Parameters
        ----------
        problem : MinimisationProblem
        on_progress : callable, optional
            Called with the number of steps made.

        Returns
        -------
        Minimisation
        """
        return minimise(
            build_ensemble(problem.ensemble, problem.begin),
            problem.settings,
            problem.static_energy,
            problem.move_centroids,
            on_progress,
        )

    def free_energy(
        self, ensemble: Ensemble, target: HarmonicDistribution | None = None
    ) -> tuple[float, float]:
        """See :meth:`himlip_ase.sscha.minimisation.engine.Engine.free_energy`.

        Parameters
        ----------
        ensemble : Ensemble
        target : HarmonicDistribution, optional

        Returns
        -------
        value, sigma : float
            eV per primitive cell.
        """
        return free_energy(build_ensemble(ensemble, target))

    def stress(
        self, ensemble: Ensemble, group: SpaceGroup, target: HarmonicDistribution | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """See :meth:`himlip_ase.sscha.minimisation.engine.Engine.stress`.

        Parameters
        ----------
        ensemble : Ensemble
        group : SpaceGroup
        target : HarmonicDistribution, optional

        Returns
        -------
        stress, sigma : ndarray, shape (6,)
            ASE Voigt, eV/Å³, positive in tension; None without stresses.
        """
        return stress(build_ensemble(ensemble, target))

    def kong_liu(self, ensemble: Ensemble, target: HarmonicDistribution | None = None) -> float:
        """See :meth:`himlip_ase.sscha.minimisation.engine.Engine.kong_liu`.

        Parameters
        ----------
        ensemble : Ensemble
        target : HarmonicDistribution, optional

        Returns
        -------
        float
        """
        return float(build_ensemble(ensemble, target).get_effective_sample_size() / len(ensemble))


def free_energy_hessian(peer_ensemble: Any) -> DynamicalMatrices:
    """python-sscha's free-energy Hessian with the third-order term, the judge of our own.

    The ensemble must be a fresh draw from the auxiliary: it is converted in place and back.
    """
    with _quiet():
        hessian = peer_ensemble.get_free_energy_hessian(include_v4=False, use_symmetries=True)
        hessian.Symmetrize()
    return from_cellconstructor(hessian)

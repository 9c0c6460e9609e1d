"""The native engine: averages, minimisation and stress of :mod:`himlip_ase.sscha.minimisation.engine`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.evaluation import matrix_from_voigt, voigt_from_matrix
from himlip_ase.sscha.choices import MINIMISERS, MinimiserChoice, imported
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.reweighting import weighted_mean
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.trial_gaussian import NotPositive, TrialGaussian
from himlip_ase.sscha.minimisation.basis import SymmetryBasis
from himlip_ase.sscha.minimisation.engine import Minimisation, MinimisationProblem
from himlip_ase.sscha.minimisation.gradient import BlockMeans, TrialAverages
from himlip_ase.sscha.minimisation.minimiser import MinimiserPath, Point
from himlip_ase.sscha.symmetry import SpaceGroup


class NativeEngine:
    """SSCHA on blocks Φ(q), one of each pair (q, -q), in a symmetry-adapted basis.

    Parameters
    ----------
    minimiser : str
        A name of :data:`himlip_ase.sscha.choices.MINIMISERS`.
    """

    def __init__(self, minimiser: str = "anderson") -> None:
        self.minimiser = MINIMISERS[minimiser]

    @property
    def name(self) -> str:
        """The engine, its version and its minimiser, for records."""
        from himlip_ase import __version__

        return f"himlip-ase {__version__} ({self.minimiser.name})"

    def minimise(
        self, problem: MinimisationProblem, on_progress: Callable[[int], None] | None = None
    ) -> Minimisation:
        """See :meth:`himlip_ase.sscha.minimisation.engine.Engine.minimise`.

        Parameters
        ----------
        problem : MinimisationProblem
        on_progress : callable, optional
            Called with the number of steps made.

        Returns
        -------
        Minimisation
        """
        static_energy = problem.static_energy
        evaluate = TrialEvaluator(problem, self.minimiser)
        path = MinimiserPath(evaluate, problem.settings, on_progress)
        first = evaluate(evaluate.origin)
        if first is None:
            raise CalculationError("the starting force constants lose their positivity when symmetrised")
        ended, reason = imported(self.minimiser.search)(path, first)
        points = path.accepted
        last = points[-1].trial
        return Minimisation(
            auxiliary=last.on_whole_grid(problem.begin.dynamical),
            weights=TrialAverages(problem.ensemble, last).weights,
            ended=ended,
            reason=reason,
            free_energy=np.array([point.free_energy for point in points]) - static_energy,
            free_energy_sigma=np.array([point.free_energy_sigma for point in points]),
            gradient=np.array([point.gradient for point in points]),
            gradient_sigma=np.array([point.gradient_sigma for point in points]),
            shift=np.array([point.shift for point in points]),
            shift_sigma=np.array([point.shift_sigma for point in points]),
            kong_liu=np.array([point.kong_liu for point in points]),
            frequencies=np.array([point.trial.frequencies_cm() for point in points]),
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
        return self._averages(ensemble, target).free_energy()

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
        return self._averages(ensemble, target).kong_liu

    def stress(
        self, ensemble: Ensemble, group: SpaceGroup, target: HarmonicDistribution | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """See :meth:`himlip_ase.sscha.minimisation.engine.Engine.stress`.

        σ = ⟨σ_BO + ½ Σ_a (f_a u_a + u_a f_a)/V⟩: the virial of the fluctuations adds the kinetic part.

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
        if ensemble.stresses is None:
            return None
        target = ensemble.drawn_from if target is None else target
        averages = self._averages(ensemble, target)
        primitive, cells = target.dynamical.primitive, ensemble.fourier.grid.cells
        virial = np.einsum(
            "nai,naj->nij", ensemble.forces, ensemble.displacements_from(target), optimize=True
        )
        volume = abs(np.linalg.det(primitive.cell.array)) * cells
        total = matrix_from_voigt(ensemble.stresses)
        total = group.tensor(total + (virial + virial.swapaxes(1, 2)) / (2 * volume))
        mean, sigma = weighted_mean(total, averages.weights)
        return voigt_from_matrix(mean), voigt_from_matrix(sigma)

    def _averages(self, ensemble: Ensemble, target: HarmonicDistribution | None) -> TrialAverages:
        if target is None:
            return TrialAverages(ensemble, ensemble.fourier.gaussian)
        ensemble.check_grid_of(target)
        return TrialAverages(ensemble, TrialGaussian.of(target, ensemble.fourier.grid))


class TrialEvaluator:
    """Trial coordinates to a :class:`~himlip_ase.sscha.minimisation.minimiser.Point`, on one ensemble.

    Parameters
    ----------
    problem : MinimisationProblem
    minimiser : MinimiserChoice
        Chooses the coordinates.

    Attributes
    ----------
    origin : ndarray
        Coordinates of where the minimisation begins, symmetrised.
    """

    def __init__(self, problem: MinimisationProblem, minimiser: MinimiserChoice) -> None:
        self.ensemble, self.n_blocks = problem.ensemble, problem.settings.n_blocks
        grid = self.ensemble.fourier.grid
        begin = TrialGaussian.of(problem.begin, grid)
        basis = self.basis = SymmetryBasis(problem.group, grid)
        self._crystal, self._centroids = begin.crystal, begin.centroids
        self._shifts = basis.shifts if problem.move_centroids else basis.shifts[:, :0]
        self._force_constants = imported(minimiser.coordinates)(basis, begin)
        # a centroid shift of the size of the fluctuations counts like a change of all force constants
        self._scale = basis.grid.norm(begin.matrices) / np.sqrt(begin.mean_square_displacement())
        self._size = len(basis)
        self.origin = np.concatenate([self._force_constants.origin, np.zeros(self._shifts.shape[1])])

    def __call__(self, coordinates: np.ndarray) -> Point | None:
        """Free energy and gradient at `coordinates`; None where the matrices are not positive."""
        try:
            matrices = self._force_constants.matrices(coordinates[: self._size])
            moved = self._shifts @ coordinates[self._size :] / self._scale
            trial = TrialGaussian(self._crystal, matrices, self._centroids + moved.reshape(-1, 3))
        except NotPositive:
            return None
        averages = TrialAverages(self.ensemble, trial)
        parts, shares = averages.gradient_blocks(self.n_blocks)
        coefficients = self.basis.coefficients(parts)
        gradient, gradient_sigma = _mean_and_error(coefficients, shares)
        forces = averages.force_blocks(self.n_blocks)
        pulls = -forces.parts.reshape(len(shares), -1) @ trial.static_response() @ self._shifts
        shift, shift_sigma = _mean_and_error(pulls, shares)
        value, sigma = averages.free_energy()
        return Point(
            trial=trial,
            coordinates=coordinates,
            direction=np.concatenate([self._force_constants.direction(trial, gradient), shift * self._scale]),
            gradient=float(np.linalg.norm(gradient)),
            gradient_sigma=gradient_sigma,
            shift=float(np.linalg.norm(shift)),
            shift_sigma=shift_sigma,
            free_energy=value,
            free_energy_sigma=sigma,
            kong_liu=averages.kong_liu,
        )


def _mean_and_error(parts: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean of blocks of coefficients, (n_blocks, m), and the modulus of its standard error."""
    means = BlockMeans(parts, shares)
    return means.mean, float(np.linalg.norm(means.sigma()))

"""The last test and the quoted figures of a run, on a fresh ensemble of the final auxiliary."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from himlip_ase.sscha.cell import excess_stress
from himlip_ase.sscha.choices import HESSIAN_ORDERS
from himlip_ase.sscha.convergence.residual import residual
from himlip_ase.sscha.convergence.verdict import fresh_test, reason
from himlip_ase.sscha.curvature.hessian import HessianEstimate, estimate_hessian
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.results.result import History, SschaResult
from himlip_ase.sscha.run.evaluated_ensembles import RunContext, obtain_ensemble
from himlip_ase.sscha.run.finished_population import FinishedPopulation
from himlip_ase.sscha.symmetry import SpaceGroup

FINAL_STREAM = 1_000_000
"""Stream of the final ensemble, out of reach of the populations' numbers."""


@dataclass(frozen=True, eq=False)
class FinalEnsembleTest:
    """The final ensemble and what it says of the auxiliary.

    Attributes
    ----------
    ensemble : Ensemble
    target : HarmonicDistribution
        The auxiliary.
    group : SpaceGroup
        Of the auxiliary.
    stress : tuple of ndarray, or None
        Stress of the quantum crystal and its standard error, ASE Voigt in eV/Å³.
    disagreement : str
        Why the auxiliary is not the minimum; empty where it may be.
    """

    ensemble: Ensemble
    target: HarmonicDistribution
    group: SpaceGroup
    stress: tuple[np.ndarray, np.ndarray] | None
    disagreement: str


def final_ensemble_name(number: int, n: int) -> str:
    """Name in ``state/`` of the final ensemble of n configurations, after `number` populations.

    Parameters
    ----------
    number : int
        Populations before it.
    n : int
        Configurations.

    Returns
    -------
    str
    """
    return f"hessian_{number:03d}_{n}"


def assemble_result(
    populations: list[FinishedPopulation], run: RunContext, test: FinalEnsembleTest | None
) -> SschaResult:
    """The result of a run whose populations are done.

    Parameters
    ----------
    populations : list of FinishedPopulation
    run : RunContext
    test : FinalEnsembleTest, optional
        None where no final ensemble is wanted.

    Returns
    -------
    SschaResult
    """
    last, settings = populations[-1], run.settings
    records = [population.record for population in populations]
    converged, verdict = last.settled, last.verdict
    if not last.ended:
        verdict = f"stopped after {len(populations)} populations: {verdict}"
    if converged and test is not None and test.disagreement:
        converged, verdict = False, f"the final ensemble disagrees: {test.disagreement}"
    histories = [population.history for population in populations]
    free_energy, sigma = last.record.free_energy, last.record.free_energy_sigma
    estimate, stress, kong_liu, drawn, saved = None, None, None, 0, 0
    if test is not None:
        ensemble, target = test.ensemble, test.target
        total, sigma = run.engine.free_energy(ensemble, target)
        free_energy, stress = total - last.static_energy, test.stress
        kong_liu = run.engine.kong_liu(ensemble, target)
        estimate = _hessian(test, last, run)
        if not estimate.positive:
            converged = False
            verdict = (
                "the fourth-order term is stronger than the second: the auxiliary is no minimum of the free "
                f"energy, or {len(ensemble)} configurations are too few for the Hessian; {verdict}"
            )
        if ensemble.is_drawn_from(target):
            drawn = len(ensemble) + 1
        else:
            saved = len(ensemble)
    return SschaResult(
        settings=settings,
        converged=converged,
        verdict=verdict,
        auxiliary=last.auxiliary,
        auxiliary_sigma_cm=last.in_sample.sigma_cm,
        static_energy=last.static_energy,
        free_energy=free_energy,
        free_energy_sigma=sigma,
        stress=None if stress is None else stress[0],
        stress_sigma=None if stress is None else stress[1],
        hessian=None if estimate is None else estimate.hessian,
        hessian_sigma_cm=None if estimate is None else estimate.sigma_cm,
        hessian_bias_cm=None if estimate is None else estimate.bias_cm,
        hessian_kong_liu=kong_liu,
        final_rounding=None if test is None else test.ensemble.rounding,
        populations=records,
        populations_settled=last.ended and not (test is not None and test.disagreement),
        history=History(
            **{
                item.name: np.concatenate([getattr(history, item.name) for history in histories])
                for item in dataclasses.fields(History)
            }
        ),
        engine=run.engine.name,
        force_calls=sum(r.n_configurations + 1 for r in records if not r.reused) + drawn,
        force_calls_saved=sum(r.n_configurations for r in records if r.reused) + saved,
        auxiliary_blocks=last.in_sample.blocks.astype(np.complex64),
        hessian_changes=None if estimate is None else estimate.changes,
    )


def judge_on_final_ensemble(
    populations: list[FinishedPopulation], run: RunContext
) -> FinalEnsembleTest | None:
    """Draw (or take over) the final ensemble and test the auxiliary on it; None where none is wanted.

    Parameters
    ----------
    populations : list of FinishedPopulation
    run : RunContext

    Returns
    -------
    FinalEnsembleTest or None
    """
    settings, last, number = run.settings, populations[-1], len(populations)
    n = settings.n_hessian_configurations
    if not n:
        return None
    target = HarmonicDistribution(last.auxiliary, settings.temperature_k)
    offered = run.source.final_ensemble if run.source is not None else None
    if offered is not None and len(offered) < n:
        offered = None
    ensemble = obtain_ensemble(final_ensemble_name(number, n), target, n, FINAL_STREAM + number, run, offered)
    group = SpaceGroup(last.auxiliary)
    with run.progress.timed("minimiser"):
        fresh = residual(target, ensemble, group, settings.n_blocks)
        test = fresh_test(fresh, last.in_sample)
        stress = run.engine.stress(ensemble, group, target)
    disagreement = ""
    if not test.passed(settings.significance):
        disagreement = reason(test, "gradient", settings.significance)
    if settings.pressure_gpa is not None and stress is not None and last.cell is not None:
        now = excess_stress(*stress, last.cell.basis, settings.pressure_gpa)
        z = now.z(last.cell.excess_stress)
        if z > settings.significance:
            disagreement += f"{'; ' if disagreement else ''}its stress is {z:.1f} errors from the target"
    return FinalEnsembleTest(ensemble, target, group, stress, disagreement)


def _hessian(test: FinalEnsembleTest, last: FinishedPopulation, run: RunContext) -> HessianEstimate:
    settings = run.settings
    run.progress.begin("free-energy Hessian: irreducible q")
    with run.progress.timed("Hessian"):
        return estimate_hessian(
            test.target,
            test.ensemble,
            last.in_sample,
            test.group,
            settings.n_blocks,
            run.progress.update,
            fourth=HESSIAN_ORDERS[settings.hessian_order].fourth,
            seed=settings.seed,
        )

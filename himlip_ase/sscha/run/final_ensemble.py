"""The last test and the quoted figures of a run, on a fresh ensemble of the final auxiliary."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from himlip_ase.sscha.cell import Load, load
from himlip_ase.sscha.convergence.verdict import fresh_test, reason
from himlip_ase.sscha.curvature.hessian import HessianEstimate, estimate_hessian
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.results.result import History, SschaResult
from himlip_ase.sscha.run.evaluated_ensembles import Kept, Work, take_ensemble
from himlip_ase.sscha.run.finished_population import Stage
from himlip_ase.sscha.run.population import residual_on
from himlip_ase.sscha.symmetry import SpaceGroup

FINAL_STREAM = 1_000_000
"""Stream of the final ensemble, out of reach of the populations' numbers."""


@dataclass(frozen=True)
class FinalTest:
    """The final ensemble and what it says of the auxiliary.

    Attributes
    ----------
    kept : Kept
    target : HarmonicDistribution
        The auxiliary.
    group : SpaceGroup
        Of the auxiliary.
    stress : tuple of ndarray, or None
        Stress of the quantum crystal and its standard error, ASE Voigt in eV/Å³.
    disagreement : str
        Why the auxiliary is not the minimum; empty where it may be.
    """

    kept: Kept
    target: HarmonicDistribution
    group: SpaceGroup
    stress: tuple[np.ndarray, np.ndarray] | None
    disagreement: str


def final_name(number: int, n: int) -> str:
    """Name in ``state/`` of the final ensemble of n configurations, after `number` populations."""
    return f"hessian_{number:03d}_{n}"


def finish(stages: list[Stage], work: Work, final: FinalTest | None) -> SschaResult:
    """The result of a run whose populations are done."""
    last, settings = stages[-1], work.settings
    records = [stage.record for stage in stages]
    converged, verdict = last.settled, last.verdict
    if not last.ended:
        verdict = f"stopped after {len(stages)} populations: {verdict}"
    if converged and final is not None and final.disagreement:
        converged, verdict = False, f"the final ensemble disagrees: {final.disagreement}"
    histories = [stage.history for stage in stages]
    free_energy, sigma = last.record.free_energy, last.record.free_energy_sigma
    estimate, stress, kong_liu, drawn, saved = None, None, None, 0, 0
    if final is not None:
        ensemble, source, target = final.kept.ensemble, final.kept.drawn, final.target
        total, sigma = work.engine.free_energy(ensemble, source, target)
        free_energy, stress = total - last.reference, final.stress
        kong_liu = work.engine.kong_liu(ensemble, source, target)
        estimate = _hessian(final, last, work)
        if not estimate.positive:
            converged = False
            verdict = (
                "the fourth-order term is stronger than the second: the auxiliary is no minimum of the free "
                f"energy, or {len(ensemble)} configurations are too few for the Hessian; {verdict}"
            )
        if final.kept.is_from(target):
            drawn = len(ensemble) + 1
        else:
            saved = len(ensemble)
    return SschaResult(
        settings=settings,
        converged=converged,
        verdict=verdict,
        auxiliary=last.auxiliary,
        auxiliary_sigma_cm=last.maker.sigma_cm,
        static_energy=last.reference,
        free_energy=free_energy,
        free_energy_sigma=sigma,
        stress=None if stress is None else stress[0],
        stress_sigma=None if stress is None else stress[1],
        hessian=None if estimate is None else estimate.hessian,
        hessian_sigma_cm=None if estimate is None else estimate.sigma_cm,
        hessian_bias_cm=None if estimate is None else estimate.bias_cm,
        hessian_kong_liu=kong_liu,
        populations=records,
        populations_settled=last.ended and not (final is not None and final.disagreement),
        history=History(
            **{
                item.name: np.concatenate([getattr(history, item.name) for history in histories])
                for item in dataclasses.fields(History)
            }
        ),
        engine=work.engine.name,
        force_calls=sum(r.n_configurations + 1 for r in records if not r.reused) + drawn,
        force_calls_saved=sum(r.n_configurations for r in records if r.reused) + saved,
        auxiliary_blocks=last.maker.blocks.astype(np.complex64),
        hessian_changes=None if estimate is None else estimate.changes,
    )


def final_test(stages: list[Stage], work: Work) -> FinalTest | None:
    """Draw (or take over) the final ensemble and test the auxiliary on it; None where none is wanted."""
    settings, last, number = work.settings, stages[-1], len(stages)
    n = settings.n_hessian_configurations
    if not n:
        return None
    target = HarmonicDistribution(last.auxiliary, settings.temperature_k)
    offered = work.neighbour.final if work.neighbour is not None else None
    if offered is not None and len(offered.ensemble) < n:
        offered = None
    kept = take_ensemble(final_name(number, n), target, n, FINAL_STREAM + number, work, offered)
    group = SpaceGroup(last.auxiliary)
    with work.bar.timed("minimiser"):
        fresh = residual_on(kept, target, kept.weights(target), group, settings.n_blocks)
        test = fresh_test(fresh, last.maker)
        stress = work.engine.stress(kept.ensemble, kept.drawn, group, target)
    disagreement = ""
    if not test.passed(settings.significance):
        disagreement = reason(test, "gradient", settings.significance)
    if settings.pressure_gpa is not None and stress is not None:
        now = load(*stress, last.cell["basis"], settings.pressure_gpa)
        z = now.z(Load(last.cell["excess"], last.cell["sigma"]))
        if z > settings.significance:
            disagreement += f"{'; ' if disagreement else ''}its stress is {z:.1f} errors from the target"
    return FinalTest(kept, target, group, stress, disagreement)


def _hessian(final: FinalTest, last: Stage, work: Work) -> HessianEstimate:
    settings, kept, target = work.settings, final.kept, final.target
    work.bar.begin("free-energy Hessian: irreducible q")
    with work.bar.timed("Hessian"):
        return estimate_hessian(
            target,
            dataclasses.replace(kept.ensemble, displacements=kept.moved(target)),
            last.maker,
            final.group,
            settings.n_blocks,
            work.bar.step,
            fourth=settings.hessian_order == "third+fourth",
            seed=settings.seed,
            weights=None if kept.is_from(target) else kept.weights(target),
        )

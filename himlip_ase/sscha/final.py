"""The last test and the quoted figures of a run, on a fresh ensemble of the final auxiliary."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from himlip_ase.sscha.cell import Load, load
from himlip_ase.sscha.hessian import HessianEstimate, estimate_hessian
from himlip_ase.sscha.kept import Work, take_ensemble
from himlip_ase.sscha.population import residual_on
from himlip_ase.sscha.result import History, SschaResult
from himlip_ase.sscha.sampling import HarmonicDistribution
from himlip_ase.sscha.stage import Stage
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.verdict import fresh_test, reason

FINAL_STREAM = 1_000_000
"""Stream of the final ensemble, out of reach of the populations' numbers."""


@dataclass(frozen=True)
class _Figures:
    """What the final ensemble says."""

    disagreement: str
    free_energy: float
    free_energy_sigma: float
    stress: tuple[np.ndarray, np.ndarray] | None
    hessian: HessianEstimate
    kong_liu: float
    force_calls: int
    force_calls_saved: int


def final_name(number: int, n: int) -> str:
    """Name in ``state/`` of the final ensemble of n configurations, after `number` populations."""
    return f"hessian_{number:03d}_{n}"


def finish(stages: list[Stage], work: Work) -> SschaResult:
    """The result of a run whose populations are done."""
    last, settings = stages[-1], work.settings
    records = [stage.record for stage in stages]
    converged, verdict = last.settled, last.verdict
    if not last.ended:
        verdict = f"stopped after {len(stages)} populations: {verdict}"
    final = _final_figures(last, len(stages), work) if settings.n_hessian_configurations else None
    if converged and final is not None and final.disagreement:
        converged, verdict = False, f"the final ensemble disagrees: {final.disagreement}"
    histories = [stage.history for stage in stages]
    stress = None if final is None else final.stress
    return SschaResult(
        settings=settings,
        converged=converged,
        verdict=verdict,
        auxiliary=last.auxiliary,
        auxiliary_sigma_cm=last.maker.sigma_cm,
        static_energy=last.reference,
        free_energy=last.record.free_energy if final is None else final.free_energy,
        free_energy_sigma=last.record.free_energy_sigma if final is None else final.free_energy_sigma,
        stress=None if stress is None else stress[0],
        stress_sigma=None if stress is None else stress[1],
        hessian=None if final is None else final.hessian.hessian,
        hessian_sigma_cm=None if final is None else final.hessian.sigma_cm,
        hessian_bias_cm=None if final is None else final.hessian.bias_cm,
        hessian_kong_liu=None if final is None else final.kong_liu,
        populations=records,
        populations_settled=last.ended,
        history=History(
            **{
                item.name: np.concatenate([getattr(history, item.name) for history in histories])
                for item in dataclasses.fields(History)
            }
        ),
        engine=work.engine.name,
        force_calls=sum(r.n_configurations + 1 for r in records if not r.reused)
        + (0 if final is None else final.force_calls),
        force_calls_saved=sum(r.n_configurations for r in records if r.reused)
        + (0 if final is None else final.force_calls_saved),
        auxiliary_blocks=last.maker.blocks.astype(np.complex64),
        hessian_changes=None if final is None else final.hessian.changes,
    )


def _final_figures(last: Stage, number: int, work: Work) -> _Figures:
    settings, bar = work.settings, work.bar
    target = HarmonicDistribution(last.auxiliary, settings.temperature_k)
    n = settings.n_hessian_configurations
    offered = work.neighbour.final if work.neighbour is not None else None
    if offered is not None and len(offered.ensemble) < n:
        offered = None
    kept = take_ensemble(final_name(number, n), target, n, FINAL_STREAM + number, work, offered)
    weights = kept.weights(target)
    group = SpaceGroup(last.auxiliary)
    with bar.timed("minimiser"):
        fresh = residual_on(kept, target, weights, group, settings.n_blocks)
        test = fresh_test(fresh, last.maker)
        total, sigma = work.engine.free_energy(kept.ensemble, kept.drawn, target)
        stress = work.engine.stress(kept.ensemble, kept.drawn, group, target)
    disagreement = ""
    if not test.passed(settings.significance):
        disagreement = reason(test, "gradient", settings.significance)
    if settings.pressure_gpa is not None and stress is not None:
        z = load(*stress, last.cell["basis"], settings.pressure_gpa).z(
            Load(last.cell["excess"], last.cell["sigma"])
        )
        if z > settings.significance:
            disagreement += f"{'; ' if disagreement else ''}its stress is {z:.1f} errors from the target"
    reused = not kept.is_from(target)
    bar.begin("free-energy Hessian: irreducible q")
    with bar.timed("Hessian"):
        estimate = estimate_hessian(
            target,
            dataclasses.replace(kept.ensemble, displacements=kept.moved(target)),
            last.maker,
            group,
            settings.n_blocks,
            bar.step,
            fourth=settings.hessian_order == "third+fourth",
            seed=settings.seed,
            weights=weights if reused else None,
        )
    return _Figures(
        disagreement,
        total - last.reference,
        sigma,
        stress,
        estimate,
        work.engine.kong_liu(kept.ensemble, kept.drawn, target),
        0 if reused else len(kept.ensemble) + 1,
        len(kept.ensemble) if reused else 0,
    )

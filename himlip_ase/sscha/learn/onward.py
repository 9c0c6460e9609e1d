"""How the SSCHA goes on with the potential of a round: from fresh ensembles, or from those of the last."""

from __future__ import annotations

import dataclasses
import hashlib
import logging

from himlip_ase.files import sha256_file
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.evaluation import Evaluate, checked
from himlip_ase.sscha.learn.rounds import MODEL, Round
from himlip_ase.sscha.learn.settings import LearnSettings
from himlip_ase.sscha.results.result import SschaResult, load_result
from himlip_ase.sscha.run.continuation import load_source_run
from himlip_ase.sscha.run.evaluated_ensembles import SourceRun
from himlip_ase.sscha.run.loop import run_sscha
from himlip_ase.sscha.watch.watch import Watch

logger = logging.getLogger(__name__)


def go_on(this: Round, evaluate: Evaluate, settings: LearnSettings, watch: Watch | None) -> SschaResult:
    """Run the SSCHA of a round from the auxiliary of the one before.

    Parameters
    ----------
    this : Round
    evaluate : callable
        Forces by the round's potential.
    settings : LearnSettings
    watch : Watch or None

    Returns
    -------
    SschaResult
    """
    before = load_result(this.source)
    place = this.folder / "sscha"
    resume = (place / "state" / "run.json").exists()
    source = None
    if settings.onward == "reweighted" and not (place / "result.json").exists():
        source = with_new_forces(this, evaluate)
    if (place / "result.json").exists():
        return load_result(place)
    chosen = before.settings
    if chosen.pressure_gpa is not None:
        logger.info("the loop keeps the cell: its labels correct the pressure of %g GPa", chosen.pressure_gpa)
        chosen = dataclasses.replace(chosen, pressure_gpa=None)
    return run_sscha(
        before.auxiliary, evaluate, chosen, place, resume, progress=True, source=source, watch=watch
    )


def with_new_forces(this: Round, evaluate: Evaluate) -> SourceRun:
    """The ensembles of the run before, with the forces of the round's potential.

    Parameters
    ----------
    this : Round
    evaluate : callable

    Returns
    -------
    SourceRun
    """
    result, old = load_source_run(this.source)
    cells = 1
    for length in result.auxiliary.dims:
        cells *= length

    def renewed(ensemble: Ensemble | None) -> Ensemble | None:
        if ensemble is None:
            return None
        ideal = ensemble.drawn_from.supercell
        images = [ideal.copy() for _ in range(len(ensemble))]
        for image, moved in zip(images, ensemble.displacements, strict=True):
            image.positions += moved
        images.append(ideal)
        found = checked(evaluate(images), images)
        return dataclasses.replace(
            ensemble,
            energies=found.energies[:-1],
            forces=found.force_array[:-1],
            stresses=found.stresses[:-1] if found.has_stress else None,
            static_energy=float(found.energies[-1]),
        )

    population, final = renewed(old.last_population), renewed(old.final_ensemble)
    known = population or final
    static = result.static_energy if known is None else known.static_energy / cells
    fingerprint = hashlib.sha256(f"{old.fingerprint} {sha256_file(this.folder / MODEL)}".encode()).hexdigest()
    return SourceRun(population, final, static, fingerprint)

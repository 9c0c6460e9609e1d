"""Isotopes and temperatures: runs that begin where a finished run ended.

Forces depend neither on masses nor on temperature.  A run with other masses or at another temperature
therefore starts from the auxiliary force constants and centroids of a finished one, and takes over its
ensembles by importance reweighting where the Kong-Liu ratio allows (at least
:data:`~himlip_ase.sscha.run.evaluated_ensembles.REUSE_KONG_LIU`): the last population for its first
minimisation, the final
ensemble, which had no part in making an auxiliary, for its final figures.  The populations in between are
drawn afresh, and they alone decide on convergence.  The ratio falls exponentially with the number of modes
whose width changes: small steps in temperature and of heavy isotopes pass, H to D in a supercell does not,
and is drawn anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from himlip_ase.errors import InputError
from himlip_ase.files import sha256_file
from himlip_ase.sscha.ensembles.evaluation import Evaluate
from himlip_ase.sscha.results.result import SschaResult, load_result
from himlip_ase.sscha.run.checkpoints import State
from himlip_ase.sscha.run.evaluated_ensembles import SourceRun
from himlip_ase.sscha.run.final_ensemble import final_ensemble_name
from himlip_ase.sscha.run.finished_population import population_name
from himlip_ase.sscha.run.loop import run_sscha
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.watch.watch import Watch

logger = logging.getLogger(__name__)


def load_source_run(folder: str | os.PathLike) -> tuple[SschaResult, SourceRun]:
    """Result of a finished run, and its ensembles as far as its ``state`` folder still holds them.

    Parameters
    ----------
    folder : path-like

    Raises
    ------
    InputError
        The folder holds no result.
    """
    folder = Path(folder)
    result = load_result(folder)
    if not result.converged:
        logger.warning(
            "%s did not converge (%s); what begins from it starts farther away", folder, result.verdict
        )
    state, number = State(folder), len(result.populations)
    final = state.load_ensemble(final_ensemble_name(number, result.settings.n_hessian_configurations))
    population = state.load_ensemble(population_name(number))
    fingerprint = hashlib.sha256(sha256_file(folder / "result.npz").encode())
    for ensemble in (population, final):
        if ensemble is not None:
            fingerprint.update(ensemble.displacements.tobytes() + ensemble.forces.tobytes())
    return result, SourceRun(population, final, result.static_energy, fingerprint.hexdigest())


def continue_run(
    source: str | os.PathLike,
    evaluate: Evaluate,
    folder: str | os.PathLike,
    masses: Mapping[str, float] | Sequence[float] | None = None,
    temperature_k: float | None = None,
    settings: SschaSettings | None = None,
    resume: bool = False,
    progress: bool = False,
    watch: Watch | None = None,
) -> SschaResult:
    """Run the SSCHA for an isotope or a temperature, from a finished run of the same crystal.

    Parameters
    ----------
    source : path-like
        Folder of the finished run.
    evaluate : callable
        The force callable that the finished run was made with, see
        :func:`~himlip_ase.sscha.run.loop.run_sscha`;
        this is checked on one configuration where its ensembles are used again.
    folder : path-like
        Of the new run.
    masses : mapping or sequence, optional
        amu, by element (``{"H": 2.014}``) or one for each atom of the primitive cell; unnamed elements keep
        theirs.
    temperature_k : float, optional
        Kelvin; that of the finished run by default.
    settings : SschaSettings, optional
        Those of the finished run by default, with `temperature_k` put in.
    resume, progress, watch
        See :func:`~himlip_ase.sscha.run.loop.run_sscha`.

    Returns
    -------
    SschaResult
        Its ``force_calls_saved`` counts the configurations taken over.

    Raises
    ------
    InputError
        No finished run in `source`, other forces, unknown masses; see also `run_sscha`.
    """
    if Path(source).resolve() == Path(folder).resolve():
        raise InputError(f"{folder} is the run to begin from; choose another folder for the new one")
    result, source_run = load_source_run(source)
    settings = result.settings if settings is None else settings
    if temperature_k is not None:
        settings = dataclasses.replace(settings, temperature_k=float(temperature_k))
    dynamical = result.auxiliary
    if masses is not None:
        dynamical = dynamical.with_masses(dict(masses) if isinstance(masses, Mapping) else masses)
    return run_sscha(dynamical, evaluate, settings, folder, resume, progress, source_run, watch)


def temperature_series(
    source: str | os.PathLike,
    evaluate: Evaluate,
    temperatures_k: Sequence[float],
    folder: str | os.PathLike,
    settings: SschaSettings | None = None,
    resume: bool = False,
    progress: bool = False,
) -> dict[float, SschaResult]:
    """A run at each temperature in ``folder/T<kelvin>K``, each begun from the one before.

    Parameters
    ----------
    source, evaluate, settings, resume, progress
        See :func:`continue_run`.
    temperatures_k : sequence of float
        Kelvin, in an order in which neighbours resemble each other.
    folder : path-like

    Returns
    -------
    dict of float to SschaResult
        By temperature.
    """
    results: dict[float, SschaResult] = {}
    before = Path(source)
    for temperature in temperatures_k:
        place = Path(folder) / f"T{float(temperature):g}K"
        started = resume and (place / "state" / "run.json").exists()
        results[float(temperature)] = continue_run(
            before,
            evaluate,
            place,
            temperature_k=temperature,
            settings=settings,
            resume=started,
            progress=progress,
        )
        before = place
    return results

"""What the checks before a Tc find in a run: labels, potential, SSCHA ensembles, σ and q-grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.files import read_mapping
from himlip_ase.pipeline.carriers import WORDS
from himlip_ase.pipeline.finetune import ERRORS
from himlip_ase.pipeline.gate import Check, Gate, GateLimits, judge
from himlip_ase.pipeline.labels import VALIDATION, LabelFolder
from himlip_ase.pipeline.learn import last_test
from himlip_ase.pipeline.roads import Roads
from himlip_ase.pipeline.sscha import grid_folders, grid_name, isotope_folders
from himlip_ase.pipeline.stages import Context
from himlip_ase.sscha.watch.watch import Watch, WatchRecord, read_watch
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.uncertainty import size_of


def run_gate(
    context: Context,
    labels: LabelFolder,
    run: str,
    found: TcAnalysis | None,
    grid: tuple[int, int, int],
    both: Roads | None,
) -> Gate:
    """Every check of a run.

    Parameters
    ----------
    context : Context
    labels : LabelFolder
    run : str
        The ph.x run whose harmonic phonons are used.
    found : TcAnalysis or None
        Of the leading phonons; None where none could be analysed.
    grid : three ints
        Of G(q).
    both : Roads or None

    Returns
    -------
    Gate
    """
    limits = context.config.gate
    return Gate(
        (
            _k_error(limits, labels, run if context.config.tc.carrier == "dft" else "harmonic"),
            _harmonic(limits, context),
            _trusted(limits, context),
            _force_error(limits, context),
            _plateau(limits, found),
            _q_grid(limits, found),
            _roads(context, grid, both),
        )
    )


def _k_error(limits: GateLimits, labels: LabelFolder, run: str) -> Check:
    check = labels.k_check_for(run)
    value = None if check is None else check.shifts()[0]
    why = "no k-check among the labels" if check is None else check.verdict()
    advice = "`himlip label harmonic … --check-k --resume` measures it; `labels: {check_k: true}` in a run "
    advice += "that makes its labels"
    if check is not None:
        enough = check.enough()
        dense = "denser k-mesh or larger smearing" if enough is None else f"{'×'.join(map(str, enough))} k"
        advice = f"make the labels anew with a {dense} (qe.k_grid, qe.degauss_ry)"
    return judge(limits, "k_error_cm", value, "cm⁻¹", why, advice)


def _harmonic(limits: GateLimits, context: Context) -> Check:
    record = context.folder.read_record("phonons")
    figure = None if record is None else record.figures.get("harmonic_rmse.with_hessian")
    value = None if figure is None else figure.value
    why = "potential against the engine's own dynamical matrices, rms over all modes of the grid"
    trained = context.folder.read_record("finetune")
    alone = None if trained is None else trained.figures.get("harmonic_rmse.without_remainder")
    if alone is not None:
        value, why = alone.value, f"{why}; of its network, without the remainder that makes them alike"
    if value is None:
        why = "harmonic phonons of the potential were not compared with the engine's"
    advice = "train longer with the Hessian and its refinement: finetune: {hessian: true, training: "
    advice += "{polish: {rounds: 10}}}"
    if context.config.finetune.head_to_fit is not None:
        advice = "weigh the Hessian more, by the last width of finetune: {closed_form: {noise: [0.01, 0.1, "
        advice += "0.01, 0.02]}}, or train by gradients: leave closed_form out"
    return judge(limits, "harmonic_rmse_cm", value, "cm⁻¹", why, advice)


def outside_the_region(record: WatchRecord) -> np.ndarray | None:
    """Mask (n,) of the configurations outside the trusted region; None where none was known.

    A configuration is outside where a pair of atoms is too close, or an atom farther than an ensemble of the
    region may have one, or more atoms beyond the labels than the region tolerates on average.

    Parameters
    ----------
    record : WatchRecord

    Returns
    -------
    ndarray of bool, shape (n,), or None
    """
    if np.isnan(record.outside).all():
        return None
    far = (record.farthest > Watch.farthest) | (record.outside > Watch.tolerated)
    return np.asarray(far | record.too_close)


def share_of_main_cells(share: float, times: float) -> float:
    """The share of smaller cells outside the region that leaves one of them in so many larger ones.

    The larger a cell, the likelier one of its pairs is too close; of two runs with the same atoms in the same
    environments the one with larger cells would look worse.

    Parameters
    ----------
    share : float
        Of the larger cells.
    times : float
        How many smaller cells a larger one holds, taken as independent; at most 1: nothing changes.

    Returns
    -------
    float
    """
    return share if times <= 1 else 1 - (1 - share) ** (1 / times)


def _trusted(limits: GateLimits, context: Context) -> Check:
    places: dict[str, tuple[Path, float]] = {"": (context.of("sscha"), 1.0)}
    places |= {name: (place, 1.0) for name, place in isotope_folders(context).items()}
    main = np.prod(context.config.q_grid)
    places |= {grid_name(dims): (at, np.prod(dims) / main) for dims, at in grid_folders(context).items()}
    worst: tuple[float, str] | None = None
    for name, (place, times) in places.items():
        records = read_watch(place)
        mask = outside_the_region(records[-1]) if records else None
        if mask is None:
            continue
        # The share of atoms outside does not grow with the cell; closest pair and farthest atom do.
        as_a_whole = records[-1].outside > Watch.tolerated
        alone = mask & ~as_a_whole
        single = float(alone.mean() / max(1 - as_a_whole.mean(), 1 / len(mask)))
        share = as_a_whole.mean() + (1 - as_a_whole.mean()) * share_of_main_cells(single, times)
        percent = 100 * float(share)
        if worst is None or percent > worst[0]:
            where = f"SSCHA {name}".strip()
            words = f"{int(mask.sum())} of {len(mask)} of the last ensemble of the {where}"
            if times > 1:
                words += f", as a share of cells as large as the main run's, of which each holds {times:g}"
            worst = percent, words
    value, why = worst or (None, "no ensemble was compared with what the potential was taught")
    advice = f"label configurations of the ensemble and learn them: {_learning(context)}"
    return judge(limits, "outside_percent", value, "%", why, advice)


def _learning(context: Context) -> str:
    """What to type so that the potential learns from the ensemble."""
    if context.learns or context.config.labels.folder is not None:
        return "`himlip sscha learn`"
    return "`learn: {enabled: true}` in the run's file, then `--resume`"


def _force_error(limits: GateLimits, context: Context) -> Check:
    value, why = None, "no configurations with DFT forces that the potential had not learnt"
    path, test = context.of("finetune") / ERRORS, last_test(context)
    if test is not None and test["force_error_percent"] is not None:
        error = test["force_rmse_ev_per_angstrom"]["value"]
        value, why = (
            test["force_error_percent"],
            f"{1e3 * error:.0f} meV/Å on the last round of the learning loop",
        )
        why += ", before it was learnt"
    elif path.is_file():
        found = _judging_error(read_mapping(path))
        if found is not None:
            value, why = found
    advice = f"learn configurations of the ensemble: {_learning(context)}"
    if value is None:
        advice = "labels: {validation: 8} judges the potential on supercells that it does not learn"
    return judge(limits, "force_error_percent", value, "%", why, advice)


def _judging_error(errors: Mapping[str, Any]) -> tuple[float, str] | None:
    """Relative force error (%) on the worst of the sets that only judge, and its description."""
    found = []
    for name, item in errors.get("with_hessian", {}).get("sets", {}).items():
        forces = item.get("forces")
        if name.startswith(VALIDATION) and forces and forces["label_rms"] > 0:
            rmse, rms = 1e3 * forces["rmse"], 1e3 * forces["label_rms"]
            found.append((100 * rmse / rms, f"{rmse:.0f} meV/Å of {rms:.0f} rms on the set {name}"))
    return max(found, default=None)


def _plateau(limits: GateLimits, found: TcAnalysis | None) -> Check:
    plateau = None if found is None else found.plateau
    value, why = None, "fewer than three broadenings of the double delta"
    if plateau is not None and found is not None and found.table.lambda_total > 0:
        value = 100 * plateau.lambda_spread / found.table.lambda_total
        low, high = plateau.window
        window = "over the plateau" if plateau.found else "no plateau; over the flattest three broadenings"
        why = f"half the spread of λ of {found.label} {window}, σ = {low:g} to {high:g} Ry"
    advice = "a denser k-grid for the double delta (harmonic.dense_k_grid), or more broadenings "
    advice += "(harmonic.el_ph_nsigma)"
    return judge(limits, "plateau_percent", value, "%", why, advice)


def _q_grid(limits: GateLimits, found: TcAnalysis | None) -> Check:
    value, why = None, "G(q) on a single q-grid: nothing to compare with"
    if found is not None and found.table.lambda_total > 0:
        size = size_of(found.table.lambda_parts, "q-grid")
        if size > 0:
            value = 100 * size / found.table.lambda_total
            why = f"part of the q-grid in the error of λ of {found.label}"
    advice = "G(q) on a finer q-grid: `himlip label harmonic --q …` into labels/harmonicNNN"
    return judge(limits, "q_grid_percent", value, "%", why, advice)


def _roads(context: Context, grid: tuple[int, int, int], both: Roads | None) -> Check:
    carrier = context.config.tc.carrier
    shown, through = "×".join(map(str, grid)), WORDS[carrier]
    value, why = None, f"SSCHA on {shown}, the grid of G(q), was not run: λ rests on {through}"
    advice = f"anharmonic: {{grids: [[{', '.join(map(str, grid))}]]}}"
    if tuple(context.config.q_grid) == grid:
        value, why = 0.0, f"SSCHA and G(q) are on the same grid, {shown}: nothing is interpolated"
    elif both is not None:
        shares = {kind: 200 * abs(on - near) / (on + near) for kind, (near, on) in both.quoted.items()}
        kind = max(shares, key=lambda name: shares[name])
        value, (near, on) = shares[kind], both.quoted[kind]
        why = f"λ = {near:.2f} through {through}, {on:.2f} by {both.words[1]} ({kind})"
        advice = "let the potential learn the larger supercell"
        if carrier == "dft":
            advice = (
                f"converge the k-mesh of the harmonic labels, or take tc: {{carrier: potential}}; {advice}"
            )
    return judge(context.config.gate, "roads_percent", value, "%", why, advice)

"""The ``learn`` stage: the potential learns configurations of the SSCHA until DFT agrees; what it corrects.

::

    state/learn/start/            the SSCHA with the potential of the ``finetune`` stage
    state/learn/loop/             the loop, see `himlip_ase.sscha.learn.rounds`
    state/learn/model.safetensors the potential that all later stages take
    state/sscha/agreement.json    what the labels ask for beyond the main SSCHA of the run
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.files import read_mapping
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.chosen_labels import chosen_hessians, chosen_sets
from himlip_ase.pipeline.finetune import MODEL, copy_model
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.runfolder import hash_inputs
from himlip_ase.pipeline.stages import Context, Outcome, Stage, set_aside
from himlip_ase.sscha.array_files import load_arrays, restoring, unpack
from himlip_ase.sscha.learn.settings import LearnSettings
from himlip_ase.sscha.trust.label_correction_files import AGREEMENT, RECORD

logger = logging.getLogger(__name__)

LOOP = "loop"
RESULT = "result.json"


def _run(context: Context, folder: Path) -> Outcome:
    from himlip_ase.hint.last_layer.cross_fit import Twins
    from himlip_ase.hint.last_layer.twin_weights import FEWEST, save_twins
    from himlip_ase.sscha.ensembles.workers import potential_forces
    from himlip_ase.sscha.learn.curve import write_learning_curve
    from himlip_ase.sscha.learn.loop import TWINS, learn
    from himlip_ase.sscha.learn.references import EngineReference
    from himlip_ase.sscha.run.loop import run_sscha
    from himlip_ase.sscha.watch.watch_inputs import build_watch

    config, labels = context.config, label_folder(context)
    model = context.of("finetune") / MODEL
    if not model.is_file():
        raise CalculationError("there is no trained model; run the finetune stage: --from finetune")
    chosen = config.sscha
    short = dataclasses.replace(
        chosen, n_hessian_configurations=chosen.n_configurations, hessian_order="third", pressure_gpa=None
    )
    frames = labels.frames(chosen_sets(config, labels))
    _begin_anew_if_changed(context, folder, model)
    start, watch = folder / "start", build_watch([labels.path])
    workers = config.anharmonic.workers or 1
    with potential_forces(model, workers) as forces:
        resume = (start / "state" / "run.json").exists()
        run_sscha(labels.harmonic, forces, short, start, resume, progress=True, watch=watch)
    hessians = list(chosen_hessians(config, labels).values()) if config.finetune.hessian else []
    engine = config.dft
    with config.executor.opened(config.workers, engine.abilities.programs) as executor:
        result = learn(
            start,
            model,
            frames,
            hessians,
            EngineReference(engine, executor),
            folder / LOOP,
            learn_settings(context),
            resume=(folder / LOOP / "learn.json").exists(),
            workers=workers,
            watch=watch,
        )
    write_learning_curve(result.curve, context.folder.figures)
    copy_model(result.model, folder / MODEL)
    twins = Twins.load(folder / LOOP / TWINS)
    if len(twins.without) >= FEWEST:
        save_twins(twins, folder / MODEL, overwrite=True, learnt_by_all=frames)
    outcome = Outcome()
    outcome.add("learn.agreed", result.agreed, "", result.verdict)
    if not result.agreed:
        outcome.notes.append(f"The learning loop ended without agreement: {result.verdict}.")
    for entry in result.curve:
        error = entry["force_rmse_ev_per_angstrom"]
        outcome.add(
            f"learning_curve.round{entry['round']}",
            1e3 * error["value"],
            "meV/Å",
            f"force error on {entry['configurations']} configurations of the SSCHA ensemble, before any of "
            f"them was learnt; {entry['learnt_before']} learnt before",
            None if error["uncertainty"] is None else 1e3 * error["uncertainty"],
        )
    spent = [read_mapping(path)["core_seconds"] for path in sorted((folder / LOOP).glob("round_*/cost.json"))]
    if spent:
        outcome.add(
            "dft_core_minutes.learn", round(sum(spent) / 60, 2), "core-min", "CPU time of the loop's DFT"
        )
    return outcome


def _begin_anew_if_changed(context: Context, folder: Path, model: Path) -> None:
    """Put aside what was begun with another potential, other labels or settings; more rounds go on."""
    section = _in_keys(dataclasses.asdict(learn_settings(context)), apart=("rounds",))
    labels = label_folder(context)
    sets = [labels.path / f"{name}.extxyz" for name in chosen_sets(context.config, labels)]
    first, *others = (labels.path / name / "dyn0" for name in context.config.finetune.hessians)
    key = hash_inputs(section, context.config.resolved()["sscha"], model, sets, first, *others)
    mark = folder / "inputs.sha256"
    if mark.exists() and mark.read_text(encoding="utf-8").strip() != key:
        for place in (folder / "start", folder / LOOP):
            if place.is_dir():
                set_aside(place)
    mark.write_text(key + "\n", encoding="utf-8")


def _in_keys(section: Mapping[str, Any], apart: Sequence[str]) -> dict[str, Any]:
    """What decides whether a finished loop is kept; what is younger than such loops, if it is no default."""
    if section["hessian_weight"] == "chosen":
        apart = (*apart, "hessian_weight")
    if section["refit"] == "closed_form":
        apart = (*apart, "refit", "training")
    return {name: value for name, value in section.items() if name not in apart}


def learn_settings(context: Context) -> LearnSettings:
    """The loop's settings of a run."""
    section = context.config.learn
    return LearnSettings(
        **{field.name: getattr(section, field.name) for field in dataclasses.fields(LearnSettings)}
    )


def learnt_labels(context: Context) -> list[Path]:
    """Files of the labels that the loop made, where it is part of the run."""
    return sorted((context.of("learn") / LOOP).glob("round_*/labels.extxyz")) if context.learns else []


def last_test(context: Context) -> dict[str, Any] | None:
    """The last honest test of the loop, where it is part of the run; see `rounds.judge`."""
    path = context.of("learn") / LOOP / RESULT
    if not context.learns or not path.is_file():
        return None
    return dict(read_mapping(path)["learning_curve"][-1])


def correct_by_labels(context: Context, folder: Path, outcome: Outcome) -> None:
    """Correct the main SSCHA of a run by all configurations that the loop labelled.

    Parameters
    ----------
    context : Context
    folder : Path
        Of the finished SSCHA; ``agreement.*`` and ``corrected.dyn*`` are written into it.
    outcome : Outcome
        Receives the figures.
    """
    loop = context.of("learn") / LOOP
    for path in (folder / AGREEMENT, folder / "agreement.json", folder / RECORD):
        path.unlink(missing_ok=True)
    if not context.learns or not (loop / RESULT).is_file():
        return
    from himlip_ase.hint.last_layer.cross_fit import Twins
    from himlip_ase.sscha.learn.loop import TWINS
    from himlip_ase.sscha.learn.rounds import agreement_of, load_labelled, write_agreement
    from himlip_ase.sscha.results.result import load_result

    labelled, result = load_labelled(loop), load_result(folder)
    cell = labelled[-1].draw.drawn_from.dynamical.primitive.cell
    if np.abs(cell.array - result.auxiliary.primitive.cell.array).max() > 1e-6:
        outcome.notes.append(
            "The SSCHA relaxed the cell: the loop's labels, of the cell before, do not correct it."
        )
        return
    found = agreement_of(labelled, Twins.load(loop / TWINS), learn_settings(context), folder)
    write_agreement(found, folder)
    c = found.corrections
    size = sum(one.draw.at_random for one in labelled)
    how = (
        f"corrected by {size} labelled configurations, each judged by a potential that had not learnt it; "
        f"± holds sampling and potential; {found.effective:.1f} of them count after reweighting"
    )
    outcome.add("free_energy.corrected", 1e3 * c.free_energy, "meV/cell", how, 1e3 * c.free_energy_sigma)
    if found.pressure_gpa is not None:
        sigma = found.pressure_sigma_gpa
        outcome.add("pressure_quantum.corrected", found.pressure_gpa, "GPa", how, sigma)
    for distance in found.distances:
        name = f"learn.{distance.name.replace(' ', '_')}"
        text = f"what the labels ask for beyond the SSCHA, tolerance {distance.tolerance:g}; {how}"
        outcome.add(name, distance.correction, distance.unit, text, distance.sigma)
        if not distance.agreed:
            outcome.notes.append(f"SSCHA and DFT do not agree yet: {distance}.")


def corrected(folder: Path) -> tuple[DynamicalMatrices, np.ndarray] | None:
    """Corrected auxiliary of a run folder and the deviations of its units; None where there is none.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    auxiliary : DynamicalMatrices
    deviations : ndarray, shape (units, nq, 3n, 3n)
        See `himlip_ase.sscha.trust.corrections.Corrections`.
    """
    path = folder / AGREEMENT
    if not path.is_file():
        return None
    arrays = load_arrays(path)
    with restoring(path):
        return unpack("auxiliary", arrays), arrays["deviations"]


def _inputs(context: Context) -> list[Any]:
    resolved = context.config.resolved()
    section = _in_keys(resolved["learn"], apart=("enabled", "rounds"))
    return [section, resolved["learn"]["rounds"], resolved["sscha"]]


STAGE = Stage("learn", _run, _inputs, keep_files=True, applies=lambda context: context.learns)

"""The ``finetune`` stage: a model that is there, one trained, or one fitted; judged on what it never saw."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping
from himlip_ase.hint.last_layer.twin_weights import twins_beside
from himlip_ase.pipeline.base import base_of
from himlip_ase.pipeline.chosen_labels import (
    chosen_hessians,
    chosen_sets,
    judging_frames,
    taught_frames,
    taught_hessians,
)
from himlip_ase.pipeline.closed_form import (
    GRADIENTS_REPLAY,
    finetune_faults,
    fit_head,
    replayed_frames,
)
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.gradient_twins import TwinPlan
from himlip_ase.pipeline.labels import VALIDATION, LabelFolder, label_folder
from himlip_ase.pipeline.preflight import refuse
from himlip_ase.pipeline.run_sections import AUTO, FinetuneSection
from himlip_ase.pipeline.stages import Context, Outcome, Stage, save_data

if TYPE_CHECKING:
    from himlip_ase.labels.frames import HessianLabel, LabelledFrame
    from himlip_ase.potential.interface import Potential

logger = logging.getLogger(__name__)

MODEL = "model.safetensors"
MODEL_WITHOUT = "model_no_hessian.safetensors"
ERRORS = "errors.json"
PAIRS = "pairs.npz"


def load_trained(context: Context, without_hessian: bool = False) -> Potential | None:
    """The run's model, or the one trained without the Hessian term (None where there is none).

    Parameters
    ----------
    context : Context
    without_hessian : bool
        That one instead of the model.

    Returns
    -------
    Potential or None
    """
    from himlip_ase.potential.checkpoint import load_model

    path = context.of("finetune") / MODEL_WITHOUT if without_hessian else trained_path(context)
    return load_model(path) if path.is_file() else None


def trained_path(context: Context) -> Path:
    """The run's model: that of the learning loop where it is part of the run, else of ``finetune``."""
    learnt = context.of("learn") / MODEL
    return learnt if context.learns and learnt.is_file() else context.of("finetune") / MODEL


def chosen_base(context: Context) -> tuple[str | None, str]:
    """The model that training starts from, and why.

    Parameters
    ----------
    context : Context

    Returns
    -------
    base : str or None
        Name or path; None: fresh weights.
    why : str
    """
    from himlip_ase.hint.training.start import FROM_SCRATCH

    section = context.config.finetune
    if section.base == AUTO and section.head_to_fit is None:
        report = context.of("finetune") / Path(MODEL).stem / "report.json"
        if report.is_file() and read_mapping(report).get("base") == FROM_SCRATCH:
            return None, "this run began with fresh weights"
    return base_of(section, label_folder(context).crystal.get_chemical_symbols())


def _inputs(context: Context) -> list[Any]:
    section = context.config.finetune
    own: dict[str, Any] = {"hessians": section.hessians, "remainder": section.remainder}
    if section.model is None:
        own |= {"replay": section.replay, "twins": section.twins}
    told = {
        key: value
        for key, value in own.items()
        if value != type(section).model_fields[key].get_default(call_default_factory=True)
    }
    if section.model is None:
        plain = context.config.resolved()["finetune"]
        for key in own:  # younger than runs that are finished and stay so
            if key not in told:
                del plain[key]
        symbols = label_folder(context).crystal.get_chemical_symbols()
        refuse(
            finetune_faults(section, symbols),
            "the fit of the head" if section.head_to_fit else "the training",
        )
        if section.replay:
            plain["replay"] = section.replay  # their content, wherever they lie
        if plain["training"]["statistics_every"] is None:  # younger than runs that are finished and stay so
            del plain["training"]["statistics_every"]
        if section.closed_form is None:  # younger than runs that are finished and stay so
            del plain["closed_form"]
        else:
            plain["closed_form"]["replay"] = section.closed_form.replay  # their content, wherever they lie
            del plain["training"]
        base = chosen_base(context)[0]
        # a file counts by its content, and a model of the package by its name
        is_file = base is not None and Path(base).suffix != "" and Path(base).is_file()
        return [plain | {"base": Path(base) if base is not None and is_file else base}]
    for path in (section.model, section.model_without_hessian):
        if path is not None and not path.is_file():
            raise InputError(
                f"finetune: the model {path} does not exist; leave it out to train one (--retrain)"
            )
    kept: list[Any] = [section.model, section.model_without_hessian, section.train_sets]
    if (twins := twins_beside(section.model)).is_file():
        kept.append(twins)
    return [*kept, told] if told else kept


def _run(context: Context, folder: Path) -> Outcome:
    config, labels = context.config, label_folder(context)
    outcome = Outcome()
    if config.finetune.model is not None:
        copy_model(config.finetune.model, folder / MODEL)
        if config.finetune.model_without_hessian is not None:
            copy_model(config.finetune.model_without_hessian, folder / MODEL_WITHOUT)
        outcome.notes.append(
            f"The potential was trained beforehand ({config.finetune.model.name}); --retrain trains it again."
        )
    else:
        base, why = chosen_base(context)
        begin = "fresh weights" if base is None else f"the model {Path(base).name}"
        logger.info("training begins with %s: %s", begin, why)
        _learn(config, labels, folder, base)
        fitted = config.finetune.head_to_fit is not None
        what = "'s head was fitted in closed form" if fitted else " was trained"
        outcome.notes.append(f"The potential{what} in this run, beginning with {begin} ({why}).")
    if config.finetune.remainder:
        _add_remainder(config, labels, folder, outcome)
    _judge(context, labels, folder, outcome)
    return outcome


def copy_model(source: Path, target: Path) -> None:
    """Copy weights, the JSON card and the twins beside them.

    Parameters
    ----------
    source, target : Path
        Weights, ``.safetensors``.
    """
    pairs = [(source.with_suffix(suffix), target.with_suffix(suffix)) for suffix in (".safetensors", ".json")]
    pairs.append((twins_beside(source), twins_beside(target)))
    for path, place in pairs:
        place.unlink(missing_ok=True)
        if path.is_file():
            shutil.copyfile(path, place)


def _add_remainder(config: RunConfig, labels: LabelFolder, folder: Path, outcome: Outcome) -> None:
    """Put a model with a harmonic remainder in the place of the network, which stays beside it."""
    from himlip_ase.hint.training.remainder import NETWORK, add_remainder, save_remainder
    from himlip_ase.potential.checkpoint import load_model, read_card, save_model
    from himlip_ase.potential.lattice_potential import network_of

    model, card = network_of(load_model(folder / MODEL)), read_card(folder / MODEL)
    if "remainder" in card:
        del card["remainder"]
    save_model(model, folder / NETWORK, card, overwrite=True)
    card = read_card(folder / NETWORK)
    sets = [name for name in labels.sets() if name.startswith(VALIDATION)]
    frames = labels.frames([*chosen_sets(config, labels), *sets])
    twins_beside(folder / MODEL).unlink(missing_ok=True)  # of the network alone
    found = add_remainder(model, list(chosen_hessians(config, labels).values()), frames)
    save_remainder(found, folder / MODEL, card, overwrite=True)
    for line in found.describe():
        logger.info("%s", line)
    main = found.grids[0]
    dims = "×".join(map(str, main.dims))
    how = f"the network alone against {main.name}, {dims}; the remainder makes it {main.rmse:.2g} by "
    how += "construction"
    outcome.add("harmonic_rmse.without_remainder", main.without, "cm⁻¹", how)
    for cells in found.cells:
        how = (
            f"forces of the remainder on {cells.frames} cells of the set {cells.name}; they move their force "
        )
        how += f"error from {1e3 * cells.without:.1f} to {1e3 * cells.rmse:.1f} meV/Å"
        outcome.add(f"{cells.name}.remainder_force_rms", 1e3 * cells.size, "meV/Å", how)
    outcome.notes.append(
        f"The potential has a harmonic remainder: its harmonic matrices on {dims} are those of {main.name} "
        f"by construction (its network alone misses them by {main.without:.1f} cm⁻¹ rms), and it holds for "
        "supercells of this crystal only."
    )


def _learn(config: RunConfig, labels: LabelFolder, folder: Path, base: str | None) -> None:
    """Learn with the Hessian and, for comparison, without."""
    from himlip_ase.hint.last_layer.closed_form_run import POSTERIOR

    section, names = config.finetune, ", ".join(chosen_sets(config, labels))
    symbols = labels.crystal.get_chemical_symbols()
    if section.off():
        logger.info("switched off: %s", ", ".join(section.off()))
    frames, learnt = taught_frames(config, labels), taught_hessians(config, labels)
    head = section.head_to_fit
    judges = judging_frames(config, labels)
    if head is not None:
        replay = replayed_frames(head.replay, symbols, judges, learnt=frames)
    else:
        replay = replayed_frames(section.replay, symbols, judges, GRADIENTS_REPLAY, frames)
    runs = {MODEL: learnt}
    if section.compare and section.hessian:
        runs[MODEL_WITHOUT] = []
    for name, hessians in runs.items():
        place = folder / Path(name).stem
        logger.info("training on %s%s", names, " and the harmonic Hessian" if hessians else "")
        if head is not None:
            assert base is not None  # else `_inputs` refused
            fit_head(head, frames, hessians, replay, base, place)
        else:
            _train(section, symbols, frames, hessians, replay, base, place, name == MODEL_WITHOUT)
        copy_model(place / MODEL, folder / name)
    if head is not None:
        shutil.copyfile(folder / Path(MODEL).stem / POSTERIOR, folder / POSTERIOR)


def _train(
    section: FinetuneSection,
    symbols: Sequence[str],
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    replay: Sequence[LabelledFrame],
    base: str | None,
    place: Path,
    without_hessian: bool,
) -> None:
    """Train by gradients in a folder of its own, from the checkpoint there if there is one; then twins."""
    from himlip_ase.hint.last_layer.trained_twins import Tuning
    from himlip_ase.hint.training.display import training_bar
    from himlip_ase.hint.training.finetune import finetune
    from himlip_ase.potential.network import HiMLIPConfig, element_union

    settings, network = section.training, None
    wanted = section.twins and not without_hessian
    plan = TwinPlan.of(frames, section.twins, base, "finetune.twins") if wanted else None
    if without_hessian:
        settings = replace(settings, loss=replace(settings.loss, hessian=0.0))
    if base is None:
        network = HiMLIPConfig(element_union([symbols]), **section.network)  # type: ignore[arg-type]
    started = (place / "state").is_dir()
    with training_bar(settings) as on_epoch:
        finetune(
            frames,
            hessians,
            base=base,
            settings=settings,
            folder=place,
            network=network,
            replay=replay,
            resume=started,
            on_epoch=on_epoch,
        )
    if plan is not None:
        tuning = Tuning(base, settings, hessians, replay=replay, head=None, network=network)
        plan.train(tuning, place, place / MODEL, resume=True)


def _judge(context: Context, labels: LabelFolder, folder: Path, outcome: Outcome) -> None:
    from himlip_ase.hint.evaluation.evaluate import evaluate_labels

    sets = labels.sets()
    frames = labels.frames(sets)
    hessians = chosen_hessians(context.config, labels)
    summary: dict[str, Any] = {}
    pairs: dict[str, np.ndarray] = {}
    for key, without in (("with_hessian", False), ("without_hessian", True)):
        model = load_trained(context, without)
        if model is None:
            continue
        words = "trained without the Hessian" if without else "trained with the Hessian"
        errors = evaluate_labels(model, frames, list(hessians.values()))
        for name, harmonic in zip(hessians, errors.hessians.values(), strict=True):
            if name != "harmonic" and harmonic.frequencies is not None:
                dims = "×".join(map(str, hessians[name].force_constants.dims))
                how = f"{words} against {name}, all modes of the {dims} grid, in ascending order"
                outcome.add(f"{name}.harmonic_rmse.{key}", harmonic.frequencies.rmse, "cm⁻¹", how)
        summary[key] = errors.to_dict()
        for name, item in errors.sets.items():
            for quantity, (wanted, got) in item.pairs.items():
                pairs[f"{key}.{name}.{quantity}"] = np.array([wanted, got])
            if name.startswith(VALIDATION) and item.forces is not None and item.relative_energy is not None:
                seen = f"{item.frames} supercells never trained on, {words}"
                outcome.add(
                    f"{name}.force_rmse.{key}",
                    1e3 * item.forces.rmse,
                    "meV/Å",
                    f"{seen}; DFT forces have {1e3 * item.forces.label_rms:.0f} meV/Å rms",
                    bootstrap_rmse(1e3 * item.pairs["forces"][0], 1e3 * item.pairs["forces"][1], item.frames),
                )
                outcome.add(
                    f"{name}.energy_rmse.{key}",
                    1e3 * item.relative_energy.rmse,
                    "meV/atom",
                    f"{seen}; differences among the supercells",
                )
    save_data(folder / ERRORS, summary)
    np.savez_compressed(folder / PAIRS, **pairs)  # type: ignore[arg-type]


def bootstrap_rmse(wanted: np.ndarray, got: np.ndarray, blocks: int, samples: int = 200) -> float | None:
    """Standard error of a root mean square error, by resampling whole frames (`blocks` of equal length).

    Parameters
    ----------
    wanted, got : ndarray
        Of equal shape, frame after frame.
    blocks : int
        Number of frames.
    samples : int
        Of the bootstrap.

    Returns
    -------
    float or None
        In the unit of the values; None for fewer than two frames.
    """
    if blocks < 2 or len(wanted) % blocks:
        return None
    squared = ((got - wanted) ** 2).reshape(blocks, -1).mean(axis=1)
    picks = np.random.default_rng(0).integers(blocks, size=(samples, blocks))
    return float(np.sqrt(squared[picks].mean(axis=1)).std(ddof=1))


STAGE = Stage("finetune", _run, _inputs)

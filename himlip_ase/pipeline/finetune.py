"""The ``finetune`` stage: a model that is there already, or one trained; judged on what it never saw."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.labels import VALIDATION, LabelFolder, label_folder
from himlip_ase.pipeline.run_sections import AUTO
from himlip_ase.pipeline.stages import Context, Outcome, Stage, save_data

if TYPE_CHECKING:
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
    from himlip_ase.potential.checkpoint import default_model, read_card

    section = context.config.finetune
    if section.base != AUTO:
        return section.base, "as finetune.base says"
    report = context.of("finetune") / Path(MODEL).stem / "report.json"
    if report.is_file() and read_mapping(report).get("base") == FROM_SCRATCH:
        return None, "this run began with fresh weights"
    if section.network:
        return None, "finetune.network asks for fresh weights of its own shape"
    name = default_model()
    known = set(read_card(name)["config"]["elements"])
    missing = sorted(set(label_folder(context).crystal.get_chemical_symbols()) - known)
    if missing:
        return None, f"{name} does not know {', '.join(missing)}"
    return name, f"{name} knows every element"


def _inputs(context: Context) -> list[Any]:
    section = context.config.finetune
    if section.model is None:
        plain = context.config.resolved()["finetune"]
        if plain["training"]["statistics_every"] is None:  # younger than runs that are finished and stay so
            del plain["training"]["statistics_every"]
        return [plain | {"base": chosen_base(context)[0]}]
    for path in (section.model, section.model_without_hessian):
        if path is not None and not path.is_file():
            raise InputError(
                f"finetune: the model {path} does not exist; leave it out to train one (--retrain)"
            )
    return [section.model, section.model_without_hessian, section.train_sets]


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
        _train(config, labels, folder, base)
        outcome.notes.append(f"The potential was trained in this run, beginning with {begin} ({why}).")
    _judge(context, labels, folder, outcome)
    return outcome


def copy_model(source: Path, target: Path) -> None:
    """Copy weights and the JSON card beside them.

    Parameters
    ----------
    source, target : Path
        Weights, ``.safetensors``.
    """
    for suffix in (".safetensors", ".json"):
        if source.with_suffix(suffix).is_file():
            shutil.copyfile(source.with_suffix(suffix), target.with_suffix(suffix))


def _train(config: RunConfig, labels: LabelFolder, folder: Path, base: str | None) -> None:
    """Train with the Hessian and, for comparison, without; each continues from its own checkpoint."""
    from himlip_ase.hint.training.display import training_bar
    from himlip_ase.hint.training.finetune import finetune
    from himlip_ase.labels.readers import read_hessian
    from himlip_ase.potential.network import HiMLIPConfig, element_union

    section = config.finetune
    if section.off():
        logger.info("switched off: %s", ", ".join(section.off()))
    chosen = section.train_sets if section.train_sets is not None else labels.training_sets()
    for name in chosen:
        if name.startswith(VALIDATION):
            raise InputError(
                f"finetune.train_sets: '{name}' is for judging the model and cannot be learnt from"
            )
    unknown = sorted(set(section.set_weights) - set(chosen))
    if unknown:
        raise InputError(
            f"finetune.set_weights: no set {', '.join(unknown)} to train on; there are {', '.join(chosen)}"
        )
    frames = [
        replace(f, weight=f.weight * section.set_weights.get(f.set, 1.0)) for f in labels.frames(chosen)
    ]
    made_here = config.labels.folder is None
    hessian = replace(read_hessian(labels.path / "harmonic"), unit_known=made_here)
    network = None
    if base is None:
        elements = element_union([labels.crystal.get_chemical_symbols()])
        network = HiMLIPConfig(elements, **section.network)  # type: ignore[arg-type]
    runs = [(MODEL, [hessian] if section.hessian else [], section.training)]
    if section.compare and section.hessian:
        without = replace(section.training, loss=replace(section.training.loss, hessian=0.0))
        runs.append((MODEL_WITHOUT, [], without))
    for name, hessians, settings in runs:
        place = folder / Path(name).stem
        logger.info("training on %s%s", ", ".join(chosen), " and the harmonic Hessian" if hessians else "")
        started = (place / "state").is_dir()
        with training_bar(settings) as on_epoch:
            finetune(
                frames,
                hessians,
                base=base,
                settings=settings,
                folder=place,
                network=network,
                resume=started,
                on_epoch=on_epoch,
            )
        copy_model(place / "model.safetensors", folder / name)


def _judge(context: Context, labels: LabelFolder, folder: Path, outcome: Outcome) -> None:
    from himlip_ase.hint.evaluation.evaluate import evaluate_labels
    from himlip_ase.labels.readers import read_hessian

    sets = labels.sets()
    frames = labels.frames(sets)
    hessian = read_hessian(labels.path / "harmonic")
    summary: dict[str, Any] = {}
    pairs: dict[str, np.ndarray] = {}
    for key, without in (("with_hessian", False), ("without_hessian", True)):
        model = load_trained(context, without)
        if model is None:
            continue
        words = "trained without the Hessian" if without else "trained with the Hessian"
        errors = evaluate_labels(model, frames, [hessian])
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

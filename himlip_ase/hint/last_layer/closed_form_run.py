"""A closed-form fit from labels to files: the twin of `finetune` without any training step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.files import FolderLock
from himlip_ase.hint.last_layer.calibration import calibration, errors_and_deviations
from himlip_ase.hint.last_layer.closed_form import (
    ClosedFormResult,
    ClosedFormSettings,
    calibrate,
    fit_closed_form,
)
from himlip_ase.hint.last_layer.posterior import Posterior
from himlip_ase.hint.training.run_record import check_folder, judge, run_record, save_run
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.start import start_training
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

POSTERIOR = "posterior.safetensors"


@dataclass
class ClosedFormRun:
    """What `finetune_closed_form` returns.

    Attributes
    ----------
    model : HiMLIP
    posterior : Posterior
        Calibrated on the held-out frames if there are any.
    fit : ClosedFormResult
    report : dict
    """

    model: HiMLIP
    posterior: Posterior
    fit: ClosedFormResult
    report: dict[str, Any]


def finetune_closed_form(
    labels: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
    base: HiMLIP | str | os.PathLike | None = None,
    closed_form: ClosedFormSettings | None = None,
    settings: TrainingSettings | None = None,
    folder: str | os.PathLike | None = None,
    validation: Sequence[LabelledFrame] | None = None,
    network: HiMLIPConfig | None = None,
    overwrite: bool = False,
    validation_hessians: Sequence[HessianLabel] = (),
    replay: Sequence[LabelledFrame] = (),
) -> ClosedFormRun:
    """Fit the linear head of a network to labels and calibrate its uncertainty on held-out frames.

    Parameters
    ----------
    labels, hessians, base, validation, network
        As in :func:`himlip_ase.hint.training.finetune.finetune`.
    closed_form : ClosedFormSettings, optional
    settings : TrainingSettings, optional
        Its `validation_fraction` of the frames of each set only calibrates; its `seed` makes a network from
        scratch.
    folder : path, optional
        Receives ``model.safetensors`` and its card, ``posterior.safetensors`` and ``report.json``.
    overwrite : bool
    validation_hessians : sequence of HessianLabel
        Calibrate the uncertainty of Hessians, and of phonons if they are crystals'; not fitted.
    replay : sequence of LabelledFrame
        Frames of the base's own training, which take part in the fit with forces and stresses, but without
        energies, which are of another level of theory.

    Returns
    -------
    ClosedFormRun

    Raises
    ------
    InputError
        As `finetune`.
    """
    closed_form, settings = closed_form or ClosedFormSettings(), settings or TrainingSettings()
    path = None if folder is None else Path(folder)
    prepared = prepare_labels(labels, hessians, validation, settings)
    training, held_out = prepared.training, prepared.held_out
    with FolderLock(path) if path is not None else nullcontext():
        check_folder(path, False, overwrite)
        own = prepared.hessians[: prepared.given[0]]
        start = start_training(
            training, prepared.elements, own, base, network, settings, prepared.element_energies
        )
        model, origin = start.model, start.origin
        if not isinstance(model, HiMLIP):
            raise InputError(
                "the closed form fits the head of a Hi-MLIP network, and this model has none; "
                "leave --closed-form out"
            )
        frames = [*_bare(training), *(replace(frame, energy=None) for frame in _bare(replay))]
        fit = fit_closed_form(model, frames, prepared.hessians, closed_form, prepared.products)
        judges = [*validation_hessians, *(h for h in prepared.judges if isinstance(h, HessianLabel))]
        posterior = calibrate(fit, held_out, judges) if held_out or judges else fit.posterior
        found = judge(fit.model, prepared, validation_hessians)
        report = {
            **run_record(model, origin, prepared),
            "closed_form": asdict(closed_form)
            | {"rows": fit.rows, "seconds": round(fit.seconds, 1), "noise": asdict(fit.noise)}
            | {"effective_parameters": fit.effective_parameters, "coefficients": fit.size}
            | {"factors": posterior.factors},
            **found,
            "summary": [
                *fit.describe(), *found["summary"], *_calibration_lines(fit, posterior, held_out, judges),
            ],
        }  # fmt: skip
        fit.model.taught_by = tuple(report["taught_by"])
        if path is not None:
            save_run(path, fit.model, report)
            posterior.save(path / POSTERIOR, overwrite=True)
    return ClosedFormRun(fit.model, posterior, fit, report)


def _bare(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    """Frames without their Hessians, which are given beside them."""
    return [replace(frame, hessian=None, products=None) for frame in frames]


def _calibration_lines(
    fit: ClosedFormResult,
    posterior: Posterior,
    held_out: Sequence[LabelledFrame],
    judges: Sequence[HessianLabel],
) -> list[str]:
    """How the uncalibrated deviations fared on the frames and Hessians that calibrate them."""
    if not (held_out or judges):
        return ["uncertainty: not calibrated, no frames were held out"]
    raw = replace(posterior, factors={})
    lines = []
    for kind, (error, width) in errors_and_deviations(fit.model, raw, held_out, judges).items():
        found = calibration(error, width)
        lines.append(
            f"uncertainty of the {kind}: {100 * found.within_one:.0f} % of held-out errors within 1σ, "
            f"{100 * found.within_two:.0f} % within 2σ; σ is multiplied by {posterior.factors[kind]:.2f}"
        )
    return lines

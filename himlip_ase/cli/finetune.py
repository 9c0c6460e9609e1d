"""``himlip finetune``: train a potential on labels and Hessians."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from himlip_ase.cli.training_options import (
    BatchOption,
    ConfigOption,
    DeviceOption,
    EnergyKeyOption,
    EpochsOption,
    ForcesKeyOption,
    HessianOption,
    LabelsOption,
    MinutesOption,
    OptimizerOption,
    OverwriteOption,
    ProbeOption,
    RateOption,
    ResumeOption,
    SeedOption,
    SetsOption,
    StressKeyOption,
    given,
    names,
)
from himlip_ase.cli.unused_options import refuse_unused

if TYPE_CHECKING:
    from himlip_ase.labels.frames import HessianLabel, LabelledFrame
    from himlip_ase.pipeline.gradient_twins import TwinPlan
    from himlip_ase.potential.interface import Potential
    from himlip_ase.potential.network import HiMLIP

logger = logging.getLogger(__name__)

CLOSED_FORM = ("alone", "before", "after")
REMAINDER = ("alone", "after")
REMAINDER_FRAMES = 1000
"""Labelled cells, chosen at random of more, on which the effect of a remainder is measured."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("finetune")(finetune)


def finetune(
    labels: LabelsOption = None,
    hessian: HessianOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("finetune"),
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="Model to start from: a name or path, mace:PATH, mace:NAME, alphanet:PATH."
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let MACE download the --base that it knows by name.")
    ] = False,
    elements: Annotated[
        str | None,
        typer.Option("--elements", help="Keep only these elements of --base, e.g. H,S: smaller and faster."),
    ] = None,
    sets: SetsOption = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option("--validation", help="Labels that choose the epoch; else a share is held out."),
    ] = None,
    validation_hessian: Annotated[
        list[Path] | None,
        typer.Option("--validation-hessian", help="Hessians that judge and stop it (watch: hessian)."),
    ] = None,
    replay: Annotated[
        list[Path] | None,
        typer.Option(
            "--replay",
            help="Labels of the base's training, replayed against forgetting; with --elements those of them.",
        ),
    ] = None,
    no_hessian: Annotated[
        bool, typer.Option("--no-hessian", help="Leave the Hessian out of the loss.")
    ] = False,
    config: ConfigOption = None,
    epochs: EpochsOption = None,
    minutes: MinutesOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    probes: Annotated[int | None, typer.Option(help="Hessian projections a step.")] = None,
    probe: ProbeOption = None,
    optimizer: OptimizerOption = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many validations without improvement.")
    ] = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    closed_form: Annotated[
        str | None,
        typer.Option(
            "--closed-form",
            help="Fit a linear head by ridge regression: alone, before or after training by gradients.",
        ),
    ] = None,
    head: Annotated[str | None, typer.Option(help="Of --closed-form: readout (the default) or wide.")] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="Of --closed-form: around the present head (model, the default) or around none (zero)."
        ),
    ] = None,
    noise: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(
            help="Of --closed-form: widths of energies (eV/atom), forces (eV/Å), stresses (eV/Å³), rows of "
            "Hessians (eV/Å²), which weigh the labels; default: from the evidence and cross-validation."
        ),
    ] = None,
    remainder: Annotated[
        str | None,
        typer.Option(
            "--remainder",
            help="Add what the densest --hessian of a crystal holds beyond the potential, for supercells of "
            "its lattice only: after training, or alone, to --base as it is.",
        ),
    ] = None,
    twins: Annotated[
        int,
        typer.Option(
            "--twins",
            min=0,
            help="Train as often again, each time without another part of --labels: their spread is the "
            "error of the potential in every ±; at least 4, or 0 for none.",
        ),
    ] = 0,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    plots: Annotated[bool, typer.Option(help="Write parity and loss figures.")] = True,
) -> None:
    """Train a potential on energies, forces, stresses and Hessians."""
    from dataclasses import replace

    from himlip_ase.errors import InputError
    from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings
    from himlip_ase.hint.last_layer.closed_form_run import finetune_closed_form
    from himlip_ase.hint.last_layer.posterior import Noise
    from himlip_ase.hint.last_layer.trained_twins import Tuning
    from himlip_ase.hint.last_layer.twin_weights import twins_beside
    from himlip_ase.hint.training.config import read_training_config
    from himlip_ase.hint.training.display import training_bar, write_figures
    from himlip_ase.hint.training.finetune import finetune as run
    from himlip_ase.labels.label_keys import LabelKeys
    from himlip_ase.labels.readers import open_labels, read_hessian, without_judges

    if not labels and not hessian:
        raise InputError(
            "nothing to train on: give --labels and --hessian, e.g. --labels labels/ --hessian harmonic/dyn"
        )
    if download:
        fetch_base(base)
    if closed_form not in (None, *CLOSED_FORM):
        raise InputError(f"--closed-form is {closed_form!r}; choose {', '.join(CLOSED_FORM)}")
    if remainder not in (None, *REMAINDER):
        raise InputError(f"--remainder is {remainder!r}; choose {', '.join(REMAINDER)}")
    if closed_form is None:
        fit = {"--head": head, "--prior": prior, "--noise": noise}
        refuse_unused(fit, "is of --closed-form; type --closed-form alone, before or after, or leave it out")
    if twins:
        _check_twins(twins, frames_given=bool(labels), otherwise=closed_form or remainder)
    if remainder is not None and not hessian:
        raise InputError("--remainder needs the Hessian of a crystal, e.g. --hessian harmonic/dyn")
    if remainder == "alone" and (base is None or closed_form is not None):
        raise InputError(
            "--remainder alone is added to a --base as it is, without training; give --base MODEL, or type "
            "--remainder after"
        )
    if "alone" in (closed_form, remainder):
        _refuse_training_options(
            closed_form,
            {
                "--epochs": epochs, "--minutes": minutes, "--batch-size": batch_size,
                "--learning-rate": learning_rate, "--probes": probes, "--probe": probe,
                "--patience": patience, "--optimizer": optimizer, "--device": device, "--resume": resume,
            },
        )  # fmt: skip
    flags = given(
        epochs, minutes, batch_size=batch_size, learning_rate=learning_rate, probes=probes, probe=probe,
        patience=patience, seed=seed, device=device, optimizer=optimizer,
    )  # fmt: skip
    settings, network = read_training_config(config, flags)
    if network is not None and base is not None:
        logger.info("%s: `network` is the shape of fresh weights; that of --base %s is taken", config, base)
    widths = None if noise is None else Noise(*noise)
    ridge = ClosedFormSettings(head=head or "readout", prior=prior or "model", noise=widths)  # type: ignore[arg-type]
    keys = LabelKeys(energy_key, forces_key, stress_key)
    frames: Sequence[LabelledFrame] = open_labels(labels, names(sets), keys) if labels else []
    if sets is None:
        frames = without_judges(frames)
    given_hessians = [read_hessian(path) for path in hessian or []]
    hessians = [] if no_hessian else given_hessians
    judged = open_labels(validation, keys=keys) if validation else None
    judging = [read_hessian(path) for path in validation_hessian or []]
    start: Any = base if elements is None else _restricted(base, elements)
    replayed: Sequence[LabelledFrame] = open_labels(replay, keys=keys) if replay else ()
    if elements is not None:
        _check_kept(elements, {"--labels": frames, "--validation": judged or ()})
        replayed = _of_elements(replayed, elements)
    plan = _plan_twins(frames, twins, base, elements) if twins else None
    cells: list[LabelledFrame] = []
    if remainder is not None:
        cells = [*frames, *(replace(frame, set=f"validation {frame.set}") for frame in judged or ())]
    if remainder == "alone":
        _add_remainder(start, given_hessians, cells, out, base, overwrite)
        return
    if closed_form in ("alone", "before"):
        alone = finetune_closed_form(
            frames, hessians, start, ridge, settings, out if closed_form == "alone" else None, judged,
            network, overwrite, judging, replayed,
        )  # fmt: skip
        _tell(alone.report["summary"])
        start = alone.model
    if overwrite:
        twins_beside(out / "model.safetensors").unlink(missing_ok=True)  # of the model that is replaced
    if closed_form != "alone":
        with training_bar(settings) as on_epoch:
            result = run(
                frames, hessians, base=start, settings=settings, folder=out, network=network,
                validation=judged, resume=resume, overwrite=overwrite, on_epoch=on_epoch,
                validation_hessians=judging, replay=replayed,
            )  # fmt: skip
        if base is not None:
            _tell([f"{name}: {result.report[name]}" for name in ("base", "licence") if name in result.report])
        _tell(result.report["summary"])
        if plan is not None:
            tuning = Tuning(
                start, settings, hessians, replay=replayed, head=None, network=network, validation=judged,
                validation_hessians=judging,
            )  # fmt: skip
            path = plan.train(tuning, out / "twins", out / "model.safetensors", resume, overwrite)
            typer.echo(f"twins: {path}")
        start = result.model
    if plots:
        write_figures(start, frames, hessians, out)
    typer.echo(f"model: {out / 'model.safetensors'}")
    if closed_form == "after":
        after = finetune_closed_form(
            frames, hessians, start, ridge, settings, out / "closed_form", judged, overwrite=True,
            validation_hessians=judging, replay=replayed,
        )  # fmt: skip
        _tell(after.report["summary"])
        typer.echo(f"with its closed-form head: {out / 'closed_form' / 'model.safetensors'}")
        start = after.model
    if remainder == "after":
        from himlip_ase.hint.training.remainder import FOLDER

        place = out / "closed_form" if closed_form == "after" else out
        _add_remainder(start, given_hessians, cells, out / FOLDER, str(place / "model.safetensors"), True)


def _refuse_training_options(closed_form: str | None, options: Mapping[str, Any]) -> None:
    """Options of a training by gradients, where there is none."""
    if closed_form == "alone":
        why = "type --closed-form before or after for both"
    else:
        why = "type --remainder after for a training first"
    refuse_unused(options, f"is of a training by gradients; {why}, or leave it out")


def _check_twins(twins: int, frames_given: bool, otherwise: str | None) -> None:
    """Refuse twins that nothing makes, or too few of them."""
    from himlip_ase.errors import InputError
    from himlip_ase.hint.last_layer.twin_weights import FEWEST

    if twins < FEWEST:
        raise InputError(f"--twins {twins} tell no error; give at least {FEWEST}, or leave it out")
    if otherwise is not None:
        raise InputError(
            "--twins are trained by gradients alone; leave --closed-form and --remainder out (a run with "
            "finetune.closed_form makes twins of a head, in a minute)"
        )
    if not frames_given:
        raise InputError("--twins each leave a part of --labels out; give some")


def _plan_twins(
    frames: Sequence[LabelledFrame], twins: int, base: str | None, elements: str | None
) -> TwinPlan:
    """Which cells which twin leaves out, with the elements of the potential."""
    from dataclasses import replace

    from himlip_ase.pipeline.gradient_twins import TwinPlan

    plan = TwinPlan.of(frames, twins, base, "--twins")
    if elements is None:
        return plan
    kept = tuple(_only(twin, elements) for twin in plan.chosen.beginnings)
    return replace(plan, chosen=replace(plan.chosen, beginnings=kept))


def _add_remainder(
    model: Any,
    hessians: Sequence[HessianLabel],
    frames: Sequence[LabelledFrame],
    folder: Path,
    source: str | None,
    overwrite: bool,
) -> None:
    """Write a model with a harmonic remainder, and say what it does; its network came from `source`."""
    from himlip_ase.hint.training.remainder import add_remainder, save_remainder
    from himlip_ase.labels.views import sampled
    from himlip_ase.potential.checkpoint import load_model, read_card
    from himlip_ase.potential.foreign_models import split_foreign

    loaded = load_model(model) if isinstance(model, str) else model
    card = {} if source is None or split_foreign(source) else read_card(source)
    found = add_remainder(loaded, hessians, sampled(frames, REMAINDER_FRAMES))
    folder.mkdir(parents=True, exist_ok=True)
    path = save_remainder(found, folder / "model.safetensors", card, overwrite)
    _tell(found.describe())
    typer.echo(f"with its remainder: {path}")


def _restricted(base: str | None, elements: str) -> HiMLIP:
    """The base with these elements only."""
    from himlip_ase.potential.checkpoint import load_model

    return _only(None if base is None else load_model(base), elements)


def _only(model: Potential | None, elements: str) -> HiMLIP:
    """A Hi-MLIP with these elements only."""
    from himlip_ase.errors import InputError
    from himlip_ase.potential.lattice_potential import network_of
    from himlip_ase.potential.network import HiMLIP
    from himlip_ase.potential.widening import restricted_to

    network = None if model is None else network_of(model)
    if not isinstance(network, HiMLIP):
        raise InputError("--elements restricts a Hi-MLIP base; give one, e.g. --base himlip-hydride-1")
    return restricted_to(network, elements.split(","))


def _check_kept(elements: str, given: Mapping[str, Sequence[LabelledFrame]]) -> None:
    """Refuse frames with elements that --elements leaves out."""
    from himlip_ase.errors import InputError

    kept = set(elements.split(","))
    for flag, frames in given.items():
        foreign = [set(frame.atoms.get_chemical_symbols()) - kept for frame in frames]
        others = sorted(set().union(*foreign))
        if others:
            number = sum(map(bool, foreign))
            raise InputError(
                f"{number} of {len(frames)} frames of {flag} hold {', '.join(others)}, which --elements "
                f"{elements} leaves out; add them there, or give a file without these frames"
            )


def _of_elements(replayed: Sequence[LabelledFrame], elements: str) -> Sequence[LabelledFrame]:
    """The replayed frames that hold no other element; the base's labels hold many."""
    from himlip_ase.errors import InputError
    from himlip_ase.labels.readers import of_elements

    kept = of_elements(replayed, elements.split(","))
    if replayed and not kept:
        raise InputError(
            f"--replay: none of {len(replayed)} frames holds no other element than --elements {elements}; "
            "give labels that do, or leave it out"
        )
    if replayed:
        typer.echo(
            f"replayed: {len(kept)} of {len(replayed)} frames, which hold no other element than {elements}"
        )
    return kept


def fetch_base(base: str | None) -> None:
    """Download a base that its package knows by name, which the user asked for."""
    from himlip_ase.errors import InputError
    from himlip_ase.potential.foreign_models import split_foreign

    found = split_foreign(base)
    if found is None or found[0].downloader is None:
        raise InputError("--download is for a --base of MACE's, e.g. --base mace:medium-omat-0")
    kind, text = found
    typer.echo(f"{base} lies at {kind.download(text)}")


def _tell(lines: list[str]) -> None:
    for line in lines:
        typer.echo(line)

"""``himlip sscha learn``: a finished SSCHA learns from DFT until the two agree."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from himlip_ase.cli.dft_options import DFTOptions, with_dft_options
from himlip_ase.cli.unused_options import refuse_unused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from himlip_ase.sscha.learn.references import Reference


def add_to(group: typer.Typer) -> None:
    """Add the command to the group ``himlip sscha``."""
    group.command("learn")(learn)


@with_dft_options(conv_thr=1e-8)
def learn(
    run: Annotated[Path, typer.Argument(help="Folder of a finished SSCHA run.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The potential of that run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the loop.")],
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", "-l", help="What the potential was trained on, learnt again; repeatable."),
    ] = None,
    hessian: Annotated[
        list[Path] | None,
        typer.Option(
            "--hessian", help="Harmonic matrices, learnt again; default: those of the label folders."
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Configurations labelled in each round, even.")] = 8,
    rounds: Annotated[int, typer.Option("--rounds", help="After which to stop, agreed or not.")] = 3,
    choice: Annotated[
        str, typer.Option("--choice", help="random, or posterior: half of them where it is widest.")
    ] = "random",
    onward: Annotated[
        str, typer.Option("--onward", help="The SSCHA goes on anew, or reweighted where it can.")
    ] = "anew",
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Of every frequency and its error, cm⁻¹.")
    ] = 10.0,
    free_energy_tolerance: Annotated[
        float, typer.Option("--free-energy-tolerance", help="meV per atom.")
    ] = 1.0,
    pressure_tolerance: Annotated[float, typer.Option("--pressure-tolerance", help="GPa.")] = 1.0,
    refit: Annotated[
        str,
        typer.Option(
            "--refit", help="closed_form: the head, in seconds; gradients: all weights, in minutes."
        ),
    ] = "closed_form",
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Training of --refit gradients, a YAML file as of `himlip finetune`."),
    ] = None,
    folds: Annotated[int, typer.Option("--folds", help="Twins of the potential, at most.")] = 10,
    head: Annotated[str, typer.Option("--head", help="Of the closed-form fit: readout or wide.")] = "readout",
    hessian_weight: Annotated[
        str,
        typer.Option(
            "--hessian-weight",
            help="chosen: the configurations decide how much the matrices weigh; full: phonons stay theirs.",
        ),
    ] = "chosen",
    weight: Annotated[float, typer.Option("--weight", help="Of the configurations in the fit.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice.")] = 0,
    answers: Annotated[
        list[Path] | None,
        typer.Option(
            "--answers",
            help="What any code gave back for round_00N/images.extxyz (any order); repeatable.",
        ),
    ] = None,
    elsewhere: Annotated[
        bool,
        typer.Option("--elsewhere", help="Write the structures only; labels come with --answers."),
    ] = False,
    calculator: Annotated[
        str | None, typer.Option("--calculator", help="Of --engine ase: MODULE:FACTORY.")
    ] = None,
    *,
    dft: DFTOptions,
) -> None:
    """Label a few configurations, judge and refit the potential, and let the SSCHA go on, round by round."""
    from himlip_ase.errors import InputError
    from himlip_ase.hint.training.config import read_training_config
    from himlip_ase.hint.training.settings import all_weights
    from himlip_ase.labels.readers import open_labels, read_hessian, without_judges
    from himlip_ase.sscha.learn.curve import write_learning_curve
    from himlip_ase.sscha.learn.loop import learn as run_loop
    from himlip_ase.sscha.learn.references import Waiting
    from himlip_ase.sscha.learn.settings import LearnSettings
    from himlip_ase.sscha.watch.watch_inputs import build_watch

    if not labels:
        raise InputError("give what the potential was trained on: --labels FOLDER; it is learnt again beside")
    chosen: dict[str, Any] = {
        "configurations": n,
        "refit": refit,
        "folds": folds,
        "rounds": rounds,
        "choice": choice,
        "onward": onward,
        "frequency_tolerance_cm": tolerance,
        "free_energy_tolerance_mev": free_energy_tolerance,
        "pressure_tolerance_gpa": pressure_tolerance,
        "head": head,
        "hessian_weight": hessian_weight,
        "weight": weight,
        "seed": seed,
    }
    refuse_unused(
        {"--dry-run": dft.dry_run},
        "is not of this command: its rounds follow from each other; leave it out",
    )
    if refit != "gradients":
        refuse_unused({"--config": config}, "is of --refit gradients; give that too, or leave it out")
    elif choice != "posterior":
        fit = {"--head": head != "readout", "--hessian-weight": hessian_weight != "chosen"}
        refuse_unused(fit, "is of --refit closed_form; give that instead, or leave it out")
    if config is not None:
        chosen["training"] = read_training_config(config, defaults=all_weights())[0]
    settings = LearnSettings(**chosen)
    frames = without_judges(open_labels(labels))
    places = hessian or [path / "harmonic" for path in labels if (path / "harmonic" / "dyn0").is_file()]
    hessians = [read_hessian(path) for path in places]
    with _reference(answers, elsewhere, calculator, dft) as reference:
        try:
            result = run_loop(
                run,
                model,
                frames,
                hessians,
                reference,
                out,
                settings,
                resume=dft.resume,
                watch=build_watch(labels),
            )
        except Waiting as waiting:
            typer.echo(str(waiting))
            return
    for path in write_learning_curve(result.curve, out):
        typer.echo(f"wrote {path}")
    for entry in result.curve:
        typer.echo(_line(entry))
    typer.echo(f"{'AGREED' if result.agreed else 'NOT AGREED'}: {result.verdict}")
    typer.echo(
        f"potential: {result.model}; SSCHA: {result.sscha}; corrected: {result.last / 'corrected.dyn0'}"
    )
    if not result.agreed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _reference(
    answers: list[Path] | None, elsewhere: bool, calculator: str | None, dft: DFTOptions
) -> Iterator[Reference]:
    from himlip_ase.sscha.learn.references import EngineReference, FileReference

    if answers or elsewhere:
        engine_options = {name: value for name, value in dft.given().items() if name != "--resume"}
        refuse_unused(
            {"--calculator": calculator, **engine_options},
            "is of an engine that labels here, and with --elsewhere or --answers none does; leave it out",
        )
        yield FileReference(tuple(answers or ()))
        return
    engine = dft.chosen_engine(calculator)
    with dft.running(engine) as executor:
        yield EngineReference(engine, executor)


def _line(entry: dict) -> str:
    error = entry["force_rmse_ev_per_angstrom"]
    sigma = "" if error["uncertainty"] is None else f" ± {1e3 * error['uncertainty']:.0f}"
    parts = [
        f"{d['name']} {d['correction']:+.3g} ± {d['sigma']:.2g} {d['unit']}"
        + ("" if d["agreed"] else " (open)")
        for d in entry["distances"]
    ]
    return (
        f"round {entry['round']}: {entry['learnt_before']} learnt before; force error on the next "
        f"{entry['configurations']}: {1e3 * error['value']:.0f}{sigma} meV/Å; then {', '.join(parts)}"
    )

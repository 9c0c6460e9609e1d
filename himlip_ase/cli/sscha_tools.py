"""``himlip sscha verify | correct | export | watch | plot | spectral``: tools on finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from himlip_ase.cli.calculators import calculator_named
from himlip_ase.cli.dft_options import DFTOptions, with_dft_options
from himlip_ase.cli.unused_options import refuse_unused

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.evaluation import Evaluation

Run = Annotated[Path, typer.Argument(help="Folder of a finished SSCHA run.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
FORMATS = ("python-sscha", "python-sscha-text", "extxyz", "phonopy", "qe", "cellconstructor")


def add_to(group: typer.Typer) -> None:
    """Add the commands to the group ``himlip sscha``."""
    for command in (verify, correct, export, watch, plot, spectral):
        group.command(command.__name__)(command)


@with_dft_options(conv_thr=1e-8)
def verify(
    run: Run,
    n: Annotated[
        int, typer.Option("--n", help="Configurations to recompute; one more run is the centroids.")
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Which ones; a larger --n keeps the others.")] = 0,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Another model as the reference.")
    ] = None,
    calculator: Annotated[
        str | None,
        typer.Option(
            "--calculator",
            help="qe: run pw.x; qe-inputs: write its inputs only, run them anywhere and continue with "
            "`--calculator qe --resume`; MODULE:FUNCTION: an ASE calculator that your function returns.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="What another code gave back for verify/images.extxyz (any order)."),
    ] = None,
    overwrite: OverwriteOption = False,
    *,
    dft: DFTOptions,
) -> None:
    """Recompute some configurations of the final ensemble and correct gradient, free energy, frequencies."""
    from himlip_ase.errors import InputError
    from himlip_ase.sscha.symmetry import SpaceGroup
    from himlip_ase.sscha.trust.plots_verify import write_verification_figures
    from himlip_ase.sscha.trust.reference_runs import pw_jobs, run_pw_jobs, write_pw_inputs
    from himlip_ase.sscha.trust.verify import choose, describe_verification, verification_images
    from himlip_ase.sscha.trust.verify import verify as verify_ensemble
    from himlip_ase.sscha.trust.verify_files import (
        load_final_ensemble,
        read_reference,
        write_images,
        write_verification,
    )

    if sum(option is not None for option in (model, calculator, labels)) > 1:
        raise InputError("give one of --model, --calculator and --labels")
    _refuse_dft_options(dft, calculator)
    folder = run / "verify"
    if (folder / "verification.json").exists() and not overwrite:
        raise InputError(f"{folder} holds a verification already; pass --overwrite to replace it")
    final = load_final_ensemble(run)
    rows = choose(len(final.ensemble), n, seed)
    images = verification_images(final.ensemble, rows)
    write_images(folder / "images.extxyz", images, overwrite=True)
    if labels is not None:
        reference, name = read_reference(labels, images), str(labels)
    elif calculator in ("qe", "qe-inputs"):
        points = pw_jobs(images, folder / "pw", dft.settings(), final.result.auxiliary.primitive)
        if calculator == "qe-inputs":
            missing = write_pw_inputs(points)
            typer.echo(
                f"{len(missing)} of {len(points)} runs to do in {folder / 'pw'} (pw.x -in pw.in > pw.out in "
                "each); then: himlip sscha verify ... --calculator qe --resume, with the same options"
            )
            return
        with dft.chosen_executor().opened(dft.workers) as executor:
            reference, name = run_pw_jobs(points, dft.launcher(), executor, dft.resume), "pw.x"
    elif model is not None or calculator is not None:
        reference, name = _evaluated(model, calculator, images)
    else:
        typer.echo(
            f"wrote {len(images)} structures to {folder / 'images.extxyz'} (the last on its centroids); "
            "compute energies and forces and continue with --labels FILE, or give --calculator or --model"
        )
        return
    found = verify_ensemble(
        final.target,
        final.ensemble,
        rows,
        reference,
        SpaceGroup(final.result.auxiliary),
        final.result.settings.n_blocks,
    )
    write_verification(folder, found, final.result.auxiliary, name, overwrite)
    write_verification_figures(found, final.result, folder, overwrite)
    for line in describe_verification(found, final.result.auxiliary):
        typer.echo(line)


def _evaluated(model: str | None, calculator: str | None, images: list[Atoms]) -> tuple[Evaluation, str]:
    """The reference by a model or by an ASE calculator."""
    from himlip_ase.sscha.ensembles.evaluation import checked, from_calculator

    if model is not None:
        from himlip_ase.potential.checkpoint import load_model
        from himlip_ase.potential.evaluate import evaluate

        return checked(evaluate(load_model(model), images), images), model
    assert calculator is not None
    return checked(from_calculator(calculator_named(calculator))(images), images), calculator


def _refuse_dft_options(dft: DFTOptions, calculator: str | None) -> None:
    if calculator not in ("qe", "qe-inputs"):
        refuse_unused(dft.given(), "belongs to --calculator qe; type that, or leave it out")
    why = "is not of this command: --calculator qe runs pw.x, qe-inputs writes what it would run"
    refuse_unused({name: dft.given().get(name) for name in ("--engine", "--dry-run")}, why)


def correct(
    run: Run,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The potential of the run, with its twins beside it.")
    ],
    labels: Annotated[
        list[Path],
        typer.Option(
            "--labels",
            help="Labelled cells that an SSCHA of this crystal drew; may be repeated.",
        ),
    ],
    overwrite: OverwriteOption = False,
) -> None:
    """Correct the auxiliary by finished labels, each judged by a twin that did not learn it."""
    from himlip_ase.errors import InputError
    from himlip_ase.hint.last_layer.twin_weights import load_twins, twins_beside
    from himlip_ase.labels.readers import read_labels, set_names
    from himlip_ase.potential.checkpoint import find_model
    from himlip_ase.sscha.results.result import load_result
    from himlip_ase.sscha.trust.judged_cells import judged_cells
    from himlip_ase.sscha.trust.label_correction import label_correction
    from himlip_ase.sscha.trust.label_correction_files import (
        check_not_corrected,
        describe_label_correction,
        write_label_correction,
    )
    from himlip_ase.sscha.trust.potential_error import check_made_by, potential_error

    if not overwrite:
        check_not_corrected(run)
    weights = find_model(model)
    twins = load_twins(weights)
    if not twins:
        raise InputError(
            f"--model: there is no {twins_beside(weights)}; a run with finetune.closed_form, or the learning "
            "loop of one, leaves a potential with twins"
        )
    check_made_by(run, weights)
    frames, result = read_labels(labels), load_result(run)
    cells = judged_cells(frames, result.auxiliary, weights, twins)
    found = label_correction(result, cells, potential_error(run, twins))
    write_label_correction(found, list(dict.fromkeys(set_names(frames))), run, overwrite)
    for line in describe_label_correction(run):
        typer.echo(line)


def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")],
    to: Annotated[str, typer.Option("--to", help=f"One of {', '.join(FORMATS)}.")] = "python-sscha",
    population: Annotated[int, typer.Option("--population", help="Its number in python-sscha's names.")] = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Final ensemble, auxiliary and free-energy Hessian in the files of another code."""
    from himlip_ase.sscha.exchange.export import export_run

    for path in export_run(run, out, to, population, overwrite):
        typer.echo(f"wrote {path}")


def watch(
    run: Run,
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", "-l", help="What the potential was trained on; repeatable."),
    ] = None,
    committee: Annotated[
        list[str] | None, typer.Option("--committee", help="Further model for a spread; repeatable.")
    ] = None,
) -> None:
    """Shortest distances and distance from the labels of the final ensemble of a run."""
    from himlip_ase.sscha.trust.verify_files import load_final_ensemble
    from himlip_ase.sscha.watch.watch_inputs import build_watch

    final = load_final_ensemble(run)
    record = build_watch(labels, committee)(final.ensemble, "the final ensemble")
    typer.echo(record.message)
    if not record.trusted:
        raise typer.Exit(1)


def plot(
    run: Run,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; default: RUN/figures.")] = None,
) -> None:
    """Draw the figures of a run again."""
    from himlip_ase.sscha.results.plots import write_figures
    from himlip_ase.sscha.results.result import load_result

    for path in write_figures(load_result(run), out or run / "figures", overwrite=True):
        typer.echo(f"wrote {path}")


def spectral(
    run: Run,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; default: RUN/spectral.")] = None,
    mesh: Annotated[tuple[int, int, int], typer.Option("--mesh", help="k-mesh of the two-phonon states.")] = (
        8,
        8,
        8,
    ),
    smearing: Annotated[
        float, typer.Option("--smearing", help="δ in cm⁻¹, half the width that every peak has at least.")
    ] = 10.0,
    npoints: Annotated[
        int, typer.Option("--npoints", help="q-points on the longest segment of the path.")
    ] = 31,
    blocks: Annotated[
        int,
        typer.Option(
            "--blocks", min=0, help="Of the ensemble, for the errors at the special points; 0: no errors."
        ),
    ] = 10,
    overwrite: OverwriteOption = False,
) -> None:
    """Spectral function along the high-symmetry path, off the supercell's grid by interpolation."""
    from himlip_ase.sscha.results.spectral_bands import peak_lines, spectral_bands, write_spectral_bands
    from himlip_ase.sscha.trust.verify_files import load_final_ensemble
    from himlip_ase.structures import require_new

    folder = out or run / "spectral"
    require_new(folder / "spectral_function.json", overwrite)
    final = load_final_ensemble(run)
    bands = spectral_bands(
        final.target, final.ensemble, npoints, mesh, smearing, progress=True, n_blocks=blocks
    )
    dims = "×".join(str(d) for d in final.target.dims)
    typer.echo(
        f"auxiliary and third-order constants of the {dims} supercell, two-phonon states on "
        f"{'×'.join(str(m) for m in mesh)} k, δ = {smearing:g} cm⁻¹"
    )
    typer.echo("\n".join(peak_lines(bands)))
    for path in write_spectral_bands(bands, folder, overwrite):
        typer.echo(f"wrote {path}")

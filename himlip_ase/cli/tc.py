"""``himlip tc``: α²F, λ and Tc from electron-phonon matrices and any phonons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tc")(tc)


def _masses(items: list[str]) -> dict[str, float]:
    from himlip_ase.errors import InputError

    masses = {}
    for item in items:
        symbol, separator, value = item.partition("=")
        try:
            masses[symbol.strip()] = float(value)
        except ValueError:
            separator = ""
        if not separator or not symbol.strip():
            raise InputError(f"--mass {item!r} is not understood; type for example --mass H=2.014")
    return masses


def tc(
    dyn: Annotated[
        Path | None, typer.Option(help="Prefix of the dyn files of the phonons to use (…/dyn for …/dyn1, …).")
    ] = None,
    elph: Annotated[Path | None, typer.Option(help="ph.x's elph_dir with the a2Fq2r files.")] = None,
    harmonic_dyn: Annotated[
        Path | None,
        typer.Option(help="Prefix of the dyn files that ph.x wrote beside elph_dir, for comparison."),
    ] = None,
    alpha2f: Annotated[
        Path | None, typer.Option(help="A two-column α²F file instead of --dyn and --elph.")
    ] = None,
    alpha2f_unit: Annotated[
        str, typer.Option(help="Unit of its first column: eV, meV, cm-1, THz, Ry, Ha or K.")
    ] = "meV",
    mu_star: Annotated[
        list[float] | None, typer.Option(help="Coulomb pseudopotentials [0.10 0.13 0.16].")
    ] = None,
    more_mu_star: Annotated[list[float] | None, typer.Argument(hidden=True)] = None,
    mass: Annotated[list[str] | None, typer.Option(help="Mass of an element in amu, e.g. H=2.014.")] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Broadening in Ry; without it the middle of the σ-plateau.")
    ] = None,
    gamma_weight: Annotated[
        str, typer.Option(help="'counted' divides by N_q, as lambda.x does; 'excluded' leaves Γ out.")
    ] = "counted",
    mesh: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Fourier-interpolate D and G onto this q-mesh.")
    ] = None,
    accept_imaginary: Annotated[
        bool,
        typer.Option("--accept-imaginary", help="Quote the Tc of the stable modes alone, marked as such."),
    ] = False,
    gap: Annotated[bool, typer.Option("--gap", help="Also Δ(T) and 2Δ/kTc at the first μ*.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for figures and their data.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """α²F, λ and superconducting Tc; several μ* may follow --mu-star."""
    from himlip_ase.errors import InputError
    from himlip_ase.superconductivity import read_alpha2f, read_elph
    from himlip_ase.superconductivity.analysis import analyse, analyse_curve
    from himlip_ase.superconductivity.results import check_outputs, write_figures, write_results
    from himlip_ase.superconductivity.tables import format_table
    from himlip_ase.superconductivity.tc import DEFAULT_MU_STAR

    values = tuple([*(mu_star or []), *(more_mu_star or [])]) or DEFAULT_MU_STAR
    check_outputs(json_file, figures, overwrite)
    if alpha2f is not None:
        if dyn is not None or elph is not None or mass:
            raise InputError(
                "--alpha2f stands alone; --dyn, --elph and --mass belong to the other way to call"
            )
        analyses = [analyse_curve(alpha2f.name, read_alpha2f(alpha2f, alpha2f_unit), mu_star=values, gap=gap)]
    else:
        if dyn is None or elph is None:
            raise InputError("give --dyn PREFIX and --elph FOLDER, or --alpha2f FILE")
        from himlip_ase.phonons.qe import read_dyn

        phonons = read_dyn(dyn)
        harmonic = None if harmonic_dyn is None else read_dyn(harmonic_dyn)
        matrices = read_elph(elph, (harmonic or phonons).primitive)
        accept = ("imaginary",) if accept_imaginary else ()
        options: dict[str, Any] = {
            "mu_star": values, "masses": _masses(mass or []), "gamma_weight": gamma_weight, "mesh": mesh,
            "accept": accept, "gap": gap,
        }  # fmt: skip
        label = "phonons" if harmonic is None else "anharmonic"
        analyses = [analyse(label, matrices, phonons, harmonic, sigma_ry=sigma, **options)]
        if harmonic is not None:  # at the broadening chosen for the phonons, so that the two can be compared
            options["sigma_ry"] = analyses[0].sigma_ry
            analyses.insert(0, analyse("harmonic", matrices, harmonic, harmonic, **options))
    typer.echo(format_table(analyses), nl=False)
    if json_file is not None:
        write_results(json_file, analyses, overwrite)
    if figures is not None:
        write_figures(figures, analyses, overwrite)

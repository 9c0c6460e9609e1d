"""``himlip tc``: α²F, λ and Tc from electron-phonon matrices and any phonons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from himlip_ase.cli.masses import parse_masses
from himlip_ase.cli.unused_options import refuse_unused, typed_options

if TYPE_CHECKING:
    from himlip_ase.superconductivity.electron_bands import ElectronBands
    from himlip_ase.superconductivity.electronic_dos import ElectronicDos
    from himlip_ase.superconductivity.isotope import IsotopeEffect
    from himlip_ase.superconductivity.options import TcOptions
    from himlip_ase.superconductivity.tc_analysis import TcAnalysis
    from himlip_ase.superconductivity.tc_entries import NoTc

OF_MATRICES = (
    "harmonic_dyn", "carrier_dyn", "coarser_elph", "mass", "isotopes", "mesh", "integration", "gamma_weight",
    "max_strain",
)  # fmt: skip
"""Options that α²F is made with from G(q) and phonons."""
SUM, MORE, OUTPUT = "α²F", "More", "Output"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tc")(tc)


def tc(
    context: typer.Context,
    dyn: Annotated[
        Path | None, typer.Option(help="Prefix of the dyn files of the phonons to use (…/dyn for …/dyn1, …).")
    ] = None,
    elph: Annotated[
        Path | None,
        typer.Option(
            help="ph.x's elph_dir with the a2Fq2r files; without --dyn, a folder of its *.elph.N files."
        ),
    ] = None,
    harmonic_dyn: Annotated[
        Path | None,
        typer.Option(help="Prefix of the dyn files that ph.x wrote beside elph_dir, for comparison."),
    ] = None,
    carrier_dyn: Annotated[
        Path | None,
        typer.Option(
            help="Harmonic matrices of the potential on the grid of G(q), which carry --dyn onto it instead "
            "of --harmonic-dyn.",
        ),
    ] = None,
    alpha2f: Annotated[
        Path | None, typer.Option(help=f"An α²F file instead of --dyn and --elph: {_formats_help()}.")
    ] = None,
    alpha2f_unit: Annotated[
        str | None,
        typer.Option(
            help="Unit of its frequencies where the file does not say: eV, meV, cm-1, THz, Ry, Ha or K."
        ),
    ] = None,
    alpha2f_column: Annotated[
        int | None, typer.Option(help="Its column to take, the frequency being 1; all σ without it.")
    ] = None,
    mu_star: Annotated[
        list[float] | None, typer.Option(help="Coulomb pseudopotentials [0.10 0.13 0.16].")
    ] = None,
    mu_star_at: Annotated[
        float | None,
        typer.Option(
            help="Cutoff at which μ* is meant, in highest phonons [1]; many codes mean their own cutoff."
        ),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=_methods_help(), show_default="all of them")
    ] = None,
    more_mu_star: Annotated[list[float] | None, typer.Argument(hidden=True)] = None,
    mass: Annotated[list[str] | None, typer.Option(help="Mass of an element in amu, e.g. H=2.014.")] = None,
    sigma: Annotated[
        float | None,
        typer.Option(help="Broadening in Ry; without it the middle of the σ-plateau.", rich_help_panel=SUM),
    ] = None,
    gamma_weight: Annotated[
        str,
        typer.Option(
            help="'counted' divides by N_q, as lambda.x does; 'excluded' leaves Γ out.", rich_help_panel=SUM
        ),
    ] = "counted",
    mesh: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Fourier-interpolate D and G onto this q-mesh.", rich_help_panel=SUM),
    ] = None,
    integration: Annotated[
        str,
        typer.Option(help="On a dense mesh: sum, tetrahedron or gaussian (adaptive).", rich_help_panel=SUM),
    ] = "sum",
    coarser_elph: Annotated[
        list[Path] | None,
        typer.Option(help="elph_dir on a coarser q-grid, for the error of the q-grid.", rich_help_panel=SUM),
    ] = None,
    fermi_dos: Annotated[
        float | None,
        typer.Option(
            help="N(E_F) of converged bands, states/eV and cell as dos.x has it: α²F is rescaled to it.",
            rich_help_panel=SUM,
        ),
    ] = None,
    max_strain: Annotated[
        float | None,
        typer.Option(
            help="Largest strain between the cells of the phonons and of G(q) [0.01].", rich_help_panel=SUM
        ),
    ] = None,
    accept_imaginary: Annotated[
        bool,
        typer.Option(
            "--accept-imaginary",
            help="Quote the Tc of the stable modes alone, marked as such.",
            rich_help_panel=SUM,
        ),
    ] = False,
    gap: Annotated[
        bool, typer.Option("--gap", help="Also Δ(T) and 2Δ/kTc at the first μ*.", rich_help_panel=MORE)
    ] = False,
    dos: Annotated[
        Path | None,
        typer.Option(
            help="N(ε) (dos.x, two columns in eV, or pw.x's a2Fsave): also Migdal–Eliashberg with it.",
            rich_help_panel=MORE,
        ),
    ] = None,
    isotopes: Annotated[
        bool,
        typer.Option(
            "--isotopes", help="Also the isotope coefficient of each element.", rich_help_panel=MORE
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the results here.", rich_help_panel=OUTPUT)
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for figures and their data.", rich_help_panel=OUTPUT)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """α²F, λ and superconducting Tc; several μ* may follow --mu-star."""
    from himlip_ase.errors import InputError
    from himlip_ase.superconductivity.elph_files import list_a2fq2r
    from himlip_ase.superconductivity.options import TcOptions
    from himlip_ase.superconductivity.output_files import check_outputs, write_figures, write_results
    from himlip_ase.superconductivity.tables import format_isotopes, format_table

    given: dict[str, Any] = {
        "mu_star": tuple([*(mu_star or []), *(more_mu_star or [])]) or None,
        "methods": method or None,
        "mu_star_at": mu_star_at,
        "sigma_ry": sigma,
        "gamma_weight": gamma_weight,
        "mesh": mesh,
        "integration": integration,
        "accept": ("imaginary",) if accept_imaginary else (),
        "gap": gap,
        "max_strain": max_strain,
        "fermi_dos": fermi_dos,
    }
    options = TcOptions(**{name: value for name, value in given.items() if value is not None})
    check_outputs(json_file, figures, overwrite)
    if alpha2f is None:
        of_curve = {"--alpha2f-unit": alpha2f_unit, "--alpha2f-column": alpha2f_column}
        refuse_unused(of_curve, "is of an α²F file; type --alpha2f FILE, or leave it out")
    effects: list[Any] = []
    widths = ""
    if alpha2f is not None:
        refuse_unused(
            typed_options(context, ("dyn", "elph", *OF_MATRICES)),
            "is of matrices, and --alpha2f stands alone; type --dyn and --elph instead, or leave it out",
        )
        found, widths = _of_curve(alpha2f, alpha2f_unit, alpha2f_column, options, dos)
        analyses = [found]
    elif elph is not None and has_printed_modes(elph):
        if dyn is not None:
            list_a2fq2r(elph)  # says what is there instead, and what to type
        refuse_unused(
            typed_options(context, OF_MATRICES),
            f"needs a2Fq2r files (electron_phonon='interpolated'); {elph} holds λ_qν of ph.x's own phonons "
            "without matrices: leave it out",
        )
        found, widths = _of_printed_modes(elph, options, dos)
        analyses = [found]
    else:
        if dyn is None or elph is None:
            raise InputError("give --dyn PREFIX and --elph FOLDER, or --alpha2f FILE")
        files = _Files(
            dyn, elph, harmonic_dyn, carrier_dyn, coarser_elph or [], parse_masses(mass or []), dos
        )
        analyses, effects = _of_files(files, options, isotopes)
    typer.echo(format_table(analyses) + widths + format_isotopes(effects), nl=False)
    if json_file is not None:
        write_results(json_file, analyses, overwrite, effects)
    if figures is not None:
        write_figures(figures, analyses, overwrite)


def _formats_help() -> str:
    from himlip_ase.superconductivity.curve_formats import FORMATS

    return "; ".join(entry.summary for entry in FORMATS)


def _methods_help() -> str:
    from himlip_ase.superconductivity.methods import FORMULAS

    return f"Formula, may be given several times: {FORMULAS.described()}."


@dataclass(frozen=True)
class _Files:
    """What is joined: phonons, G(q), its run's and the carrier's phonons, coarser G(q), masses, N(ε)."""

    dyn: Path
    elph: Path
    harmonic_dyn: Path | None
    carrier_dyn: Path | None
    coarser: list[Path]
    masses: dict[str, float]
    dos: Path | None


def _read_dos(path: Path | None) -> ElectronicDos | ElectronBands | None:
    from himlip_ase.superconductivity.electron_bands import read_a2fsave
    from himlip_ase.superconductivity.electronic_dos import read_electronic_dos

    if path is None:
        return None
    return read_a2fsave(path) if "a2Fsave" in path.name else read_electronic_dos(path)


def has_printed_modes(folder: Path) -> bool:
    """Whether ph.x left λ_qν of its own phonons there, and no matrices."""
    from himlip_ase.superconductivity.printed_modes import mode_files

    matrices = [*folder.glob("a2Fq2r.*"), *folder.glob("elph_dir/a2Fq2r.*")]
    return not matrices and bool(mode_files(folder))


def _of_printed_modes(folder: Path, options: TcOptions, dos: Path | None) -> tuple[TcAnalysis, str]:
    from himlip_ase.superconductivity.curve_analysis import analyse_broadenings, analyse_curve
    from himlip_ase.superconductivity.printed_modes import read_printed_modes
    from himlip_ase.superconductivity.tables import format_widths

    modes, density = read_printed_modes(folder), _plain_dos(dos)
    if not modes.sigma_ry:
        refuse_unused(
            {"--sigma": options.sigma_ry}, f"is of broadenings, and {folder} holds tetrahedra; leave it out"
        )
        return analyse_curve("tetrahedra", modes.spectra[0], options, dos=density), ""
    labels = [f"σ = {sigma:g} Ry" for sigma in modes.sigma_ry]
    found = analyse_broadenings("printed", modes.sigma_ry, modes.spectra, options, dos=density)
    return found, format_widths(labels, modes.spectra, options)


def _of_curve(
    path: Path, unit: str | None, column: int | None, options: TcOptions, dos: Path | None
) -> tuple[TcAnalysis, str]:
    from himlip_ase.superconductivity.curve_analysis import analyse_broadenings, analyse_curve
    from himlip_ase.superconductivity.curve_files import read_alpha2f_table
    from himlip_ase.superconductivity.tables import format_widths

    table, density = read_alpha2f_table(path, unit, column), _plain_dos(dos)
    wide = [place for place, found in enumerate(table.columns) if found.width is not None]
    sigma = {"--sigma": options.sigma_ry}
    if column is not None:
        refuse_unused(sigma, "and --alpha2f-column both choose a curve; leave one of them out")
    elif len(wide) < 2 or table.width_unit != "Ry":
        refuse_unused(sigma, f"chooses among broadenings in Ry, and {path.name} has none; leave it out")
    if column is not None or len(wide) < 2:
        return analyse_curve(path.name, table.spectrum(column), options, dos=density), ""
    spectra = [table.spectra[place] for place in wide]
    widths = format_widths([table.columns[place].label for place in wide], spectra, options)
    if table.width_unit != "Ry":
        return analyse_curve(path.name, table.spectrum(), options, dos=density), widths
    sigmas = [table.columns[place].width or 0.0 for place in wide]
    return analyse_broadenings(path.name, sigmas, spectra, options, dos=density), widths


def _plain_dos(dos: Path | None) -> ElectronicDos | None:
    from himlip_ase.errors import InputError
    from himlip_ase.superconductivity.electronic_dos import ElectronicDos

    density = _read_dos(dos)
    if density is not None and not isinstance(density, ElectronicDos):
        raise InputError(
            f"{dos} holds bands, which want the σ and Fermi level of --elph; give N(ε) with --dos"
        )
    return density


def _of_files(
    files: _Files, options: TcOptions, isotopes: bool
) -> tuple[list[TcAnalysis], list[IsotopeEffect | NoTc]]:
    from dataclasses import replace

    from himlip_ase.phonons.qe import read_dyn
    from himlip_ase.superconductivity.analysis import analyse
    from himlip_ase.superconductivity.elph_matrices import read_elph
    from himlip_ase.superconductivity.isotope import isotope_effects

    phonons = read_dyn(files.dyn)
    harmonic, carrier = (
        None if path is None else read_dyn(path) for path in (files.harmonic_dyn, files.carrier_dyn)
    )
    matrices = read_elph(files.elph, (harmonic or phonons).primitive)
    common: dict[str, Any] = {
        "masses": files.masses,
        "coarser": [read_elph(folder, matrices.primitive) for folder in files.coarser],
        "dos": _read_dos(files.dos),
    }
    label = "phonons" if harmonic is None else "anharmonic"
    analyses = [analyse(label, matrices, phonons, harmonic, options, carrier=carrier, **common)]
    effects: list[IsotopeEffect | NoTc] = []
    if isotopes:
        effects = isotope_effects(matrices, phonons, carrier or harmonic, analyses[0], options)
    if harmonic is not None:  # at the broadening chosen for the phonons, so that the two can be compared
        same = replace(options, sigma_ry=None)
        analyses.insert(
            0, analyse("harmonic", matrices, harmonic, harmonic, same, sigma_of=analyses[0], **common)
        )
    return analyses, effects

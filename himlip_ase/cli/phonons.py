"""``himlip phonons``: harmonic phonons of a structure with a potential, or of files that exist."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from himlip_ase.cli.calculators import CalculatorOption, chosen_calculator
from himlip_ase.cli.masses import parse_masses
from himlip_ase.cli.unused_options import refuse_unused, typed_options

if TYPE_CHECKING:
    from himlip_ase.phonons import ForceConstants

CALCULATED = (
    "model", "calculator", "dims", "relax", "pressure", "fmax", "symmetrize", "third", "follow",
    "max_generations",
)  # fmt: skip
"""Options of phonons that are calculated."""
RELAXED_TO, FOLLOWED_TO = 1e-5, 1e-4
"""Largest force (eV/Å) of the structure, and of those behind its imaginary modes, where none is given."""

logger = logging.getLogger(__name__)

EPILOG = (
    "Examples:  himlip phonons crystal.extxyz --dims 2 2 2 --out phonons   ·   "
    "himlip phonons unstable.cif --follow   ·   "
    "himlip phonons --dyn harmonic/dyn --dyn sscha/dyn --label DFT --label SSCHA --out compare"
)


def _from_files(dyn: list[Path], label: list[str], sum_rule: bool) -> dict[str, ForceConstants]:
    from himlip_ase.errors import InputError
    from himlip_ase.phonons.phonopy_files import is_phonopy_file, read_force_constants
    from himlip_ase.phonons.qe import read_dyn

    if label and len(label) != len(dyn):
        raise InputError(f"{len(dyn)} --dyn but {len(label)} --label; give one --label for each, or none")
    names = label or [str(path) for path in dyn]
    if len(set(names)) != len(names):
        raise InputError(f"the labels {names} repeat; give each set its own --label")
    sets = {}
    for name, path in zip(names, dyn, strict=True):
        fc = read_force_constants(path) if is_phonopy_file(path) else read_dyn(path).force_constants()
        logger.info("%s: sum rule violated by %.3g eV/Å²", name, fc.acoustic_sum_rule_violation())
        sets[name] = fc.with_acoustic_sum_rule() if sum_rule else fc
    return sets


def phonons(
    context: typer.Context,
    structure: Annotated[
        Path | None,
        typer.Argument(help="Crystal in any format of ASE; leave out with --dyn.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for figures and files.")] = Path("phonons"),
    model: Annotated[
        str | None, typer.Option("--model", help="Name of a bundled model or a .safetensors file.")
    ] = None,
    calculator: CalculatorOption = None,
    dims: Annotated[tuple[int, int, int], typer.Option("--dims", help="Supercell, e.g. --dims 2 2 2.")] = (
        2,
        2,
        2,
    ),
    relax: Annotated[
        bool, typer.Option("--relax/--no-relax", help="Relax the atoms first, keeping the space group.")
    ] = True,
    pressure: Annotated[
        float | None,
        typer.Option("--pressure", help="Relax the cell too, to this pressure in GPa."),
    ] = None,
    fmax: Annotated[
        float | None,
        typer.Option(
            "--fmax",
            help="Largest force of relaxed structures, eV/Å.",
            show_default="1e-5; behind the modes of --follow 1e-4",
        ),
    ] = None,
    symmetrize: Annotated[
        bool, typer.Option("--symmetrize/--no-symmetrize", help="Impose the space group and the sum rules.")
    ] = True,
    third: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            "--third", help="Third-order constants in this supercell too: fc3.hdf5, fc2.hdf5 of phono3py."
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Displace along the imaginary modes, relax, and repeat until none is left; with --pressure "
            "cells relax too.",
        ),
    ] = False,
    max_generations: Annotated[
        int, typer.Option("--max-generations", help="Of --follow: structures that are displaced at most.")
    ] = 4,
    dyn: Annotated[
        list[Path] | None,
        typer.Option(
            "--dyn",
            help="Plot QE dyn files (fildyn) or a phonopy_params.yaml instead, with the Born charges "
            "that they hold; repeatable.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Name of each --dyn in the legend.")
    ] = None,
    asr: Annotated[
        bool, typer.Option("--asr/--no-asr", help="Impose the acoustic sum rule on what --dyn reads.")
    ] = True,
    born: Annotated[
        Path | None,
        typer.Option(
            "--born", help="Born charges for LO-TO: BORN or YAML of phonopy, dyn file of Γ (epsil=.true.)."
        ),
    ] = None,
    mass: Annotated[
        list[str] | None, typer.Option("--mass", help="ELEMENT=AMU, e.g. H=2.014; repeatable.")
    ] = None,
    npoints: Annotated[
        int, typer.Option("--npoints", help="Points on the longest segment of the path.")
    ] = 101,
    mesh: Annotated[tuple[int, int, int], typer.Option("--mesh", help="q-mesh of the DOS.")] = (20, 20, 20),
    write_dyn: Annotated[bool, typer.Option("--write-dyn", help="Write QE dyn files too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Harmonic phonons: bands.png, bands.pdf, their data and phonopy_params.yaml in --out."""
    from himlip_ase.errors import InputError
    from himlip_ase.phonons.output_files import write_phonons

    if (structure is None) == (not dyn):
        raise InputError("give either a STRUCTURE (with --model and --dims) or --dyn PREFIX, one of the two")
    if structure is None:
        why = "needs a STRUCTURE, and --dyn files are read without any calculation; leave it out"
        refuse_unused(typed_options(context, CALCULATED), why)
    else:
        of_files = {"--label": label, "--no-asr": not asr}
        refuse_unused(of_files, "is of --dyn files; type --dyn PREFIX instead of STRUCTURE, or leave it out")
    if not follow:
        typed = typed_options(context, ["max_generations"])
        refuse_unused(typed, "is of --follow; type --follow, or leave it out")
    if not (relax or follow):
        refuse_unused({"--fmax": fmax}, "is of relaxations, and --no-relax has none; leave one of them out")
    if pressure is not None and not relax:
        raise InputError("--pressure relaxes the cell, so it needs --relax; leave --no-relax out")
    masses = parse_masses(mass or [])
    if structure is None:
        sets = _from_files(dyn or [], label or [], asr)
    else:
        from himlip_ase.lattice import check_primitive
        from himlip_ase.phonons.harmonic import harmonic_force_constants
        from himlip_ase.relaxation import relax as relax_atoms
        from himlip_ase.structures import read_structure

        crystal = read_structure(structure)
        check_primitive(crystal)
        chosen = chosen_calculator(model, calculator)
        name = calculator or "Hi-MLIP"
        if relax:
            limit = RELAXED_TO if fmax is None else fmax
            crystal = relax_atoms(crystal, chosen, pressure, limit, keep_symmetry=True).atoms
        sets = {name: harmonic_force_constants(crystal, chosen, dims, symmetrize)}
    if born is not None:
        from himlip_ase.phonons.born_files import read_born

        charges = {name: read_born(born, fc.primitive) for name, fc in sets.items()}
        sets = {name: fc.with_born(charges[name].with_sum_rule()) for name, fc in sets.items()}
    if masses:
        sets = {name: fc.with_masses(masses) for name, fc in sets.items()}
    if third:  # after charges and masses, which its files hold too
        from himlip_ase.phonons.phono3py_io import write_for_phono3py

        for line in write_for_phono3py(crystal, chosen, sets[name], third, out, overwrite):
            typer.echo(line)
    for line in write_phonons(sets, out, npoints, mesh, write_dyn_files=write_dyn, overwrite=overwrite):
        typer.echo(line)
    for line in _gamma_modes(sets, out, overwrite):
        typer.echo(line)
    if follow:
        from himlip_ase.phonons.follow import describe_following, follow_imaginary_modes, write_following

        found = follow_imaginary_modes(
            crystal, chosen, dims, max_generations, pressure, FOLLOWED_TO if fmax is None else fmax,
            force_constants=sets[name],
        )  # fmt: skip
        for line in describe_following(found):
            typer.echo(line)
        typer.echo(f"→ {write_following(found, out / 'follow', overwrite)[0]}")


def _gamma_modes(sets: dict[str, ForceConstants], out: Path, overwrite: bool) -> list[str]:
    """Tables of irreducible representations at Γ, or why there is none."""
    from himlip_ase.errors import InputError
    from himlip_ase.phonons.irreps import describe_gamma_modes, gamma_modes, write_gamma_modes

    found, lines = {}, []
    for name, fc in sets.items():
        try:
            found[name] = gamma_modes(fc.dynamical_matrices())
        except InputError as error:
            logger.warning("%s: %s", name, error)
            continue
        first, *rows = describe_gamma_modes(found[name])
        lines += [f"{name}: {first}", *rows]
    if found:
        write_gamma_modes(found, out / "gamma_modes.json", overwrite)
    return lines


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("phonons", epilog=EPILOG)(phonons)

"""``himlip expansion``: cells against temperature, quasi-harmonic and by the SSCHA."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from himlip_ase.cli.calculators import CalculatorOption, chosen_calculator
from himlip_ase.cli.unused_options import refuse_unused, typed_options
from himlip_ase.registry import Registry

if TYPE_CHECKING:
    from himlip_ase.sscha.ensembles.evaluation import Evaluate


@dataclass(frozen=True)
class Method:
    """A way to find a(T), and which calculations it needs."""

    name: str
    summary: str
    quasi_harmonic: bool
    anharmonic: bool


METHODS = Registry(
    "method",
    Method("qha", "harmonic phonons at several volumes", True, False),
    Method("sscha", "an anharmonic run at each temperature", False, True),
    Method("both", "one after the other, in one figure", True, True),
)
QUASI_HARMONIC = ("strains", "mesh")
ANHARMONIC = ("n", "n_hessian", "max_populations", "seed", "workers")
"""Options that one method alone reads."""
EPILOG = (
    "Examples:  himlip expansion copper.cif --calculator ase.calculators.emt:EMT -T 0 -T 300 -T 600   ·   "
    "himlip expansion h3s.cif --method sscha --pressure 150 -T 0 -T 300 --resume"
)


def expansion(
    context: typer.Context,
    structure: Annotated[Path, typer.Argument(help="Primitive cell, in any format of ASE.")],
    temperature: Annotated[list[float], typer.Option("--temperature", "-T", help="Kelvin; repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder.")] = Path("expansion"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name of a bundled model or a .safetensors file.")
    ] = None,
    calculator: CalculatorOption = None,
    method: Annotated[str, typer.Option("--method", help=f"One of: {METHODS.described()}.")] = "qha",
    dims: Annotated[tuple[int, int, int], typer.Option("--dims", help="Supercell.")] = (2, 2, 2),
    pressure: Annotated[float, typer.Option("--pressure", "-p", help="GPa.")] = 0.0,
    strains: Annotated[
        list[float] | None,
        typer.Option("--strain", help="qha: linear strain of a cell; repeatable.", show_default="-1 to 3 %"),
    ] = None,
    mesh: Annotated[tuple[int, int, int], typer.Option("--mesh", help="qha: q-mesh.")] = (16, 16, 16),
    n: Annotated[int, typer.Option("--n", help="sscha: configurations of a population.")] = 500,
    n_hessian: Annotated[
        int, typer.Option("--n-final", help="sscha: configurations of the final ensemble.")
    ] = 2000,
    max_populations: Annotated[
        int, typer.Option("--max-populations", help="sscha: populations after which to stop.")
    ] = 30,
    seed: Annotated[int, typer.Option("--seed", help="sscha: of all ensembles.")] = 0,
    fmax: Annotated[float, typer.Option("--fmax", help="Largest force of the relaxations, eV/Å.")] = 1e-4,
    workers: Annotated[int, typer.Option("--workers", help="sscha: processes for a model's forces.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --out holds.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table and figure.")] = False,
) -> None:
    """Thermal expansion at a pressure: a(T) with error bars, in expansion.json, .dat, .png of --out."""
    from himlip_ase.lattice import check_primitive
    from himlip_ase.phonons.harmonic import harmonic_force_constants
    from himlip_ase.phonons.quasi_harmonic import STRAINS, quasi_harmonic_expansion, scan_volumes
    from himlip_ase.phonons.thermal_expansion import describe_expansion, with_finite_size, write_expansion
    from himlip_ase.relaxation import relax
    from himlip_ase.structures import read_structure, require_new

    way = METHODS[method]
    if not way.quasi_harmonic:
        why = f"is of qha, and --method is {method}; type --method qha or both, or leave it out"
        refuse_unused(typed_options(context, QUASI_HARMONIC), why)
    if not way.anharmonic:
        why = f"is of sscha, and --method is {method}; type --method sscha or both, or leave it out"
        refuse_unused(typed_options(context, ANHARMONIC), why)
    if calculator is not None:
        refuse_unused(
            typed_options(context, ["workers"]),
            "is of models, and an ASE calculator runs in one process; type --model, or leave it out",
        )
    require_new(out / "expansion.json", overwrite or resume)
    crystal = read_structure(structure)
    check_primitive(crystal)
    chosen = chosen_calculator(model, calculator)
    static = relax(crystal, chosen, pressure, fmax, keep_symmetry=True).atoms
    found = []
    if way.quasi_harmonic:
        scan = scan_volumes(static, chosen, dims, strains or STRAINS, mesh, fmax, out / "volumes", resume)
        found.append(quasi_harmonic_expansion(scan, temperature, pressure))
    if way.anharmonic:
        from himlip_ase.sscha.run.expansion import sscha_expansion
        from himlip_ase.sscha.settings import SschaSettings

        options: dict[str, Any] = {
            "n_configurations": n,
            "n_hessian_configurations": n_hessian,
            "max_populations": max_populations,
            "pressure_gpa": pressure,
            "hessian_order": "third",  # a by-product here
            "seed": seed,
        }
        settings = SschaSettings(**options)
        harmonic = harmonic_force_constants(static, chosen, dims).dynamical_matrices()
        with _forces(model, calculator, chosen, workers) as forces:
            series, _ = sscha_expansion(harmonic, forces, temperature, out, settings, resume, progress=True)
        found.append(series)
        if way.quasi_harmonic:
            grid = quasi_harmonic_expansion(scan.on_grid(), temperature, pressure)
            found.append(dataclasses.replace(grid, method="quasi-harmonic, supercell's q"))
            found.append(with_finite_size(series, found[0], grid))
    for item in found:
        for line in describe_expansion(item):
            typer.echo(line)
    if way.anharmonic and not way.quasi_harmonic:
        typer.echo(
            f"only the q-points of {'×'.join(map(str, dims))} vibrate, less three translations: the "
            "expansion is too small; --method both corrects it for stable crystals, a larger --dims always"
        )
    for path in write_expansion(found, out, overwrite=True):
        typer.echo(f"wrote {path}")


@contextlib.contextmanager
def _forces(model: str | None, calculator: str | None, chosen: Any, workers: int) -> Iterator[Evaluate]:
    """Force callable of a model in several processes, or of an ASE calculator in this one."""
    if calculator is not None:
        from himlip_ase.sscha.ensembles.evaluation import from_calculator

        yield from_calculator(chosen)
        return
    from himlip_ase.potential.checkpoint import default_model
    from himlip_ase.sscha.ensembles.workers import potential_forces

    with potential_forces(model or default_model(), workers) as forces:
        yield forces


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("expansion", epilog=EPILOG)(expansion)

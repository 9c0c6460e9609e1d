"""``himlip sample``: choose the structures that are worth a label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from himlip_ase.cli.unused_options import refuse_unused

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.hint.selection import Selection

Structures = Annotated[list[Path], typer.Argument(help="Files with structures that ASE reads, all frames.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for chosen.extxyz, chosen.json and a figure.")]
Count = Annotated[int, typer.Option("--count", "-n", help="How many to choose.")]
Seed = Annotated[int, typer.Option(help="Of the random numbers.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")]

sample = typer.Typer(
    help="Choose structures worth a label: density, energy; or make them: rattle.", no_args_is_help=True
)


@sample.command()
def density(
    structures: Structures,
    out: Out,
    count: Count,
    descriptor: Annotated[str, typer.Option(help="soap (needs dscribe) or model.")] = "soap",
    model: Annotated[
        str | None, typer.Option(help="For --descriptor model; default: a standardised random network.")
    ] = None,
    neighbours: Annotated[int, typer.Option("-k", "--neighbours", help="Of the mean distance.")] = 10,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw structures in proportion to their distance from others (weighted local density)."""
    from himlip_ase.errors import InputError
    from himlip_ase.hint.selection import model_descriptors, soap_descriptors, weighted_local_density

    if descriptor == "soap":
        refuse_unused(
            {"--model": model}, "is of another descriptor than soap; type --descriptor model, or leave it out"
        )
    images = _read(structures)
    if descriptor == "soap":
        points = soap_descriptors(images)
    elif descriptor == "model":
        points = model_descriptors(_network(model, images), images)
    else:
        raise InputError(f"--descriptor is {descriptor!r}; choose soap or model")
    selection = weighted_local_density(points, count, neighbours, seed)
    settings = {"descriptor": descriptor, "neighbours": neighbours, "seed": seed}
    _write(images, selection, out, settings, overwrite, points)


@sample.command()
def energy(
    structures: Structures,
    out: Out,
    count: Count,
    part: Annotated[str, typer.Option(help="high (transition regions) or low (basins).")] = "high",
    overwrite: Overwrite = False,
) -> None:
    """The structures highest or lowest in energy among those of the same composition."""
    import numpy as np

    from himlip_ase.hint.selection import by_energy
    from himlip_ase.labels.label_keys import frame_from_atoms

    images = _read(structures)
    energies = [frame_from_atoms(atoms).energy for atoms in images]
    values = np.array([np.nan if e is None else e for e in energies])
    _write(images, by_energy(images, values, count, part), out, {"part": part}, overwrite)  # type: ignore[arg-type]


@sample.command()
def rattle(
    structures: Structures,
    out: Out,
    count: Count,
    stdev: Annotated[float, typer.Option(help="Standard deviation of the displacements, Å.")] = 0.4,
    mass_scaled: Annotated[bool, typer.Option("--mass-scaled", help="Heavy atoms move less.")] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Gaussian displacements: --count copies of each structure."""
    from himlip_ase.labels.displacements import rattle as displace

    images = _read(structures)
    copies = [
        c for k, atoms in enumerate(images) for c in displace(atoms, count, stdev, seed + k, mass_scaled)
    ]
    _save(
        copies, out, {"method": "rattle", "stdev": stdev, "mass_scaled": mass_scaled, "seed": seed}, overwrite
    )
    typer.echo(f"{len(copies)} structures in {out / 'chosen.extxyz'}")


def register(app: typer.Typer) -> None:
    """Add ``himlip sample`` to `app`."""
    app.add_typer(sample, name="sample")


def _read(paths: Sequence[Path]) -> list[Atoms]:
    from himlip_ase.structures import read_structures

    return read_structures(paths)


def _network(name: str | None, images: Sequence[Atoms]) -> Any:
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.graph import build_graph
    from himlip_ase.potential.lattice_potential import network_of
    from himlip_ase.potential.network import HiMLIP, HiMLIPConfig, element_union

    if name is not None:
        return network_of(load_model(name))
    model = HiMLIP(HiMLIPConfig(element_union([a.get_chemical_symbols() for a in images])))
    some = images[:: max(1, len(images) // 64)]
    model.standardise(build_graph(some, model.elements, model.cutoff))
    return model


def _write(
    images: Sequence[Atoms],
    selection: Selection,
    out: Path,
    settings: dict[str, Any],
    overwrite: bool,
    descriptors: Any = None,
) -> None:
    from himlip_ase.files import atomic_write
    from himlip_ase.hint.selection import selection_figure

    indices = selection.indices.tolist()
    record = {"method": selection.method, **settings, "of": len(images), "indices": indices}
    record["scores"] = selection.scores.tolist()
    _save([images[index] for index in indices], out, record, overwrite)
    figure: Any = selection_figure(selection, descriptors)
    with atomic_write(out / "chosen.png", "wb", overwrite=overwrite) as stream:
        figure.savefig(stream, format="png", dpi=150)
    typer.echo(f"{len(indices)} of {len(images)} structures in {out / 'chosen.extxyz'}")


def _save(images: list[Atoms], out: Path, record: dict[str, Any], overwrite: bool) -> None:
    from ase.io import write

    from himlip_ase.files import atomic_write, write_json

    with atomic_write(out / "chosen.extxyz", overwrite=overwrite) as stream:
        write(stream, images, format="extxyz")
    write_json(out / "chosen.json", record, overwrite=overwrite)

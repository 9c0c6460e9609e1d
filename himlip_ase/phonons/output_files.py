"""What a person takes along of sets of force constants: figures, their data, files for phonopy and QE."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.bands import BandStructure, band_structure, dos
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.phonopy_io import write_phonopy_params
from himlip_ase.phonons.plots import bands_and_dos_figure, save_figure
from himlip_ase.phonons.qe import write_dyn


def write_bands_and_dos(
    sets: Mapping[str, ForceConstants],
    folder: str | os.PathLike,
    npoints: int = 101,
    mesh: Sequence[int] = (20, 20, 20),
    overwrite: bool = False,
) -> list[Path]:
    """Bands and DOS of one or several sets of force constants: ``bands.png``, ``bands.pdf`` and the data.

    Parameters
    ----------
    sets : mapping of label to ForceConstants
        All are drawn along the path of the first.
    folder : path-like
        Gets ``bands.png``, ``bands.pdf`` and, for each set, ``bands[_label].dat`` and ``dos[_label].dat``.
    npoints, mesh
        See `band_structure` and `dos`.
    overwrite : bool
        Whether existing files may be replaced; `InputError` otherwise, before anything is written.

    Returns
    -------
    list of Path
        The files.
    """
    if not sets:
        raise InputError("nothing to plot: give at least one set")
    folder = Path(folder)
    tags = _tags(sets)
    targets = [folder / "bands.png", folder / "bands.pdf"]
    targets += [folder / f"{kind}{tag}.dat" for tag in tags for kind in ("bands", "dos")]
    _check_absent(targets, overwrite)
    bands: list[BandStructure] = []
    for fc in sets.values():
        bands.append(band_structure(fc, npoints, path=bands[0].path if bands else None))
    densities = [dos(fc, mesh) for fc in sets.values()]
    for tag, band, density in zip(tags, bands, densities, strict=True):
        band.write(folder / f"bands{tag}.dat", overwrite=overwrite)
        density.write(folder / f"dos{tag}.dat", overwrite=overwrite)
    figure = bands_and_dos_figure(bands, densities, list(sets) if len(sets) > 1 else None)
    save_figure(figure, folder / "bands", overwrite=overwrite)
    return targets


def write_phonons(
    sets: Mapping[str, ForceConstants],
    folder: str | os.PathLike,
    npoints: int = 101,
    mesh: Sequence[int] = (20, 20, 20),
    write_dyn_files: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Figures and data of `write_bands_and_dos`, with a ``phonopy_params.yaml`` and perhaps dyn files.

    Parameters
    ----------
    sets : dict of str to ForceConstants
        By name.
    folder : path-like
    npoints : int
        Points on the longest segment of the path.
    mesh : three integers
        Of the density of states.
    write_dyn_files : bool
        Whether to write dyn files of Quantum ESPRESSO too.
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of str
        What a person wants to know: the lowest frequency on the commensurate grid and on the path, and the
        files.
    """
    folder = Path(folder)
    tags = _tags(sets)
    names = [folder / f"phonopy_params{tag}.yaml" for tag in tags]
    _check_absent(names, overwrite)
    files = write_bands_and_dos(sets, folder, npoints, mesh, overwrite)
    lines = []
    for (label, fc), tag, name in zip(sets.items(), tags, names, strict=True):
        files.append(write_phonopy_params(fc, name, overwrite=overwrite))
        grid = fc.dynamical_matrices()
        if write_dyn_files:
            files += write_dyn(grid, folder / f"dyn{tag and tag + '_'}", overwrite=overwrite)
        frequencies = grid.frequencies()
        worst = np.unravel_index(int(np.argmin(frequencies)), frequencies.shape)
        low = float(frequencies[worst])
        verdict = "unstable" if low < -1 else "no imaginary frequency on the grid"
        q = ", ".join(f"{x:.4g}" for x in grid.qpoints[worst[0]])
        lines.append(
            f"{label}: lowest frequency {low:.1f} cm⁻¹ at q = ({q}) of the {grid.dims} grid; {verdict}"
        )
    return [*lines, "written: " + ", ".join(str(f) for f in files)]


def _tags(sets: Mapping[str, ForceConstants]) -> list[str]:
    if len(sets) == 1:
        return [""]
    tags = ["_" + "".join(c if c.isalnum() else "-" for c in name) for name in sets]
    if len(set(tags)) != len(tags):
        raise InputError(f"the labels {list(sets)} give file names that are not distinct; choose others")
    return tags


def _check_absent(paths: Iterable[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists already; pass overwrite=True (--overwrite) or choose another folder"
            )

"""Ensembles in the files of python-sscha; nothing here needs python-sscha.

python-sscha keeps dynamical matrices in Ry/bohr², positions in Å, forces in Ry/Å (in its text files Ry/bohr),
energies in Ry per supercell and stresses in Ry/bohr³, positive in compression.  Its two halves carry
different constants (CODATA 2006 for ensembles, CODATA 2018 for matrices); they are used here as they are
there, so that its free energy of a written ensemble is ours.  Its supercells are ordered like
``primitive.repeat(dims)``.
"""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import create_units

from himlip_ase.errors import InputError
from himlip_ase.evaluation import matrix_from_voigt, voigt_from_matrix
from himlip_ase.files import atomic_write, read_arrays, read_mapping, reading, write_json
from himlip_ase.relations import broken_by_few
from himlip_ase.sscha.ensembles.consistency import check_widths, measure_widths
from himlip_ase.sscha.ensembles.distances import shortest_distance
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.exchange.cellconstructor import (
    BOHR_PER_ANGSTROM,
    read_cellconstructor,
    write_cellconstructor,
)

logger = logging.getLogger(__name__)

ENSEMBLE_RY_EV = float(create_units("2006")["Ry"])
ENSEMBLE_BOHR_ANGSTROM = float(create_units("2006")["Bohr"])
"""python-sscha's units of energies, forces and stresses."""

ANOTHER = (
    "Give its temperature, temperature_k={temperature} (-T {temperature}), or other matrices, dyn=… (--dyn …)"
)
"""What to do about an ensemble that was not drawn from its matrices."""

LARGEST_MEAN = 0.3
"""A mean displacement (Å) above this over an ensemble means that atoms are in another order."""


def write_python_sscha(
    folder: str | os.PathLike,
    ensemble: Ensemble,
    population: int = 1,
    text: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write an ensemble for python-sscha.

    Parameters
    ----------
    folder : path-like
    ensemble : Ensemble
    population : int
        Number in the names of the files.
    text : bool
        False: ``Ensemble.load_bin(folder, population)`` reads it (npy files and ``dyn_gen_pop<N>_*``).
        True: ``Ensemble.load(folder, population, n)`` (text files and ``dyn_start_population<N>_*``).
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path
        What was written.  Temperature and static energy, which python-sscha's files do not hold, go to
        ``himlip_pop<N>.json``.

    Raises
    ------
    InputError
        Files exist, or masses that python-sscha cannot hold.
    """
    folder, distribution = Path(folder), ensemble.drawn_from
    stem = f"dyn_start_population{population}_" if text else f"dyn_gen_pop{population}_"
    paths = write_cellconstructor(distribution.dynamical, folder / stem, overwrite)
    notes = folder / f"himlip_pop{population}.json"
    write_json(
        notes,
        {
            "temperature_k": distribution.temperature_k,
            "static_energy_ev": ensemble.static_energy if np.isfinite(ensemble.static_energy) else None,
            "n": len(ensemble),
            "supercell": list(distribution.dims),
        },
        overwrite,
        seal=True,
    )
    write = _write_text if text else _write_binary
    return [*paths, notes, *write(folder, ensemble, population, overwrite)]


def _peer_stresses(ensemble: Ensemble) -> np.ndarray | None:
    if ensemble.stresses is None:
        return None
    full = matrix_from_voigt(ensemble.stresses)
    return -full * ENSEMBLE_BOHR_ANGSTROM**3 / ENSEMBLE_RY_EV


def _write_binary(folder: Path, ensemble: Ensemble, population: int, overwrite: bool) -> list[Path]:
    arrays = {
        "energies": ensemble.energies / ENSEMBLE_RY_EV,
        "forces": ensemble.forces / ENSEMBLE_RY_EV,
        "xats": ensemble.drawn_from.supercell.positions + ensemble.displacements,
        "stresses": _peer_stresses(ensemble),
    }
    paths = []
    for name, values in arrays.items():
        if values is None:
            continue
        path = folder / f"{name}_pop{population}.npy"
        with atomic_write(path, "wb", overwrite) as stream:
            np.save(stream, np.asarray(values), allow_pickle=False)
        paths.append(path)
    return paths


def _write_text(folder: Path, ensemble: Ensemble, population: int, overwrite: bool) -> list[Path]:
    paths: list[Path] = []

    def save(name: str, values: np.ndarray) -> None:
        buffer = io.StringIO()
        np.savetxt(buffer, values)
        paths.append(folder / name)
        with atomic_write(paths[-1], overwrite=overwrite) as stream:
            stream.write(buffer.getvalue())

    save(f"energies_supercell_population{population}.dat", ensemble.energies / ENSEMBLE_RY_EV)
    stresses = _peer_stresses(ensemble)
    ideal = ensemble.drawn_from.supercell
    for index in range(len(ensemble)):
        tail = f"_population{population}_{index + 1}.dat"
        save(f"u{tail}", ensemble.displacements[index] * BOHR_PER_ANGSTROM)
        save(f"forces{tail}", ensemble.forces[index] / ENSEMBLE_RY_EV / BOHR_PER_ANGSTROM)
        if stresses is not None:
            save(f"pressures{tail}", stresses[index])
        paths.append(folder / f"scf{tail}")
        with atomic_write(paths[-1], overwrite=overwrite) as stream:
            stream.write(_scf(ideal, ensemble.displacements[index]))
    return paths


def _scf(ideal: Atoms, displacement: np.ndarray) -> str:
    """Structure as CellConstructor writes it for the old Fortran code."""
    lines = ["CELL_PARAMETERS angstrom"]
    lines += ["  ".join(f"{x:.16f}" for x in row) for row in ideal.cell.array]
    lines += ["", "ATOMIC_POSITIONS angstrom"]
    for symbol, position in zip(ideal.symbols, ideal.positions + displacement, strict=True):
        lines.append(f"{symbol}    " + "  ".join(f"{x:.16f}" for x in position))
    return "\n".join(lines) + "\n"


def read_python_sscha(
    folder: str | os.PathLike,
    population: int = 1,
    temperature_k: float | None = None,
    dyn: str | os.PathLike | None = None,
) -> Ensemble:
    """Read an ensemble of python-sscha, binary (``save_bin``) or text (``save``).

    Parameters
    ----------
    folder : path-like
    population : int
    temperature_k : float, optional
        Of the Gaussian; python-sscha does not keep it.  Default: what :func:`write_python_sscha` noted, else
        0 if the displacements are as wide as those matrices are at 0 K.
    dyn : path-like, optional
        Prefix of the dyn files that generated it.  Default: ``dyn_gen_pop<N>_`` (binary) or
        ``dyn_start_population<N>_`` in `folder`; python-sscha leaves the latter in its working directory.

    Returns
    -------
    Ensemble
        Its static energy is NaN unless it was noted.

    Raises
    ------
    InputError
        Files are missing, damaged or incomplete; the displacements do not have the widths of these matrices
        at this temperature, see :mod:`himlip_ase.sscha.ensembles.consistency` (the message says at which
        they would).
    """
    folder = Path(folder)
    binary = (folder / f"xats_pop{population}.npy").exists()
    stem = f"dyn_gen_pop{population}_" if binary else f"dyn_start_population{population}_"
    dynamical = read_cellconstructor(folder / stem if dyn is None else dyn)
    notes: dict = {}
    noted = folder / f"himlip_pop{population}.json"
    if noted.exists():
        notes = read_mapping(noted, "write the ensemble again, or remove this file and give the temperature")
    if temperature_k is None and "temperature_k" in notes:
        temperature_k = float(notes["temperature_k"])
    distribution = HarmonicDistribution(dynamical, 0.0 if temperature_k is None else temperature_k)
    ideal = distribution.supercell
    read = _read_binary if binary else _read_text
    moved, energies, forces, peer_stresses = read(folder, population, ideal)
    if moved.shape[1:] != ideal.positions.shape or moved.shape != forces.shape:
        raise InputError(
            f"{folder}: displacements {moved.shape} and forces {forces.shape} do not fit a supercell of "
            f"{len(ideal)} atoms; are these the dyn files of this population?"
        )
    sizes = {len(moved), len(energies), len(forces), len(moved if peer_stresses is None else peer_stresses)}
    if "n" in notes:
        sizes.add(int(notes["n"]))
    if len(sizes) > 1 or not len(moved):
        raise InputError(
            f"{folder} holds files of {', '.join(map(str, sorted(sizes)))} configurations; copy all files of "
            "one ensemble"
        )
    missing = ~np.isfinite(energies)
    for values in (forces, moved):
        missing |= ~np.isfinite(values).all(axis=(1, 2))
    if missing.any():
        raise InputError(
            f"{folder}: {missing.sum()} of {len(moved)} configurations have an energy, force or position "
            f"that is not finite (first: {int(np.flatnonzero(missing)[0]) + 1}); compute them, or save the "
            "ensemble without them"
        )
    _tell_broken_relations(folder, forces, peer_stresses)
    off = np.linalg.norm(moved.mean(axis=0), axis=1)
    if off.max() > LARGEST_MEAN and len(moved) > 1:
        raise InputError(
            f"{folder}: atom {int(off.argmax())} sits {off.max():.2f} Å from its centroid on average; the "
            "dyn files belong to another population or the atoms are in another order"
        )
    stresses = None
    if peer_stresses is not None:
        scale = -ENSEMBLE_RY_EV / ENSEMBLE_BOHR_ANGSTROM**3
        stresses = voigt_from_matrix(peer_stresses) * scale
    static = notes.get("static_energy_ev")
    ensemble = Ensemble(
        distribution,
        moved,
        energies * ENSEMBLE_RY_EV,
        forces * ENSEMBLE_RY_EV,
        stresses,
        np.nan if static is None else float(static),
        shortest_distance(ideal, moved),
        float(np.linalg.norm(moved, axis=2).max()),
    )
    if temperature_k is None:
        _ask_for_the_temperature(ensemble, folder)
    check_widths(ensemble, f"the ensemble in {folder}", ANOTHER)
    return ensemble


def _tell_broken_relations(folder: Path, forces: np.ndarray, stresses: np.ndarray | None) -> None:
    """Warn if a few forces do not add up to zero, or a few stresses are not symmetric."""
    checks = {"forces do not add up to zero": (forces.sum(axis=1), forces)}
    if stresses is not None:
        checks["stresses are not symmetric"] = (stresses - stresses.swapaxes(1, 2), stresses)
    for words, (deviations, values) in checks.items():
        if broken_by_few(deviations, float(np.abs(values).max())):
            worst = np.abs(deviations.reshape(len(values), -1)).max(axis=1).argmax()
            logger.warning(
                "%s: %s in a few configurations (worst: %d), as all others' are: damaged?",
                folder,
                words,
                worst + 1,
            )


def _ask_for_the_temperature(ensemble: Ensemble, folder: Path) -> None:
    """Refuse what was not drawn at 0 K as long as nobody said at which temperature."""
    found = measure_widths(ensemble)
    if found.right_width or found.temperature_k is None:
        return
    raise InputError(
        f"python-sscha's files hold no temperature, and those in {folder} were not drawn at 0 K: "
        f"{found.sentence()}; it would be 1 at {found.temperature_k:.4g} ± {found.temperature_sigma_k:.2g} "
        "K. Give the temperature that it was drawn at: temperature_k=… (-T …)"
    )


Raw = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


def _read_binary(folder: Path, population: int, ideal: Atoms) -> Raw:
    def load(name: str) -> np.ndarray:
        path = folder / f"{name}_pop{population}.npy"
        if not path.exists():
            raise InputError(f"{path} is missing from the ensemble")
        return np.asarray(read_arrays(path, "copy it again from where python-sscha wrote it")["array"])

    positions = load("xats")
    if positions.shape[1:] != ideal.positions.shape:
        return positions, load("energies"), load("forces"), None
    with_stress = (folder / f"stresses_pop{population}.npy").exists()
    return (
        positions - ideal.positions,
        load("energies"),
        load("forces"),
        load("stresses") if with_stress else None,
    )


def _read_text(folder: Path, population: int, ideal: Atoms) -> Raw:
    path = folder / f"energies_supercell_population{population}.dat"
    if not path.exists():
        raise InputError(
            f"{folder} holds neither xats_pop{population}.npy nor {path.name}; name the folder that "
            "python-sscha's save_bin or save wrote, and the population"
        )
    energies = _table(path).reshape(-1)
    further = folder / f"u_population{population}_{len(energies) + 1}.dat"
    if further.exists():
        raise InputError(
            f"{path} holds {len(energies)} energies, and there is a {further.name}; copy all files of one "
            "ensemble"
        )

    def rows(name: str) -> np.ndarray:
        names = [folder / f"{name}_population{population}_{k + 1}.dat" for k in range(len(energies))]
        missing = [item.name for item in names if not item.exists()]
        if missing:
            raise InputError(
                f"{folder}: {len(missing)} of {len(names)} files are missing, the first is {missing[0]}"
            )
        tables = [_table(item) for item in names]
        odd = [item.name for item, table in zip(names, tables, strict=True) if table.shape != tables[0].shape]
        if odd:
            raise InputError(
                f"{folder / odd[0]} has another number of rows than {names[0].name}; copy it again"
            )
        return np.array(tables)

    with_stress = (folder / f"pressures_population{population}_1.dat").exists()
    return (
        rows("u") / BOHR_PER_ANGSTROM,
        energies,
        rows("forces") * BOHR_PER_ANGSTROM,
        rows("pressures") if with_stress else None,
    )


def _table(path: Path) -> np.ndarray:
    """Numbers of a text file."""
    again = "copy it again from where python-sscha wrote it"
    with reading(path, again):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if not lines or not lines[-1].endswith("\n"):
            raise InputError(f"{path} is cut short: its last line does not end; {again}")
        return np.loadtxt(lines, ndmin=1)

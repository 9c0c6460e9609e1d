"""λ_qν that ph.x prints for its own phonons: ``<fildyn>N.elph.N`` of ``lambda_tetra`` and ``simple``.

No Cartesian matrix is in these files, so that neither other phonons nor other masses can be used. But λ and
ω² of every mode are there, and the dyn files beside them hold the weights of the q: enough for α²F, λ, ω_log
and Tc, on shifted grids too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.phonons.qe_text import read_dyn_file
from himlip_ase.superconductivity.elph_files import read_text
from himlip_ase.superconductivity.spectrum import Problem, Spectrum

_NAME = re.compile(r"(?P<dyn>.+?(?P<number>\d+))\.elph\.(?P=number)(\.gz)?")
_NUMBER = r"[-+]?\d*\.?\d+(?:[EeDd][-+]?\d+)?"


@dataclass(frozen=True)
class PrintedModes:
    """Couplings of every mode of a q-grid, as printed.

    Attributes
    ----------
    folder : Path
    dims : tuple of 3 int
    sigma_ry : tuple of float
        Broadenings, Ry; empty for tetrahedra.
    spectra : tuple of Spectrum
        One for each broadening, or the one of the tetrahedra.
    """

    folder: Path
    dims: tuple[int, int, int]
    sigma_ry: tuple[float, ...]
    spectra: tuple[Spectrum, ...]


@dataclass(frozen=True)
class _OneQ:
    path: Path
    star: np.ndarray
    omega2_ry2: np.ndarray
    sigma_ry: tuple[float, ...]
    lambdas: np.ndarray


def mode_files(folder: str | Path) -> list[Path]:
    """The ``*.elph.N`` files of a folder, by N; empty if there are none.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    list of Path
    """
    found = {
        int(match["number"]): path
        for path in sorted(Path(folder).glob("*.elph.*"))
        if (match := _NAME.fullmatch(path.name))
    }
    return [found[number] for number in sorted(found)]


def read_printed_modes(folder: str | Path) -> PrintedModes:
    """Read the ``*.elph.N`` files of a ph.x run, with the dyn files beside them.

    Parameters
    ----------
    folder : path-like
        Where ph.x wrote ``fildyn``.

    Returns
    -------
    PrintedModes

    Raises
    ------
    InputError
        No such files; one missing, truncated or overflowed; a dyn file missing or of another q; a grid whose
        stars do not add up.
    """
    folder = Path(folder)
    paths = mode_files(folder)
    if not paths:
        raise InputError(
            f"{folder} holds no *.elph.N files of ph.x (electron_phonon='lambda_tetra' or 'simple')"
        )
    match = _NAME.fullmatch(paths[0].name)
    assert match is not None
    prefix = match["dyn"].removesuffix(match["number"])
    dims, listed = _grid(_existing(folder / f"{prefix}0"))
    if len(paths) != len(listed):
        raise InputError(
            f"{folder} holds {len(paths)} *.elph.N files, {prefix}0 lists {len(listed)} q-points: rerun "
            f"ph.x for those "
            "that are missing (start_q, last_q)"
        )
    points = [_one_q(path, listed[number]) for number, path in enumerate(paths)]
    weights = _weights(points, dims)
    sigmas = {point.sigma_ry for point in points}
    if len(sigmas) != 1:
        raise InputError(
            f"{folder}: the *.elph.N files have other broadenings among themselves: different runs"
        )
    sigma_ry = sigmas.pop()
    spectra = tuple(_spectrum(points, weights, place, sigma_ry) for place in range(max(len(sigma_ry), 1)))
    return PrintedModes(folder, dims, sigma_ry, spectra)


def _existing(path: Path) -> Path:
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise InputError(f"{path} is not there; put it beside the *.elph.N files, whose q-points it weighs")


def _grid(path: Path) -> tuple[tuple[int, int, int], np.ndarray]:
    words = read_text(path).replace("D", "E").split()
    try:
        n1, n2, n3, count = (int(word) for word in words[:4])
        points = np.array(words[4 : 4 + 3 * count], dtype=float).reshape(count, 3)
    except ValueError as error:
        raise InputError(f"{path} is not the list of q-points of ph.x (fildyn0): {error}") from error
    return (n1, n2, n3), points


def _one_q(path: Path, qpoint: np.ndarray) -> _OneQ:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    text = read_text(path)
    for number, line in enumerate(text.split("\n"), start=1):
        if "*" in line or re.search(r"\bnan\b", line, re.IGNORECASE):
            raise InputError(
                f"{path}, line {number}: {line.strip()!r} holds no number; rerun ph.x for that q-point"
            )
    first = text.split("\n", 1)[0].split()
    try:
        here, modes = np.array([float(first[place]) for place in range(3)]), int(first[-1])
        head = re.split(r"Gaussian|Tetrahedron", text, maxsplit=1)[0].split("\n", 1)[1]
        omega2 = np.array([float(w.replace("D", "E")) for w in re.findall(_NUMBER, head)])
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is not a *.elph.N file of ph.x ({error})") from error
    if np.abs(here - qpoint).max() > 1e-6:
        raise InputError(
            f"{path} is of q = {here.tolist()}, the list of q-points has {qpoint.tolist()}: another run"
        )
    sigma = tuple(float(w) for w in re.findall(rf"Broadening:\s*({_NUMBER})\s*Ry", text))
    if not sigma and "Tetrahedron" not in text:
        raise InputError(f"{path} names neither a broadening nor tetrahedra: it is truncated")
    rows = re.findall(rf"lambda\(\s*\d+\)=\s*({_NUMBER})\s+gamma=\s*{_NUMBER}\s+GHz", text)
    sets = max(len(sigma), 1)
    if len(omega2) != modes or len(rows) != sets * modes:
        raise InputError(
            f"{path} announces {modes} modes and holds {len(omega2)} frequencies and {len(rows)} lines of "
            f"λ of {sets} "
            "sets: it is truncated; rerun ph.x for that q-point"
        )
    dyn = read_dyn_file(_existing(path.with_name(match["dyn"])))
    star = dyn.qpoints @ (dyn.header.atoms.cell.array / dyn.header.alat).T
    return _OneQ(path, star, omega2, sigma, np.array(rows, dtype=float).reshape(sets, modes))


def _weights(points: list[_OneQ], dims: tuple[int, int, int]) -> np.ndarray:
    """How many points of the grid each star holds.

    A shifted grid is not mapped onto itself by every operation, so that a star may leave it: its members are
    looked up one by one.
    """
    grid = np.array(dims)
    scaled = points[0].star[0] * grid
    shift = np.where(np.abs(scaled - np.rint(scaled)) < 1e-3, 0.0, 0.5)
    owner = np.full(int(np.prod(dims)), -1)
    for place, point in enumerate(points):
        steps = point.star * grid - shift
        inside = np.abs(steps - np.rint(steps)).max(axis=1) < 1e-3
        found = np.ravel_multi_index(tuple((np.rint(steps[inside]).astype(int) % grid).T), dims)
        if len(found) == 0 or not np.isin(owner[found], (-1, place)).all():
            raise InputError(
                f"{point.path}: the star of its dyn file is off the grid {'×'.join(map(str, dims))}, or "
                f"belongs to "
                "another q-point too: files of different runs"
            )
        owner[found] = place
    if (owner < 0).any():
        raise InputError(
            f"{points[0].path.parent}: {int((owner < 0).sum())} of the {len(owner)} q-points of the grid "
            f"belong to no "
            "star: files of different runs, or some are missing"
        )
    return np.bincount(owner, minlength=len(points)) / len(owner)


def _spectrum(points: list[_OneQ], weights: np.ndarray, place: int, sigma_ry: tuple[float, ...]) -> Spectrum:
    energies: list[float] = []
    lambdas: list[float] = []
    unstable = []
    for point, weight in zip(points, weights, strict=True):
        for omega2, value in zip(point.omega2_ry2, point.lambdas[place], strict=True):
            if value != 0 and omega2 > 0:
                energies.append(float(np.sqrt(omega2)) * units.RY_EV)
                lambdas.append(float(value * weight))
            elif omega2 < -((0.5 / units.RY_CM) ** 2):
                unstable.append(f"{np.sqrt(-omega2) * units.RY_CM:.1f}i cm⁻¹ of {point.path.name}")
    problems: tuple[Problem, ...] = ()
    if unstable:
        more = f"; and {len(unstable) - 6} more" if len(unstable) > 6 else ""
        text = f"{len(unstable)} imaginary modes, left out of the sum: {'; '.join(unstable[:6])}{more}"
        problems = (Problem("imaginary", text),)
    how = f"σ = {sigma_ry[place]:g} Ry" if sigma_ry else "tetrahedra"
    caveats = (
        f"λ_qν as ph.x prints them for its own phonons (four decimals), {how}, summed over the whole grid",
    )
    return Spectrum(np.array(energies), np.array(lambdas), problems, caveats)

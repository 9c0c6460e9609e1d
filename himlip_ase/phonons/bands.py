"""Phonon bands along high-symmetry paths (seekpath) and densities of states (phonopy)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.lattice import check_dims
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.units import THZ_CM


@dataclass(frozen=True, eq=False)
class BandPath:
    """A path through the Brillouin zone.

    Attributes
    ----------
    labels : tuple of (str, str)
        Names of the ends of each segment ("Γ", "X", …).
    qpoints : tuple of (k, 3) ndarray
        Points of each segment, fractional in the reciprocal primitive basis; both ends included.
    distances : tuple of (k,) ndarray
        Length along the path in Å⁻¹ (with 2π), not counting jumps between segments.
    """

    labels: tuple[tuple[str, str], ...]
    qpoints: tuple[np.ndarray, ...]
    distances: tuple[np.ndarray, ...]

    def directions(self) -> tuple[np.ndarray, ...]:
        """Fractional direction of each segment, for each of its points (k, 3): how Γ is approached on it."""
        return tuple(np.broadcast_to(q[-1] - q[0], q.shape) for q in self.qpoints)

    def ticks(self) -> tuple[list[float], list[str]]:
        """Positions and labels of the special points; a jump reads "X|K"."""
        positions, names = [float(self.distances[0][0])], [self.labels[0][0]]
        for i, (start, end) in enumerate(self.labels):
            if start != names[-1]:
                names[-1] += f"|{start}"
            positions.append(float(self.distances[i][-1]))
            names.append(end)
        return positions, names


@dataclass(frozen=True, eq=False)
class BandStructure:
    """Phonon bands along a path.

    Attributes
    ----------
    path : BandPath
    frequencies : tuple of (k, 3n) ndarray
        For each segment, in cm⁻¹, ascending at each q, imaginary ones negative.
    """

    path: BandPath
    frequencies: tuple[np.ndarray, ...]

    def minimum(self) -> tuple[float, np.ndarray]:
        """Lowest frequency (cm⁻¹) and the q-point (fractional) where it stands."""
        values = np.concatenate([f[:, 0] for f in self.frequencies])
        qpoints = np.concatenate(self.path.qpoints)
        return float(values.min()), qpoints[int(values.argmin())]

    def write(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write a text table: distance (Å⁻¹), q (fractional), frequencies (cm⁻¹), segment by segment.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Whether an existing file may be replaced (`InputError` otherwise).

        Returns
        -------
        Path
        """
        with atomic_write(path, overwrite=overwrite) as stream:
            stream.write("# distance (1/Å), q (fractional), frequencies (1/cm; imaginary negative)\n")
            for labels, q, d, f in zip(
                self.path.labels, self.path.qpoints, self.path.distances, self.frequencies, strict=True
            ):
                stream.write(f"# {labels[0]} - {labels[1]}\n")
                for row in np.column_stack([d, q, f]):
                    stream.write(" ".join(f"{x:.8f}" for x in row) + "\n")
                stream.write("\n")
        return Path(path)


@dataclass(frozen=True, eq=False)
class DensityOfStates:
    """Phonon density of states, total and by element.

    Attributes
    ----------
    frequencies : (m,) ndarray
        cm⁻¹, imaginary ones negative.
    total : (m,) ndarray
        States per cm⁻¹ and primitive cell; the integral is 3n.
    partial : dict of str to (m,) ndarray
        The same, projected on the atoms of each element; they add up to `total`.
    mesh : (int, int, int)
        Γ-centred q-mesh.
    sigma : float
        Width of the Gaussian smearing in cm⁻¹; 0 for the tetrahedron method.
    """

    frequencies: np.ndarray
    total: np.ndarray
    partial: dict[str, np.ndarray]
    mesh: tuple[int, int, int]
    sigma: float

    def write(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write a text table: frequency (cm⁻¹), total and partial densities (states/cm⁻¹/cell).

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Whether an existing file may be replaced (`InputError` otherwise).

        Returns
        -------
        Path
        """
        with atomic_write(path, overwrite=overwrite) as stream:
            stream.write(
                f"# mesh {self.mesh}, sigma {self.sigma:.3f} /cm; "
                "frequency (1/cm), DOS (states cm per cell): total"
            )
            stream.write("".join(f", {symbol}" for symbol in self.partial) + "\n")
            for row in np.column_stack([self.frequencies, self.total, *self.partial.values()]):
                stream.write(" ".join(f"{x:.8g}" for x in row) + "\n")
        return Path(path)


def band_path(primitive: Atoms, npoints: int = 101, symprec: float = 1e-4) -> BandPath:
    """High-symmetry path of a crystal by seekpath (Hinuma et al., Comput. Mater. Sci. 128, 140 (2017)).

    The points are given in the basis of `primitive` as it stands, which need not be seekpath's standard cell.

    Parameters
    ----------
    primitive : Atoms
    npoints : int
        Points on the longest segment; the others get as many as their length asks for, at least two.
    symprec : float
        Tolerance of the symmetry search, Å.

    Returns
    -------
    BandPath

    Raises
    ------
    InputError
        Fewer than two points, or a structure in which no symmetry can be found.
    """
    import seekpath

    if npoints < 2:
        raise InputError(f"npoints must be at least 2; got {npoints}")
    cell = np.asarray(primitive.cell)
    structure = (cell, primitive.get_scaled_positions(), primitive.numbers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = seekpath.get_path_orig_cell(structure, with_time_reversal=True, symprec=symprec)
    except Exception as error:
        raise InputError(f"no band path found for {primitive.get_chemical_formula()}: {error}") from error
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    points = {name: np.asarray(q, dtype=float) for name, q in found["point_coords"].items()}
    segments = [(a, b) for a, b in found["path"]]
    lengths = [float(np.linalg.norm((points[b] - points[a]) @ reciprocal)) for a, b in segments]
    labels, qpoints, distances = [], [], []
    travelled = 0.0
    for (a, b), length in zip(segments, lengths, strict=True):
        t = np.linspace(0, 1, max(2, int(np.ceil(npoints * length / max(lengths)))))
        labels.append((_pretty(a), _pretty(b)))
        qpoints.append(points[a] + t[:, None] * (points[b] - points[a]))
        distances.append(travelled + t * length)
        travelled += length
    return BandPath(tuple(labels), tuple(qpoints), tuple(distances))


def _pretty(name: str) -> str:
    name = {"GAMMA": "Γ", "SIGMA": "Σ", "DELTA": "Δ", "LAMBDA": "Λ"}.get(name.partition("_")[0], name)
    return name if "_" not in name else name.replace("_", "$_{", 1) + "}$"


def band_structure(fc: ForceConstants, npoints: int = 101, path: BandPath | None = None) -> BandStructure:
    """Phonon bands of force constants; with Born charges, Γ has the LO–TO splitting of each segment.

    Parameters
    ----------
    fc : ForceConstants
    npoints : int
        Points on the longest segment, where `path` is not given.
    path : BandPath, optional
        Follow this path, for example another set's ``bands.path``, so that both can be drawn into one figure.

    Returns
    -------
    BandStructure
    """
    path = path if path is not None else band_path(fc.primitive, npoints)
    frequencies = fc.frequencies(np.concatenate(path.qpoints), np.concatenate(path.directions()))
    cuts = np.cumsum([len(q) for q in path.qpoints])[:-1]
    return BandStructure(path, tuple(np.split(frequencies, cuts)))


def dos(
    fc: ForceConstants, mesh: Sequence[int] = (20, 20, 20), npoints: int = 400, sigma: float | None = None
) -> DensityOfStates:
    """Phonon density of states on a Γ-centred mesh by phonopy.

    Parameters
    ----------
    fc : ForceConstants
    mesh : three integers
    npoints : int
        Frequencies at which the density is given.
    sigma : float, optional
        Width of the Gaussian smearing in cm⁻¹; by default 1/150 of the range of frequencies. 0 asks for the
        linear tetrahedron method, which is slower.

    Returns
    -------
    DensityOfStates
    """
    mesh = check_dims(mesh)
    if npoints < 2 or (sigma is not None and not sigma >= 0):
        raise InputError(f"npoints must be at least 2 and sigma not negative; got {npoints} and {sigma}")
    ph = fc._phonopy
    ph.run_mesh(mesh, with_eigenvectors=True, is_mesh_symmetry=False, is_gamma_center=True)
    points: Any = ph.mesh
    values = np.asarray(points.frequencies)
    span = max(float(np.ptp(values)), 1e-6)
    width = span / 150 if sigma is None else sigma / THZ_CM
    margin = max(5 * width, 0.02 * span)
    low, high = float(values.min()) - margin, float(values.max()) + margin
    ph.run_projected_dos(
        sigma=width or None,
        freq_min=low,
        freq_max=high,
        freq_pitch=(high - low) / (npoints - 1),
        use_tetrahedron_method=width == 0,
    )
    assert ph.projected_dos is not None
    projected = np.asarray(ph.projected_dos.projected_dos) / THZ_CM
    symbols = fc.primitive.get_chemical_symbols()
    partial = {
        s: projected[[i for i, other in enumerate(symbols) if other == s]].sum(axis=0)
        for s in dict.fromkeys(symbols)
    }
    frequencies = np.asarray(ph.projected_dos.frequency_points) * THZ_CM
    return DensityOfStates(frequencies, projected.sum(axis=0), partial, mesh, width * THZ_CM)

"""What a k-check found: Φ(q) at the tested q-points on several k-meshes, the verdict, and its files.

They lie beside the dyn files of a harmonic run, or of published labels::

    k_check/k_check.json        frequencies on each mesh, the k-error of each frequency of the run, verdict
    k_check/dyn_12x12x12 …      Φ(q) at the first tested q-point on each mesh, as ph.x wrote it
    k_check/dyn_gamma_18x18x18 … the same at Γ
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import write_json
from himlip_ase.lattice import grid_indices
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.k_error import KMeshChange
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.phonons.qe_text import read_dyn_file

Grid = tuple[int, int, int]

FOLDER = "k_check"
TOLERANCE_CM = 10.0
"""cm⁻¹; a mesh does if no frequency at the tested q-points moves by more on the densest one."""
RULE = (
    "ω² ± (Σ_a (e_a† B_a e_a)^½)², B_a the diagonal block of |ΔD| for atom a at a tested q-point, the "
    "worst over the space group and the tested points: the mesh is taken to move the same motions of the "
    "same atoms no more than there"
)


@dataclass(frozen=True, eq=False)
class KCheck:
    """A few q-points on several k-meshes, the mesh of the labels first, the densest last.

    Attributes
    ----------
    primitive : Atoms
    qpoints : (nq, 3) ndarray
        In units of the reciprocal vectors.
    meshes : tuple of grids
    matrices : (nq, meshes, 3n, 3n) complex ndarray
        Φ(q), eV/Å².
    tolerance_cm : float
    core_seconds : float
        CPU time of the check.
    k_shift : bool
        Whether all meshes are shifted by half a step.
    """

    primitive: Atoms
    qpoints: np.ndarray
    meshes: tuple[Grid, ...]
    matrices: np.ndarray
    tolerance_cm: float = TOLERANCE_CM
    core_seconds: float = 0.0
    k_shift: bool = False

    def changes(self, mesh: int = 0) -> list[KMeshChange]:
        """From a mesh, by its number, to the densest: one for each q-point."""
        return [
            KMeshChange(self.primitive, q, own[mesh], own[-1])
            for q, own in zip(self.qpoints, self.matrices, strict=True)
        ]

    def shifts(self) -> list[float]:
        """Largest change of a frequency from each mesh but the last to the densest, cm⁻¹."""
        return [
            max(change.largest_shift() for change in self.changes(mesh))
            for mesh in range(len(self.meshes) - 1)
        ]

    def errors(self, matrices: DynamicalMatrices) -> np.ndarray:
        """The k-error of every frequency of other matrices, by the q-point that says most of it.

        Parameters
        ----------
        matrices : DynamicalMatrices
            As `KMeshChange.errors` takes them.

        Returns
        -------
        (nq, 3n) ndarray
            cm⁻¹.
        """
        return np.max([change.errors(matrices) for change in self.changes()], axis=0)

    def enough(self) -> Grid | None:
        """The first mesh from which on no frequency moves by more than the tolerance; None: none tried."""
        found = None
        for mesh, shift in zip(reversed(self.meshes[:-1]), reversed(self.shifts()), strict=True):
            if shift > self.tolerance_cm:
                break
            found = mesh
        return found

    @property
    def converged(self) -> bool:
        """Whether the mesh of the labels does."""
        return self.enough() == self.meshes[0]

    def verdict(self) -> str:
        """What the check found and which mesh would do, in a sentence or two."""
        labels, densest, shift = times(self.meshes[0]), times(self.meshes[-1]), self.shifts()[0]
        moved = [change.largest_shift() for change in self.changes()]
        worst = self.qpoints[int(np.argmax(moved))]
        where = f"at q = ({', '.join(f'{x:.4g}' for x in worst)})"
        points = "shifted k" if self.k_shift else "k"
        found = f"from {labels} to {densest} {points} a frequency {where} moves by {shift:.0f} cm⁻¹"
        enough = self.enough()
        if self.converged:
            return f"{found}, within {self.tolerance_cm:g}: the k-mesh is good enough"
        if enough is not None:
            return f"{found}, more than {self.tolerance_cm:g}; {times(enough)} {points} would do"
        following = times(denser(self.meshes[-1]))
        return (
            f"{found}, more than {self.tolerance_cm:g}; no mesh tried is known to do. "
            f"Test {densest} against {following} {points}, or a larger smearing, before labels are made"
        )


def denser(mesh: Sequence[int]) -> Grid:
    """The mesh to test another against: half as many points again along each direction.

    Parameters
    ----------
    mesh : three ints

    Returns
    -------
    three ints
    """
    return tuple(math.ceil(1.5 * k) for k in mesh)  # type: ignore[return-value]


def write_k_check(check: KCheck, matrices: DynamicalMatrices, folder: str | os.PathLike) -> Path:
    """Write k_check.json with the k-error of each frequency of the run.

    Parameters
    ----------
    check : KCheck
    matrices : DynamicalMatrices
        Of the run.
    folder : path-like
        Of the run.

    Returns
    -------
    Path
        The file.
    """
    errors = check.errors(matrices)
    frequencies = matrices.frequencies()
    data = {
        "schema": 2,
        "tolerance_cm": check.tolerance_cm,
        "points": [
            {
                "qpoint": np.round(q, 10).tolist(),
                "meshes": [
                    {
                        "k_grid": list(mesh),
                        "dyn": dyn_name(mesh, number),
                        "frequencies_cm": row.round(3).tolist(),
                    }
                    for mesh, row in zip(check.meshes, _frequencies(check.primitive, q, own), strict=True)
                ],
            }
            for number, (q, own) in enumerate(zip(check.qpoints, check.matrices, strict=True))
        ],
        **({"k_shift": True} if check.k_shift else {}),
        "largest_shift_cm": [round(x, 3) for x in check.shifts()],
        "converged": check.converged,
        "verdict": check.verdict(),
        "rule": RULE,
        "core_seconds": round(check.core_seconds, 2),
        "q_grid": list(matrices.dims),
        "frequencies": [
            {
                "q": np.round(q, 8).tolist(),
                "frequencies_cm": f.round(3).tolist(),
                "k_error_cm": e.round(1).tolist(),
            }
            for q, f, e in zip(matrices.qpoints, frequencies, errors, strict=True)
        ],
    }
    path = Path(folder) / FOLDER / "k_check.json"
    write_json(path, data, overwrite=True)
    return path


def read_k_check(folder: str | os.PathLike) -> KCheck | None:
    """The k-check beside the dyn files of a harmonic run or of published labels.

    Parameters
    ----------
    folder : path-like
        Holds dyn0 and k_check/.

    Returns
    -------
    KCheck or None
        None where there is no check.

    Raises
    ------
    InputError
        It is not complete.
    """
    place = Path(folder) / FOLDER
    path = place / "k_check.json"
    if not path.is_file():
        return None
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        own = read_dyn(Path(folder) / "dyn0")
        points = data["points"] if "points" in data else [data]  # schema 1 had one
        meshes: list[Grid] = [tuple(entry["k_grid"]) for entry in points[0]["meshes"]]
        qpoints = np.array([point["qpoint"] for point in points], dtype=float)
        found = [
            _read_point(place, point["meshes"], q, own) for point, q in zip(points, qpoints, strict=True)
        ]
        tolerance, spent = float(data["tolerance_cm"]), float(data["core_seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a complete k-check ({error}); make it again with --check-k"
        ) from error
    return KCheck(
        own.primitive,
        qpoints,
        tuple(meshes),
        np.array(found),
        tolerance,
        spent,
        bool(data.get("k_shift", False)),
    )


def _read_point(
    place: Path, entries: Sequence[dict[str, Any]], q: np.ndarray, own: DynamicalMatrices
) -> list[np.ndarray]:
    on_grid = int(grid_indices(q, own.dims)[0])
    return [
        own.matrices[on_grid] if number == 0 and on_grid >= 0 else read_matrix(place / entry["dyn"], q)
        for number, entry in enumerate(entries)
    ]


def published_files(folder: str | os.PathLike) -> list[Path]:
    """What of a k-check belongs to the labels: k_check.json and the dyn files; empty where there is none.

    Parameters
    ----------
    folder : path-like
        Of the harmonic run.

    Returns
    -------
    list of Path
    """
    place = Path(folder) / FOLDER
    record = place / "k_check.json"
    return [record, *sorted(place.glob("dyn_*"))] if record.is_file() else []


def read_matrix(path: Path, q: np.ndarray) -> np.ndarray:
    """Φ(q) of a dyn file of one q-point and its star.

    Parameters
    ----------
    path : Path
    q : (3,) ndarray
        In units of the reciprocal vectors.

    Returns
    -------
    (3n, 3n) complex ndarray
        eV/Å².

    Raises
    ------
    InputError
        The file holds other q-points.
    """
    dyn = read_dyn_file(path)
    cell = dyn.header.atoms.cell.array
    difference = dyn.qpoints / dyn.header.alat @ cell.T - q
    place = np.abs(difference - np.rint(difference)).max(axis=1)
    if place.min() > 1e-4:
        raise InputError(f"{path} does not hold q = {q.tolist()}: it is of another check")
    return dyn.matrices[int(place.argmin())]


def mesh_name(mesh: Sequence[int]) -> str:
    """A mesh in the name of a file: 12x12x12."""
    return "x".join(map(str, mesh))


def run_name(mesh: Sequence[int], point: int = 0) -> str:
    """Folder of the run at a tested q-point on a mesh.

    Parameters
    ----------
    mesh : three ints
    point : int
        Number of the q-point: 0 the telling one, 1 Γ.

    Returns
    -------
    str
    """
    return f"gamma_{mesh_name(mesh)}" if point else mesh_name(mesh)


def dyn_name(mesh: Sequence[int], point: int = 0) -> str:
    """File of Φ(q) of a run, inside `FOLDER`.

    Parameters
    ----------
    mesh, point
        As `run_name`.

    Returns
    -------
    str
    """
    return f"dyn_{run_name(mesh, point)}"


def times(mesh: Sequence[int]) -> str:
    """A mesh in words: 12×12×12."""
    return "×".join(map(str, mesh))


def _frequencies(primitive: Atoms, q: np.ndarray, matrices: np.ndarray) -> list[np.ndarray]:
    return [KMeshChange(primitive, q, matrix, matrix).frequencies()[0] for matrix in matrices]

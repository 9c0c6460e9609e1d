"""Is the k-mesh of a harmonic run good enough? One q-point on a denser mesh, and an error for the others.

Written beside the dyn files::

    k_check/k_check.json        frequencies on each mesh, the k-error of each frequency of the run, verdict
    k_check/dyn_12x12x12 …      Φ(q) at the tested q-point on each mesh, as ph.x wrote it
    k_check/12x12x12/ …         the runs themselves
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.dft.espresso.harmonic import PH_RETRIES
from himlip_ase.dft.espresso.inputs import PREFIX, SCRATCH, QESettings, essential_ph_input, pw_input
from himlip_ase.dft.espresso.ph_files import check_dyn, check_ph_output, ph_core_seconds
from himlip_ase.dft.espresso.runner import (
    Launcher,
    check_input_unchanged,
    note_pw,
    run_pw,
)
from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.other_request import OtherRequest
from himlip_ase.dft.programs import NotRun, RunLock, are_noted, note, run_program
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import atomic_write, write_json
from himlip_ase.labels.espresso_ends import check_finished
from himlip_ase.labels.pw_output import parse_pw_output
from himlip_ase.lattice import grid_indices
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.k_error import KMeshChange, telling_qpoint
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.phonons.qe_text import read_dyn_file
from himlip_ase.symmetry.operations import crystal_operations

FOLDER = "k_check"
TOLERANCE_CM = 10.0
"""cm⁻¹; a mesh does if no frequency at the tested q-point moves by more on the densest one."""
RULE = (
    "ω² ± (Σ_a (e_a† B_a e_a)^½)², B_a the diagonal block of |ΔD| for atom a at the tested q-point, the "
    "worst over the space group: the mesh is taken to move the same motions of the same atoms no more "
    "than there"
)
logger = logging.getLogger(__name__)

Grid = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class KCheck:
    """One q-point on several k-meshes, the mesh of the labels first, the densest last.

    Attributes
    ----------
    primitive : Atoms
    qpoint : (3,) ndarray
        In units of the reciprocal vectors.
    meshes : tuple of grids
    matrices : (meshes, 3n, 3n) complex ndarray
        Φ(q), eV/Å².
    tolerance_cm : float
    core_seconds : float
        CPU time of the check.
    """

    primitive: Atoms
    qpoint: np.ndarray
    meshes: tuple[Grid, ...]
    matrices: np.ndarray
    tolerance_cm: float = TOLERANCE_CM
    core_seconds: float = 0.0

    @property
    def change(self) -> KMeshChange:
        """From the mesh of the labels to the densest."""
        return KMeshChange(self.primitive, self.qpoint, self.matrices[0], self.matrices[-1])

    def shifts(self) -> list[float]:
        """Largest change of a frequency from each mesh but the last to the densest, cm⁻¹."""
        return [
            KMeshChange(self.primitive, self.qpoint, matrix, self.matrices[-1]).largest_shift()
            for matrix in self.matrices[:-1]
        ]

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
        labels, densest, shift = _times(self.meshes[0]), _times(self.meshes[-1]), self.shifts()[0]
        where = f"at q = ({', '.join(f'{x:.4g}' for x in self.qpoint)})"
        found = f"from {labels} to {densest} k a frequency {where} moves by {shift:.0f} cm⁻¹"
        enough = self.enough()
        if self.converged:
            return f"{found}, within {self.tolerance_cm:g}: the k-mesh is good enough"
        if enough is not None:
            return f"{found}, more than {self.tolerance_cm:g}; {_times(enough)} k would do"
        following = _times(denser(self.meshes[-1]))
        return (
            f"{found}, more than {self.tolerance_cm:g}; no mesh tried is known to do. "
            f"Test {densest} against {following} k, or a larger smearing, before labels are made"
        )


def check_k(
    atoms: Atoms,
    folder: str | os.PathLike,
    settings: QESettings,
    launcher: Launcher | None = None,
    *,
    meshes: Sequence[Sequence[int]] = (),
    qpoint: Sequence[float] | None = None,
    tolerance_cm: float = TOLERANCE_CM,
    executor: JobExecutor | None = None,
) -> KCheck:
    """Repeat one q-point of a finished harmonic run on denser k-meshes and write ``k_check/`` beside it.

    What is finished already is kept.

    Parameters
    ----------
    atoms : Atoms
        Primitive cell of the run.
    folder : path-like
        Folder of the harmonic run, which holds dyn0, dyn1, …
    settings : QESettings
        Those of the run.
    launcher : Launcher, optional
    meshes : sequence of three ints each
        Denser k-meshes, ascending; default: one, `denser` than that of the run.
    qpoint : three floats, optional
        In units of the reciprocal vectors; default `telling_qpoint`. A point of the run's q-grid saves the
        run on the mesh of the labels.
    tolerance_cm : float
        A mesh does if no frequency at the tested q-point moves by more on the densest one.
    executor : JobExecutor, optional
        Where the programs run; None: here.

    Returns
    -------
    KCheck

    Raises
    ------
    InputError
        A mesh that is not denser, a folder without a harmonic run or with another check.
    NotConvergedError, CalculationError
        A run failed.
    """
    folder, launcher = Path(folder), launcher or Launcher()
    matrices = read_dyn(folder / "dyn0")
    ladder = _ladder(settings.k_grid, meshes)
    q = telling_qpoint(matrices) if qpoint is None else np.asarray(qpoint, dtype=float)
    if q.shape != (3,) or not np.isfinite(q).all():
        raise InputError(f"the q-point of the k-check is {qpoint}; give three numbers, e.g. 0.3333 0 0")
    on_grid = int(grid_indices(q, matrices.dims)[0])
    todo = ladder[1:] if on_grid >= 0 else ladder
    _say_cost(folder, matrices, q, settings.k_grid, todo)
    found: dict[Grid, np.ndarray] = {}
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    core_seconds = 0.0
    with RunLock(place):
        for mesh in todo:
            job = (atoms, q, settings.with_k_grid(mesh), place.absolute(), launcher)
            try:
                found[mesh], spent = executor.call(_matrix_at, *job) if executor else _matrix_at(*job)
            except NotRun:
                continue
            core_seconds += spent
        if len(found) < len(todo):
            raise NotRun(f"{place}: noted, not run")
    if on_grid >= 0:
        found[ladder[0]] = matrices.matrices[on_grid]
    check = KCheck(
        matrices.primitive,
        q,
        ladder,
        np.array([found[mesh] for mesh in ladder]),
        tolerance_cm,
        core_seconds,
    )
    write_k_check(check, matrices, folder)
    logger.log(logging.INFO if check.converged else logging.WARNING, "k-check: %s", check.verdict())
    return check


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
    errors = check.change.errors(matrices)
    frequencies = matrices.frequencies()
    data = {
        "schema": 1,
        "qpoint": np.round(check.qpoint, 10).tolist(),
        "tolerance_cm": check.tolerance_cm,
        "meshes": [
            {"k_grid": list(mesh), "dyn": _dyn_name(mesh), "frequencies_cm": row.round(3).tolist()}
            for mesh, row in zip(check.meshes, _frequencies(check), strict=True)
        ],
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
        q = np.array(data["qpoint"], dtype=float)
        meshes: list[Grid] = [tuple(entry["k_grid"]) for entry in data["meshes"]]
        on_grid = int(grid_indices(q, own.dims)[0])
        found = [
            own.matrices[on_grid] if number == 0 and on_grid >= 0 else _read_matrix(place / entry["dyn"], q)
            for number, entry in enumerate(data["meshes"])
        ]
        tolerance, spent = float(data["tolerance_cm"]), float(data["core_seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a complete k-check ({error}); make it again with --check-k"
        ) from error
    return KCheck(own.primitive, q, tuple(meshes), np.array(found), tolerance, spent)


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


def _frequencies(check: KCheck) -> list[np.ndarray]:
    return [
        KMeshChange(check.primitive, check.qpoint, matrix, matrix).frequencies()[0]
        for matrix in check.matrices
    ]


def _ladder(labels: Grid, meshes: Sequence[Sequence[int]]) -> tuple[Grid, ...]:
    ladder = [_grid(labels)]
    for mesh in meshes or (denser(labels),):
        grid = _grid(mesh)
        if grid == ladder[-1] or any(new < old for new, old in zip(grid, ladder[-1], strict=True)):
            raise InputError(
                f"the k-check needs a mesh denser than {_times(ladder[-1])}, not {_times(grid)}; "
                f"give e.g. --check-k-mesh {' '.join(map(str, denser(ladder[-1])))}"
            )
        ladder.append(grid)
    return tuple(ladder)


def _grid(mesh: Sequence[int]) -> Grid:
    if len(mesh) != 3:
        raise InputError(f"a k-mesh has three numbers, not {_times(mesh)}")
    return int(mesh[0]), int(mesh[1]), int(mesh[2])


def _say_cost(
    folder: Path, matrices: DynamicalMatrices, q: np.ndarray, labels: Grid, todo: Sequence[Grid]
) -> None:
    """The cost scales as (k-points) / (order of the group of q); the harmonic run shows the rest."""
    spent = ph_core_seconds(folder)
    left = [mesh for mesh in todo if not (folder / FOLDER / _dyn_name(mesh)).is_file()]
    if not spent or not left:
        return
    orders = _little_orders(matrices.primitive, np.concatenate([matrices.qpoints, q[None]]))
    # a star of s points costs once 1/order = s/|G|: summed over the grid, each point counts 1/|G|
    own = len(matrices.qpoints) / _little_orders(matrices.primitive, np.zeros((1, 3)))[0]
    minutes = [spent / 60 / own / orders[-1] * np.prod(mesh) / np.prod(labels) for mesh in left]
    logger.info(
        "k-check at q = (%s) on %s k: about %.0f core-minutes (the harmonic run took %.0f)",
        ", ".join(f"{x:.4g}" for x in q),
        " and ".join(_times(mesh) for mesh in left),
        sum(minutes),
        spent / 60,
    )


def _little_orders(primitive: Atoms, qpoints: np.ndarray) -> np.ndarray:
    """Number of operations of the point group that leave each q-point where it is, modulo G."""
    rotations = crystal_operations(primitive, (1, 1, 1), symprec=1e-4).rotations
    cell = primitive.cell.array
    orders = np.zeros(len(qpoints), dtype=int)
    for rotation in np.unique(np.round(rotations, 8), axis=0):
        moved = qpoints @ np.linalg.inv(cell).T @ rotation.T @ cell.T - qpoints
        orders += np.abs(moved - np.rint(moved)).max(axis=1) < 1e-4
    return orders


def _matrix_at(
    atoms: Atoms, q: np.ndarray, settings: QESettings, place: Path, launcher: Launcher
) -> tuple[np.ndarray, float]:
    """Φ(q) of one mesh and its CPU seconds; a finished run is read."""
    folder, kept = place / _name(settings.k_grid), place / _dyn_name(settings.k_grid)
    folder.mkdir(exist_ok=True)
    text = single_q_input(q, atoms)
    old = folder / "ph.in"
    if old.is_file() and essential_ph_input(old.read_text()).strip() != essential_ph_input(text).strip():
        raise OtherRequest(f"{old} is of another q-point; delete {folder}, or choose that q-point", folder)
    scf_text = pw_input(atoms, settings)
    check_input_unchanged(folder, scf_text, "scf")
    if not kept.is_file() and (folder / "dyn").is_file() and _is_finished(folder, folder / "dyn", atoms):
        shutil.copyfile(folder / "dyn", kept)  # run elsewhere
    if not _is_finished(folder, kept, atoms) and are_noted():
        note_pw(folder, scf_text, launcher, "scf")
        with atomic_write(folder / "ph.in", overwrite=True) as stream:
            stream.write(text)
        note(folder, launcher.command(launcher.ph, "ph.in"), "ph.out")
        raise NotRun(f"{folder}: noted, not run")
    if not _is_finished(folder, kept, atoms):
        logger.info("k-check: %s k, scf and ph.x at one q-point", _times(settings.k_grid))
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        run_pw(folder, scf_text, launcher, stem="scf", delete_scratch=False, reuse=False)
        _run_ph(folder, q, atoms, launcher)
        shutil.copyfile(folder / "dyn", kept)
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    spent = ph_core_seconds(folder) + parse_pw_output((folder / "scf.out").read_text()).core_seconds
    return _read_matrix(kept, q), spent


def _is_finished(folder: Path, kept: Path, atoms: Atoms) -> bool:
    try:
        check_dyn(kept, atoms)
        check_finished((folder / "scf.out").read_text(), str(folder / "scf.out"))
        check_ph_output((folder / "ph.out").read_text(), str(folder / "ph.out"))
    except (CalculationError, FileNotFoundError):
        return False
    return True


def _run_ph(folder: Path, q: np.ndarray, atoms: Atoms, launcher: Launcher) -> None:
    changes: dict[str, Any] = {}
    for attempt in range(launcher.retries + 1):
        with atomic_write(folder / "ph.in", overwrite=True) as stream:
            stream.write(single_q_input(q, atoms, **changes))
        shutil.rmtree(folder / SCRATCH / "_ph0", ignore_errors=True)
        status = run_program(launcher.command(launcher.ph, "ph.in"), folder, "ph.out", launcher.threads)
        try:
            check_ph_output((folder / "ph.out").read_text(errors="replace"), str(folder / "ph.out"))
            check_dyn(folder / "dyn", atoms)
            if status:
                raise CalculationError(f"{folder / 'ph.out'}: the program ended with exit status {status}")
            return
        except CalculationError as error:
            if attempt == launcher.retries:
                raise type(error)(f"{error} after {attempt + 1} attempts") from error
            changes = PH_RETRIES[attempt]
            logger.warning("%s; repeating it with %s", error, changes or "the same input")


def single_q_input(
    q: Sequence[float] | np.ndarray, atoms: Atoms, *, tr2_ph: float = 1e-14, alpha_mix: float | None = None
) -> str:
    """Text of a ph.x input for the dynamical matrix at one q-point.

    Parameters
    ----------
    q : three floats
        In units of the reciprocal vectors; written in 2π/alat, Cartesian, alat = |a₁| (ibrav = 0).
    atoms : Atoms
        The crystal as pw.x got it.
    tr2_ph : float
        Threshold of the self-consistency of the response.
    alpha_mix : float, optional
        Mixing of the first iterations; None leaves ph.x's 0.7.

    Returns
    -------
    str
    """
    alat = float(np.linalg.norm(atoms.cell[0]))
    cartesian = np.asarray(q) @ atoms.cell.reciprocal() * alat
    mantissa, exponent = f"{tr2_ph:.1e}".split("e")
    lines = [
        "&INPUTPH",
        f"   prefix           = '{PREFIX}'",
        f"   outdir           = '{SCRATCH}'",
        "   fildyn           = 'dyn'",
        f"   tr2_ph           = {mantissa}d{int(exponent)}",
        *([f"   alpha_mix(1)     = {alpha_mix:g}"] if alpha_mix is not None else []),
        "/",
        " ".join(f"{x + 0.0:.12f}" for x in cartesian),
    ]
    return "\n".join([*lines, ""])


def _read_matrix(path: Path, q: np.ndarray) -> np.ndarray:
    """Φ(q) of a dyn file of one q-point and its star."""
    dyn = read_dyn_file(path)
    cell = dyn.header.atoms.cell.array
    difference = dyn.qpoints / dyn.header.alat @ cell.T - q
    place = np.abs(difference - np.rint(difference)).max(axis=1)
    if place.min() > 1e-4:
        raise InputError(f"{path} does not hold q = {q.tolist()}: it is of another check")
    return dyn.matrices[int(place.argmin())]


def _name(mesh: Sequence[int]) -> str:
    return "x".join(map(str, mesh))


def _dyn_name(mesh: Sequence[int]) -> str:
    return f"dyn_{_name(mesh)}"


def _times(mesh: Sequence[int]) -> str:
    return "×".join(map(str, mesh))

"""Labels of many molecules: one at a time, each kept on disk as it comes, one file at the end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock, atomic_write, read_arrays, read_mapping, write_json
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.molecules.labeller import Labeller, MolecularResult
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.progress import ProgressBar

logger = logging.getLogger(__name__)

SCHEMA = 1
REMEDY = "delete it and --resume"


@dataclass(frozen=True)
class MolecularLabels:
    """What a run has labelled.

    Attributes
    ----------
    path : Path
        The file of labels.
    labelled : list of int
        Indices of the structures in it, in its order.
    failed : dict of int to str
        Structures left out, and why.
    missing : list of int
        Structures that the time did not suffice for.
    """

    path: Path
    labelled: list[int]
    failed: dict[int, str]
    missing: list[int]


def record_path(path: str | os.PathLike) -> Path:
    """The JSON file beside a file of labels that says how they were made."""
    return Path(path).with_suffix(".json")


def label_molecules(
    structures: Sequence[Atoms],
    labeller: Labeller,
    out: str | os.PathLike,
    hessian: bool = True,
    set_name: str = "molecules",
    resume: bool = False,
    overwrite: bool = False,
    max_minutes: float | None = None,
    on_molecule: Callable[[int, int], None] | None = None,
) -> MolecularLabels:
    """Label molecules with energies, forces and Hessians.

    Each result is kept in the folder ``<out>.parts`` until all are there; then `out` is written with its
    record (``<out>.json``), and the folder goes unless something was left out.

    Parameters
    ----------
    structures : sequence of Atoms
        Neutral closed-shell molecules; ``info["set"]`` names their set.
    labeller : Labeller
        `himlip_ase.labels.molecules.xtb.GFN2` or `himlip_ase.labels.molecules.wb97x.WB97X`.
    out : path-like
        ``.h5``; see `himlip_ase.labels.store`.
    hessian : bool
        Whether Hessians are calculated.
    set_name : str
        Set of structures that name none.
    resume : bool
        Continue: keep what is finished, try again what failed.
    overwrite : bool
        Begin again, replacing what is there.
    max_minutes : float, optional
        Begin no further molecule after this wall time, and write what is finished.
    on_molecule : callable, optional
        Called with how many are finished or have failed, and the total.

    Returns
    -------
    MolecularLabels
        Failures are logged as errors, listed here and in the record, and are not in the file.

    Raises
    ------
    InputError
        `out` exists or the run was started with other structures or settings; no structures.
    CalculationError
        Not one molecule could be labelled.
    """
    out = Path(out)
    if not structures:
        raise InputError("no structures to label")
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise InputError(f"labels are kept as .h5 or .hdf5; got {out.name!r}")
    parts = out.with_name(out.name + ".parts")
    if not (resume or overwrite) and (out.exists() or parts.exists()):
        raise InputError(f"{out} was started before; continue with --resume or replace it with --overwrite")
    request = {**labeller.settings, "hessians": hessian}
    digest = _digest(structures, request)
    if resume and out.exists() and not parts.exists():
        return _finished(out, digest, len(structures))
    began = time.monotonic()
    with FolderLock(parts):
        _claim(parts, digest, request, overwrite)
        total, failed, missing = len(structures), {}, []
        for index, atoms in enumerate(structures):
            part = parts / f"{index:06d}.npz"
            if not part.exists():
                if max_minutes is not None and time.monotonic() - began > 60 * max_minutes:
                    missing.append(index)
                    continue
                try:
                    _keep(part, *_labelled(atoms, labeller, hessian))
                except (CalculationError, InputError) as error:
                    failed[index] = str(error)
                    logger.error("structure %d is left out: %s", index, error)
            if on_molecule is not None:
                on_molecule(index + 1 - len(missing), total)
        done = [k for k in range(total) if k not in failed and k not in set(missing)]
        if not done:
            why = next(iter(failed.values()), "no time")
            raise CalculationError(f"none of {total} molecules could be labelled; the first: {why}")
        write_labels(
            out, _frames(structures, done, parts, set_name, out.name), overwrite=overwrite or out.exists()
        )
        _write_record(out, digest, request, parts, done, failed, missing)
    if not failed and not missing:
        shutil.rmtree(parts)
    logger.info(
        "%s: %d of %d molecules labelled, %d failed, %d not begun",
        out, len(done), total, len(failed), len(missing),
    )  # fmt: skip
    return MolecularLabels(out, done, failed, missing)


def _labelled(atoms: Atoms, labeller: Labeller, hessian: bool) -> tuple[MolecularResult, float]:
    began = time.process_time()
    result = labeller.calculate(atoms, hessian)
    name = atoms.get_chemical_formula()
    if not (np.isfinite(result.energy) and np.isfinite(result.forces).all()):
        raise CalculationError(f"{name}: energy or forces are not finite")
    if result.hessian is not None:
        try:
            check_hessian(atoms, result.hessian, name)
        except InputError as error:
            raise CalculationError(str(error)) from error
    return result, time.process_time() - began


def _keep(part: Path, result: MolecularResult, seconds: float) -> None:
    values: dict[str, Any] = {
        "energy": result.energy, "forces": result.forces, "sum_rule": result.sum_rule, "seconds": seconds,
    }  # fmt: skip
    if result.hessian is not None:
        values["hessian"] = result.hessian
    with atomic_write(part, "wb", overwrite=True) as stream:
        np.savez(stream, **values)


def _frames(
    structures: Sequence[Atoms], indices: Sequence[int], parts: Path, set_name: str, source: str
) -> Iterator[LabelledFrame]:
    for index in indices:
        atoms = Atoms(structures[index].numbers, positions=structures[index].positions)
        name = f"{source}#{index}"
        part = read_arrays(parts / f"{index:06d}.npz", REMEDY)
        label = HessianLabel(atoms.copy(), part["hessian"], name) if "hessian" in part else None
        yield LabelledFrame(
            atoms, float(part["energy"]), part["forces"], hessian=label,
            set=str(structures[index].info.get("set", set_name)), source=name,
        )  # fmt: skip


def _digest(structures: Sequence[Atoms], request: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode())
    for atoms in structures:
        digest.update(atoms.numbers.astype("<i8").tobytes() + atoms.positions.astype("<f8").tobytes())
    return digest.hexdigest()


def _claim(parts: Path, digest: str, request: dict[str, Any], overwrite: bool) -> None:
    """See that the folder of parts belongs to this run."""
    known = parts / "run.json"
    if overwrite:
        for old in (*parts.glob("*.npz"), known):
            old.unlink(missing_ok=True)
    if known.is_file() and read_mapping(known).get("digest") != digest:
        raise InputError(
            f"{parts} belongs to other structures or other settings; choose another --out, or --overwrite"
        )
    if not known.is_file():
        write_json(known, {"digest": digest, "request": request})


def _finished(out: Path, digest: str, total: int) -> MolecularLabels:
    record = record_path(out)
    known = read_mapping(record) if record.is_file() else {}
    if known.get("digest") != digest:
        raise InputError(
            f"{out} holds labels of other structures or other settings; choose another --out, or --overwrite"
        )
    logger.info("%s is complete", out)
    return MolecularLabels(out, list(range(total)), {}, [])


def _write_record(
    out: Path,
    digest: str,
    request: dict[str, Any],
    parts: Path,
    done: Sequence[int],
    failed: dict[int, str],
    missing: Sequence[int],
) -> None:
    seconds, deviations = [], []
    for index in done:
        part = read_arrays(parts / f"{index:06d}.npz", REMEDY)
        seconds.append(float(part["seconds"]))
        deviations.append(float(part["sum_rule"]))
    store = LabelStore(out)
    counts = str(store.counts())
    store.close()
    write_json(
        record_path(out),
        {
            "schema": SCHEMA,
            "units": {"energy": "eV", "forces": "eV/Å", "hessian": "eV/Å²"},
            "settings": request,
            "counts": counts,
            "core_seconds": round(sum(seconds), 1),
            "largest_sum_rule_deviation_removed_ev_per_angstrom2": round(max(deviations), 6),
            "structures": len(done) + len(failed) + len(missing),
            "labelled": len(done),
            "failed": {str(index): text for index, text in failed.items()},
            "not_begun": _ranges(missing),
            "digest": digest,
        },
        overwrite=True,
    )


def _ranges(indices: Sequence[int]) -> list[str]:
    """Consecutive indices as "first-last"."""
    found: list[list[int]] = []
    for index in indices:
        if found and index == found[-1][1] + 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return [f"{first}-{last}" for first, last in found]


@contextlib.contextmanager
def molecule_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A line that counts molecules; yields what is passed as `on_molecule`."""
    with ProgressBar(title, remaining=True) as bar:
        bar.begin()
        yield lambda done, total: bar.update(done, total)

"""One set of single points on two k-meshes: the mean of the labels, and half their difference.

What a k-mesh leaves of a sum over the Brillouin zone comes from the lattice vectors R = Σ mᵢnᵢaᵢ of a mesh of
n₁×n₂×n₃ points (Monkhorst and Pack, Phys. Rev. B 13, 5188 (1976)), most from the shortest. Shifted by half a
step along all three, the mesh gives those of odd m₁ + m₂ + m₃ the opposite sign, so that they leave the mean.
Where others are as short (aᵢ − aⱼ of a face-centred lattice) they stay, and the mean need not be better.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.dft.finished_runs import FinishedRun
from himlip_ase.dft.label_folder import (
    SECOND,
    TOLERATED,
    differences,
    note_pseudopotentials,
    require_new_set,
    warn_of_other_accuracy,
    write_set,
)
from himlip_ase.dft.single_points import tags_of
from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping
from himlip_ase.labels.label_keys import K_HALF_DIFFERENCE, REFERENCES
from himlip_ase.structures import read_structures

MESH = "k_offset"
"""The only setting in which the two sets differ (`TOLERATED` apart); the number of points of a cell stands
with its label."""
LABELS = {kind: REFERENCES[kind][0] for kind in ("energy", "stress", "forces")}
SPREAD = {kind: f"{K_HALF_DIFFERENCE}_{kind}" for kind in LABELS}
"""Where a label carries (first − second)/2: ``info``, and ``arrays`` for the forces. The first mesh gave
mean + that, the second mean − that."""
SAME_PLACE = 1e-5
"""Å; structures go from one set to the other with eight decimals."""


@dataclass(frozen=True)
class MeanOfMeshes:
    """The mean of two sets.

    Attributes
    ----------
    path : Path
        The file with the labels.
    count : int
        Number of structures.
    forces : float
        Half the difference of the forces, eV/Å, rms over all components.
    energy : float
        Of the energies, eV/atom, rms.
    """

    path: Path
    count: int
    forces: float
    energy: float

    def __str__(self) -> str:
        return (
            f"{self.count} labels → {self.path}; half the difference of the two meshes is "
            f"{1000 * self.forces:.0f} meV/Å and {1000 * self.energy:.1f} meV/atom rms"
        )


def mean_of_meshes(
    first: str | os.PathLike,
    second: str | os.PathLike,
    set_name: str,
    out: str | os.PathLike,
    *,
    overwrite: bool = False,
) -> MeanOfMeshes:
    """Publish the mean of two sets of labels that differ in their k-mesh alone.

    Parameters
    ----------
    first, second : path-like
        ``<set>.extxyz`` of two label folders, their records beside them. Every structure of the first has to
        be in the second, in any order; what the second has beyond that is left out.
    set_name : str
        Name of the new set.
    out : path-like
        Label folder to write it into.
    overwrite : bool
        Replace the set if it is there.

    Returns
    -------
    MeanOfMeshes

    Raises
    ------
    InputError
        A structure that the second set lacks, other settings or pseudopotentials, meshes other than one with
        Γ and the same shifted by half a step along all, or a set that exists and `overwrite` is False.
    """
    require_new_set(Path(out), set_name, overwrite)
    sets = [PublishedSet.read(Path(first)), PublishedSet.read(Path(second))]
    settings = _common_settings(*sets)
    runs: list[FinishedRun] = []
    inputs: dict[str, str] = {}
    for number, atoms in enumerate(sets[0].frames):
        other = sets[1].number_of(atoms, f"{sets[0].path}#{number}")
        pair = [sets[0].rows[number], sets[1].rows[other]]
        meshes = [tuple(row.get("k_grid", ())) for row in pair]
        if not meshes[0] or meshes[0] != meshes[1]:
            written = " and ".join("×".join(map(str, mesh)) or "none that is written" for mesh in meshes)
            raise InputError(
                f"{sets[0].path}#{number} is on k-meshes of {written} points; a mean is of one mesh with Γ "
                "and the same shifted: himlip label supercell … --k K K K, and again with --k-shift"
            )
        runs.append(_mean(atoms, sets[1].frames[other], pair, sets[0].record["code"], settings))
        for place, published, row in zip(("", SECOND), sets, pair, strict=True):
            inputs |= published.input_of(row["name"], f"{set_name}_{runs[-1].name}{place}")
    pseudopotentials = sets[0].record.get("pseudopotentials", {})
    note_pseudopotentials(pseudopotentials, Path(out), f"the labels of {sets[0].path}")
    extra = {
        "pseudopotentials": pseudopotentials,
        "mean_of": [
            {"set": each.record["set"], MESH: _offset(each), "core_seconds": each.record["core_seconds"]}
            for each in sets
        ],
    }
    warn_of_other_accuracy(runs[0], Path(out), set_name)
    path = write_set(runs, set_name, out, inputs, extra, overwrite=overwrite)
    forces = np.concatenate([np.ravel(run.atoms.arrays[SPREAD["forces"]]) for run in runs])
    energies = np.array([run.atoms.info[SPREAD["energy"]] / len(run.atoms) for run in runs])
    return MeanOfMeshes(path, len(runs), _rms(forces), _rms(energies))


@dataclass(frozen=True)
class PublishedSet:
    """A set of labels as `himlip_ase.dft.label_folder.write_set` writes it.

    Attributes
    ----------
    path : Path
        Its extxyz file.
    frames : list of Atoms
    record : mapping
        Of the JSON file beside it.
    """

    path: Path
    frames: list[Atoms]
    record: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> PublishedSet:
        """Read a set and its record.

        Raises
        ------
        InputError
            A file is missing, or is no set of ``himlip label collect``.
        """
        record = path.with_suffix(".json")
        if path.suffix != ".extxyz" or not path.is_file() or not record.is_file():
            raise InputError(
                f"{path} is no set of labels with its record (SET.extxyz and SET.json, which "
                "himlip label collect writes)"
            )
        published = cls(path, read_structures(path), read_mapping(record))
        if "settings" not in published.record or len(published.rows) != len(published.frames):
            raise InputError(
                f"{record} does not say how each label was calculated; collect it anew, without --compact"
            )
        if "mean_of" in published.record:
            raise InputError(f"{path} is the mean of two meshes already")
        return published

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What the record says of each label."""
        return self.record.get("frames", [])

    def number_of(self, atoms: Atoms, source: str) -> int:
        """Which label is of these atoms in this cell, in this order.

        Parameters
        ----------
        atoms : Atoms
        source : str
            For the message.

        Returns
        -------
        int

        Raises
        ------
        InputError
            None is.
        """
        for number, frame in enumerate(self.frames):
            if (
                np.array_equal(frame.numbers, atoms.numbers)
                and np.allclose(frame.cell.array, atoms.cell.array, rtol=0, atol=SAME_PLACE)
                and np.allclose(frame.positions, atoms.positions, rtol=0, atol=SAME_PLACE)
            ):
                return number
        raise InputError(
            f"{self.path} has no label of {source} (same atoms, cell and positions to {SAME_PLACE:g} Å)"
        )

    def input_of(self, name: str, new_name: str) -> dict[str, str]:
        """What was asked for, if it was published.

        Parameters
        ----------
        name, new_name : str
            Of the input's file without its suffix, here (after that of the set) and in what is returned.

        Returns
        -------
        dict of str to str
            {file name: text}.
        """
        found = sorted((self.path.parent / "inputs").glob(f"{self.record['set']}_{name}.*"))
        return {f"{new_name}{path.suffix}": path.read_text() for path in found}


def _offset(published: PublishedSet) -> list[int]:
    return list(published.record["settings"].get(MESH, (0, 0, 0)))


def _common_settings(first: PublishedSet, second: PublishedSet) -> dict[str, Any]:
    """The settings of both, with the shifts of both meshes.

    Raises
    ------
    InputError
        They differ in more than the k-mesh.
    """
    for kind in ("settings", "pseudopotentials"):
        different = differences(first.record.get(kind, {}), second.record.get(kind, {}))
        for name in (MESH, *TOLERATED):
            different.pop(name, None)
        if different:
            raise InputError(
                f"{first.path} and {second.path} differ in {different}; a mean is of two k-meshes, all else "
                "being the same"
            )
    if first.record["code"] != second.record["code"]:
        raise InputError(
            f"{first.path} is of {first.record['code']}, {second.path} of {second.record['code']}; "
            "a mean is of two k-meshes, all else being the same"
        )
    offsets = [_offset(first), _offset(second)]
    if sorted(offsets) != [[0, 0, 0], [1, 1, 1]]:
        raise InputError(
            f"the k-meshes of {first.path} and {second.path} are shifted by {offsets[0]} and {offsets[1]} "
            "half steps; a mean is of one with Γ, [0, 0, 0], and one shifted along all, [1, 1, 1] (--k-shift)"
        )
    return {**first.record["settings"], MESH: offsets}


def _mean(
    first: Atoms, second: Atoms, rows: Sequence[dict[str, Any]], code: str, settings: dict[str, Any]
) -> FinishedRun:
    """The mean of two labels, as the engines' single points are published."""
    mean, half = {}, {}
    for kind in LABELS:
        one, other = (_label(atoms, kind) for atoms in (first, second))
        if one is not None and other is not None:
            mean[kind], half[SPREAD[kind]] = (one + other) / 2, (one - other) / 2
    atoms = Atoms(first.numbers, positions=first.positions, cell=first.cell, pbc=first.pbc)
    atoms.arrays[SPREAD["forces"]] = half.pop(SPREAD["forces"])
    atoms.info.update(half)
    seconds = sum(float(row["core_seconds"]) for row in rows)
    retries = [entry for row in rows for entry in row.get("retries", [])]
    kept = {key: value for key, value in first.info.items() if key in ("k_grid", "pw_accuracy_ry")}
    return FinishedRun(
        name=str(rows[0]["name"]),
        folder=Path(),
        atoms=atoms,
        energy=float(mean["energy"]),
        forces=mean["forces"],
        stress=mean.get("stress"),
        core_seconds=seconds,
        code=code,
        settings=settings,
        info=kept,
        record={"k_grid": rows[0]["k_grid"], "meshes": list(rows), "core_seconds": round(seconds, 2)},
        notes={**tags_of(first.info), "retries": retries},
    )


def _label(atoms: Atoms, kind: str) -> np.ndarray | None:
    """A label of a published set; None for a stress that it has not."""
    found = atoms.arrays.get(LABELS[kind], atoms.info.get(LABELS[kind]))
    if found is None and kind != "stress":
        raise InputError(f"a label has no {LABELS[kind]}, which himlip label collect writes")
    return None if found is None else np.asarray(found, dtype=float)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))

"""Labels in the folders of DeePMD: ``type.raw``, ``type_map.raw`` and ``set.000/*.npy``.

coord (n, 3N) Å, box (n, 9) Å (absent, or ``nopbc``, for molecules), energy (n,) eV, force (n, 3N) eV/Å,
virial (n, 9) eV with σ = −virial/V.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.label_keys import frame_from_atoms


def read_deepmd(path: Path) -> list[LabelledFrame]:
    """Every frame of a system.

    Parameters
    ----------
    path : Path
        Folder with ``type.raw``.

    Returns
    -------
    list of LabelledFrame
        Their set is the name of the folder.

    Raises
    ------
    InputError
        No names of the elements, no sets, or arrays that do not fit together.
    """
    names = path / "type_map.raw"
    if not names.is_file():
        raise InputError(
            f"{path}: no type_map.raw with the names of the elements; write one symbol a line into it"
        )
    symbols = np.array(names.read_text(encoding="utf-8").split())
    types = np.loadtxt(path / "type.raw", dtype=int, ndmin=1)
    if types.min() < 0 or types.max() >= len(symbols):
        raise InputError(
            f"{path}: type.raw counts to {types.max()}, type_map.raw names {len(symbols)} elements"
        )
    frames: list[LabelledFrame] = []
    for folder in sorted(path.glob("set.*")):
        frames += _of_set(path, folder, symbols[types])
    if not frames:
        raise InputError(f"{path}: no set.000 with coord.npy; dpdata writes them (to_deepmd_npy)")
    return frames


def _of_set(path: Path, folder: Path, symbols: np.ndarray) -> list[LabelledFrame]:
    shapes = {
        "coord": (-1, len(symbols), 3),
        "box": (-1, 3, 3),
        "energy": (-1,),
        "force": (-1, len(symbols), 3),
    }
    shapes["virial"] = (-1, 3, 3)
    arrays = {}
    for name, shape in shapes.items():
        if (folder / f"{name}.npy").is_file():
            try:
                arrays[name] = (
                    np.load(folder / f"{name}.npy", allow_pickle=False).astype(float).reshape(shape)
                )
            except (ValueError, EOFError, OSError) as error:
                raise InputError(
                    f"{folder / name}.npy does not fit {len(symbols)} atoms ({error})"
                ) from error
    counts = {name: len(values) for name, values in arrays.items()}
    if "coord" not in arrays or len(set(counts.values())) != 1:
        raise InputError(f"{folder}: the arrays hold {counts} frames; all need coord and the same number")
    periodic = "box" in arrays and not (path / "nopbc").is_file()
    frames = []
    for k, positions in enumerate(arrays["coord"]):
        cell = arrays["box"][k] if periodic else None
        atoms = Atoms(symbols.tolist(), positions=positions, cell=cell, pbc=periodic)
        if "energy" in arrays:
            atoms.info["energy"] = float(arrays["energy"][k])
        if "force" in arrays:
            atoms.arrays["forces"] = arrays["force"][k]
        if "virial" in arrays and periodic:
            atoms.info["virial"] = arrays["virial"][k]
        frames.append(frame_from_atoms(atoms, path.name, source=f"{path.name}/{folder.name}#{k}"))
    return frames

"""Bridge to phono3py: its object, and the files that its commands read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.lattice import crystal_mismatch
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.phonopy_objects import nac_parameters, to_phonopy_atoms
from himlip_ase.phonons.third_order import ThirdOrder, third_order_force_constants

if TYPE_CHECKING:
    from phono3py import Phono3py


def to_phono3py(fc: ForceConstants, third: ThirdOrder) -> Phono3py:
    """A `phono3py.Phono3py` object with second- and third-order force constants, ready for its mesh.

    Parameters
    ----------
    fc : ForceConstants
        Its supercell may differ from that of `third`.
    third : ThirdOrder

    Returns
    -------
    phono3py.Phono3py

    Raises
    ------
    InputError
        phono3py is not installed, or the two belong to different crystals.
    """
    if find_spec("phono3py") is None:
        raise InputError("this needs phono3py; type: pip install phono3py")
    from phono3py import Phono3py

    reason = crystal_mismatch(fc.primitive, third.primitive, cell=1e-6, position=1e-6)
    if reason is not None:
        raise InputError(f"the second- and third-order force constants are of different crystals: {reason}")
    found = Phono3py(
        to_phonopy_atoms(fc.primitive),
        list(third.dims),
        primitive_matrix="P",
        phonon_supercell_matrix=list(fc.dims),
    )
    if fc.born is not None:
        found.nac_params = nac_parameters(fc.born)
    found.fc2 = np.array(fc.compact)
    found.fc3 = np.array(third.compact)
    return found


def write_fc2(fc: ForceConstants, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write phonopy's compact layout as phono3py's ``fc2.hdf5``.

    Parameters
    ----------
    fc : ForceConstants
    path : path-like
    overwrite : bool
        Whether an existing file may be replaced (`InputError` otherwise).

    Returns
    -------
    Path
    """
    with atomic_write(path, "wb", overwrite=overwrite) as stream, h5py.File(stream, "w") as file:
        file.create_dataset("force_constants", data=fc.compact, compression="gzip")
        file.create_dataset("p2s_map", data=np.arange(len(fc.primitive)) * int(np.prod(fc.dims)))
    return Path(path)


def write_for_phono3py(
    crystal: Atoms,
    calculator: Any,
    fc: ForceConstants,
    dims: Sequence[int],
    folder: str | os.PathLike,
    overwrite: bool = False,
) -> list[str]:
    """Third-order force constants of a crystal, and the files that phono3py reads.

    ``fc3.hdf5`` and ``fc2.hdf5``; where phono3py is installed also ``phono3py_params.yaml``, which
    ``phono3py-load`` takes together with them.

    Parameters
    ----------
    crystal : Atoms
    calculator : HiMLIPCalculator
    fc : ForceConstants
        Second order.
    dims : three integers
        Supercell of the third order.
    folder : path-like
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of str
        Lines that tell what was done.
    """
    folder = Path(folder)
    names = ["fc2.hdf5", "fc3.hdf5", "phono3py_params.yaml"]
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise InputError(f"{folder / existing[0]} exists already; pass --overwrite or choose another --out")
    third = third_order_force_constants(crystal, dims, calculator.third_derivatives)
    third.write(folder / "fc3.hdf5", overwrite)
    write_fc2(fc, folder / "fc2.hdf5", overwrite)
    lines = [
        f"third order: {third.products} products instead of {third.without_symmetry}, sum rule "
        f"{third.acoustic_sum_rule_violation():.1e}, asymmetry {third.permutation_violation():.1e} eV/Å³",
        f"→ {folder / 'fc3.hdf5'}, {folder / 'fc2.hdf5'}",
    ]
    if find_spec("phono3py") is not None:
        to_phono3py(fc, third).save(folder / "phono3py_params.yaml")
        lines.append(f"→ {folder / 'phono3py_params.yaml'} (phono3py-load, in that folder)")
    return lines

"""Bridge to CellConstructor, whose `Phonons` object python-sscha works on."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import shortest_qpoints
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.force_constants import DynamicalMatrices


def _import_cellconstructor() -> Any:
    try:
        import cellconstructor
        import cellconstructor.Phonons
        import cellconstructor.Structure
        import cellconstructor.Units
    except ImportError as error:
        raise InputError(
            f"CellConstructor cannot be imported ({error}); it comes with the extra 'sscha': "
            "pip install 'himlip-ase[sscha]' (needs gfortran, LAPACK and MPI headers)"
        ) from error
    return cellconstructor


def to_cellconstructor_structure(atoms: Atoms) -> Any:
    """CellConstructor's `Structure` of an ASE crystal (Å; masses in its Rydberg units, one for each element).

    Raises
    ------
    InputError
        Atoms of one element with different masses, which CellConstructor cannot hold.
    """
    cc = _import_cellconstructor()
    masses: dict[str, float] = {}
    for symbol, mass in zip(atoms.get_chemical_symbols(), atoms.get_masses(), strict=True):
        if abs(masses.setdefault(symbol, float(mass)) - mass) > 1e-8:
            raise InputError(
                f"atoms of {symbol} have different masses ({masses[symbol]} and {mass} amu); "
                "CellConstructor holds one mass for each element. `himlip sscha` takes isotopes atom by "
                "atom; QE files hold them (--to qe), but CellConstructor reads one mass from those too"
            )
    structure = cc.Structure.Structure(len(atoms))
    structure.atoms = atoms.get_chemical_symbols()
    structure.coords = np.array(atoms.positions)
    structure.unit_cell = np.array(atoms.cell)
    structure.has_unit_cell = True
    structure.masses = {symbol: mass / cc.Units.MASS_RY_TO_UMA for symbol, mass in masses.items()}
    return structure


def to_cellconstructor(dm: DynamicalMatrices) -> Any:
    """CellConstructor's `Phonons` of dynamical matrices.

    Parameters
    ----------
    dm : DynamicalMatrices

    Returns
    -------
    cellconstructor.Phonons.Phonons
        Matrices in Ry/bohr² with CellConstructor's own constants, q-points in 2π/Å, ordered and grouped by
        its own star finder (`AdjustQStar`).

    Raises
    ------
    InputError
        CellConstructor is not installed, or cannot hold the masses.
    """
    cc = _import_cellconstructor()
    dyn = cc.Phonons.Phonons(to_cellconstructor_structure(dm.primitive), len(dm.qpoints))
    cell = np.asarray(dm.primitive.cell)
    unit = cc.Units.RY_TO_EV * cc.Units.A_TO_BOHR**2
    qpoints = shortest_qpoints(dm.qpoints, cell) @ np.linalg.inv(cell).T
    dyn.q_tot = [q + 0.0 for q in qpoints]
    dyn.q_stars = [[q + 0.0] for q in qpoints]
    hermitian = (dm.matrices + np.conj(dm.matrices.swapaxes(1, 2))) / 2
    dyn.dynmats = [np.array(m) / unit for m in hermitian]
    if dm.born is not None:
        dyn.dielectric_tensor = np.array(dm.born.dielectric)
        dyn.effective_charges = np.array(dm.born.charges)
    dyn.nqirr = len(qpoints)
    dyn.initialized = True
    dyn.AdjustQStar()
    return dyn


def from_cellconstructor(dyn: Any) -> DynamicalMatrices:
    """Dynamical matrices of CellConstructor's `Phonons`.

    Parameters
    ----------
    dyn : cellconstructor.Phonons.Phonons
        With the q-points of a whole supercell grid.

    Returns
    -------
    DynamicalMatrices
        eV/Å² and amu by CellConstructor's constants.
    """
    cc = _import_cellconstructor()
    structure = dyn.structure
    cell = np.asarray(structure.unit_cell, dtype=float)
    masses = structure.get_masses_array() * cc.Units.MASS_RY_TO_UMA
    atoms = Atoms(list(structure.atoms), positions=structure.coords, cell=cell, pbc=True, masses=masses)
    qpoints = np.asarray(dyn.q_tot) @ cell.T
    unit = cc.Units.RY_TO_EV * cc.Units.A_TO_BOHR**2
    dims = tuple(int(d) for d in dyn.GetSupercell())
    born = None
    if dyn.dielectric_tensor is not None and dyn.effective_charges is not None:
        born = BornCharges(dyn.effective_charges, dyn.dielectric_tensor)
    return DynamicalMatrices(
        atoms, (dims[0], dims[1], dims[2]), qpoints, np.asarray(dyn.dynmats) * unit, born
    )

"""Gibbs energies of molecules and transition states beside pyscf's and GoodVibes' thermochemistry.

Asked for: agreement to 1e-6 eV on at least ten molecules and three saddles. Hessians are those of GFN2-xTB.
Codes that are not installed are left out.

    python -m benchmarks.reactions.thermochemistry
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule

from benchmarks.reactions.reaction_set import cases, gfn2
from benchmarks.reactions.tables import write_results
from himlip_ase.reactions import Surface, find_minimum, find_saddle
from himlip_ase.units import BOHR_ANGSTROM, HARTREE_EV, KB_EV_PER_K
from himlip_ase.vibrations.gibbs import Conventions, GibbsEnergy, gibbs_energy
from himlip_ase.vibrations.partition_functions import grimme_entropy, harmonic_entropy

MOLECULES = ("H2O", "NH3", "CH4", "CO2", "C2H2", "CH3OH", "C2H6", "H2CO", "CH3CHO", "OCHCHO", "CH3CH2OH")
SADDLES = ("01", "14", "17", "22")
TEMPERATURE, PRESSURE = 298.15, 101325.0
JOULE_PER_MOL = 96485.33212
"""One eV."""


def stationary_points() -> list[tuple[str, Atoms, np.ndarray, int]]:
    """Name, structure, Hessian and order."""
    found = []
    for name in MOLECULES:
        atoms = molecule(name)
        surface = Surface(atoms, gfn2())
        minimum = find_minimum(surface, atoms.positions.ravel(), 0.002).atoms
        found.append((name, minimum, surface.hessian(minimum.positions.ravel()), 0))
    for case in cases(SADDLES):
        saddle = find_saddle(case.start, gfn2())
        found.append((f"saddle of {case.name}", saddle.atoms, saddle.hessian, 1))
    return found


def of_pyscf(atoms: Atoms, hessian: np.ndarray, saddle: int, symmetry: int) -> float:
    """G − E in eV from pyscf's own analysis of the same Hessian, with our symmetry number."""
    from pyscf import gto
    from pyscf.data import nist
    from pyscf.hessian import thermo

    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    mol = gto.M(atom=geometry, basis="sto-3g", verbose=0)

    class Field:
        e_tot = 0.0

    field: Any = Field()
    field.mol = mol
    n = len(atoms)
    blocks = hessian.reshape(n, 3, n, 3).transpose(0, 2, 1, 3) / (HARTREE_EV / BOHR_ANGSTROM**2)
    modes = thermo.harmonic_analysis(mol, blocks, imaginary_freq=False)
    found = thermo.thermo(field, np.array(modes["freq_au"])[saddle:], TEMPERATURE, PRESSURE)
    turned = KB_EV_PER_K * TEMPERATURE * np.log(symmetry / found["sym_number"][0])
    return float(found["G_tot"][0] * nist.HARTREE2EV + turned)


def of_goodvibes(frequencies: np.ndarray) -> tuple[float, float]:
    """T S of the vibrations in eV: harmonic, and after Grimme."""
    from goodvibes.thermo import calc_damp, calc_freerot_entropy, calc_rrho_entropy

    listed = frequencies.tolist()
    harmonic = np.array(calc_rrho_entropy(TEMPERATURE, listed))
    rotor, weight = np.array(calc_freerot_entropy(TEMPERATURE, listed)), np.array(calc_damp(listed, 100.0))
    mixed = weight * harmonic + (1 - weight) * rotor
    return tuple(TEMPERATURE * values.sum() / JOULE_PER_MOL for values in (harmonic, mixed))


def pyscf_masses(atoms: Atoms) -> Atoms:
    """The structure with pyscf's average masses."""
    from pyscf import gto

    heavy = atoms.copy()
    mol = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True)),
        basis="sto-3g",
        verbose=0,
    )
    heavy.set_masses(mol.atom_mass_list(isotope_avg=True))
    return heavy


def main() -> None:
    """Compare, and write the table."""
    argparse.ArgumentParser(description="thermochemistry beside other codes").parse_args()
    rows, numbers = [], {}
    for name, atoms, hessian, saddle in stationary_points():
        same = pyscf_masses(atoms) if find_spec("pyscf") else atoms
        rrho: GibbsEnergy = gibbs_energy(same, 0.0, hessian, saddle, Conventions(entropy="rrho"))
        grimme = gibbs_energy(same, 0.0, hessian, saddle)
        row: dict[str, float] = {
            "gibbs_ev": rrho.gibbs,
            "quasi_rrho_correction_ev": grimme.gibbs - rrho.gibbs,
        }
        if find_spec("pyscf"):
            row["minus_pyscf_ev"] = rrho.gibbs - of_pyscf(atoms, hessian, saddle, rrho.symmetry_number)
        if find_spec("goodvibes"):
            ours = [
                TEMPERATURE * entropy(rrho.frequencies, TEMPERATURE, 100.0).sum()
                for entropy in (harmonic_entropy, grimme_entropy)
            ]
            theirs = of_goodvibes(rrho.frequencies)
            row["minus_goodvibes_rrho_ev"], row["minus_goodvibes_grimme_ev"] = (
                a - b for a, b in zip(ours, theirs, strict=True)
            )
        numbers[name] = row
        differences = [
            f"{row[key]:.1e}" if key in row else "–"
            for key in ("minus_pyscf_ev", "minus_goodvibes_rrho_ev", "minus_goodvibes_grimme_ev")
        ]
        correction = f"{1000 * row['quasi_rrho_correction_ev']:.2f}"
        rows.append([name, rrho.symmetry_number, f"{row['gibbs_ev']:.6f}", *differences, correction])
        print(rows[-1], flush=True)
    columns = [
        "structure",
        "σ",
        "G − E, RRHO (eV)",
        "− pyscf",
        "TS − GoodVibes, RRHO",
        "TS − GoodVibes, Grimme",
        "Grimme − RRHO (meV)",
    ]
    worst = max(abs(v) for row in numbers.values() for key, v in row.items() if key.startswith("minus_"))
    text = [
        f"Largest difference {worst:.1e} eV on {len(MOLECULES)} molecules and {len(SADDLES)} saddles at "
        "298.15 K and 1 atm.",
        "pyscf gets our symmetry number: its own is 1 for molecules that are symmetric to 1e-4 Å only.",
    ]
    write_results(
        "reactions_thermochemistry",
        "Thermochemistry beside pyscf and GoodVibes",
        "python -m benchmarks.reactions.thermochemistry",
        [(columns, rows)],
        text,
        numbers,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Guess: the mode that ase.phonons writes for a q-point (write_modes, or band_structure(modes=True) repeated with the phase
#   exp(2 pi i q.R) that write_modes uses) is a mode of the supercell: displaced so, the atoms feel F = -m w^2 u.
# Found (ase 3.29.0): the dynamical matrix is summed with exp(-2 pi i q.R), so that its eigenvectors are those of -q, and
#   write_modes repeats them with the phase of +q. With two atoms in the cell and q = 1/5 the pattern is no mode at all:
#   forces differ from -m w^2 u by 32 % (optical branch) and 90 % (acoustic branch) of the largest, with the other sign of
#   the phase by 1e-13. Frequencies are right, and so are modes where q and -q are one point (Gamma, zone boundary) and
#   those of cells with one atom.
# Why it matters: superstructures and saddle guesses are made by freezing a soft mode in, charge-density waves at q = 1/3;
#   the atoms of one cell then move with the wrong phase between them. Take the complex conjugate of the mode.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "ase==3.29.0" "numpy==2.4.6" "scipy==1.17.1" "matplotlib==3.11.2"
cat > try.py <<'END'
import sys

import ase
import ase.io
import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.phonons import Phonons

print("ase", ase.__version__, "numpy", np.__version__)
PERIOD, SHORT, CELLS, Q = 4.0, 1.6, 5, 1 / 5


class Chain(Calculator):
    """C-F-C-F-... along x, each atom held by a stiff short spring and a soft long one; order C, F, C, F, ..."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, forces, energy = atoms.positions[:, 0], np.zeros((len(atoms), 3)), 0.0
        for left in range(len(x)):
            right = (left + 1) % len(x)
            spring, length = (6.0, SHORT) if left % 2 == 0 else (2.0, PERIOD - SHORT)
            stretch = x[right] - x[left] + (atoms.cell[0, 0] if right == 0 else 0.0) - length
            energy += 0.5 * spring * stretch**2
            forces[left, 0] += spring * stretch
            forces[right, 0] -= spring * stretch
        self.results = {"energy": energy, "forces": forces}


cell = ase.Atoms("CF", positions=[[0, 0, 0], [SHORT, 0, 0]], cell=[PERIOD, 8, 8], pbc=True)
phonons = Phonons(cell, Chain(), supercell=(CELLS, 1, 1), delta=0.01)
phonons.run()
phonons.read()
crystal = cell.repeat((CELLS, 1, 1))
masses = crystal.get_masses()[:, None]


def distance_from_a_mode(displacements, energy):
    """max |F + m w^2 u| over max |F|"""
    displaced = crystal.copy()
    displaced.positions += displacements
    displaced.calc = Chain()
    forces = displaced.get_forces()
    squared = (energy / units._hbar * units._e) ** 2 * units._amu / units._e * 1e-20  # eV/Å²/amu
    return abs(forces + masses * squared * displacements).max() / abs(forces).max()


def written(q, branch):
    """First image of the trajectory that write_modes leaves."""
    phonons.write_modes([q, 0, 0], branches=[branch], repeat=(CELLS, 1, 1), kT=0.01, nimages=8)
    return ase.io.read(f"phonon.mode.{branch}.traj", index=0).positions - crystal.positions


energies, modes = phonons.band_structure([[Q, 0, 0]], modes=True, verbose=False)
found = True
for name, branch in (("optical", 5), ("acoustic", 4)):
    other = np.concatenate([0.1 * modes[0][branch] * np.exp(-2j * np.pi * Q * n) for n in range(CELLS)]).real
    as_written, conjugate = (distance_from_a_mode(u, energies[0][branch]) for u in (written(Q, branch), other))
    print(f"{name:8s} q = 1/5, {1e3 * energies[0][branch]:.1f} meV: write_modes off by {as_written:.0%}, other phase {conjugate:.0e}")
    found &= as_written > 0.2 and conjugate < 1e-8
gamma = distance_from_a_mode(written(0.0, 5), phonons.band_structure([[0, 0, 0]], verbose=False)[0][5])
print(f"optical  q = 0: write_modes off by {gamma:.0e}")
found &= gamma < 1e-8
print("as found" if found else "the behaviour has changed")
sys.exit(0 if found else 1)
END
venv/bin/python try.py

#!/usr/bin/env bash
# Guess: an Ensemble written by save_bin knows the temperature it was drawn at: load_bin restores it, or says that the
#   one given to the constructor is another.
# Found (python-sscha 1.6.2): no file holds it.  load_bin replaces the dynamical matrices by those that generated the
#   ensemble, and keeps T0 of the constructor: an ensemble drawn at 300 K and loaded with T0 = 0 (the default of many
#   scripts) has weights of exactly 1 and an effective sample size of all its configurations, so that nothing looks
#   wrong; free energy, gradient and Hessian are those of neither temperature.  The displacements know better: the mean
#   of u Y u per mode, Y the inverse covariance, is 1 at the right temperature only.
# Why it matters: ensembles are shared as such folders, their temperature in the name at best.  Here the free energy is
#   off by 20 meV per cell of two atoms.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "cellconstructor==1.6.2" "python-sscha==1.6.2" "ase==3.29.0" "spglib==2.8.0" "numpy<3" "scipy" "six"
cat > try.py <<'END'
import contextlib
import io
import os
import sys
import warnings
from importlib.metadata import version

import numpy as np

warnings.simplefilter("ignore")
import cellconstructor as CC, cellconstructor.Phonons, cellconstructor.Structure
import sscha.Ensemble

print("python-sscha", version("python-sscha"), "cellconstructor", version("cellconstructor"), "numpy", np.__version__)
SPRING, DRAWN_AT, N = 0.1, 300.0, 400  # Ry/bohr², K
RY_MEV, ANGSTROM_BOHR = CC.Units.RY_TO_EV * 1e3, CC.Units.A_TO_BOHR


def quiet(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def crystal():
    """Two atoms on one isotropic spring: harmonic, so that every average is known."""
    structure = CC.Structure.Structure(2)
    structure.atoms, structure.coords = ["Na", "Cl"], np.array([[0, 0, 0], [1.5, 1.5, 1.5]])
    structure.unit_cell, structure.has_unit_cell = 3.0 * np.eye(3), True
    structure.set_masses({"Na": 22.99 * 911.444, "Cl": 35.45 * 911.444})
    dyn = CC.Phonons.Phonons(structure, nqirr=1)
    dyn.dynmats[0] = SPRING * np.kron([[1, -1], [-1, 1]], np.eye(3)).astype(complex)
    return dyn


def ensemble(temperature):
    return sscha.Ensemble.Ensemble(crystal(), temperature, supercell=[1, 1, 1])


def width(loaded):
    """Mean of u Y u per mode at the temperature that the ensemble believes in."""
    dyn = loaded.current_dyn
    frequencies, vectors = dyn.DiagonalizeSupercell()
    moving = frequencies > 1e-6
    energies, vectors = frequencies[moving], vectors[:, moving]
    masses = np.repeat(dyn.structure.get_masses_array(), 3)
    kt = loaded.current_T * CC.Units.K_B / CC.Units.RY_TO_EV
    occupation = 1 / np.expm1(energies / kt) if kt else 0 * energies
    normal = loaded.u_disps * ANGSTROM_BOHR * np.sqrt(masses) @ vectors
    return float((normal**2 / ((1 + 2 * occupation) / (2 * energies))).mean())


np.random.seed(0)
drawn = ensemble(DRAWN_AT)
quiet(drawn.generate, N)
moved = drawn.u_disps.reshape(N, 2, 3) * ANGSTROM_BOHR
forces = -SPRING * (moved - moved[:, ::-1])
drawn.forces[:] = forces * ANGSTROM_BOHR
drawn.energies = -(moved * forces).sum(axis=(1, 2)) / 2
drawn.force_computed[:], drawn.has_stress = True, False
quiet(drawn.init)
quiet(drawn.save_bin, "data", 1)
print("files:", ", ".join(sorted(os.listdir("data"))))

as_found = True
for temperature in (DRAWN_AT, 0.0):
    loaded = ensemble(temperature)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        loaded.load_bin("data", 1)
    value = float(quiet(loaded.get_free_energy)) * RY_MEV
    exact = float(crystal().GetHarmonicFreeEnergy(DRAWN_AT)) * RY_MEV
    print(f"loaded with T0 = {temperature:g}: T0 {loaded.T0:g}, free energy {value:.2f} meV (drawn at {DRAWN_AT:g} K, "
          f"exact there {exact:.2f}), smallest weight {loaded.rho.min():.3f}, sample size "
          f"{loaded.get_effective_sample_size():.0f} of {N}, mean u Y u per mode {width(loaded):.2f}, "
          f"said {len(said.getvalue())} characters")
    if temperature == DRAWN_AT:
        as_found &= abs(value - exact) < 0.1 and abs(width(loaded) - 1) < 0.15
    else:
        as_found &= loaded.T0 == 0 and value > exact + 10 and bool((loaded.rho == 1).all()) and width(loaded) > 1.5
print("as found: the temperature is that of the constructor, whatever the draw" if as_found else "behaviour changed")
sys.exit(0 if as_found else 1)
END
venv/bin/python try.py

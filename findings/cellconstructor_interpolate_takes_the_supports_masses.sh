#!/usr/bin/env bash
# Guess: dyn.Interpolate(coarse, fine, support_dyn_coarse, support_dyn_fine) gives the dynamical matrices of *dyn* on
#   the finer mesh, the supports only carrying the long-ranged part: the masses of the result are those of dyn.
# Found (CellConstructor 1.6.2): the result is a copy of support_dyn_fine, structure and masses included.  SSCHA
#   matrices of an isotope (D3S) with harmonic supports of the natural masses (H3S, the ph.x run) come back with the
#   mass of H: force constants of one isotope, masses of the other, every hydrogen frequency too high by the square
#   root of 2.  Only supercell and number of atoms are compared; nothing is said.
# Why it matters: this is the usual way from an SSCHA grid to the finer q-grid of the electron-phonon matrices, and
#   the harmonic run is made once for all isotopes.  An isotope coefficient of Tc made of such files is lost.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "cellconstructor==1.6.2" "ase==3.29.0" "spglib==2.8.0" "numpy<3"
cat > try.py <<'END'
import contextlib, io, sys
import numpy as np
import ase
import cellconstructor as CC, cellconstructor.Phonons, cellconstructor.Structure, cellconstructor.symmetries
from importlib.metadata import version

print("cellconstructor", version("cellconstructor"), "ase", ase.__version__, "numpy", np.__version__)
CM = 109737.31568  # Ry in 1/cm


def phonons(mass, cell, mesh):
    """A simple cubic crystal of one atom on springs: D(q) = 2k Σ (1 - cos q·a), in Ry/bohr²; mass in Ry units."""
    structure = CC.Structure.Structure()
    structure.N_atoms = 1
    structure.atoms = ["H"]
    structure.coords = np.zeros((1, 3))
    structure.unit_cell = cell * np.eye(3)
    structure.has_unit_cell = True
    structure.masses = {"H": mass}
    points = CC.symmetries.GetQGrid(structure.unit_cell, mesh)
    dyn = CC.Phonons.Phonons(structure, nqirr=len(points))
    for place, q in enumerate(points):
        k = 0.05 * (1 - np.cos(2 * np.pi * np.asarray(q) * cell))
        dyn.q_tot[place], dyn.q_stars[place] = np.array(q), [np.array(q)]
        dyn.dynmats[place] = (np.diag(k) + 0.02 * k.sum() * np.eye(3)).astype(complex)
    dyn.initialized = True
    return dyn


LIGHT, HEAVY = 918.6, 2 * 918.6
coarse, fine = (2, 2, 2), (4, 4, 4)
support_coarse, support_fine = phonons(LIGHT, 3.0, coarse), phonons(LIGHT, 3.0, fine)


def interpolated(dyn):
    with contextlib.redirect_stdout(io.StringIO()):
        return dyn.Interpolate(coarse, fine, support_dyn_coarse=support_coarse, support_dyn_fine=support_fine)


def highest(dyn):
    with contextlib.redirect_stdout(io.StringIO()):
        return max(dyn.DyagDinQ(i)[0].max() for i in range(len(dyn.q_tot))) * CM


heavy = phonons(HEAVY, 3.0, coarse)
result = interpolated(heavy)
print("mass given / in the result:", heavy.structure.masses["H"], "/", result.structure.masses["H"])
print(f"highest frequency given / in the result: {highest(heavy):.1f} / {highest(result):.1f} cm-1, "
      f"ratio {highest(result) / highest(heavy):.4f} (1 is wanted, the highest mode is on both meshes)")
as_found = (
    result.structure.masses["H"] == LIGHT
    and abs(highest(result) / highest(heavy) - np.sqrt(2)) < 1e-3
)
print("as found: the masses are those of the support" if as_found else "behaviour changed")
sys.exit(0 if as_found else 1)
END
venv/bin/python try.py

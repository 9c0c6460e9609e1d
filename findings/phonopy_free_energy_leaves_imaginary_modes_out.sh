#!/usr/bin/env bash
# Guess: the harmonic free energy of a crystal with imaginary modes does not exist, and phonopy's
#   run_thermal_properties refuses it, warns, or gives NaN, so that a quasi-harmonic scan stops at such a volume.
# Found (phonopy 4.10.0): imaginary modes are left out of the sums without a word (translations at Γ that round to
#   1e-7 THz are warned of; 45 imaginary modes of 192 are not); only number_of_integrated_modes tells.  Their large
#   negative kT ln(ħω/kT) goes with them: F falls while modes soften, and *rises* when they turn imaginary.
# Why it matters: PhonopyQHA fits these numbers over volumes; soft modes turn imaginary on expansion, exactly where
#   thermal expansion is largest, and the fit is smooth and wrong.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "phonopy==4.10.0" "spglib==2.8.0" "numpy<3"
cat > try.py <<'END'
import sys, warnings
from importlib.metadata import version
import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

print("phonopy", version("phonopy"), "spglib", version("spglib"), "numpy", np.__version__)
cell = PhonopyAtoms(symbols=["Al"], cell=np.eye(3) * 2.6, scaled_positions=[[0, 0, 0]])


def thermal(transverse):
    """A simple cubic crystal of springs, 5 eV/Å² along and `transverse` across the bonds, at 300 K."""
    phonons = Phonopy(cell, np.diag([4, 4, 4]), primitive_matrix="P")
    positions, lattice = phonons.supercell.positions, np.asarray(phonons.supercell.cell)
    n = len(positions)
    constants = np.zeros((n, n, 3, 3))
    for i in range(n):
        for j in range(n):
            d = positions[j] - positions[i]
            d -= np.rint(d @ np.linalg.inv(lattice)) @ lattice
            r = np.linalg.norm(d)
            if 0 < r < 3.0:
                unit = np.outer(d, d) / r**2
                block = 5.0 * unit + transverse * (np.eye(3) - unit)
                constants[i, j] -= block
                constants[i, i] += block
    phonons.force_constants = constants
    phonons.run_mesh([4, 4, 4], is_gamma_center=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        phonons.run_thermal_properties(temperatures=[300.0], exclude_gamma_acoustic=True)
    found = phonons.thermal_properties
    lowest = float(np.asarray(phonons.mesh.frequencies).min())
    free = float(np.asarray(found.free_energy)[0])
    print(
        f"transverse springs {transverse:+.2f} eV/Å²: lowest {lowest:.2f} THz, F(300 K) {free:.3f} kJ/mol, modes summed "
        f"{found.number_of_integrated_modes} of {found.number_of_modes}, warnings {len(caught)}"
    )
    return lowest, free, found.number_of_integrated_modes, len(caught)


stiff, soft, imaginary = thermal(0.3), thermal(0.05), thermal(-0.05)
found = (
    soft[1] < stiff[1] and imaginary[1] > soft[1] + 0.3
    and imaginary[0] < -0.1 and np.isfinite(imaginary[1]) and imaginary[2] < soft[2] and imaginary[3] == 0
)
print("as found" if found else "the behaviour has changed")
sys.exit(0 if found else 1)
END
venv/bin/python try.py

#!/usr/bin/env bash
# Guess: pymatgen has an Element("D"), so a structure with deuterium (the CIF of a neutron experiment, PdD) stays one:
#   saved and read again, handed to ASE or phonopy, or written as an input of pw.x it keeps the mass of D; and symmetry
#   tells D from H.
# Found (pymatgen-core 2026.10.16, ase 3.29.0, phonopy 4.10.0): in memory D has its mass (2.0136 amu, that of the nucleus; the
#   atom has 2.0141) and differs from H, but its symbol is "H".  Every way out is light hydrogen: as_dict() and JSON, CIF,
#   POSCAR, AseAtomsAdaptor, get_phonopy_structure.  PWInput of H and D declares both and calls every atom H.
#   SpacegroupAnalyzer and get_primitive_structure take D for H: an ordered fcc cell of two H and two D becomes one atom.
#   Nothing is said.  ASE reads the same CIF with D's mass.
# Why it matters: the frequencies of the deuterium are too high by the square root of 2, and a structure that was
#   stored in a database is another isotopologue when it comes back.  Set masses after the conversion.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "pymatgen-core==2026.10.16" "ase==3.29.0" "phonopy==4.10.0" "spglib==2.8.0" "numpy==2.4.6"
cat > pdd.cif <<'CIF'
data_PdD
_cell_length_a 4.05
_cell_length_b 4.05
_cell_length_c 4.05
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
_space_group_IT_number 225
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Pd1 Pd 0 0 0 1
D1 D 0.5 0.5 0.5 1
CIF
cat > try.py <<'CODE'
import re
import sys
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")
import ase.io
from pymatgen.core import Element, Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.phonopy import get_phonopy_structure
from pymatgen.io.pwscf import PWInput
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

print(*(f"{name} {version(name)}" for name in ("pymatgen-core", "ase", "phonopy", "spglib")))


def light(structure):
    """Mass (amu) of the lightest atom."""
    return float(min(site.specie.atomic_mass for site in structure))


pdd = Structure.from_file("pdd.cif")
mass, other = light(pdd), Element("D") != Element("H")
print(f"read by pymatgen: mass {mass:.4f}, symbol {Element('D').symbol}, differs from H: {other}; "
      f"read by ASE: {ase.io.read('pdd.cif').get_masses().min():.4f}")
out = {"as_dict": light(Structure.from_dict(pdd.as_dict()))}
for name in ("again.json", "again.cif", "POSCAR"):
    pdd.to(filename=name)
    out[name] = light(Structure.from_file(name))
out["ASE"] = float(AseAtomsAdaptor.get_atoms(pdd).get_masses().min())
out["phonopy"] = float(get_phonopy_structure(pdd).masses.min())
print("mass on the other side:", ", ".join(f"{name} {value:.4f}" for name, value in out.items()))
ordered = Structure(Lattice.cubic(4), ["H", "H", "D", "D"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
group = SpacegroupAnalyzer(ordered).get_space_group_symbol()
small = ordered.get_primitive_structure()
print(f"two H and two D, ordered: {group}, primitive cell {small.formula}, "
      f"mass {[round(float(site.specie.atomic_mass), 4) for site in small]}")
text = str(PWInput(ordered, pseudo={"H": "H.UPF", "D": "H.UPF"}))
species = re.search(r"ATOMIC_SPECIES\n((?:  .*\n)+)", text)[1].split()[::3]
atoms = re.search(r"ATOMIC_POSITIONS.*\n((?:  .*\n)+)", text)[1].split()[::4]
print("pw.x input of two H and two D: species", species, "atoms", atoms)
found = (
    mass > 2 and other and max(out.values()) < 1.01
    and "D" in species and atoms == ["H"] * 4 and group == "Fm-3m" and len(small) == 1
)
print("as found: deuterium leaves pymatgen as hydrogen" if found else "behaviour changed")
sys.exit(0 if found else 1)
CODE
venv/bin/python try.py

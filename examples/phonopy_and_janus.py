# %% [markdown]
# # Within phonopy and janus-core
#
# A Phonopy object, whatever its cells, takes exact derivatives in the place of finite differences.

# %%
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase.io import read
from phonopy import Phonopy

from himlip_ase import HiMLIPCalculator
from himlip_ase.phonons.exact import fill_phonopy
from himlip_ase.phonons.phonopy_objects import to_phonopy_atoms

crystal = read(Path(__file__).parent / "h3s" / "labels" / "crystal.extxyz")
calc = HiMLIPCalculator("himlip-h3s-2")
phonopy = Phonopy(to_phonopy_atoms(crystal), [[0, 1, 1], [1, 0, 1], [1, 1, 0]], primitive_matrix="P")
fill_phonopy(phonopy, calc.hessian_vector_product)
print("THz at Γ:", np.round(phonopy.run_qpoints([[0, 0, 0]]).frequencies[0], 2))

# %% [markdown]
# janus-core takes a structure with any ASE calculator attached, in Python; its finite differences and the
# exact derivatives agree to their step.

# %%
if find_spec("janus_core") is None:
    print("janus-core is not installed")
else:
    from janus_core.calculations.phonons import Phonons

    crystal.calc = calc
    task = Phonons(struct=crystal, supercell=[2, 2, 2], write_results=False, track_carbon=False)
    task.calc_force_constants()
    theirs = task.results["phonon"]
    differences = np.array(theirs.force_constants)
    fill_phonopy(theirs, calc.hessian_vector_product)
    rows = differences[theirs.primitive.p2s_map] if len(differences) > len(theirs.primitive) else differences
    print(f"differences are off by {np.abs(rows - theirs.force_constants).max():.1e} eV/Å²")

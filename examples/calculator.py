# %% [markdown]
# # Energy, forces and Hessian of a crystal
#
# `HiMLIPCalculator` is an ASE calculator with second derivatives. A path to a `.safetensors` file, a name or
# a loaded model may be given; without an argument the bundled base model of hydrides is taken.

# %%
from pathlib import Path

import numpy as np
from ase.io import read

from himlip_ase import HiMLIPCalculator

here = Path(__file__).parent
atoms = read(here / "h3s" / "labels" / "crystal.extxyz")
atoms.calc = HiMLIPCalculator("himlip-h3s-2")
print(f"energy {atoms.get_potential_energy():.3f} eV")
print(f"stress {atoms.get_stress()} eV/Å³ (Voigt, positive in tension)")

# %% [markdown]
# The Hessian has the indices (atom, direction, atom, direction) and obeys the acoustic sum rule.

# %%
hessian = atoms.calc.get_hessian(atoms)
print("shape", hessian.shape, "asymmetry", np.abs(hessian - hessian.transpose(2, 3, 0, 1)).max())
print("sum rule", np.abs(hessian.sum(axis=2)).max(), "eV/Å²")

# %% [markdown]
# A product with a displacement costs about as much as two force calls, however large the crystal.

# %%
v = np.random.default_rng(0).normal(size=(len(atoms), 3))
print("largest force change per Å:", np.abs(atoms.calc.hessian_vector_product(atoms, v)).max(), "eV/Å²")

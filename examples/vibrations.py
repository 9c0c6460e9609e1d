# %% [markdown]
# # Vibrations, thermochemistry and softest modes
#
# A molecule is relaxed, its Hessian is made from the rows that its point group leaves independent, and ASE's
# own classes take it from there. The model of H3S has learnt a crystal under pressure: for a free molecule
# its numbers show how things are called, not what H2S does.

# %%
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.io import read

from himlip_ase import HiMLIPCalculator
from himlip_ase.relaxation import relax
from himlip_ase.symmetry.irreducible_hessian import symmetric_hessian
from himlip_ase.vibrations.lowest_modes import lowest_modes
from himlip_ase.vibrations.thermochemistry import ideal_gas, vibrations_data

calc = HiMLIPCalculator("himlip-h3s-2")
h2s = relax(molecule("SH2"), calc, fmax=1e-6).atoms
hessian, report = symmetric_hessian(h2s, lambda vectors: calc.hessian_vector_product(h2s, vectors))
print(report)

# %% [markdown]
# `VibrationsData` is what `ase.vibrations.Vibrations` gives after 6N force calls.

# %%
vibrations = vibrations_data(h2s, calc)
print(vibrations.tabulate())
gas = ideal_gas(h2s, calc)
print(f"Gibbs energy at 298 K, 1 bar: {gas.get_gibbs_energy(298.15, 1e5, verbose=False):.3f} eV")

# %% [markdown]
# The softest modes of a large structure need Hessian-vector products only, in number far below 3N.

# %%
crystal = read(Path(__file__).parent / "h3s" / "labels" / "crystal.extxyz").repeat((2, 2, 2))
crystal.positions += np.random.default_rng(0).normal(scale=0.02, size=crystal.positions.shape)
found = lowest_modes(crystal, calc, n=3)
print(f"{found.products} products for {len(crystal)} atoms; cm⁻¹ (imaginary negative):")
for frequency, error in zip(found.frequencies, found.errors, strict=True):
    print(f"{frequency:10.3f} ± {error:.0e}")

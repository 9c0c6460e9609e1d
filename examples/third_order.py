# %% [markdown]
# # Third-order force constants and phono3py
#
# Exact third derivatives along the pairs of displacements that symmetry leaves independent, in the layout of
# phono3py's fc3.hdf5. The crystal is a toy that is certain to be stable: hydrogen atoms that repel each
# other, close-packed under pressure.

# %%
from importlib.util import find_spec

from ase.build import bulk

from himlip_ase import HiMLIPCalculator
from himlip_ase.phonons.phono3py_io import to_phono3py, write_fc2
from himlip_ase.phonons.third_order import third_order_force_constants
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

repulsion = HiMLIP(HiMLIPConfig(("H",), cutoff=3.0, channels=2, hidden=4, layers=1))
calc = HiMLIPCalculator(repulsion)
crystal = bulk("H", "fcc", a=1.45)
second = calc.get_force_constants(crystal, (3, 3, 3))
third = third_order_force_constants(crystal, (3, 3, 3), calc.third_derivatives)
print(f"{third.products} third-derivative products instead of {third.without_symmetry}")
print(f"sum rule {third.acoustic_sum_rule_violation():.1e}, "
      f"exchange of indices {third.permutation_violation():.1e} eV/Å³")  # fmt: skip
third.write("fc3.hdf5", overwrite=True)
write_fc2(second, "fc2.hdf5", overwrite=True)

# %% [markdown]
# With phono3py installed, the same object goes on to the thermal conductivity.

# %%
if find_spec("phono3py") is None:
    print("phono3py is not installed; fc2.hdf5 and fc3.hdf5 are for its command line")
else:
    phono3py = to_phono3py(second, third)
    phono3py.mesh_numbers = [5, 5, 5]
    phono3py.init_phph_interaction()
    phono3py.run_thermal_conductivity(temperatures=[300])
    print(f"thermal conductivity at 300 K: {phono3py.thermal_conductivity.kappa[0, 0, 0]:.2f} W/m/K")

# %% [markdown]
# # Tc from the electron-phonon matrices of ph.x and any phonons
#
# The harmonic phonons of H3S at 150 GPa have imaginary modes: they are named, and no Tc is given.

# %%
from pathlib import Path

from himlip_ase.phonons.qe import read_dyn
from himlip_ase.superconductivity import TcOptions, analyse, format_table, read_elph

harmonic = Path(__file__).parent / "h3s" / "labels" / "harmonic"
phonons = read_dyn(harmonic / "dyn0")
elph = read_elph(harmonic / "elph_dir", phonons.primitive)
print(format_table([analyse("harmonic", elph, phonons, phonons, TcOptions(methods=("allen-dynes",)))]))

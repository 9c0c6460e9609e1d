# %% [markdown]
# # From ph.x dyn files to bands, and to phonopy
#
# Dynamical matrices of Quantum ESPRESSO become force constants, bands, and a file that phonopy reads.

# %%
from pathlib import Path

from matplotlib.figure import Figure

from himlip_ase.phonons.bands import band_structure
from himlip_ase.phonons.phonopy_io import write_phonopy_params
from himlip_ase.phonons.plots import plot_bands
from himlip_ase.phonons.qe import read_dyn

labels = Path(__file__).parent / "h3s" / "labels"
matrices = read_dyn(labels / "harmonic" / "dyn0")
print(
    "grid",
    matrices.dims,
    "lowest frequency",
    round(float(matrices.frequencies().min()), 1),
    "cm⁻¹ (imaginary: negative)",
)

# %%
constants = matrices.force_constants()
bands = band_structure(constants, npoints=41)
figure = Figure(figsize=(5, 4), layout="constrained")
plot_bands(figure.subplots(), bands, "DFT harmonic")
figure.savefig("bands.png")

# %% [markdown]
# An isotope is a change of masses; Φ(q) stays.

# %%
deuterium = matrices.with_masses({"H": 2.014})
print(
    "highest frequency",
    round(float(matrices.frequencies().max())),
    "→",
    round(float(deuterium.frequencies().max())),
    "cm⁻¹",
)
write_phonopy_params(constants, "phonopy_params.yaml", overwrite=True)

"""DFT labels with Quantum ESPRESSO: relaxation, dynamical and electron-phonon matrices, single points.

Inputs are written through ``ase.io.espresso``; ``pw.x`` and ``ph.x`` come from the PATH (6.7 or newer).
No run that did not finish and converge is trusted, every long one continues where it was stopped, and
`himlip_ase.dft.label_folder.collect` publishes finished runs as a folder of labels with their provenance.
"""

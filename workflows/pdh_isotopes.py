"""PdH, PdD and PdT: why the heavier superconducts at the higher temperature.

One set of Quantum ESPRESSO labels, one potential, three SSCHA runs that differ in the mass of hydrogen. Each
stage leaves its files in ``<folder>/state/<stage>`` and is kept when it is finished; ``<folder>/isotopes/``
holds one table and one figure of each kind for the three. ``python workflows/pdh_isotopes.py --help`` lists
the choices.
"""

from __future__ import annotations

from pathlib import Path

from himlip_ase.cli.workflow import run_workflow
from himlip_ase.pipeline import finetune, labels, learn, phonons, report, sscha, tc
from himlip_ase.pipeline.comparison.measured import read_measured
from himlip_ase.pipeline.comparison.report import compare_runs

EXAMPLES = Path(__file__).parents[1] / "examples"

METHOD = (
    # Quantum ESPRESSO, PBE, SG15 pseudopotentials, 60 Ry, 12×12×12 k: the crystal at a static pressure of 0,
    # its dynamical and electron-phonon matrices on 2×2×2 q, supercells as an SSCHA draws them.
    labels.STAGE,
    # The base model, which knows Pd and H, learns them. Masses are no part of a potential.
    finetune.STAGE,
    learn.STAGE,
    # Harmonic phonons of the potential against ph.x.
    phonons.STAGE,
    # The free energy is minimised for ¹H, and from there for ²H and ³H; each has a free-energy Hessian.
    sscha.STAGE,
    # The same G(q) with the phonons of each: α²F, λ, Tc, Δ(T). Coupling is linear in the displacements, which
    # underestimates Tc here: the change with mass is what can be compared.
    tc.STAGE,
    report.STAGE,
)

if __name__ == "__main__":
    written = run_workflow(__doc__, EXAMPLES / "pdh" / "pdh.yaml", METHOD, folder="runs/pdh")
    if written.name == "report.html":
        folder = written.parent
        measured = read_measured(EXAMPLES / "hydrides" / "measured.yaml")
        print(f"wrote {compare_runs([folder], folder / 'isotopes', measured, overwrite=True)}")

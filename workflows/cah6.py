"""CaH6 at 172 GPa: anharmonic phonons of a clathrate, one of whose harmonic modes hangs on the k-mesh.

Quantum ESPRESSO labels, a potential that has learnt them among those of other hydrides, SSCHA. Each stage
leaves its files in ``<folder>/state/<stage>`` and is kept when it is finished. ``python workflows/cah6.py
--help`` lists the choices.
"""

from __future__ import annotations

from pathlib import Path

from himlip_ase.cli.workflow import run_workflow
from himlip_ase.pipeline import finetune, labels, learn, phonons, report, sscha, tc

CONFIG = Path(__file__).parents[1] / "examples" / "cah6" / "cah6.yaml"

METHOD = (
    # Quantum ESPRESSO, PBE, SG15 pseudopotentials, 60 Ry: the crystal at 172 GPa, its dynamical and
    # electron-phonon matrices on 2×2×2 q, disordered cells of 28 atoms.
    labels.STAGE,
    # himlip-hydride-2 has learnt these cells beside those of other crystals; potentials that each left out a
    # part of the cells tell its own error.
    finetune.STAGE,
    learn.STAGE,
    # Harmonic phonons of the potential against ph.x.
    phonons.STAGE,
    # The free energy is minimised, then the free-energy Hessian says whether the crystal is stable.
    sscha.STAGE,
    # α²F and λ of G(q) on 2×2×2. No Tc: no second q-grid has tested this one, and T₂g at Γ is not converged
    # in k.
    tc.STAGE,
    report.STAGE,
)

if __name__ == "__main__":
    run_workflow(__doc__, CONFIG, METHOD, folder="runs/cah6")

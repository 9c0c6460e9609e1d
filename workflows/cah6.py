"""CaH6 at 172 GPa: calcium in a sodalite cage of hydrogen, from labels to Tc.

Each stage leaves its files in ``<folder>/state/<stage>`` and is kept when it is finished; ``<folder>/report.html``
is the report. ``python workflows/cah6.py --help`` lists the choices.
"""

from __future__ import annotations

from pathlib import Path

from himlip_ase.cli.workflow import run_workflow
from himlip_ase.pipeline import finetune, labels, learn, phonons, report, sscha, tc

EXAMPLES = Path(__file__).parents[1] / "examples"

METHOD = (
    # Quantum ESPRESSO, PBE, SG15 pseudopotentials, 60 Ry, 12×12×12 k: the crystal at a static pressure of
    # 172 GPa, its dynamical and electron-phonon matrices on 2×2×2 q, supercells as an SSCHA draws them.
    labels.STAGE,
    # The base model, which knows Ca and H, learns them.
    finetune.STAGE,
    learn.STAGE,
    # Harmonic phonons of the potential against ph.x.
    phonons.STAGE,
    # The free energy is minimised at 0 K; its Hessian tells whether the crystal is stable.
    sscha.STAGE,
    # α²F with the phonons of the SSCHA, λ, Tc by four formulas, Δ(T).
    tc.STAGE,
    report.STAGE,
)

if __name__ == "__main__":
    run_workflow(__doc__, EXAMPLES / "cah6" / "cah6.yaml", METHOD, folder="runs/cah6")

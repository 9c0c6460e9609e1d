"""H3S at 150 GPa: from Quantum ESPRESSO labels to anharmonic phonons and Tc.

Reads like the method section of a paper. Each stage leaves its files in ``<folder>/state/<stage>`` and is
kept when it is finished. ``python workflows/h3s_sscha.py --help`` lists the choices.
"""

from __future__ import annotations

from pathlib import Path

from himlip_ase.cli.workflow import run_workflow
from himlip_ase.pipeline import finetune, labels, learn, phonons, report, sscha, tc

CONFIG = Path(__file__).parents[1] / "examples" / "h3s" / "h3s.yaml"

METHOD = (
    # Quantum ESPRESSO, PBE, SG15 pseudopotentials, 60 Ry, 12×12×12 k: the crystal at 150 GPa, its dynamical
    # and electron-phonon matrices on 2×2×2 q, rattled cells, the double well, validation supercells.
    labels.STAGE,
    # A smooth equivariant network learns energies, forces, stresses and, through random projections of
    # Hessian-vector products, the harmonic Hessian. It is judged on supercells that it never saw.
    finetune.STAGE,
    # Where an engine is at hand, SSCHA configurations are labelled, judged and learnt until DFT agrees. Here
    # the labels are given, and no DFT is run: `learn: {enabled: true}` would.
    learn.STAGE,
    # Harmonic phonons of the potential against ph.x; the double well of the unstable T1u mode against DFT.
    phonons.STAGE,
    # The SSCHA free energy is minimised at 0 K with the potential's forces, 500 configurations a
    # population; then the free-energy Hessian on a fresh ensemble, with error bars.
    sscha.STAGE,
    # G(q) of ph.x with harmonic and anharmonic phonons: α²F, λ, Tc. Imaginary modes are never summed.
    tc.STAGE,
    # Pictures, tables, results.json.
    report.STAGE,
)


if __name__ == "__main__":
    run_workflow(__doc__, CONFIG, METHOD, folder="runs/h3s")

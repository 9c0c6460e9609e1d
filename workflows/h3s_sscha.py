"""H3S at 150 GPa: from Quantum ESPRESSO labels to anharmonic phonons and Tc.

Reads like the method section of a paper. Each stage leaves its files in ``<folder>/state/<stage>`` and is
kept when it is finished. ``python workflows/h3s_sscha.py --help`` lists the choices.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from himlip_ase.cli.app import clean_errors, configure_logging
from himlip_ase.pipeline import finetune, labels, learn, phonons, report, sscha, tc
from himlip_ase.pipeline.config import load_config, parse_assignments
from himlip_ase.pipeline.headlines import closing_lines
from himlip_ase.pipeline.run import run_pipeline

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


def main() -> None:
    """Parse the command line and run."""
    names = [stage.name for stage in METHOD]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/h3s"), help="run folder (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument(
        "--retrain", action="store_true", help="train the model instead of taking the shipped one"
    )
    parser.add_argument(
        "--from", dest="start_from", choices=names, help="do this stage and all after it again"
    )
    parser.add_argument("--until", choices=names, help="stop after this stage")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the YAML file"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    configure_logging()
    with clean_errors(arguments.debug):
        overrides = parse_assignments(arguments.set)
        if arguments.retrain:
            overrides |= {"finetune.model": None, "finetune.model_without_hessian": None}
        config = load_config(CONFIG, overrides)
        written = run_pipeline(
            config, arguments.folder, arguments.resume, arguments.start_from, arguments.until, stages=METHOD
        )
        print("\n".join(closing_lines(written)))


if __name__ == "__main__":
    main()

"""From reactant and product to verdict and ΔG‡ at GFN2-xTB: cost, and how often it is the intended one.

Asked for: at most 10 CPU seconds for a reaction of ten atoms.

    python -m benchmarks.reactions.whole
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks.reactions.reaction_set import cases, gfn2
from benchmarks.reactions.tables import write_results
from himlip_ase.errors import InputError
from himlip_ase.pipeline.ts import gibbs_of_reaction
from himlip_ase.reactions import Surface, find_reaction
from himlip_ase.reactions.reaction_files import reaction_as_dict
from himlip_ase.vibrations.gibbs import Conventions


def main() -> None:
    """Run all, and write the table."""
    parser = argparse.ArgumentParser(description="whole searches")
    parser.add_argument("--only", nargs="+", help="numbers of reactions, as 01 14; default: all")
    only = parser.parse_args().only
    rows, numbers = [], {}
    for case in cases(only):
        begun = time.process_time()
        found = find_reaction(case.reactant, case.product, gfn2())
        activation = None
        if found.judgement.reactbench["ts_valid"]:
            try:
                gibbs = gibbs_of_reaction(found, Surface(case.reactant, gfn2()), Conventions(), "wigner")
                activation = gibbs.activation
            except InputError as error:
                print(case.name, error, flush=True)
        seconds = time.process_time() - begun
        numbers[case.name] = {
            **reaction_as_dict(found),
            "activation_gibbs_ev": activation,
            "cpu_seconds": seconds,
        }
        barrier = found.barrier
        rows.append(
            [
                case.name,
                len(case.reactant),
                found.judgement.verdict.value,
                "–" if barrier is None else f"{barrier:.3f}",
                "–" if activation is None else f"{activation:.3f}",
                numbers[case.name]["gradients"],
                numbers[case.name]["hessians"],
                f"{seconds:.1f}",
            ]
        )
        print(rows[-1], flush=True)
    intended = sum(row[2] == "intended" for row in rows)
    ten = [float(row[-1]) for row in rows if row[1] == 10]
    text = [
        f"{intended} of {len(rows)} are the intended reaction; ten atoms take {np.mean(ten):.1f} CPU s.",
        "Energies in eV. CPU seconds of one core of a shared machine for everything, free energies included.",
    ]
    columns = ["reaction", "atoms", "verdict", "barrier", "ΔG‡", "gradients", "Hessians", "CPU s"]
    write_results(
        "reactions_whole",
        "Whole searches at GFN2-xTB",
        "python -m benchmarks.reactions.whole",
        [(columns, rows)],
        text,
        numbers,
    )


if __name__ == "__main__":
    main()

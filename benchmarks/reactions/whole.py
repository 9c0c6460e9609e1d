"""From reactant and product to verdict and ΔG‡ at GFN2-xTB: cost, and how often it is the intended one.

Asked for: at most 10 CPU seconds for a reaction of ten atoms.

    python -m benchmarks.reactions.whole
    python -m benchmarks.reactions.whole --only 06 07 11 --add   # some, beside the rows of earlier runs
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.reactions.reaction_set import Case, cases, gfn2
from benchmarks.reactions.tables import earlier_results, write_results
from himlip_ase.errors import InputError
from himlip_ase.pipeline.ts import gibbs_of_reaction
from himlip_ase.reactions import Surface, find_reaction
from himlip_ase.reactions.reaction_files import reaction_as_dict
from himlip_ase.vibrations.gibbs import Conventions

NAME = "reactions_whole"


def searched(case: Case) -> dict[str, Any]:
    """A whole search, with free energies where there is a transition state."""
    begun = time.process_time()
    found = find_reaction(case.reactant, case.product, gfn2())
    activation = None
    if found.judgement.reactbench["ts_valid"]:
        try:
            surface = Surface(case.reactant, gfn2())
            activation = gibbs_of_reaction(found, surface, Conventions(), "wigner").activation
        except InputError as error:
            print(case.name, error, flush=True)
    seconds = time.process_time() - begun
    return {**reaction_as_dict(found), "activation_gibbs_ev": activation, "cpu_seconds": seconds}


def main() -> None:
    """Run all, and write the table."""
    parser = argparse.ArgumentParser(description="whole searches")
    parser.add_argument("--only", nargs="+", help="numbers of reactions, as 01 14; default: all")
    parser.add_argument("--add", action="store_true", help="keep the rows of other reactions")
    given = parser.parse_args()
    numbers = earlier_results(NAME) if given.add else {}
    for case in cases(given.only):
        numbers[case.name] = searched(case)
        print(row_of(case, numbers[case.name]), flush=True)
        write(cases(), numbers)


def row_of(case: Case, found: dict[str, Any]) -> list[Any]:
    """A reaction in the table."""
    barrier, activation = found["barrier_ev"], found["activation_gibbs_ev"]
    return [
        case.name,
        len(case.reactant),
        found["verdict"],
        "–" if barrier is None else f"{barrier:.3f}",
        "–" if activation is None else f"{activation:.3f}",
        found["gradients"],
        found["hessians"],
        f"{found['cpu_seconds']:.1f}",
    ]


def write(chosen: list[Case], numbers: dict[str, Any]) -> None:
    """Numbers and table."""
    rows = [row_of(case, numbers[case.name]) for case in chosen if case.name in numbers]
    intended = sum(row[2] == "intended" for row in rows)
    ten = [float(row[-1]) for row in rows if row[1] == 10]
    text = [
        f"{intended} of {len(rows)} are the intended reaction; ten atoms take "
        f"{np.mean(ten) if ten else np.nan:.1f} CPU s.",
        "Energies in eV. CPU seconds of one core of a shared machine for everything, free energies included.",
    ]
    columns = ["reaction", "atoms", "verdict", "barrier", "ΔG‡", "gradients", "Hessians", "CPU s"]
    write_results(
        NAME,
        "Whole searches at GFN2-xTB",
        "python -m benchmarks.reactions.whole",
        [(columns, rows)],
        text,
        numbers,
    )


if __name__ == "__main__":
    main()

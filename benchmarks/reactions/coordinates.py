"""Intrinsic reaction coordinates: cost of two step lengths, minima against a stiff integrator.

Asked for: minima within 1 meV, at most 40 gradients both ways at the coarse setting.

    python -m benchmarks.reactions.coordinates
    python -m benchmarks.reactions.coordinates --only 01 14 --add   # some, beside the rows of earlier runs
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.reactions.reaction_set import cases, gfn2
from benchmarks.reactions.tables import earlier_results, write_results
from himlip_ase.errors import CalculationError
from himlip_ase.reactions import IrcSettings, Saddle, Surface, find_minimum, find_saddle, follow_irc

STEPS = (0.3, 0.1)
NAME = "reactions_coordinates"


def minima(saddle: Saddle, step: float) -> dict[str, Any]:
    """Ours."""
    surface, begun = Surface(saddle.atoms, gfn2()), time.process_time()
    irc = follow_irc(saddle, surface, IrcSettings(step=step, max_steps=300))
    return {
        "ends_ev": sorted(float(e) for e in (irc.energies[0], irc.energies[-1])),
        "gradients": irc.counts.gradients,
        "hessians": irc.counts.hessians,
        "converged": irc.backward.converged and irc.forward.converged,
        "seconds": time.process_time() - begun,
    }


def integrated(saddle: Saddle) -> dict[str, Any]:
    """dx/dt = −g in mass-weighted coordinates by LSODA, until the forces are small; then relaxed."""
    surface = Surface(saddle.atoms, gfn2())
    roots = np.sqrt(np.repeat(saddle.atoms.get_masses(), 3))
    ends = []
    for sign in (-1.0, 1.0):
        start = saddle.atoms.positions.ravel() * roots + 0.03 * sign * saddle.modes[0].ravel()

        def downhill(_: float, point: np.ndarray) -> np.ndarray:
            return -surface.evaluate(point / roots)[1] / roots

        def calm(_: float, point: np.ndarray) -> float:
            moved = np.linalg.norm(point - saddle.atoms.positions.ravel() * roots) > 0.3
            force = np.linalg.norm((surface.evaluate(point / roots)[1]).reshape(-1, 3), axis=1).max()
            return float(force - 0.1) if moved else 1.0

        calm.terminal = True  # type: ignore[attr-defined]
        found = solve_ivp(downhill, (0, 2000), start, "LSODA", rtol=1e-5, atol=1e-5, events=calm)
        ends.append(find_minimum(surface, found.y[:, -1] / roots, 0.005, 500).energy)
    return {"ends_ev": sorted(ends), "gradients": surface.counts.gradients}


def difference(one: dict[str, Any], two: dict[str, Any]) -> float:
    """Largest difference of the minima in meV."""
    return 1000 * max(abs(a - b) for a, b in zip(one["ends_ev"], two["ends_ev"], strict=True))


def main() -> None:
    """Run all, and write the table."""
    parser = argparse.ArgumentParser(description="reaction coordinates")
    parser.add_argument("--only", nargs="+", help="numbers of reactions, as 01 14; default: all")
    parser.add_argument("--add", action="store_true", help="keep other rows, and what LSODA found")
    given = parser.parse_args()
    numbers = earlier_results(NAME) if given.add else {}
    for case in cases(given.only):
        try:
            saddle = find_saddle(case.start, gfn2())
            if not saddle.converged or len(saddle.imaginary) != 1:
                continue
            found: dict[str, Any] = {f"step {step}": minima(saddle, step) for step in STEPS}
            found["LSODA"] = numbers.get(case.name, {}).get("LSODA") or integrated(saddle)
        except CalculationError as error:
            print(case.name, error, flush=True)
            continue
        numbers[case.name] = found
        print(row_of(case.name, found), flush=True)
        write({name: numbers[name] for name in sorted(numbers)})


def row_of(name: str, found: dict[str, Any]) -> list[Any]:
    """A reaction in the table."""
    coarse, fine = (found[f"step {step}"] for step in STEPS)
    return [
        name,
        f"{coarse['gradients']} / {coarse['hessians']}",
        f"{fine['gradients']} / {fine['hessians']}",
        found["LSODA"]["gradients"],
        f"{difference(coarse, found['LSODA']):.2f}",
        f"{difference(fine, found['LSODA']):.2f}",
    ]


def write(numbers: dict[str, Any]) -> None:
    """Numbers and table."""
    gradients = [found["step 0.3"]["gradients"] for found in numbers.values()]
    agreeing = [difference(found["step 0.3"], found["LSODA"]) <= 1.0 for found in numbers.values()]
    text = [
        f"Gradients both ways at 0.3 √amu Å: median {np.median(gradients):.0f}, mean "
        f"{np.mean(gradients):.0f}; at most 40 in {sum(g <= 40 for g in gradients)} of {len(gradients)}. "
        "Relaxation of both ends to 0.01 eV/Å included.",
        f"Minima within 1 meV of those of the stiff integrator in {sum(agreeing)} of {len(agreeing)} "
        "reactions. Where the difference (in meV) is large, the ends are loose complexes or other "
        "conformers.",
    ]
    columns = [
        "reaction",
        "0.3: gradients / Hessians",
        "0.1",
        "LSODA",
        "0.3 − LSODA",
        "0.1 − LSODA",
    ]
    write_results(
        NAME,
        "Intrinsic reaction coordinates, GFN2-xTB",
        "python -m benchmarks.reactions.coordinates --only " + " ".join(name.split()[0] for name in numbers),
        [(columns, [row_of(name, found) for name, found in numbers.items()])],
        text,
        numbers,
    )


if __name__ == "__main__":
    main()

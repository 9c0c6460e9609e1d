"""Saddle searches from twenty start geometries, beside Sella where it is installed.

Asked for: at least 18 of 20 reach one imaginary mode, at most 6 steps on average on the well-behaved ones
(those on which all methods find the same saddle), fewer gradients than Sella, and the same steps for a turned
input.

    python -m benchmarks.reactions.saddles
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms

from benchmarks.reactions.reaction_set import Case, cases, gfn2
from benchmarks.reactions.tables import earlier_results, write_results
from himlip_ase.errors import CalculationError
from himlip_ase.reactions import SaddleSettings, Surface, find_saddle

FMAX, STEPS = 0.01, 100
MOST_GRADIENTS = 300
"""Of a search by Sella, which may take many within a step."""

NAME, TURNED = "reactions_saddles", "turned input"


@dataclass(frozen=True)
class Run:
    """One search."""

    steps: int
    gradients: int
    hessians: int
    converged: bool
    imaginary: list[float]
    energy: float | None
    seconds: float

    @property
    def good(self) -> bool:
        """Converged, with one imaginary mode."""
        return self.converged and len(self.imaginary) == 1


def ours(settings: SaddleSettings) -> Callable[[Atoms], Run]:
    """Our search with some settings."""

    def run(atoms: Atoms) -> Run:
        begun = time.process_time()
        try:
            found = find_saddle(atoms, gfn2(), settings=settings)
        except CalculationError:
            return Run(0, 0, 0, False, [], None, time.process_time() - begun)
        return Run(
            found.steps + found.rejected,
            found.counts.gradients,
            found.counts.hessians,
            found.converged,
            found.imaginary.tolist(),
            found.energy,
            time.process_time() - begun,
        )

    return run


def sella(every_step: bool) -> Callable[[Atoms], Run]:
    """Sella in Cartesian coordinates, with a Hessian at every step or without one."""

    def run(atoms: Atoms) -> Run:
        from ase.calculators.calculator import Calculator, all_changes
        from sella import Sella

        surface = Surface(atoms, gfn2())

        class Counted(Calculator):
            """Our surface as an ASE calculator."""

            implemented_properties = ["energy", "forces"]  # noqa: RUF012

            def calculate(
                self, atoms: Any = None, properties: Any = None, changes: Any = all_changes
            ) -> None:
                super().calculate(atoms, properties, changes)
                if surface.counts.gradients > MOST_GRADIENTS:
                    raise CalculationError(f"more than {MOST_GRADIENTS} gradients")
                energy, gradient = surface.evaluate(atoms.positions.ravel())
                self.results = {"energy": energy, "forces": -gradient.reshape(-1, 3)}

        subject = atoms.copy()
        subject.calc = Counted()
        options: dict[str, Any] = {"logfile": None, "internal": False}
        if every_step:
            options |= {
                "hessian_function": lambda where: surface.hessian(where.positions.ravel()),
                "diag_every_n": 0,
            }
        begun = time.process_time()
        try:
            search = Sella(subject, **options)
            converged = bool(search.run(fmax=FMAX, steps=STEPS))
        except Exception as error:
            print(f"  sella: {type(error).__name__}: {error}")
            return Run(0, surface.counts.gradients, 0, False, [], None, time.process_time() - begun)
        seconds, counts = time.process_time() - begun, surface.counts
        try:  # looked at by ours, which takes no step at a stationary point
            seen = find_saddle(subject, gfn2(), settings=SaddleSettings(fmax=2 * FMAX, max_steps=1))
        except CalculationError:
            return Run(search.nsteps, counts.gradients, counts.hessians, False, [], None, seconds)
        imaginary = seen.imaginary.tolist()
        return Run(
            search.nsteps, counts.gradients, counts.hessians, converged, imaginary, seen.energy, seconds
        )

    return run


def methods() -> dict[str, Callable[[Atoms], Run]]:
    """All searches that can run here."""
    found: dict[str, Callable[[Atoms], Run]] = {
        "RS-P-RFO, Hessian at every step": ours(SaddleSettings(fmax=FMAX, max_steps=STEPS)),
        "RS-I-RFO, Hessian at every step": ours(SaddleSettings("rs-i-rfo", FMAX, STEPS)),
        "RS-P-RFO, Hessian at every third": ours(SaddleSettings(fmax=FMAX, max_steps=STEPS, hessian_every=3)),
    }
    if find_spec("sella"):
        found[f"Sella {version('sella')}, Hessian at every step"] = sella(True)
        found[f"Sella {version('sella')}, updates only"] = sella(False)
    return found


def turned(atoms: Atoms) -> Atoms:
    """The molecule turned and moved."""
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    found = atoms.copy()
    found.positions = atoms.positions @ (rotation * np.sign(np.linalg.det(rotation))).T + [1.0, -2.0, 0.5]
    return found


def agree(runs: dict[str, Run]) -> bool:
    """Whether all methods found the same saddle."""
    energies = [run.energy for run in runs.values() if run.good and run.energy is not None]
    return len(energies) == len(runs) and max(energies) - min(energies) < 0.002


def turned_run(case: Case, first: Run) -> dict[str, Any]:
    """Whether the first search takes the same steps from a turned input, and how far its energy differs."""
    again = next(iter(methods().values()))(turned(case.start))
    energies = None if first.energy is None or again.energy is None else abs(first.energy - again.energy)
    return {"same_steps": first.steps == again.steps, "difference_ev": energies}


def main() -> None:
    """Run all, and write the table."""
    parser = argparse.ArgumentParser(description="saddle searches")
    parser.add_argument("--only", nargs="+", help="numbers of reactions, as 01 14; default: all")
    parser.add_argument("--add", action="store_true", help="keep the rows of other reactions")
    given = parser.parse_args()
    chosen = sorted(cases(), key=lambda case: len(case.start))
    earlier = earlier_results(NAME) if given.add else {}
    searches = methods()
    table: dict[str, dict[str, Any]] = {}
    for case in chosen:
        if given.only is None or case.name.split()[0] in given.only:
            runs = {name: search(case.start) for name, search in searches.items()}
            table[case.name] = {**runs, TURNED: turned_run(case, next(iter(runs.values())))}
        elif case.name in earlier:
            row = earlier[case.name]
            runs = {name: Run(**row[name]) for name in searches}
            table[case.name] = {
                **runs,
                TURNED: row.get(TURNED) or turned_run(case, next(iter(runs.values()))),
            }
        else:
            continue
        shown = {name: (run.steps, run.gradients, run.good) for name, run in _runs(table[case.name]).items()}
        print(case.name, shown, table[case.name][TURNED], flush=True)
        if not given.add:  # what is kept must not be lost by an end before the last
            write(chosen, table)
    write(chosen, table)


def _runs(row: dict[str, Any]) -> dict[str, Run]:
    return {name: run for name, run in row.items() if name != TURNED}


def write(chosen: list[Case], table: dict[str, dict[str, Any]]) -> None:
    """Numbers and table."""
    searches = {name: _runs(row) for name, row in table.items()}
    names = list(next(iter(searches.values())))
    well = [name for name, runs in searches.items() if agree(runs)]
    rows = []
    for method in names:
        runs = {name: found[method] for name, found in searches.items()}
        means = [
            np.mean([getattr(runs[name], key) for name in well]) if well else np.nan
            for key in ("steps", "gradients", "hessians", "seconds")
        ]
        rows.append(
            [
                method,
                f"{sum(run.good for run in runs.values())} of {len(runs)}",
                *(f"{mean:.1f}" for mean in means),
            ]
        )
    ours_first = names[0]
    atoms = {case.name: len(case.start) for case in chosen}
    detail = []
    for name, runs in searches.items():
        cells = [f"{run.steps} ({run.gradients})" + ("" if run.good else " ✗") for run in runs.values()]
        found = runs[ours_first].imaginary
        mode = f"{found[0]:.0f}" if found else "–"
        detail.append([name, atoms[name], *cells, mode, "yes" if name in well else "no"])
    same = [row[TURNED] for row in table.values() if row[TURNED]["same_steps"]]
    largest = max((row["difference_ev"] or 0.0 for row in same), default=0.0)
    text = [
        f"{len(table)} of {len(chosen)} reactions. Means over the {len(well)} on which all methods find the "
        "same saddle (energies within 2 meV).",
        f"A turned and shifted input takes as many steps in {len(same)} of {len(table)}; "
        f"energies differ by at most {1e6 * largest:.2g} µeV there.",
        "Below: steps (gradients) of each; ✗: not converged in 100 steps, or not one imaginary mode.",
    ]
    numbers = {
        name: {**{method: asdict(run) for method, run in runs.items()}, TURNED: table[name][TURNED]}
        for name, runs in searches.items()
    }
    write_results(
        NAME,
        "Saddle searches at GFN2-xTB from twenty start geometries",
        "python -m benchmarks.reactions.saddles",
        [
            (["method", "one imaginary mode", "steps", "gradients", "Hessians", "CPU s"], rows),
            (["reaction", "atoms", *names, "imaginary (cm⁻¹)", "all agree"], detail),
        ],
        text,
        numbers,
    )


if __name__ == "__main__":
    main()

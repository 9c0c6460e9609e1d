"""Growing strings against converged climbing-image bands: cost, and whether both find the same saddle.

Asked for: at most 150 gradients to a guess from which the saddle of the band is reached in 90 % of the
reactions whose band leads to a verified transition state.

    python -m benchmarks.reactions.strings
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.mep import NEB
from ase.optimize import FIRE

from benchmarks.reactions.reaction_set import Case, cases, gfn2
from benchmarks.reactions.tables import write_results
from himlip_ase.errors import CalculationError
from himlip_ase.reactions import (
    Surface,
    Verdict,
    find_path,
    find_saddle,
    follow_irc,
    interpolate,
    judge_reaction,
)

IMAGES, FMAX, STEPS = 11, 0.1, 400


@dataclass(frozen=True)
class Found:
    """A guess and the saddle that it leads to."""

    gradients: int
    converged: bool
    guess_energy: float | None
    saddle_energy: float | None
    verdict: str
    seconds: float


class Shared(Calculator):
    """An image of a band: the surface that all images count on."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self.surface = surface

    def calculate(self, atoms: Any = None, properties: Any = None, changes: Any = all_changes) -> None:
        """Energy and forces."""
        super().calculate(atoms, properties, changes)
        energy, gradient = self.surface.evaluate(atoms.positions.ravel())
        self.results = {"energy": energy, "forces": -gradient.reshape(-1, 3)}


def judged(case: Case, guess: Any, tangent: Any, surface: Surface) -> tuple[float | None, str]:
    """Saddle from a guess, and its verdict."""
    try:
        saddle = find_saddle(guess, surface, tangent)
        if not saddle.converged or len(saddle.imaginary) != 1:
            return None, judge_reaction(saddle, None, case.reactant, case.product).verdict.value
        irc = follow_irc(saddle, surface)
    except CalculationError as error:
        return None, str(error)[:60]
    return saddle.energy, judge_reaction(saddle, irc, case.reactant, case.product).verdict.value


def string(case: Case) -> Found:
    """Our string."""
    surface, begun = Surface(case.reactant, gfn2()), time.process_time()
    try:
        path = find_path(case.reactant, case.product, surface)
    except CalculationError as error:
        return Found(
            surface.counts.gradients, False, None, None, str(error)[:60], time.process_time() - begun
        )
    seconds = time.process_time() - begun
    energy, verdict = judged(case, path.guess, path.tangent, surface)
    return Found(path.counts.gradients, path.converged, float(path.energies.max()), energy, verdict, seconds)


def band(case: Case) -> Found:
    """ASE's climbing-image band from the geodesic."""
    surface, begun = Surface(case.reactant, gfn2()), time.process_time()
    try:
        images = interpolate(case.reactant, case.product, IMAGES)
        for image in images:
            image.calc = Shared(surface)
        converged = False
        for climb, fmax in ((False, 0.5), (True, FMAX)):
            neb = NEB(images, climb=climb, method="improvedtangent", allow_shared_calculator=True)
            converged = bool(FIRE(neb, logfile=None).run(fmax=fmax, steps=STEPS))
        energies = [image.get_potential_energy() for image in images]
    except CalculationError as error:
        return Found(
            surface.counts.gradients, False, None, None, str(error)[:60], time.process_time() - begun
        )
    seconds, gradients = time.process_time() - begun, surface.counts.gradients
    top = 1 + int(np.argmax(energies[1:-1]))
    tangent = images[top + 1].positions - images[top - 1].positions
    energy, verdict = judged(case, images[top], tangent, surface)
    return Found(gradients, converged, float(energies[top]), energy, verdict, seconds)


def main() -> None:
    """Run all, and write the table."""
    parser = argparse.ArgumentParser(description="strings against bands")
    parser.add_argument("--only", nargs="+", help="numbers of reactions, as 01 14; default: all")
    only = parser.parse_args().only
    warnings.simplefilter("ignore")
    rows, numbers, same, verified = [], {}, 0, 0
    for case in cases(only):
        one, two = string(case), band(case)
        numbers[case.name] = {"string": asdict(one), "band": asdict(two)}
        good = two.verdict == Verdict.INTENDED.value and two.saddle_energy is not None and two.converged
        equal = (
            good
            and one.saddle_energy is not None
            and two.saddle_energy is not None
            and abs(one.saddle_energy - two.saddle_energy) < 0.005
        )
        verified += good
        same += equal
        rows.append(
            [
                case.name,
                f"{one.gradients}{'' if one.converged else '*'}",
                one.verdict,
                f"{two.gradients}{'' if two.converged else '*'}",
                two.verdict,
                "yes" if equal else "no" if good else "–",
            ]
        )
        print(rows[-1], flush=True)
    mean = np.mean([found["string"]["gradients"] for found in numbers.values()])
    most = max(found["string"]["gradients"] for found in numbers.values())
    rows.append(
        [
            "mean",
            f"{mean:.0f}",
            "",
            f"{np.mean([f['band']['gradients'] for f in numbers.values()]):.0f}",
            "",
            "",
        ]
    )
    write_results(
        "reactions_strings",
        "Growing strings against climbing-image bands, GFN2-xTB",
        "python -m benchmarks.reactions.strings",
        [(["reaction", "string: gradients", "verdict", "band: gradients", "verdict", "same saddle"], rows)],
        [
            f"Of {verified} reactions whose band ({IMAGES} images, FIRE, {FMAX} eV/Å) leads to a verified "
            f"transition state, the string reaches the same saddle (within 5 meV) in {same}.",
            f"Gradients of the string: mean {mean:.0f}, at most {most}. A star: not converged to its own "
            "criterion.",
        ],
        numbers,
    )


if __name__ == "__main__":
    main()

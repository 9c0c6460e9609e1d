"""Growing strings against converged climbing-image bands: cost, and whether both find the same saddle.

Asked for: at most 150 gradients to a guess from which the saddle of the band is reached in 90 % of the
reactions whose band leads to a verified transition state.

    python -m benchmarks.reactions.strings
    python -m benchmarks.reactions.strings --only 01 14 --add   # some, beside the rows of earlier runs
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
from benchmarks.reactions.tables import earlier_results, write_results
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

IMAGES, FMAX, STEPS = 9, 0.1, 400
NAME = "reactions_strings"
SAME_EV = 0.005


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


def judged(
    case: Case, guess: Any, tangent: Any, surface: Surface, known: Found | None = None
) -> tuple[float | None, str]:
    """Saddle from a guess, and its verdict; that of a known saddle of the same energy is taken over."""
    try:
        saddle = find_saddle(guess, surface, tangent)
        if not saddle.converged or len(saddle.imaginary) != 1:
            return None, judge_reaction(saddle, None, case.reactant, case.product).verdict.value
        if known is not None and known.saddle_energy is not None:
            if abs(known.saddle_energy - saddle.energy) < 1e-4:
                return saddle.energy, known.verdict
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


def band(case: Case, known: Found) -> Found:
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
    energy, verdict = judged(case, images[top], tangent, surface, known)
    return Found(gradients, converged, float(energies[top]), energy, verdict, seconds)


def main() -> None:
    """Run all, and write the table."""
    parser = argparse.ArgumentParser(description="strings against bands")
    parser.add_argument("--only", nargs="+", help="numbers of reactions, as 01 14; default: all")
    parser.add_argument("--add", action="store_true", help="keep the rows of other reactions")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {
        name: (Found(**row["string"]), Found(**row["band"]))
        for name, row in (earlier_results(NAME) if given.add else {}).items()
    }
    for case in cases(given.only):
        one = string(case)
        found[case.name] = one, band(case, one)
        print(case.name, *found[case.name], flush=True)
        write({name: found[name] for name in sorted(found)})


def verified(band: Found) -> bool:
    """Whether a band converged and leads to the intended transition state."""
    return band.verdict == Verdict.INTENDED.value and band.saddle_energy is not None and band.converged


def same(one: Found, two: Found) -> bool:
    """Whether string and band lead to the same saddle."""
    if one.saddle_energy is None or two.saddle_energy is None:
        return False
    return abs(one.saddle_energy - two.saddle_energy) < SAME_EV


def write(found: dict[str, tuple[Found, Found]]) -> None:
    """Numbers and table."""
    rows = []
    for name, (one, two) in found.items():
        reached = ("yes" if same(one, two) else "no") if verified(two) else "–"
        cells = (f"{run.gradients}{'' if run.converged else '*'}" for run in (one, two))
        of_string, of_band = cells
        rows.append([name, of_string, one.verdict, of_band, two.verdict, reached])
    gradients, of_bands = ([run.gradients for run in runs] for runs in zip(*found.values(), strict=True))
    rows.append(["mean", f"{np.mean(gradients):.0f}", "", f"{np.mean(of_bands):.0f}", "", ""])
    good = [pair for pair in found.values() if verified(pair[1])]
    write_results(
        NAME,
        "Growing strings against climbing-image bands, GFN2-xTB",
        "python -m benchmarks.reactions.strings",
        [(["reaction", "string: gradients", "verdict", "band: gradients", "verdict", "same saddle"], rows)],
        [
            f"Of {len(good)} reactions whose band ({IMAGES} images, FIRE, {FMAX} eV/Å) converges and leads "
            "to a verified transition state, the string reaches the same saddle (within "
            f"{1000 * SAME_EV:.0f} meV) in {sum(same(*pair) for pair in good)}.",
            f"Gradients of the string: mean {np.mean(gradients):.0f}, at most {max(gradients)}. A star: not "
            "converged to its own criterion.",
        ],
        {name: {"string": asdict(one), "band": asdict(two)} for name, (one, two) in found.items()},
    )


if __name__ == "__main__":
    main()

"""A reaction potential on reactions that it has not seen: errors against its teacher, and its saddles.

    python -m benchmarks.reactions.unseen --model himlip-chno-1
    python -m benchmarks.reactions.unseen --model MODEL --part validation --name NAME  # before the choice

The reactions are those of the part "test" of examples/reactions. At the teacher's (GFN2-xTB's) reactant,
transition state and product: energies relative to the reactant, Hessians, Gibbs energies (298 K, 1 atm). Then
the model searches alone: ends relaxed, string, saddle. Its saddle is handed to the teacher, whose own search
from there takes a few steps. "The teacher's own" is a saddle of the same energy (5 meV) and frequencies
(10 cm⁻¹) as the one in the set. The same from the guess of a string on the geodesic alone, without a model,
is the baseline: the highest of nine geodesic images, the teacher's search from there. Both are compared pair
by pair (McNemar's exact test). Finished reactions are kept in ``runs/NAME.jsonl``, and a run that was stopped
goes on after them; another model begins anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from scipy.stats import binomtest

from benchmarks.reactions.reaction_set import gfn2
from benchmarks.reactions.tables import write_results
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.store import LabelStore
from himlip_ase.potential.checkpoint import find_model
from himlip_ase.reactions import (
    SaddleSettings,
    SearchSettings,
    StringSettings,
    Surface,
    calculator_by_name,
    find_minimum,
    find_path,
    find_saddle,
    interpolate,
)
from himlip_ase.vibrations.gibbs import gibbs_energy
from himlip_ase.vibrations.normal_modes import normal_modes

SET = Path(__file__).parents[2] / "examples" / "reactions" / "labels"
ROLES = ("reactant", "transition_state", "product")
SETTINGS = SearchSettings(
    string=StringSettings(nodes=7, interpolation="linear", max_gradients=120),
    saddle=SaddleSettings(max_steps=40),
)
SAME_ENERGY, SAME_FREQUENCY = 0.005, 10.0


@dataclass(frozen=True, eq=False)
class Reaction:
    """One reaction of the set."""

    about: dict[str, Any]
    frames: dict[str, LabelledFrame]

    def hessian(self, role: str) -> np.ndarray:
        """The teacher's, (N, 3, N, 3) in eV/Å²."""
        label = self.frames[role].hessian
        assert label is not None
        return label.matrix

    def is_saddle(self, energy: float, frequencies: np.ndarray) -> bool:
        """Whether this is the transition state of the set."""
        own = self.frames["transition_state"]
        assert own.energy is not None
        modes = normal_modes(own.atoms, self.hessian("transition_state")).frequencies
        near = len(modes) == len(frequencies) and np.abs(modes - frequencies).max() < SAME_FREQUENCY
        return bool(near and abs(energy - own.energy) < SAME_ENERGY)


def reactions(part: str = "test") -> list[Reaction]:
    """Reactions of one part of the set."""
    store = LabelStore(SET / "reactions.h5")
    listed = json.loads((SET / "reactions.json").read_text(encoding="utf-8"))["list"]
    return [
        Reaction(about, {role: store[about[role]] for role in ROLES})
        for about in listed
        if about["part"] == part
    ]


def errors_of(model: Any, reaction: Reaction) -> dict[str, Any]:
    """Errors of a model at the teacher's stationary points."""
    found: dict[str, Any] = {}
    energies, gibbs = {}, {}
    for role in ROLES:
        frame = reaction.frames[role]
        where = frame.atoms.positions.ravel()
        surface = Surface(frame.atoms, model)
        matrix = surface.hessian(where).reshape(reaction.hessian(role).shape)
        energy, gradient = surface.evaluate(where)
        found[f"hessian_{role}"] = float(np.abs(matrix - reaction.hessian(role)).mean())
        found[f"force_{role}"] = float(np.abs(gradient).mean())
        energies[role] = (energy, frame.energy)
        try:
            gibbs[role] = tuple(
                gibbs_energy(frame.atoms, e, h, int(role == "transition_state")).gibbs
                for e, h in ((energy, matrix), (frame.energy, reaction.hessian(role)))
            )
        except InputError:
            gibbs[role] = None
    for role in ROLES[1:]:
        (own, teacher), (first, first_teacher) = energies[role], energies["reactant"]
        found[f"energy_{role}"] = abs(own - first - (teacher - first_teacher))
        if gibbs[role] is not None and gibbs["reactant"] is not None:
            (own, teacher), (first, first_teacher) = gibbs[role], gibbs["reactant"]
            found[f"gibbs_{role}"] = abs(own - first - (teacher - first_teacher))
    return found


def model_saddle(model: Any, reaction: Reaction) -> tuple[Atoms, np.ndarray, float]:
    """Transition state of the model between its own minima nearest to the teacher's, and its barrier (eV)."""
    first, last = (reaction.frames[role].atoms for role in ("reactant", "product"))
    surface = Surface(first, model)
    reactant, product = (find_minimum(surface, atoms.positions.ravel()) for atoms in (first, last))
    path = find_path(reactant.atoms, product.atoms, surface, SETTINGS.string)
    saddle = find_saddle(path.guess, surface, path.tangent, SETTINGS.saddle)
    if not saddle.converged or len(saddle.imaginary) != 1:
        raise CalculationError(f"no saddle of first order: {len(saddle.imaginary)} imaginary modes")
    return saddle.atoms, saddle.followed, saddle.energy - reactant.energy


def geodesic_top(reaction: Reaction) -> tuple[Atoms, np.ndarray, None]:
    """Where the teacher's energy is highest among geodesic images, and the direction of the path there."""
    first, last = (reaction.frames[role].atoms for role in ("reactant", "product"))
    images = interpolate(first, last, 9)
    surface = Surface(first, gfn2())
    top = 1 + int(np.argmax([surface.evaluate(image.positions.ravel())[0] for image in images[1:-1]]))
    return images[top], images[top + 1].positions - images[top - 1].positions, None


def search(start: Any, reaction: Reaction) -> dict[str, Any]:
    """The teacher's search from a guess, and whether it ends in the transition state of the set."""
    barrier = None
    try:
        guess, tangent, barrier = start(reaction)
        surface = Surface(guess, gfn2())
        saddle = find_saddle(guess, surface, tangent, SETTINGS.saddle)
    except (CalculationError, InputError) as error:
        return {"own": False, "reason": str(error)[:100], "steps": None, "barrier": barrier}
    own = saddle.converged and reaction.is_saddle(saddle.energy, saddle.frequencies)
    return {"own": bool(own), "reason": "", "steps": saddle.steps, "barrier": barrier}


def judged(name: str, model_name: str, part: str, most: int | None) -> list[dict[str, Any]]:
    """Rows of the reactions, each written down when it is done."""
    model = calculator_by_name(model_name)
    weights = hashlib.sha256(find_model(model_name).read_bytes()).hexdigest()
    path = Path("runs") / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    done = {row["set"]: row for row in map(json.loads, lines) if row["model_sha256"] == weights}
    path.parent.mkdir(exist_ok=True)
    for reaction in reactions(part)[:most]:
        about = reaction.about
        if about["set"] in done:
            continue
        row = {"name": about["name"], "set": about["set"], "model_sha256": weights}
        row |= {"barrier": about["barrier_ev"], **errors_of(model, reaction)}
        row["model"] = search(lambda one: model_saddle(model, one), reaction)
        row["baseline"] = search(geodesic_top, reaction)
        done[about["set"]] = row
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(row["set"], row["name"], row["model"], row["baseline"], flush=True)
    return [done[reaction.about["set"]] for reaction in reactions(part)[:most]]


def mean_of(values: list[float]) -> str:
    """Mean ± standard error, and of how many."""
    if not values:
        return "–"
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{np.mean(values):.3f} ± {error:.3f} ({len(values)})"


def write(name: str, model: str, part: str, rows: list[dict[str, Any]]) -> None:
    """Table and numbers."""

    def mean(key: str) -> str:
        return mean_of([row[key] for row in rows if key in row])

    table = [
        [role.replace("_", " "), mean(f"hessian_{role}"), mean(f"force_{role}")]
        + ([mean(f"energy_{role}"), mean(f"gibbs_{role}")] if role != "reactant" else ["–", "–"])
        for role in ROLES
    ]
    hessians = mean_of([float(np.mean([row[f"hessian_{role}"] for role in ROLES])) for row in rows])
    own = {kind: sum(row[kind]["own"] for row in rows) for kind in ("model", "baseline")}
    only = {
        kind: sum(row[kind]["own"] and not row[other]["own"] for row in rows)
        for kind, other in (("model", "baseline"), ("baseline", "model"))
    }
    chance = binomtest(only["model"], sum(only.values())).pvalue if sum(only.values()) else 1.0
    found = [row for row in rows if row["model"]["own"]]
    text = [
        f"{len(rows)} reactions. Hessian MAE over all three structures {hessians} eV/Å². Of {own['model']} "
        f"({100 * own['model'] / len(rows):.0f} %) the model's saddle leads to the teacher's own, which "
        f"takes the teacher {mean_of([row['model']['steps'] for row in found])} steps; barriers on the "
        f"model alone are {mean_of([abs(row['model']['barrier'] - row['barrier']) for row in found])} eV off "
        "there.",
        "Mean absolute errors against GFN2-xTB at its own structures ± standard error (how many): Hessian in "
        "eV/Å², forces in eV/Å; energies and Gibbs energies in eV, from the reactant's. A Gibbs energy is "
        "missing where the model has another number of imaginary modes.",
        f"Searches from the highest geodesic image, without a model: {own['baseline']} of {len(rows)}. Only "
        f"with the model {only['model']}, only without {only['baseline']} (McNemar's exact test: p = "
        f"{chance:.2g}).",
    ]
    print("\n".join(text))
    write_results(
        name,
        f"{model} on reactions that it has not seen ({part})",
        f"python -m benchmarks.reactions.unseen --model {model}"
        + (f" --part {part} --name {name}" if part != "test" else ""),
        [(["structure", "Hessian", "forces", "energy", "Gibbs energy"], table)],
        text,
        rows,
    )


def main() -> None:
    """Judge a model, and write the table."""
    parser = argparse.ArgumentParser(description="a reaction potential on unseen reactions")
    parser.add_argument("--model", default="himlip-chno-1", help="name, or path of a .safetensors file")
    parser.add_argument("--part", default="test", choices=("test", "validation"))
    parser.add_argument("--most", type=int, help="so many reactions at most")
    parser.add_argument("--name", default="reactions_unseen", help="name of the results")
    given = parser.parse_args()
    rows = judged(given.name, given.model, given.part, given.most)
    write(given.name, given.model, given.part, rows)


if __name__ == "__main__":
    main()

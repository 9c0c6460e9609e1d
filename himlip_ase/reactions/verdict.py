"""What a saddle point connects, and whether that is the reaction that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from ase import Atoms

from himlip_ase.reactions.alignment import rmsd
from himlip_ase.reactions.bonds import bond_graph
from himlip_ase.reactions.irc import Branch, Irc
from himlip_ase.reactions.saddle import Saddle

SAME_RMSD = 0.3
"""Å; below this an end is the given structure itself, above it another conformer of it."""


class Verdict(StrEnum):
    """Outcome of a search."""

    INTENDED = "intended"
    CONFORMER = "conformer"
    ONE_END = "one end"
    UNINTENDED = "unintended"
    SEVERAL_IMAGINARY_MODES = "several imaginary modes"
    NO_IMAGINARY_MODE = "no imaginary mode"
    SADDLE_NOT_CONVERGED = "saddle not converged"
    IRC_NOT_CONVERGED = "IRC not converged"
    CALCULATION_FAILED = "calculation failed"


MEANING: dict[Verdict, str] = {
    Verdict.INTENDED: "one imaginary mode, and the coordinate ends in the given reactant and product",
    Verdict.CONFORMER: "both ends of the coordinate have the same bonds: a change of conformation",
    Verdict.ONE_END: "one end of the coordinate is a given structure, the other is something else",
    Verdict.UNINTENDED: "neither end of the coordinate is a given structure",
    Verdict.SEVERAL_IMAGINARY_MODES: "a stationary point of higher order, no transition state",
    Verdict.NO_IMAGINARY_MODE: "a minimum, no transition state",
    Verdict.SADDLE_NOT_CONVERGED: "the forces did not vanish within the steps allowed",
    Verdict.IRC_NOT_CONVERGED: "the coordinate reached no minimum on some side",
    Verdict.CALCULATION_FAILED: "the calculator failed, as where a self-consistent field diverges",
}


@dataclass(frozen=True)
class End:
    """One end of a reaction coordinate.

    Attributes
    ----------
    formula : str
        Molecules at this end.
    matches : str
        "reactant", "product" or "" where the bonds are neither's.
    rmsd : float or None
        Å, to the given structure that it matches.
    changes : str
        Bonds that differ from the closer given structure.
    """

    formula: str
    matches: str
    rmsd: float | None
    changes: str

    @property
    def same_conformer(self) -> bool:
        """Whether this is the given structure itself."""
        return self.rmsd is not None and self.rmsd < SAME_RMSD


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reasons.

    Attributes
    ----------
    verdict : Verdict
    reason : str
        One sentence for a person.
    imaginary : tuple of float
        Imaginary frequencies, cm⁻¹, negative.
    backward, forward : End or None
        Ends of the coordinate; with `reversed`, forward is the reactant's side.
    reversed : bool
        Whether the coordinate runs from product to reactant.
    """

    verdict: Verdict
    reason: str
    imaginary: tuple[float, ...]
    backward: End | None = None
    forward: End | None = None
    reversed: bool = False

    @property
    def reactbench(self) -> dict[str, bool]:
        """ReactBench's stages (Zhao, Adv. Sci. e06240 (2025)): each presumes the one before.

        ``ts_converged``: the search ended with small forces. ``ts_valid``: exactly one imaginary mode.
        ``irc_intended``: both ends have the bonds of the given reactant and product, in either order.
        """
        one = len(self.imaginary) == 1
        converged = self.verdict not in (Verdict.SADDLE_NOT_CONVERGED, Verdict.CALCULATION_FAILED)
        return {
            "ts_converged": converged,
            "ts_valid": converged and one,
            "irc_intended": converged and one and self.verdict is Verdict.INTENDED,
        }


def judge_reaction(saddle: Saddle, irc: Irc | None, reactant: Atoms, product: Atoms) -> Judgement:
    """Judge a transition state by its modes and by where its reaction coordinate ends.

    Ends are compared as graphs of labelled atoms, in either order. Where reactant and product have the same
    bonds (rotations, inversions, an atom that jumps in a crystal), positions decide.

    Parameters
    ----------
    saddle : Saddle
    irc : Irc or None
        None where there is no coordinate to follow; the verdict then rests on the modes.
    reactant, product : Atoms
        Relaxed with the same calculator.

    Returns
    -------
    Judgement
    """
    imaginary = tuple(float(value) for value in saddle.imaginary)
    if not saddle.converged:
        return Judgement(
            Verdict.SADDLE_NOT_CONVERGED,
            f"largest force {saddle.largest_force:.3g} eV/Å after {saddle.steps + saddle.rejected} steps",
            imaginary,
        )  # fmt: skip
    if not imaginary:
        return Judgement(Verdict.NO_IMAGINARY_MODE, "the search ended in a minimum", imaginary)
    if len(imaginary) > 1:
        listed = ", ".join(f"{value:.0f}" for value in imaginary)
        return Judgement(
            Verdict.SEVERAL_IMAGINARY_MODES, f"{len(imaginary)} imaginary modes ({listed} cm⁻¹)", imaginary
        )
    if irc is None:
        reason = "the reaction coordinate was not followed"
        if saddle.hessian is None:
            reason += ": it starts from the saddle's Hessian, which large systems go without"
        return Judgement(Verdict.IRC_NOT_CONVERGED, reason, imaginary)
    by_position = bond_graph(reactant).bonds == bond_graph(product).bonds
    ends = [_end(branch, reactant, product, by_position) for branch in (irc.backward, irc.forward)]
    matches = [end.matches for end in ends]
    swapped = matches[0] == "product" or matches[1] == "reactant"
    unfinished = [branch.reason for branch in (irc.backward, irc.forward) if not branch.converged]
    if sorted(matches) == ["product", "reactant"]:
        verdict = Verdict.INTENDED
        others = [end.matches for end in ends if not end.same_conformer]
        reason = MEANING[verdict]
        if others:
            reason += f"; the {' and the '.join(others)} in another conformation"
        if unfinished:
            reason += f" (bonds are theirs, but an end is not relaxed: {unfinished[0]})"
    elif unfinished:
        verdict, reason = Verdict.IRC_NOT_CONVERGED, unfinished[0]
    elif bond_graph(irc.backward.end).bonds == bond_graph(irc.forward.end).bonds:
        verdict = Verdict.CONFORMER
        reason = f"both ends are {ends[0].formula} with the same bonds"
    elif any(matches):
        verdict = Verdict.ONE_END
        found, other = (ends[0], ends[1]) if matches[0] else (ends[1], ends[0])
        reason = f"one end is the {found.matches}, the other is {other.formula} ({other.changes})"
    else:
        verdict, reason = Verdict.UNINTENDED, f"the ends are {ends[0].formula} and {ends[1].formula}"
    return Judgement(verdict, reason, imaginary, ends[0], ends[1], swapped)


def _end(branch: Branch, reactant: Atoms, product: Atoms, by_position: bool) -> End:
    if not branch.images:
        return End("nothing", "", None, branch.reason)
    graph = bond_graph(branch.end)
    given = {"reactant": reactant, "product": product}
    distances = {name: rmsd(branch.end, atoms) for name, atoms in given.items()}
    fits = [name for name, atoms in given.items() if bond_graph(atoms).bonds == graph.bonds]
    if by_position:
        closest = min(distances, key=lambda name: distances[name])
        fits = [closest] if fits and distances[closest] < SAME_RMSD else []
    if fits:
        return End(graph.formula, fits[0], distances[fits[0]], "no bond changes")
    differences = [len(bond_graph(atoms).bonds ^ graph.bonds) for atoms in given.values()]
    closer = list(given.values())[int(np.argmin(differences))]
    return End(
        graph.formula, "", None, "compared with the given one: " + bond_graph(closer).changes_to(graph)
    )

"""From a reactant and a product to a judged transition state: relax, path, saddle, coordinate, verdict."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ase import Atoms

from himlip_ase.errors import CalculationError, NotConvergedError
from himlip_ase.reactions.alignment import aligned, check_ends
from himlip_ase.reactions.growing_string import ReactionPath, StringSettings, find_path
from himlip_ase.reactions.irc import Irc, IrcSettings, follow_irc
from himlip_ase.reactions.minimum import Minimum, find_minimum
from himlip_ase.reactions.saddle import Saddle, SaddleSettings, find_saddle
from himlip_ase.reactions.surface import Counts, Surface
from himlip_ase.reactions.verdict import Judgement, Verdict, judge_reaction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchSettings:
    """Settings of every part of a search.

    Parameters
    ----------
    string : StringSettings
    saddle : SaddleSettings
    irc : IrcSettings
    relax_fmax : float
        eV/Å; largest force on an atom of the relaxed ends.
    """

    string: StringSettings = field(default_factory=StringSettings)
    saddle: SaddleSettings = field(default_factory=SaddleSettings)
    irc: IrcSettings = field(default_factory=IrcSettings)
    relax_fmax: float = 0.01


@dataclass(frozen=True, eq=False)
class Reaction:
    """All that a search found, as far as it came.

    Attributes
    ----------
    reactant, product : Minimum or None
    path : ReactionPath or None
    saddle : Saddle or None
    irc : Irc or None
        From the reactant's side to the product's.
    judgement : Judgement
    counts : dict of str to Counts
        Of each part.
    cpu_seconds : float
    """

    reactant: Minimum | None
    product: Minimum | None
    path: ReactionPath | None
    saddle: Saddle | None
    irc: Irc | None
    judgement: Judgement
    counts: dict[str, Counts]
    cpu_seconds: float

    @property
    def barrier(self) -> float | None:
        """Energy of the saddle above the given, relaxed reactant, eV; None without a saddle."""
        if self.saddle is None or self.reactant is None:
            return None
        return self.saddle.energy - self.reactant.energy

    @property
    def reaction_energy(self) -> float | None:
        """Energy of the relaxed product above the reactant, eV."""
        if self.product is None or self.reactant is None:
            return None
        return self.product.energy - self.reactant.energy


def find_reaction(
    reactant: Atoms,
    product: Atoms,
    calculator: Any,
    settings: SearchSettings | None = None,
    on_part: Callable[[str], None] | None = None,
) -> Reaction:
    """Find and verify the transition state between two structures.

    Parameters
    ----------
    reactant, product : Atoms
        Atoms in the same order; they are relaxed first.
    calculator : object
        See `himlip_ase.reactions.surface.Surface`.
    settings : SearchSettings, optional
    on_part : callable, optional
        Called with the name of each part before it begins.

    Returns
    -------
    Reaction
        A part that fails ends the search with a judgement that says so; nothing is raised for it.

    Raises
    ------
    InputError
        Ends that do not belong together.
    """
    check_ends(reactant, product)
    return _Search(Surface(reactant, calculator), settings or SearchSettings(), on_part).run(
        reactant, product
    )


class _Search:
    """The parts of a search, one after another."""

    def __init__(
        self, surface: Surface, settings: SearchSettings, on_part: Callable[[str], None] | None
    ) -> None:
        self.surface, self.settings, self.on_part = surface, settings, on_part
        self.counts: dict[str, Counts] = {}
        self.found: dict[str, Any] = dict.fromkeys(("reactant", "product", "path", "saddle", "irc"))
        self.began = time.process_time()

    def part(self, name: str, work: Callable[[], Any]) -> Any:
        """Run a part and keep its result and its costs, those of a failure too."""
        if self.on_part is not None:
            self.on_part(name)
        before = self.surface.counts
        try:
            self.found[name] = work()
        finally:
            self.counts[name] = self.surface.counts - before
        return self.found[name]

    def run(self, reactant: Atoms, product: Atoms) -> Reaction:
        settings, surface = self.settings, self.surface
        verdict = Verdict.CALCULATION_FAILED
        try:
            first = self.relaxed("reactant", reactant)
            last = self.relaxed("product", aligned(product, first.atoms))
            path = self.part("path", lambda: find_path(first.atoms, last.atoms, surface, settings.string))
            saddle = self.part(
                "saddle", lambda: find_saddle(path.guess, surface, path.tangent, settings.saddle)
            )
            judgement = judge_reaction(saddle, None, first.atoms, last.atoms)
            # a transition state as far as the modes say; without its Hessian no coordinate leaves it
            if judgement.verdict is Verdict.IRC_NOT_CONVERGED and saddle.hessian is not None:
                irc = self.part("irc", lambda: follow_irc(saddle, surface, settings.irc))
                judgement = judge_reaction(saddle, irc, first.atoms, last.atoms)
                if judgement.reversed:
                    self.found["irc"] = irc.reversed()
                    judgement = judge_reaction(saddle, self.found["irc"], first.atoms, last.atoms)
        except CalculationError as error:
            part = list(self.counts)[-1]
            saddle = self.found["saddle"]
            imaginary = tuple(float(x) for x in saddle.imaginary) if saddle is not None else ()
            judgement = Judgement(verdict, f"{part}: {error}", imaginary)
        return Reaction(
            **self.found,
            judgement=judgement,
            counts=self.counts,
            cpu_seconds=time.process_time() - self.began,
        )

    def relaxed(self, name: str, atoms: Atoms) -> Minimum:
        fmax = self.settings.relax_fmax
        try:
            return self.part(name, lambda: find_minimum(self.surface, atoms.positions.ravel(), fmax))
        except NotConvergedError as error:
            raise CalculationError(f"the {name} does not relax: {error}") from error

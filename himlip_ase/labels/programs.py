"""Who calculated a label, and what follows from it: energies of two programs have two zeros."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.views import OnDemand, codes_of, set_names

NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""``module:factory``."""
NOT_SAID = "not said"
"""Who calculated labels that name no program."""

logger = logging.getLogger(__name__)


def calculator_of(code: str) -> str:
    """The ASE calculator that calculated a label, ``module:factory``; "" for anything else.

    Parameters
    ----------
    code : str
        As `LabelledFrame.code`.

    Returns
    -------
    str
    """
    first = code.partition(" ")[0]
    return first if NAMED.fullmatch(first) else ""


def counted(codes: Iterable[str]) -> dict[str, int]:
    """{program: labels}, `NOT_SAID` for those that name none, as first met."""
    return dict(Counter(code or NOT_SAID for code in codes))


class WithoutEnergies(OnDemand[LabelledFrame]):
    """Frames some of which have lost their energies; forces and stresses stay.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    indices : set of int
        Of those that lose them.
    """

    def __init__(self, frames: Sequence[LabelledFrame], indices: set[int]) -> None:
        self.frames, self.indices = frames, indices

    def __len__(self) -> int:
        return len(self.frames)

    def _item(self, index: int) -> LabelledFrame:
        frame = self.frames[index]
        return replace(frame, energy=None) if index in self.indices else frame

    def set_names(self) -> list[str]:
        """See `himlip_ase.labels.views.set_names`."""
        return set_names(self.frames)

    def codes(self) -> list[str]:
        """See `himlip_ase.labels.views.codes_of`."""
        return codes_of(self.frames)


def with_one_zero(
    frames: Sequence[LabelledFrame], beside: Sequence[LabelledFrame] = ()
) -> Sequence[LabelledFrame]:
    """Frames whose energies have one zero: those of ASE calculators lose theirs beside any other labels.

    A training knows one energy of every element, which is fitted to its labels. A calculator's energies and
    those of a DFT program differ by hundreds of eV an atom, and no such energies fit both. Forces and
    stresses have no zero. Of several calculators alone, the first one met keeps its energies.
    Tuned or not, a calculator has one zero: it is told by its name ``module:factory``.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    beside : sequence of LabelledFrame
        Frames of the same training whose zero it is.

    Returns
    -------
    sequence of LabelledFrame
        `frames` themselves where there is one zero.
    """
    own = [calculator_of(code) for code in codes_of(frames)]
    decide = [calculator_of(code) for code in codes_of(beside)] or own
    if not decide:
        return frames
    kept = "" if "" in decide else decide[0]
    losing = {k for k, name in enumerate(own) if name != kept}
    if not losing:
        return frames
    logger.warning(
        "energies of %d frames of %s are left out: their zero is not that of the other labels; forces and "
        "stresses stay",
        len(losing), ", ".join(sorted({own[k] or "a DFT program" for k in losing})),
    )  # fmt: skip
    return WithoutEnergies(frames, losing)

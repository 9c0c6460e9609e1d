"""What makes λ and Tc uncertain: named sources, each with its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from himlip_ase.superconductivity.codec import Record

Kind = Literal["sum", "sigma", "q-grid", "k-grid", "ensemble", "potential", "samples", "road"]


@dataclass(frozen=True)
class Part:
    """One source of uncertainty.

    Attributes
    ----------
    kind : {"sum", "sigma", "q-grid", "k-grid", "ensemble", "potential", "samples", "road"}
        Another way to sum over q; the broadening; the q-grid of G; the electrons of G; the SSCHA ensemble;
        the potential that made it; samples of phonons; the way of the SSCHA's matrices onto the grid of G.
    source : str
        What was varied, in words.
    size : float
        Half a spread, half the width of the middle 68 %, or one standard deviation, as `source` says;
        K for Tc, dimensionless for λ.
    """

    kind: Kind
    source: str
    size: float

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {"kind": self.kind, "source": self.source, "size": self.size}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Part:
        """What `to_record` wrote."""
        return cls(record["kind"], record["source"], float(record["size"]))


Parts = tuple[Part, ...]


def quadrature(parts: Parts) -> float | None:
    """Root of the summed squares; None if there are no parts."""
    return float(np.sqrt(sum(part.size**2 for part in parts))) if parts else None


def sources(parts: Parts) -> str:
    """What was varied, in words."""
    return "; ".join(part.source for part in parts) if parts else "not determined"


def size_of(parts: Parts, kind: Kind) -> float:
    """Sizes of one kind in quadrature; 0 without any.

    Parameters
    ----------
    parts : tuple of Part
    kind : str

    Returns
    -------
    float
    """
    return quadrature(tuple(part for part in parts if part.kind == kind)) or 0.0


def parts_from(records: Sequence[Mapping[str, Any]]) -> Parts:
    """Parts from the records of each."""
    return tuple(Part.from_record(record) for record in records)

"""Two roads to anharmonic phonons on the grid of G(q), and the gap between them.

The SSCHA of a smaller supercell reaches that grid through D_harm + interpolation of (D_anh − D_harm), and
carries every error of the harmonic matrices with it; an SSCHA on the grid itself needs none of them, one on a
grid between the two needs them less. Where a run has both, half the gap is part of the error of λ and of
each Tc.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from himlip_ase.pipeline.carriers import WORDS
from himlip_ase.pipeline.tc_cases import CaseResult, Phonons, TcResults
from himlip_ase.superconductivity.tc import add_spread

Grid = tuple[int, int, int]
SAME = {"auxiliary_corrected": "auxiliary", "hessian_corrected": "hessian"}
"""Phonons that take the gap of others where the finer grid lacks them."""


@dataclass(frozen=True)
class Roads:
    """λ of the main SSCHA and of the SSCHA on a finer grid, both on the grid of G(q).

    Attributes
    ----------
    grid : tuple of 3 int
        Of the finer SSCHA.
    carrier : str
        ``tc.carrier``: whose harmonic matrices carry what is not on the grid of G(q).
    lambdas : dict of str to tuple of 2 float
        For each kind of phonons: of the main SSCHA, of the finer one.
    """

    grid: Grid
    carrier: str
    lambdas: dict[str, tuple[float, float]]

    @property
    def words(self) -> tuple[str, str]:
        """How the report calls the two."""
        return WORDS[self.carrier], f"the SSCHA on {'×'.join(map(str, self.grid))}"

    @property
    def quoted(self) -> dict[str, tuple[float, float]]:
        """Those of `lambdas` that an answer rests on: corrected to DFT, where both roads are."""
        return {kind: pair for kind, pair in self.lambdas.items() if kind in SAME} or self.lambdas


def roads(results: TcResults, main: Grid, wanted: Grid, carrier: str = "dft") -> Roads | None:
    """Both roads where both were gone; None where nothing is carried, or on no finer grid was an SSCHA.

    Parameters
    ----------
    results : TcResults
    main : three ints
        Grid of the main SSCHA.
    wanted : three ints
        Of G(q); an SSCHA on it stands before one on a grid that is finer still.
    carrier : {"dft", "potential"}

    Returns
    -------
    Roads or None
    """
    grids = {p.grid for p, case in results.cases.items() if p.grid is not None and _usable(case) is not None}
    finer = [grid for grid in grids if _points(grid) > _points(main)]
    if main == wanted or not finer:
        return None
    finest = wanted if wanted in finer else max(finer, key=_points)
    found = {}
    for kind in ("hessian_corrected", "auxiliary_corrected", "hessian", "auxiliary"):
        near, on = (_usable(results.cases.get(Phonons(kind, grid=g))) for g in (None, finest))
        if near is not None and on is not None:
            assert near.analysis is not None and on.analysis is not None
            found[kind] = near.analysis.table.lambda_total, on.analysis.table.lambda_total
    return Roads(finest, carrier, found) if found else None


def with_gap(results: TcResults, both: Roads | None) -> TcResults:
    """The results with half the gap between the roads as a source of uncertainty, where both were gone.

    Parameters
    ----------
    results : TcResults
    both : Roads or None

    Returns
    -------
    TcResults
    """
    if both is None:
        return results
    cases = dict(results.cases)
    near, finer = both.words
    words = f"{near}, or {finer} itself (half the gap)"
    for phonons, case in results.cases.items():
        if phonons.isotope or phonons.grid not in (None, both.grid) or _usable(case) is None:
            continue
        kinds = [phonons.kind, SAME.get(phonons.kind, phonons.kind)]
        pairs = [
            [_usable(results.cases.get(Phonons(kind, grid=g))) for g in (None, both.grid)] for kind in kinds
        ]
        pair = next((pair for pair in pairs if all(pair)), None)
        if pair is None:
            continue
        tables = [one.analysis.table for one in pair if one is not None and one.analysis is not None]
        assert case.analysis is not None
        table = add_spread(case.analysis.table, tables, "road", words, among_others=True)
        cases[phonons] = replace(case, analysis=replace(case.analysis, table=table))
    return TcResults(cases)


def _points(grid: Grid) -> int:
    return grid[0] * grid[1] * grid[2]


def _usable(case: CaseResult | None) -> CaseResult | None:
    return case if case is not None and case.analysis is not None and not case.refusal else None

"""Two roads to anharmonic phonons on the grid of G(q), and the gap between them.

The SSCHA of a smaller supercell reaches that grid through D_harm + interpolation of (D_anh − D_harm), and
carries every error of the harmonic matrices with it; an SSCHA on the grid itself needs none of them. Where a
run has both, half the gap is part of the error of λ and of each Tc.
"""

from __future__ import annotations

from dataclasses import replace

from himlip_ase.pipeline.tc_cases import CaseResult, Phonons, TcResults
from himlip_ase.superconductivity.tc import add_spread

Grid = tuple[int, int, int]
SAME = {"auxiliary_corrected": "auxiliary", "hessian_corrected": "hessian"}
"""Phonons that take the gap of others."""


def gaps(results: TcResults, grid: Grid) -> dict[str, tuple[float, float]]:
    """λ on both roads, {kind: (through the difference, on the grid)}.

    Parameters
    ----------
    results : TcResults
    grid : three ints
        Of G(q).

    Returns
    -------
    dict
    """
    found = {}
    for kind in ("hessian", "auxiliary"):
        near, on = (_usable(results.cases.get(Phonons(kind, grid=g))) for g in (None, grid))
        if near is not None and on is not None:
            assert near.analysis is not None and on.analysis is not None
            found[kind] = near.analysis.table.lambda_total, on.analysis.table.lambda_total
    return found


def with_gap(results: TcResults, grid: Grid) -> TcResults:
    """The results with half the gap between the roads as a source of uncertainty, where both were gone.

    Parameters
    ----------
    results : TcResults
    grid : three ints
        Of G(q).

    Returns
    -------
    TcResults
    """
    cases = dict(results.cases)
    words = f"D_harm + difference, or the SSCHA on {'×'.join(map(str, grid))} itself (half the gap)"
    for phonons, case in results.cases.items():
        if phonons.isotope or phonons.grid not in (None, grid) or _usable(case) is None:
            continue
        kind = SAME.get(phonons.kind, phonons.kind)
        pair = [_usable(results.cases.get(Phonons(kind, grid=g))) for g in (None, grid)]
        if any(one is None for one in pair):
            continue
        tables = [one.analysis.table for one in pair if one is not None and one.analysis is not None]
        assert case.analysis is not None
        table = add_spread(case.analysis.table, tables, "road", words, among_others=True)
        cases[phonons] = replace(case, analysis=replace(case.analysis, table=table))
    return TcResults(cases)


def _usable(case: CaseResult | None) -> CaseResult | None:
    return case if case is not None and case.analysis is not None and not case.refusal else None

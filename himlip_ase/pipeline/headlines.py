"""What the terminal says at the end of a run: the gate first, then Tc."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from himlip_ase.pipeline.document import number
from himlip_ase.pipeline.gate import Gate
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.tc_cases import BY_INTEREST, NAMES
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.tc_entries import mu_star_text


def closing_lines(written: Path) -> list[str]:
    """What is said when a run has ended: where it was written, the gate, and Tc last.

    Parameters
    ----------
    written : Path
        What `himlip_ase.pipeline.run.run_pipeline` gave back.

    Returns
    -------
    list of str
    """
    folder = written if written.is_dir() else written.parent
    return [f"wrote {written}", *headlines(RunFolder.existing(folder).read_results())]


def headlines(results: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal.

    Parameters
    ----------
    results : mapping
        Content of ``results.json``.

    Returns
    -------
    list of str
        Verdict and checks of the gate; then, unless it withholds them, every formula's Tc at the middle μ*
        for the natural masses, of the first phonons of `himlip_ase.pipeline.tc_cases.BY_INTEREST`: of the
        main run, then of each further grid.
    """
    lines = Gate.from_record(results["gate"]).lines() if "gate" in results else []
    quoted = [
        figure
        for figure in results["figures"].values()
        if (key := figure.get("key", {})).get("quantity") == "tc"
        and figure["value"] is not None
        and not key["isotope"]
    ]
    for kind in BY_INTEREST:
        found = [figure for figure in quoted if figure["key"]["phonons"] == kind]
        values = list(dict.fromkeys(figure["key"]["mu_star"] for figure in found))
        for figure in sorted(found, key=lambda figure: figure["key"]["grid"] or []):
            key = figure["key"]
            if key["mu_star"] == values[len(values) // 2]:
                on = "" if key["grid"] is None else f" of the SSCHA on {'×'.join(map(str, key['grid']))}"
                what = f"{NAMES[kind]}{on}, {_formula(key['method'])}, μ* = {mu_star_text(key['mu_star'])}"
                lines.append(f"Tc, {what}: {number(figure['value'], figure['uncertainty'])} K")
        if found:
            break
    return lines


def _formula(method: str) -> str:
    return "Migdal–Eliashberg with N(ε)" if method == "eliashberg-dos" else label_of(method)

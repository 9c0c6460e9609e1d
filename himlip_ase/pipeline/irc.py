"""``himlip irc``: files and report of a reaction coordinate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from himlip_ase.files import write_json
from himlip_ase.pipeline.document import Document, Heading, Picture, Table
from himlip_ase.pipeline.runfolder import versions
from himlip_ase.pipeline.ts_report import drawn, write_document
from himlip_ase.reactions.bonds import bond_graph
from himlip_ase.reactions.irc import Irc, IrcSettings
from himlip_ase.reactions.plots import plot_mode, plot_profile
from himlip_ase.reactions.reaction_files import write_irc, write_saddle
from himlip_ase.reactions.saddle import Saddle
from himlip_ase.reactions.surface import Counts

SCHEMA = "himlip-irc-1"


def write_irc_result(
    folder: Path, saddle: Saddle, irc: Irc, counts: Counts, calculator: str, settings: IrcSettings
) -> None:
    """Write structures, ``result.json`` and ``report.html`` of a reaction coordinate.

    Parameters
    ----------
    folder : Path
        What is there is replaced.
    saddle : Saddle
    irc : Irc
    counts : Counts
        Of saddle and coordinate.
    calculator : str
        Its name.
    settings : IrcSettings
    """
    write_saddle(folder, saddle, overwrite=True)
    write_irc(folder, irc, overwrite=True)
    sides = {"backward": irc.backward, "forward": irc.forward}
    ends: dict[str, dict[str, Any]] = {
        name: {
            "formula": bond_graph(branch.end).formula if branch.images else "",
            "energy_over_saddle_ev": float(branch.energies[-1] - saddle.energy) if branch.images else None,
            "length_sqrt_amu_angstrom": float(branch.coordinates[-1]) if branch.images else 0.0,
            "frames": len(branch.images),
            "converged": branch.converged,
            "reason": branch.reason,
        }
        for name, branch in sides.items()
    }
    result = {
        "schema": SCHEMA,
        "saddle_energy_ev": saddle.energy,
        "imaginary_frequencies_cm": saddle.imaginary.tolist(),
        "ends": ends,
        **asdict(counts),
        "calculator": calculator,
        "settings": asdict(settings),
        "versions": versions(),
    }
    lower = min(irc.energies[0], irc.energies[-1])
    roots = saddle.atoms.get_masses()[:, None] ** 0.5
    profile = drawn(folder, "energy_profile", lambda ax: plot_profile(ax, irc, float(lower), "lower end"))
    mode = drawn(folder, "mode", lambda ax: plot_mode(ax, saddle.atoms, saddle.modes[0] / roots), 4.5)
    document = Document("Intrinsic reaction coordinate")
    rows = [
        (name, end["formula"], f"{end['energy_over_saddle_ev']:.4f}", "yes" if end["converged"] else
        end["reason"]) for name, end in ends.items() if end["energy_over_saddle_ev"] is not None
    ]  # fmt: skip
    document.add(
        Table(("end", "molecules", "energy over the saddle (eV)", "relaxed"), rows, numbers=(2,)),
        Heading("Pictures"),
        Picture(profile, "Energy along the coordinate."),
        Picture(mode, f"Imaginary mode, {saddle.frequencies[0]:.0f} cm⁻¹."),
    )
    write_document(folder, document)
    write_json(folder / "result.json", result, overwrite=True)

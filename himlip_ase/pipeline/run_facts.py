"""What a finished run was made of: crystal, cell, space group, cutoffs, grids, pseudopotentials, date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import spglib
from ase import Atoms

from himlip_ase.files import read_mapping
from himlip_ase.pipeline.labels import LabelFolder, label_folder
from himlip_ase.pipeline.runfolder import Figure, RunFolder
from himlip_ase.pipeline.stages import Context
from himlip_ase.symmetry.spglib_search import spglib_search

SMEARINGS = {
    "mp": "Methfessel–Paxton",
    "mv": "Marzari–Vanderbilt",
    "gauss": "Gaussian",
    "fd": "Fermi–Dirac",
}
SHOWN_VERSIONS = (
    "himlip-ase",
    "python",
    "ase",
    "phonopy",
    "spglib",
    "torch",
    "numpy",
    "scipy",
    "python-sscha",
)
_SYMPREC = 1e-4


@dataclass(frozen=True)
class RunFacts:
    """What a run was made of, in words; "" where nothing is known.

    Attributes
    ----------
    crystal : str
        Formula and number of atoms of the primitive cell.
    space_group : str
        Symbol and number.
    cell : str
        Lattice parameters, Å.
    pressure : str
    engine : str
        What calculated the labels.
    cutoffs, smearing, k_grids, q_grids : str
    pseudopotentials : str
        File and the beginning of its SHA-256, for each element.
    versions : str
    date : str
    """

    crystal: str
    space_group: str
    cell: str
    pressure: str
    engine: str
    cutoffs: str
    smearing: str
    k_grids: str
    q_grids: str
    pseudopotentials: str
    versions: str
    date: str

    def rows(self) -> list[tuple[str, str]]:
        """(what, words) of all that is known."""
        rows = [
            ("crystal", self.crystal),
            ("space group", self.space_group),
            ("cell", self.cell),
            ("pressure", self.pressure),
            ("labels by", self.engine),
            ("cutoffs", self.cutoffs),
            ("smearing", self.smearing),
            ("k-grids", self.k_grids),
            ("q-grids", self.q_grids),
            ("pseudopotentials", self.pseudopotentials),
            ("versions", self.versions),
            ("date", self.date),
        ]
        return [row for row in rows if row[1]]


def run_facts(context: Context, quoted: Mapping[str, Figure]) -> RunFacts:
    """What a run was made of, from its labels, records and configuration.

    Parameters
    ----------
    context : Context
    quoted : mapping of str to Figure
        Of all stages.

    Returns
    -------
    RunFacts
    """
    labels = label_folder(context)
    crystal = labels.crystal
    provenances = {name: _provenance(labels, name) for name in labels.harmonic_runs()}
    first = next(iter(provenances.values()), {})
    settings = dict(first.get("settings") or {})
    files = first.get("pseudopotentials") or {}
    pseudopotentials = "; ".join(
        f"{symbol}: {item['file']} ({item['sha256'][:8]}…)" for symbol, item in files.items()
    )
    sampled = _k_of_sets(labels)
    return RunFacts(
        f"{formula(crystal)}, {len(crystal)} atom{'s' * (len(crystal) != 1)} in the primitive cell",
        space_group(crystal),
        cell_words(crystal),
        _pressure(quoted),
        str(first.get("code", "")),
        _cutoffs(settings),
        _smearing(settings),
        "; ".join(word for word in [*(_k_words(*item) for item in provenances.items()), sampled] if word),
        _q_words(context, quoted, provenances),
        pseudopotentials,
        _versions(context.folder),
        _date(context.folder),
    )


def formula(atoms: Atoms) -> str:
    """Formula as the field writes it, metals first: LaH10, PdH, H3S."""
    return atoms.get_chemical_formula("metal")


def space_group(atoms: Atoms) -> str:
    """Space group by spglib, "Im-3m (229)"; "" where it finds none."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        return str(spglib_search(spglib.get_spacegroup, cell, symprec=_SYMPREC) or "")
    except (TypeError, ValueError):
        return ""


def cell_words(atoms: Atoms) -> str:
    """Lattice parameters of the conventional cell and volume of the primitive one."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    dataset = spglib_search(spglib.get_symmetry_dataset, cell, symprec=_SYMPREC)
    volume = f"{atoms.get_volume():.3f} Å³ per primitive cell"
    if dataset is None:
        lengths = ", ".join(f"{x:.4f}" for x in atoms.cell.lengths())
        return f"a, b, c = {lengths} Å, {volume}"
    lengths = Atoms(cell=dataset.std_lattice).cell.cellpar()
    sides, angles = lengths[:3], lengths[3:]
    if max(sides) - min(sides) < 1e-3 and abs(angles - 90).max() < 1e-2:
        return f"conventional a = {sides[0]:.4f} Å, {volume}"
    words = ", ".join(f"{name} = {x:.4f}" for name, x in zip("abc", sides, strict=True))
    turned = [(name, x) for name, x in zip("αβγ", angles, strict=True) if abs(x - 90) > 1e-2]
    words += " Å" + "".join(f", {name} = {x:.2f}°" for name, x in turned)
    return f"conventional {words}, {volume}"


def _provenance(labels: LabelFolder, name: str) -> dict[str, Any]:
    path = labels.path / name / "provenance.json"
    return read_mapping(path) if path.is_file() else {}


def _pressure(quoted: Mapping[str, Figure]) -> str:
    from himlip_ase.pipeline.document import number

    words = []
    for name, of in (("pressure", "static lattice"), ("pressure_quantum", "with zero-point motion")):
        found = quoted.get(name)
        if found is not None and found.value is not None:
            value = float(found.value)
            if found.uncertainty is None:
                words.append(f"{round(value, 2) + 0.0:.2f} GPa {of}")
            else:
                words.append(f"{number(value, found.uncertainty)} GPa {of}")
    return ", ".join(words)


def _cutoffs(settings: Mapping[str, Any]) -> str:
    wave, density = settings.get("ecutwfc_ry"), settings.get("ecutrho_ry")
    if wave is None:
        return ""
    return f"{wave:g} Ry for wavefunctions, {density or 4 * wave:g} Ry for the density"


def _smearing(settings: Mapping[str, Any]) -> str:
    kind, width = settings.get("smearing"), settings.get("degauss_ry")
    if kind is None or width is None or settings.get("occupations") == "fixed":
        return ""
    return f"{SMEARINGS.get(str(kind), str(kind))}, {width:g} Ry"


def _k_words(name: str, provenance: Mapping[str, Any]) -> str:
    if "k_grid" not in provenance:
        return ""
    words = f"{_times(provenance['k_grid'])} ({name}"
    if provenance.get("k_grid_dense"):
        words += f"; {_times(provenance['k_grid_dense'])} for the double delta"
    return f"{words})"


def _k_of_sets(labels: LabelFolder) -> str:
    """k-grids of the single points in the primitive cell's Brillouin zone, where they differ."""
    grids: dict[str, None] = {}
    for name in labels.training_sets():
        path = labels.path / f"{name}.json"
        if path.is_file():
            for frame in read_mapping(path).get("frames", []):
                if isinstance(frame, Mapping) and frame.get("k_grid"):
                    grids[_times(frame["k_grid"])] = None
    return f"{', '.join(grids)} (single points)" if grids else ""


def _q_words(context: Context, quoted: Mapping[str, Figure], provenances: Mapping[str, Any]) -> str:
    words = [f"{_times(context.config.q_grid)} harmonic labels and SSCHA"]
    further = [_times(grid) for grid in context.config.anharmonic.grids]
    words += [f"{', '.join(further)} further SSCHA"] if further else []
    elph = quoted.get("elph_q_grid")
    words += [f"{elph.value} G(q)"] if elph is not None and elph.value else []
    return "; ".join(words)


def _versions(folder: RunFolder) -> str:
    path = folder.path / "versions.json"
    found = read_mapping(path) if path.is_file() else {}
    return ", ".join(f"{name} {found[name]}" for name in SHOWN_VERSIONS if name in found)


def _date(folder: RunFolder) -> str:
    """When the last stage was finished: of results.json where it is of these records, else of the newest."""
    records = [path for path in folder.state.glob("*.json") if path.stem != "report"]
    written = _written(folder)
    if written:
        return written
    if not records:
        return ""
    newest = max(path.stat().st_mtime for path in records)
    return datetime.fromtimestamp(newest).astimezone().date().isoformat()


def _written(folder: RunFolder) -> str:
    path = folder.path / "results.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        stages = {name: stage["input_hash"] for name, stage in data["stages"].items() if name != "report"}
        written = str(data["written"])[:10]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    for name, key in stages.items():
        record = folder.read_record(name)
        if record is None or record.input_hash != key:
            return ""
    return written


def _times(grid: Any) -> str:
    return "×".join(map(str, grid))

"""The ``labels`` stage: labels that are there already, or made with a DFT engine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from himlip_ase.dft.espresso.engine import Espresso
from himlip_ase.dft.espresso.k_check_record import RULE, KCheck, read_k_check
from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping, reading
from himlip_ase.labels.frames import JUDGES
from himlip_ase.lattice import crystal_mismatch
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.make_labels import DOUBLE_WELL as DOUBLE_WELL
from himlip_ase.pipeline.make_labels import VALIDATION as VALIDATION
from himlip_ase.pipeline.make_labels import make_labels
from himlip_ase.pipeline.run_sections import LabelsSection
from himlip_ase.pipeline.runfolder import hash_inputs
from himlip_ase.pipeline.stages import Context, Outcome, Stage
from himlip_ase.structures import read_structure, read_structures

if TYPE_CHECKING:
    from himlip_ase.labels.frames import LabelledFrame
    from himlip_ase.superconductivity.elph_matrices import ElphMatrices

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelFolder:
    """A folder of labels in the layout of ``himlip label collect``."""

    path: Path

    @cached_property
    def crystal(self) -> Atoms:
        """The relaxed primitive cell."""
        path = self.path / "crystal.extxyz"
        if not path.is_file():
            raise InputError(
                f"{self.path} is not a label folder: it has no crystal.extxyz; "
                "`himlip label collect` writes one, or leave labels.folder out to make labels"
            )
        atoms = read_structure(path)
        atoms.calc = None
        return atoms

    @cached_property
    def harmonic(self) -> DynamicalMatrices:
        """Φ(q) of DFT on the whole q-grid."""
        return read_dyn(self.path / "harmonic" / "dyn0")

    def k_check(self, name: str = "harmonic") -> KCheck | None:
        """The k-check of one ph.x run, None where there is none."""
        return read_k_check(self.path / name)

    def k_check_for(self, run: str) -> KCheck | None:
        """What is known of the k-mesh of a ph.x run: its own check, or else that of ``harmonic``.

        That of ``harmonic`` speaks for a run on its own mesh or a denser one; for a coarser one only where it
        found that not even its own mesh does.

        Parameters
        ----------
        run : str

        Returns
        -------
        KCheck or None
        """
        own = self.k_check(run)
        if own is not None:
            return own
        other, record = self.k_check(), self.path / run / "provenance.json"
        if other is None or not other.converged or not record.is_file():
            return other
        mesh = read_mapping(record).get("k_grid", other.meshes[0])
        return other if all(k >= m for k, m in zip(mesh, other.meshes[0], strict=True)) else None

    def harmonic_runs(self) -> list[str]:
        """Names of the ph.x runs: ``harmonic``, and perhaps others on finer q-grids (``harmonic444``)."""
        names = [path.parent.name for path in self.path.glob("harmonic*/dyn0")]
        return sorted(names, key=lambda name: (name != "harmonic", name))

    def elph_runs(self) -> list[str]:
        """Those of them with electron-phonon matrices."""
        return [name for name in self.harmonic_runs() if (self.path / name / "elph_dir").is_dir()]

    def coupled(self, name: str) -> tuple[DynamicalMatrices, ElphMatrices]:
        """Φ(q) and G(q) of one ph.x run, by its name.

        Raises
        ------
        InputError
            There is no such run, or it has no electron-phonon matrices; the message lists those that have.
        """
        from himlip_ase.superconductivity.elph_matrices import read_elph

        if name not in self.elph_runs():
            there = ", ".join(self.elph_runs()) or "none"
            raise InputError(f"{self.path / name} holds no electron-phonon matrices; there are: {there}")
        phonons = read_dyn(self.path / name / "dyn0")
        return phonons, read_elph(self.path / name / "elph_dir", phonons.primitive)

    @property
    def has_elph(self) -> bool:
        """Whether there are electron-phonon matrices."""
        return bool(self.elph_runs())

    @property
    def why_no_elph(self) -> str:
        """Why there are no electron-phonon matrices, and what would give some."""
        path = self.path / "harmonic" / "provenance.json"
        code = read_mapping(path).get("code", "") if path.is_file() else ""
        made = f" (their harmonic matrices are from {code})" if code else ""
        return (
            f"no electron-phonon matrices among the labels{made}; ph.x computes them: `engine: espresso` in "
            "the run file, or `himlip label harmonic`"
        )

    def sets(self) -> list[str]:
        """Names of the sets of single points."""
        return sorted(path.stem for path in self.path.glob("*.extxyz") if path.stem != "crystal")

    def training_sets(self) -> list[str]:
        """The sets that may be learnt from."""
        return [name for name in self.sets() if not name.startswith(JUDGES)]

    def frames(self, names: Sequence[str]) -> list[LabelledFrame]:
        """Labelled structures of the sets `names`."""
        from himlip_ase.labels.readers import read_labels

        known = self.sets()
        for name in names:
            if name not in known:
                raise InputError(f"no label set '{name}' in {self.path}; there are: {', '.join(known)}")
        return read_labels([self.path / f"{name}.extxyz" for name in names]) if names else []

    def core_minutes(self) -> dict[str, float]:
        """Core-minutes of DFT that each set, and ``harmonic``, took, from the provenance files."""
        minutes = {}
        for name in (*(f"{run}/provenance" for run in self.harmonic_runs()), *self.sets()):
            path = self.path / f"{name}.json"
            if path.is_file():
                with reading(path, "collect these labels again"):
                    minutes[name.split("/")[0]] = float(read_mapping(path)["core_seconds"]) / 60
        return minutes

    def counts(self) -> dict[str, tuple[int, int]]:
        """Number of frames and of atoms in the first frame of each set."""
        found = {}
        for name in self.sets():
            images = read_structures(self.path / f"{name}.extxyz")
            found[name] = (len(images), len(images[0]))
        return found


def label_folder(context: Context) -> LabelFolder:
    """Where the labels of a run are."""
    given = context.config.labels.folder
    return LabelFolder(given if given is not None else context.of("labels") / "collected")


def _inputs(context: Context) -> list[Any]:
    config = context.config
    if config.labels.folder is not None:
        return [config.labels.folder, list(config.q_grid)]
    assert config.structure is not None
    if not config.structure.is_file():
        raise InputError(f"structure: {config.structure} does not exist; give a file that ASE reads")
    plain = config.resolved()
    engine = config.engine
    sections = [section for section in engine.sections if section != "launcher"]
    if plain["engine"].get("k_shift") is False:  # younger than runs that are finished and stay so
        del plain["engine"]["k_shift"]
    chosen = [] if engine == Espresso() else [plain["engine"]]
    for key in ("check_k", "k_tolerance_cm"):  # younger than runs that are finished and stay so
        if plain["labels"][key] == LabelsSection.model_fields[key].default:
            del plain["labels"][key]
    return [
        config.structure,
        *(plain[key] for key in ("pressure_gpa", "q_grid", *sections, "labels")),
        *chosen,
    ]


def labels_key(context: Context) -> str:
    """What decides the labels of a run, as one word."""
    return hash_inputs(_inputs(context))


def _run(context: Context, folder: Path) -> Outcome:
    config = context.config
    if config.labels.folder is None:
        make_labels(config, folder, context.plan, labels_key(context))
    labels = label_folder(context)
    check_labels(labels, config)
    outcome = Outcome()
    dims = "×".join(map(str, labels.harmonic.dims))
    for name, minutes in labels.core_minutes().items():
        outcome.add(
            f"dft_core_minutes.{name}", round(minutes, 2), "core-min", f"CPU time that DFT printed for {name}"
        )
    outcome.add("q_grid", dims, "", "grid of the dynamical matrices of ph.x")
    quote_k_check(outcome, labels)
    pressure = read_structure(labels.path / "crystal.extxyz").info.get("pressure_gpa")
    if pressure is not None:
        outcome.add("pressure", float(pressure), "GPa", "static pressure of DFT at the labelled crystal")
    return outcome


def quote_k_check(outcome: Outcome, labels: LabelFolder) -> None:
    """What the k-mesh leaves open in the harmonic frequencies, as figures and, where it is much, as a note.

    Parameters
    ----------
    outcome : Outcome
    labels : LabelFolder
    """
    check = labels.k_check()
    if check is None:
        how = "no k-check among the labels; `himlip label harmonic --check-k --resume` makes one"
        outcome.add("k_check.shift", None, "1/cm", how)
        return
    errors = check.errors(labels.harmonic)
    outcome.add("k_check.shift", round(check.shifts()[0], 1), "1/cm", check.verdict())
    outcome.add("k_error.median", round(float(np.median(errors)), 1), "1/cm", f"harmonic frequencies, {RULE}")
    outcome.add("k_error.largest", round(float(errors.max()), 1), "1/cm", f"harmonic frequencies, {RULE}")
    if not check.converged:
        outcome.notes.append(f"The k-mesh of the harmonic labels is not converged: {check.verdict()}.")


def check_labels(labels: LabelFolder, config: RunConfig) -> None:
    """Refuse labels of another crystal, another grid or without anything to learn from.

    Parameters
    ----------
    labels : LabelFolder
    config : RunConfig

    Raises
    ------
    InputError
    """
    harmonic, crystal = labels.harmonic, labels.crystal
    ours, theirs = crystal.get_chemical_symbols(), harmonic.primitive.get_chemical_symbols()
    reason = crystal_mismatch(crystal, harmonic.primitive)
    if reason is not None:
        raise InputError(
            f"{labels.path}: crystal.extxyz and harmonic/dyn0 are of different crystals or pressures: "
            f"{reason}; collect labels of one crystal"
        )
    if tuple(harmonic.dims) != tuple(config.q_grid):
        raise InputError(
            f"{labels.path}/harmonic is on a {'×'.join(map(str, harmonic.dims))} q-grid, the "
            f"configuration asks for {'×'.join(map(str, config.q_grid))}; set q_grid: {list(harmonic.dims)}"
        )
    if config.structure is not None and config.labels.folder is not None:
        given = read_structure(config.structure)
        if sorted(given.get_chemical_symbols()) != sorted(ours):
            raise InputError(
                f"{config.structure} is {given.get_chemical_formula()}, the labels in {labels.path} are of "
                f"{crystal.get_chemical_formula()}; leave `structure` or `labels.folder` out"
            )
    present = set(theirs)
    for frame in labels.frames(labels.sets()):
        strangers = set(frame.atoms.get_chemical_symbols()) - present
        if strangers:
            raise InputError(
                f"{frame.source} holds {', '.join(sorted(strangers))}, which "
                f"{crystal.get_chemical_formula()} does not: a label file of another crystal"
            )


STAGE = Stage("labels", _run, _inputs, keep_files=True, products="collected")

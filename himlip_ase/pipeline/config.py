"""What a run is told: one YAML file, checked key by key; command-line flags win over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from himlip_ase.dft.engine import Engine
from himlip_ase.dft.engines import ENGINES
from himlip_ase.dft.espresso.engine import Espresso, Harmonic
from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.executors import EXECUTORS, Local
from himlip_ase.errors import InputError
from himlip_ase.pipeline.choices import choice
from himlip_ase.pipeline.combinations import first_clash
from himlip_ase.pipeline.config_faults import explained
from himlip_ase.pipeline.gate import GateLimits
from himlip_ase.pipeline.run_sections import (
    AnharmonicSection,
    FinetuneSection,
    Grid,
    LabelsSection,
    LearnSection,
    TcSection,
)
from himlip_ase.pipeline.section import Section
from himlip_ase.sscha.settings import SschaSettings


class RunConfig(Section):
    """Everything that decides what a run computes.

    `structure` is any file that ASE reads, or None where ``labels.folder`` holds ``crystal.extxyz``.
    Relative paths are meant from the folder of the YAML file.
    """

    name: str = "crystal"
    """Of the run folder and in the report."""
    structure: Path | None = None
    """Primitive cell: any file that ASE reads."""
    pressure_gpa: float = 0.0
    """Static pressure, positive in compression."""
    pseudopotentials: Path | None = None
    """Folder of UPF files; None: the environment variable ESPRESSO_PSEUDO."""
    q_grid: Grid = (2, 2, 2)
    """Of the dynamical matrices, and the supercell of the SSCHA."""
    qe: QESettings = Field(default_factory=QESettings)
    harmonic: Harmonic = Field(default_factory=Harmonic)
    launcher: Launcher = Field(default_factory=Launcher)
    engine: Annotated[Any, *choice(ENGINES)] = Field(default_factory=Espresso)
    """What calculates the labels: a name, or a name with its keys."""
    executor: Annotated[Any, *choice(EXECUTORS)] = Field(default_factory=Local)
    """Where jobs run: a name, or a name with its keys."""
    workers: int = Field(default=1, ge=1)
    """Jobs side by side."""
    labels: LabelsSection = Field(default_factory=LabelsSection)
    finetune: FinetuneSection = Field(default_factory=FinetuneSection)
    learn: LearnSection = Field(default_factory=LearnSection)
    """Configurations of the SSCHA are labelled and learnt until both agree."""
    sscha: SschaSettings = Field(default_factory=SschaSettings)
    anharmonic: AnharmonicSection = Field(default_factory=AnharmonicSection)
    gate: GateLimits = Field(default_factory=GateLimits)
    """Checks before every Tc: where it is marked, where it is withheld."""
    tc: TcSection = Field(default_factory=TcSection)

    @model_validator(mode="after")
    def _goes_together(self) -> RunConfig:
        clash = first_clash(self)
        if clash is not None:
            raise ValueError(clash)
        return self

    @property
    def qe_settings(self) -> QESettings:
        """``qe`` with the folder of pseudopotentials filled in."""
        return dataclasses.replace(self.qe, pseudo_dir=self.pseudopotentials or self.qe.pseudo_dir)

    @property
    def dft(self) -> Engine:
        """The engine with the sections that are its own."""
        values = {"qe": self.qe_settings}
        sections = {
            argument: values.get(section, getattr(self, section))
            for section, argument in self.engine.sections.items()
        }
        return dataclasses.replace(self.engine, **sections)

    @property
    def further_grids(self) -> list[Grid]:
        """Supercells of ``anharmonic.grids`` that are not the main one."""
        return [dims for dims in self.anharmonic.grids if dims != self.q_grid]

    def resolved(self) -> dict[str, Any]:
        """Plain values, as written to ``config.yaml``."""
        return self.model_dump(mode="json")


_PATHS = (
    ("structure",),
    ("pseudopotentials",),
    ("qe", "pseudo_dir"),
    ("labels", "folder"),
    ("finetune", "model"),
    ("finetune", "model_without_hessian"),
    ("finetune", "replay"),
    ("finetune", "closed_form", "replay"),
    ("tc", "electronic_dos"),
)
"""Keys that hold a path, or a list of them."""
_MODELS = (("finetune", "model"), ("finetune", "model_without_hessian"))
"""Those that may also be the name of a model of the package."""


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Read, check and complete a run's YAML file.

    Parameters
    ----------
    path : path-like
        The YAML file.
    overrides : mapping, optional
        Values that win over the file, by dotted key: ``{"sscha.configurations": 200}``.

    Returns
    -------
    RunConfig

    Raises
    ------
    InputError
        No such file, not YAML, a Python tag, an unknown key (with the nearest known one), a bad value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist; give the YAML file of a run, e.g. examples/h3s/h3s.yaml"
        ) from error
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a YAML text file") from error
    return parse_config(text, path.parent, overrides, name=str(path))


def parse_config(
    text: str,
    folder: str | Path = ".",
    overrides: Mapping[str, Any] | None = None,
    name: str = "configuration",
) -> RunConfig:
    """As `load_config`, from the text of the file; `folder` is where relative paths start.

    Parameters
    ----------
    text : str
    folder : path-like
    overrides : mapping, optional
        As `load_config`.
    name : str
        For messages.

    Returns
    -------
    RunConfig
    """
    try:
        data = yaml.safe_load(text)
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InputError(
            f"{name}, line {line}: {error.problem}; only plain values are read, no tags"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise InputError(
            f"{name} holds a {type(data).__name__}; write `key: value` lines, e.g. structure: crystal.cif"
        )
    _find_models(data)
    _place_paths(data, Path(folder))
    _place_base(data, Path(folder))
    for dotted, value in (overrides or {}).items():
        _override(data, dotted, value)
    _find_models(data)
    return build_config(data, name)


def build_config(data: Mapping[str, Any], name: str = "configuration") -> RunConfig:
    """A checked `RunConfig` from plain values; `InputError` names each wrong key and the nearest one.

    Parameters
    ----------
    data : mapping
    name : str
        For messages.

    Returns
    -------
    RunConfig
    """
    try:
        return RunConfig.model_validate(dict(data))
    except ValidationError as error:
        lines = [explained(item, RunConfig) for item in error.errors()]
        raise InputError(f"{name}: " + "; ".join(lines)) from error


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """``["sscha.n_configurations=200"]`` as ``{"sscha.n_configurations": 200}``; values are read as YAML."""
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key.strip():
            raise InputError(f"--set {assignment}: write key=value, e.g. --set sscha.n_configurations=200")
        try:
            result[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {assignment}: the value is not plain YAML") from error
    return result


def _find_models(data: dict[str, Any]) -> None:
    """Put the path of its weights in the place of the name of a model of the package."""
    for section, last in _given(data, _MODELS):
        from himlip_ase.potential.checkpoint import bundled_models, find_model

        if section[last] in bundled_models():
            section[last] = str(find_model(section[last]))


def _place_paths(data: dict[str, Any], folder: Path) -> None:
    """Let relative paths start at `folder`."""
    for section, last in _given(data, _PATHS):
        path = Path(section[last]).expanduser()
        section[last] = str(path if path.is_absolute() else (folder / path).resolve())


def _place_base(data: dict[str, Any], folder: Path) -> None:
    """The same for ``finetune.base``, which holds a path, one behind ``mace:`` or its like, or a name."""
    for section, last in _given(data, (("finetune", "base"),)):
        from himlip_ase.potential.foreign_models import placed

        section[last] = placed(section[last], folder)


def _given(data: dict[str, Any], places: Iterable[tuple[str, ...]]) -> Iterator[tuple[Any, Any]]:
    """Sections and keys, or lists and indices, of those at `places`, that hold a text."""
    for *parents, last in places:
        section: Any = data
        for key in parents:
            section = section.get(key) if isinstance(section, dict) else None
        value = section.get(last) if isinstance(section, dict) else None
        if isinstance(value, str):
            yield section, last
        elif isinstance(value, list):
            yield from ((value, place) for place, item in enumerate(value) if isinstance(item, str))


def _override(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    section = data
    for key in parents:
        following = section.get(key)
        if following is None:
            following = section[key] = {}
        if not isinstance(following, dict):
            raise InputError(f"{dotted}: {key} is a value, not a section")
        section = following
    section[last] = str(value) if isinstance(value, Path) else value

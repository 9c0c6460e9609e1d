"""What a run is told: one YAML file, checked key by key; command-line flags win over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from himlip_ase.dft.engine import Engine
from himlip_ase.dft.engines import ENGINES
from himlip_ase.dft.espresso.engine import Espresso, Harmonic
from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.executors import EXECUTORS, Local
from himlip_ase.errors import InputError
from himlip_ase.hint.training.settings import PolishSettings, TrainingSettings
from himlip_ase.pipeline.choices import choice
from himlip_ase.pipeline.gate import GateLimits
from himlip_ase.pipeline.section import Section
from himlip_ase.potential.network import HiMLIPConfig
from himlip_ase.registry import did_you_mean
from himlip_ase.sscha.learn.settings import LearnSettings
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.superconductivity.options import Mesh, TcOptions

Grid = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]

Mass = Annotated[float, Field(gt=0)]


class RattleSet(Section):
    """A set of rattled cells to be labelled, and learnt from."""

    supercell: Grid = (1, 1, 1)
    """Repetitions of the primitive cell."""
    number: int = Field(default=30, ge=1)
    """Of cells."""
    amplitude_angstrom: float = Field(default=0.4, gt=0, le=1.5)
    """Standard deviation of each displacement."""
    mass_scaled: bool = False
    """Scale the displacements by (lightest mass / mass)^¼."""
    seed: int = 1
    """Of the random numbers."""


class QuantumSet(Section):
    """Cells drawn from the zero-point distribution of the harmonic phonons (|ω| for imaginary modes)."""

    supercell: Grid = (1, 1, 1)
    """Repetitions of the primitive cell."""
    number: int = Field(default=12, ge=1)
    """Of cells."""
    seed: int = 1
    """Of the random numbers."""


def _rattle_sets() -> dict[str, RattleSet | None]:
    return {"rattle040": RattleSet()}


def _quantum_sets() -> dict[str, QuantumSet | None]:
    return {
        "quantum111": QuantumSet(seed=10),
        "quantum211": QuantumSet(supercell=(2, 1, 1), number=6, seed=11),
        "quantum221": QuantumSet(supercell=(2, 2, 1), number=4, seed=12),
    }


class LabelsSection(Section):
    """The DFT labels: a folder of finished ones, or what to make."""

    folder: Path | None = None
    """Finished labels (the layout of ``himlip label collect``). None: make them in the run folder."""
    relax: bool = True
    """Relax the crystal to ``pressure_gpa`` before anything else."""
    rattle: dict[str, RattleSet | None] = Field(default_factory=_rattle_sets)
    """Sets of rattled cells by name; null takes one of the defaults away."""
    quantum: dict[str, QuantumSet | None] = Field(default_factory=_quantum_sets)
    """Cells as the SSCHA will visit them: the larger ones show how displacements of different q interact;
    null takes one of the defaults away."""
    validation: int = Field(default=8, ge=0)
    """Supercells of the q-grid, drawn from the harmonic distribution, labelled and never trained on."""
    double_well: int = Field(default=9, ge=0)
    """Single points along the softest mode at Γ."""
    check_k: bool = True
    """Where ph.x runs here: repeat one q-point on a denser k-mesh, for the k-error of every frequency."""
    k_tolerance_cm: float = Field(default=10.0, gt=0)
    """cm⁻¹; a k-mesh that moves a frequency of that q-point by more is not converged, and the harmonic Tc is
    withheld."""

    def off(self) -> list[str]:
        """What is switched off, as it is typed."""
        switches = {name: getattr(self, name) for name in ("relax", "validation", "double_well", "check_k")}
        found = [f"labels.{name}: {value}" for name, value in switches.items() if not value]
        for kind in ("rattle", "quantum"):
            found += [
                f"labels.{kind}.{name}: null" for name, own in getattr(self, kind).items() if own is None
            ]
        return found

    @property
    def rattle_sets(self) -> dict[str, RattleSet]:
        """The sets of rattled cells that are made."""
        return {name: chosen for name, chosen in self.rattle.items() if chosen is not None}

    @property
    def quantum_sets(self) -> dict[str, QuantumSet]:
        """The sets of quantum cells that are made."""
        return {name: chosen for name, chosen in self.quantum.items() if chosen is not None}


AUTO = "auto"
"""`FinetuneSection.base` as chosen by the package."""


class FinetuneSection(Section):
    """Training of the potential, or one already trained."""

    model: Path | None = None
    """A finished ``.safetensors``, or the name of a model of the package: no training is done."""
    model_without_hessian: Path | None = None
    """The same, trained without the Hessian term; shown beside it."""
    compare: bool = True
    """Train a second time without the Hessian term, to show what it brings."""
    base: str | None = AUTO
    """Name or path of the model to start from; auto: the package's own where it knows the elements and
    ``network`` asks for no other shape; null: fresh weights from ``training.seed``."""
    train_sets: list[str] | None = None
    """Label sets to learn from; None: all but ``validation`` and ``doublewell``."""
    set_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Weight of a set's frames in the loss, 1 where it is not named."""
    hessian: bool = True
    """Whether the harmonic Hessian is learnt from."""
    training: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings(epochs=300, polish=PolishSettings(rounds=10))
    )
    """See `himlip_ase.hint.training.settings.TrainingSettings`."""
    network: dict[str, int | float] = Field(default_factory=dict)
    """Shape of fresh weights: keys of `himlip_ase.potential.network.HiMLIPConfig`, without ``elements``."""

    def off(self) -> list[str]:
        """What is switched off, as it is typed."""
        switches: dict[str, Any] = {"hessian": self.hessian, "compare": self.compare}
        switches["training.polish.rounds"] = self.training.polish.rounds
        switches["training.loss.hessian"] = self.training.loss.hessian
        return [f"finetune.{name}: {value}" for name, value in switches.items() if not value]

    @model_validator(mode="after")
    def _known_network(self) -> FinetuneSection:
        allowed = [field.name for field in dataclasses.fields(HiMLIPConfig) if field.name != "elements"]
        for key in self.network:
            if key not in allowed:
                raise ValueError(f"unknown key 'network.{key}'; {did_you_mean(key, allowed)}")
        return self


class AnharmonicSection(Section):
    """Further SSCHA runs beside the main one (natural masses, grid ``q_grid``, settings ``sscha``)."""

    isotopes: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")], dict[str, Mass]] = Field(
        default_factory=dict
    )
    """Masses (amu) by element for each isotope, e.g. ``{D3S: {H: 2.014}}``; begun from the main run."""
    grids: list[Grid] = Field(default_factory=list)
    """Further supercells, e.g. ``[[4, 4, 4]]``; begun from the potential's own force constants on them."""
    grid_share: float = Field(default=1.0, gt=0, le=1)
    """Configurations on further supercells, as a share of those of ``sscha``; a sum over q (λ) has the same
    error with 1/n of them on a supercell n times as large, that of one frequency grows as 1/√share."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that evaluate the potential's forces; None: one for each core."""

    @model_validator(mode="after")
    def _names_are_free(self) -> AnharmonicSection:
        taken = sorted(set(self.isotopes) & {"state", "figures"})
        if taken:
            raise ValueError(f"an isotope cannot be called {taken[0]}; call it D3S, for example")
        return self


class Published(Section):
    """A published or measured value."""

    what: str
    value: str
    source: str


@dataclasses.dataclass(frozen=True)
class TcSection(TcOptions):
    """From G(q) and phonons to Tc: `TcOptions`, with the gap unless told otherwise, and where files lie.

    Parameters
    ----------
    electron_phonon : str or None
        Folder of the labels whose G(q) is used, e.g. ``harmonic444``; None: that of the finest q-grid.
    electronic_dos : Path or None
        N(ε) (output of dos.x, or two columns): Migdal–Eliashberg with it, too.
    published : tuple of Published
        Values of others, shown beside those of the run.
    """

    gap: bool = True
    meshes: tuple[Mesh, ...] = ((8, 8, 8),)
    electron_phonon: str | None = None
    electronic_dos: Path | None = None
    published: tuple[Published, ...] = ()


@dataclasses.dataclass(frozen=True)
class LearnSection(LearnSettings):
    """The loop in which the potential learns from the SSCHA: `LearnSettings`, and whether it runs.

    Parameters
    ----------
    enabled : bool or None
        None: where the labels are made in the run, so that a DFT engine is at hand.
    """

    enabled: bool | None = None


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
    def _has_crystal(self) -> RunConfig:
        if self.structure is None and self.labels.folder is None:
            raise ValueError("give `structure: crystal.cif`, or `labels: {folder: ...}` with finished labels")
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
    ("tc", "electronic_dos"),
)
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
    _place_paths(data, Path(folder))
    for dotted, value in (overrides or {}).items():
        _override(data, dotted, value)
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
        lines = [_explain(item) for item in error.errors()]
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


def _place_paths(data: dict[str, Any], folder: Path) -> None:
    for keys in _PATHS:
        section: Any = data
        for key in keys[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(section.get(keys[-1]), str):
            text = section[keys[-1]]
            path = _bundled(text) if keys in _MODELS and Path(text).name == text else None
            path = path or Path(text).expanduser()
            section[keys[-1]] = str(path if path.is_absolute() else (folder / path).resolve())


def _bundled(name: str) -> Path | None:
    """Weights of the package of that name; None where it has none."""
    from himlip_ase.potential.checkpoint import bundled_models, find_model

    return find_model(name) if name in bundled_models() else None


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


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    """Keys that the section at `location` knows."""
    kind: Any = RunConfig
    for part in location:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            kind = _fields(kind).get(str(part))
        if isinstance(kind, UnionType):
            kind = next(member for member in get_args(kind) if member is not type(None))
    return list(_fields(kind))


def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return get_type_hints(kind)
    return {}


def _explain(item: Any) -> str:
    location = tuple(item["loc"])
    where = ".".join(str(part) for part in location)
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key '{where}'; {did_you_mean(str(location[-1]), _keys_at(location[:-1]))}"
    message = str(item["msg"]).removeprefix("Value error, ")
    if not location or isinstance(item["input"], dict):
        return f"{where}: {message}" if where else message
    return f"'{where}': {message[:1].lower()}{message[1:]} (got {item['input']!r})"

"""The folder of one run: what is in it, and how it stays whole when the run is killed at any moment."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock, appended_log, atomic_write, read_mapping, sha256_file, write_json

RESULTS_SCHEMA = "himlip-results-1"
"""Version of the layout of ``results.json``; changes when a reader would have to."""

_PACKAGES = (
    "himlip-ase ase numpy scipy torch phonopy symfc spglib seekpath vesin safetensors pydantic matplotlib "
    "cellconstructor python-sscha"
).split()


@dataclass(frozen=True)
class Figure:
    """One quoted number.

    Attributes
    ----------
    value : float, str, list or None
        The number in `unit`; None when there is none, the reason standing in `how`.
    unit : str
        Unit as printed; "" for a pure number.
    uncertainty : float or None
        One standard deviation or half a spread in `unit`, as `how` says; None when it is exact or not known.
    how : str
        How it was obtained, in a sentence.
    key : dict
        What it is a figure of, for programs, which then need not take the name apart; may be empty. Those of
        the ``tc`` stage: quantity, phonons, isotope, grid, method, mu_star.
    """

    value: Any
    unit: str
    uncertainty: float | None
    how: str
    key: dict[str, Any] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON; without a key that is empty."""
        record = asdict(self)
        if not record["key"]:
            del record["key"]
        return record


@dataclass
class StageRecord:
    """What a finished stage left: written to ``state/<stage>.json``."""

    stage: str
    input_hash: str
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file the stage wrote, by its path inside the run folder."""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gate: dict[str, Any] | None = None
    """Of the stage that makes the Tc: `himlip_ase.pipeline.gate.Gate.to_record`."""


class RunFolder:
    """A run folder, made or continued.

    Parameters
    ----------
    path : path-like
        The folder; made with its parents.
    resume : bool
        Whether a folder that already holds a run may be continued.

    Raises
    ------
    InputError
        The folder holds a run and `resume` is False, or holds something else.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; choose another folder with --folder")
        existing = self.path / "config.yaml"
        if existing.exists() and not resume:
            raise InputError(
                f"{self.path} already holds a run; type --resume to continue it, or choose another --folder"
            )
        if not existing.exists() and self.path.is_dir():
            strangers = [
                p.name for p in self.path.iterdir() if p.name not in (".lock", "log.txt", "state", "figures")
            ]
            if strangers:
                raise InputError(
                    f"{self.path} is not empty and not a run folder (it holds {strangers[0]}); "
                    "choose another --folder"
                )
        self.state.mkdir(parents=True, exist_ok=True)
        self.figures.mkdir(exist_ok=True)

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """Open a folder that must hold a run already."""
        if not (Path(path) / "config.yaml").exists():
            raise InputError(
                f"{path} is not a run folder: it has no config.yaml; give the folder of `himlip run`"
            )
        return cls(path, resume=True)

    @property
    def state(self) -> Path:
        """Checkpoints and the data of each stage."""
        return self.path / "state"

    @property
    def figures(self) -> Path:
        """Pictures, each beside the data it shows."""
        return self.path / "figures"

    def stage_folder(self, stage: str, clean: bool = False) -> Path:
        """Folder ``state/<stage>/``, emptied first when `clean`.

        Parameters
        ----------
        stage : str
        clean : bool

        Returns
        -------
        Path
        """
        folder = self.state / stage
        if clean and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def session(self) -> Iterator[None]:
        """Hold the folder for this process and send the package's log to ``log.txt`` as well."""
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        package = logging.getLogger("himlip_ase")
        with FolderLock(self.path), appended_log(self.path / "log.txt", package, form, raise_level=True):
            yield

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved configuration and the versions of everything that computes."""
        with atomic_write(self.path / "config.yaml", overwrite=True) as stream:
            yaml.safe_dump(dict(config), stream, sort_keys=False, allow_unicode=True)
        write_json(self.path / "versions.json", versions(), overwrite=True)

    # --- stage records -------------------------------------------------------------------------------------

    def _record_path(self, stage: str) -> Path:
        return self.state / f"{stage}.json"

    def read_record(self, stage: str) -> StageRecord | None:
        """The record of a finished stage, or None."""
        path = self._record_path(stage)
        if not path.exists():
            return None
        try:
            data = read_mapping(path)
            figures = {name: Figure(**figure) for name, figure in data.pop("figures").items()}
            return StageRecord(figures=figures, **data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CalculationError(f"{path} is damaged ({error}); delete it and --resume") from error

    def write_record(self, record: StageRecord) -> None:
        """Mark a stage as finished, and bring ``results.json`` up to date."""
        figures = {name: figure.to_record() for name, figure in record.figures.items()}
        data = asdict(record) | {"figures": figures}
        write_json(self._record_path(record.stage), data, overwrite=True, seal=True)

    def forget(self, stage: str) -> None:
        """Remove the mark of a finished stage (its files stay until it runs again)."""
        self._record_path(stage).unlink(missing_ok=True)

    def is_current(self, stage: str, input_hash: str) -> bool:
        """Whether `stage` is finished with these inputs and its files are still what it wrote.

        Parameters
        ----------
        stage : str
        input_hash : str
            Of `hash_inputs`.

        Returns
        -------
        bool
        """
        record = self.read_record(stage)
        if record is None or record.input_hash != input_hash:
            return False
        return all(
            (self.path / name).is_file() and sha256_file(self.path / name) == digest
            for name, digest in record.outputs.items()
        )

    def hash_outputs(self, folder: Path) -> dict[str, str]:
        """SHA-256 of every file in `folder`, by its path inside the run folder."""
        return {
            str(path.relative_to(self.path)): sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".lock"
        }

    # --- results -------------------------------------------------------------------------------------------

    def write_results(self, system: str, stages: list[str]) -> dict[str, Any]:
        """Gather the records of `stages` into ``results.json`` and return what was written.

        Parameters
        ----------
        system : str
            Name of the run.
        stages : list of str

        Returns
        -------
        dict
        """
        records = [record for stage in stages if (record := self.read_record(stage)) is not None]
        gates = [record.gate for record in records if record.gate is not None]
        data = {
            "schema": RESULTS_SCHEMA,
            "system": system,
            "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **({"gate": gates[-1]} if gates else {}),
            "figures": {name: f.to_record() for record in records for name, f in record.figures.items()},
            "notes": [note for record in records for note in record.notes],
            "stages": {
                record.stage: {
                    "wall_seconds": round(record.wall_seconds, 2),
                    "cpu_seconds": round(record.cpu_seconds, 2),
                    "input_hash": record.input_hash,
                }
                for record in records
            },
        }
        write_json(self.path / "results.json", data, overwrite=True, seal=True)
        return data

    def read_results(self) -> dict[str, Any]:
        """Content of ``results.json``; its schema is checked."""
        path = self.path / "results.json"
        if not path.exists():
            raise InputError(f"{path} does not exist; finish the run first: himlip run ... --resume")
        data = read_mapping(path, "run the report stage again: himlip run ... --resume --from report")
        if data.get("schema") != RESULTS_SCHEMA:
            raise InputError(
                f"{path} has schema {data.get('schema')!r}; this version reads {RESULTS_SCHEMA!r}; "
                "run the report stage again"
            )
        return data


def versions(*further: str) -> dict[str, str]:
    """Versions of Python, the machine type and the packages that take part; missing ones are left out.

    Parameters
    ----------
    *further : str
        Packages beside those of every run.
    """
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in (*_PACKAGES, *further):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hash_inputs(*parts: Any) -> str:
    """SHA-256 of JSON-like values; a Path stands for the content of its file or folder."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            if value.is_dir():
                return {
                    str(p.relative_to(value)): sha256_file(p)
                    for p in sorted(value.rglob("*"))
                    if p.is_file() and not p.name.startswith(".")
                }
            return sha256_file(value)
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in sorted(value.items())}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    text = json.dumps(plain(list(parts)), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

"""Measured values of Tc that a user gives, each with its source: YAML or CSV."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.files import read_text, read_yaml
from himlip_ase.registry import did_you_mean

_DOI = re.compile(r"10\.\d{4,9}/\S+")


@dataclass(frozen=True)
class Measured:
    """A measured critical temperature.

    Attributes
    ----------
    compound : str
        Name of a run, of an isotope, or formula with D and T for deuterium and tritium.
    tc_kelvin : float
    source : str
        Where it was published.
    uncertainty_kelvin : float or None
        None where the source gives none.
    pressure_gpa : float or None
    doi : str
        "" where there is none.
    """

    compound: str
    tc_kelvin: float
    source: str
    uncertainty_kelvin: float | None = None
    pressure_gpa: float | None = None
    doi: str = ""

    def __post_init__(self) -> None:
        if not self.compound or not self.source:
            raise InputError("a measured value wants `compound` and `source`, the publication it is from")
        if not (math.isfinite(self.tc_kelvin) and self.tc_kelvin >= 0):
            raise InputError(
                f"tc_kelvin of {self.compound} is {self.tc_kelvin}; a temperature in K is wanted"
            )
        error = self.uncertainty_kelvin
        if error is not None and not (math.isfinite(error) and error >= 0):
            raise InputError(f"uncertainty_kelvin of {self.compound} is {error}; give K, or leave it out")
        if self.pressure_gpa is not None and not math.isfinite(self.pressure_gpa):
            raise InputError(f"pressure_gpa of {self.compound} is {self.pressure_gpa}; give GPa")
        if self.doi and not _DOI.fullmatch(self.doi):
            raise InputError(f"doi of {self.compound} is {self.doi!r}; write it as 10.1038/nature14964")


def read_measured(path: str | Path) -> list[Measured]:
    """Read measured values.

    YAML is a list of mappings, CSV has a row of names first; the keys are the attributes of `Measured`.

    Parameters
    ----------
    path : path-like
        ``.yaml``, ``.yml`` or ``.csv``.

    Returns
    -------
    list of Measured

    Raises
    ------
    InputError
        Another kind of file, an unknown or missing key, a value that is no number.
    """
    path = Path(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        rows = read_yaml(path)
    elif path.suffix.lower() == ".csv":
        rows = list(csv.DictReader(read_text(path).splitlines()))
    else:
        raise InputError(f"{path}: measured values are read from .yaml, .yml or .csv")
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise InputError(f"{path} holds no list of measured values; each wants compound, tc_kelvin, source")
    return [_measured(path, number, row) for number, row in enumerate(rows, start=1)]


def _measured(path: Path, number: int, row: Any) -> Measured:
    where = f"{path}, entry {number}"
    if not isinstance(row, Mapping):
        raise InputError(f"{where} is {row!r}; want compound, tc_kelvin, source")
    known = [item.name for item in fields(Measured)]
    given = {str(key): value for key, value in row.items() if value not in (None, "")}
    for key in given:
        if key not in known:
            raise InputError(f"{where}: unknown key '{key}'; {did_you_mean(key, known)}")
    for key in ("compound", "tc_kelvin", "source"):
        if key not in given:
            raise InputError(f"{where} has no {key}")
    for key in ("tc_kelvin", "uncertainty_kelvin", "pressure_gpa"):
        if key in given:
            try:
                given[key] = float(given[key])
            except (TypeError, ValueError) as error:
                raise InputError(f"{where}: {key} is {given[key]!r}; a number is wanted") from error
    for key in ("compound", "source", "doi"):
        if key in given:
            given[key] = str(given[key]).strip()
    given["doi"] = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:\s*)", "", given.get("doi", ""))
    try:
        return Measured(**given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error

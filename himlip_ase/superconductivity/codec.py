"""The one way in which results of this room become JSON and come back.

Each data class has ``to_record()`` and ``from_record()``, made of the helpers here; no other module knows
how a number, a missing value or a key is written. Documents carry `SCHEMA`. Those of version 1 are brought
to the present layout by `upgraded` before any class sees them, so that the classes read one version only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, read_mapping, sealed

VERSION = 2
SCHEMA = f"himlip-tc/{VERSION}"

Record = dict[str, Any]


def optional(value: float | None) -> float | None:
    """A number for JSON; None where there is none (nan)."""
    return None if value is None or not np.isfinite(value) else float(value)


def number(value: float | None) -> float:
    """What `optional` wrote; nan for None."""
    return float("nan") if value is None else float(value)


def column(values: Iterable[float]) -> list[float | None]:
    """Numbers for JSON, None where nan."""
    return [optional(value) for value in values]


def array(values: Sequence[float | None]) -> np.ndarray:
    """What `column` wrote, shape (n,)."""
    return np.array([number(value) for value in values], dtype=float)


def figure(value: float | None, unit: str, uncertainty: float | None, how: str) -> Record:
    """A quoted number: value (None where there is none), unit, uncertainty, and how it was obtained.

    Parameters
    ----------
    value, uncertainty : float or None
        In `unit`; nan counts as None.
    unit, how : str

    Returns
    -------
    dict
    """
    return {
        "value": optional(value),
        "unit": unit,
        "uncertainty": optional(uncertainty),
        "how": how,
    }


def dims_from(values: Sequence[int]) -> tuple[int, int, int]:
    """Three integers of a grid."""
    n1, n2, n3 = (int(value) for value in values)
    return n1, n2, n3


# --- documents ---------------------------------------------------------------------------------------------

_NUMBERS = re.compile(r"\[\s+((?:(?:-?\d[\d.eE+-]*|null),\s+)*(?:-?\d[\d.eE+-]*|null))\s+\]")


def write_document(path: str | Path, content: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write records as JSON with `SCHEMA` in front, atomically; columns of numbers stand on one line.

    Parameters
    ----------
    path : path-like
    content : mapping
        JSON-like values; NaN and infinity are refused (ValueError).
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        `path` exists and `overwrite` is False.
    """
    data = sealed({"schema": SCHEMA, **content})
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    text = _NUMBERS.sub(lambda found: "[" + re.sub(r"\s+", " ", found.group(1)) + "]", text)
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(text + "\n")


def read_document(path: str | Path) -> Record:
    """Read what `write_document`, or version 1 of this package, wrote; in the present layout.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict
        With ``analyses`` (of ``himlip tc --json``) or ``cases`` (of a run).

    Raises
    ------
    InputError
        No such file, no JSON, or the schema of a later version.
    """
    path = Path(path)
    try:
        data = read_mapping(path, "make it again with `himlip tc --json`")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; give a file of `himlip tc --json`") from error
    try:
        return upgraded(data)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(
            f"{path} holds no Tc results ({error!r}); give a file of `himlip tc --json`"
        ) from error


def upgraded(data: Mapping[str, Any]) -> Record:
    """A document of any version in the present layout.

    Raises
    ------
    InputError
        A schema that this version does not know.
    """
    schema = data.get("schema")
    if schema == SCHEMA:
        return dict(data)
    if schema == "himlip-tc/1":
        analyses = [_analysis_1(item) for item in data["analyses"]]
        effects = data.get("isotope_coefficients", [])
        return {"schema": SCHEMA, "analyses": analyses, "isotope_coefficients": effects}
    if schema is None and all(isinstance(item, Mapping) and "tc" in item for item in data.values()):
        return {"schema": SCHEMA, "cases": [_case_1(key, item) for key, item in data.items()]}
    raise InputError(f"schema {schema!r}; this version reads {SCHEMA!r} and 'himlip-tc/1'")


# --- version 1 ---------------------------------------------------------------------------------------------
# Its problems were sentences without their kind, its sources of uncertainty keys of a mapping, and the cases
# of a run had names like "hessian.D3S" and "auxiliary.grid_4x4x4".

_KIND_1 = (
    ("imaginary", re.compile(r"\d+ imaginary modes, left out of the sum: ")),
    ("coarse", re.compile(r"the \S+ q-grid is too coarse: ")),
    ("negative", re.compile(r"α²F is negative: ")),
    ("empty", re.compile(r"no mode contributes to λ$")),
)


def _problem_1(text: str) -> Record:
    kind = next((name for name, pattern in _KIND_1 if pattern.match(text)), "unknown")
    return {"kind": kind, "text": text}


_SOURCES_1 = (
    ("sigma", ("σ-plateau", "flattest σ window")),
    ("q-grid", ("q-grid of G",)),
    ("ensemble", ("SSCHA ensemble",)),
)


def _parts_1(parts: Mapping[str, float]) -> list[Record]:
    records = []
    for source, size in parts.items():
        kind = next((name for name, begins in _SOURCES_1 if source.startswith(begins)), "sum")
        records.append({"kind": kind, "source": source, "size": size})
    return records


def _entry_1(item: Mapping[str, Any]) -> Record:
    if item["value"] is None:
        return dict(item)
    return {**item, "uncertainty_parts": _parts_1(item["uncertainty_parts"])}


def _analysis_1(item: Mapping[str, Any]) -> Record:
    record = {key: value for key, value in item.items() if key not in ("bootstrap", "refusal")}
    record["lambda"] = {
        **item["lambda"],
        "uncertainty_parts": _parts_1(item["lambda"]["uncertainty_parts"]),
    }
    record["tc"] = [_entry_1(entry) for entry in item["tc"]]
    record["problems"] = [_problem_1(text) for text in item["problems"]]
    return record  # version 1 kept neither the spectrum nor the samples of the bootstrap


def _case_1(key: str, item: Mapping[str, Any]) -> Record:
    kind, _, variant = key.partition(".")
    digits = re.fullmatch(r"grid_(\d+)x(\d+)x(\d+)", variant)
    return {
        "phonons": kind,
        "isotope": "" if digits else variant,
        "grid": [int(d) for d in digits.groups()] if digits else None,
        "refusal": item.get("refusal", ""),
        "analysis": _analysis_1(item),
    }

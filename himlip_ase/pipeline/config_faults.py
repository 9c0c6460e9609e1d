"""What is wrong with a run file, key by key, in words."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from himlip_ase.registry import did_you_mean


def explained(item: Any, root: type) -> str:
    """A fault in words: which key, what is wrong, and the nearest key that there is.

    Parameters
    ----------
    item : ErrorDetails
        One of `pydantic.ValidationError.errors`.
    root : type
        Of the whole file.

    Returns
    -------
    str
    """
    location = tuple(item["loc"])
    where = ".".join(str(part) for part in location)
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key '{where}'; {did_you_mean(str(location[-1]), _keys_at(root, location[:-1]))}"
    message = str(item["msg"]).removeprefix("Value error, ")
    if not location or isinstance(item["input"], dict):
        return f"{where}: {message}" if where else message
    return f"'{where}': {message[:1].lower()}{message[1:]} (got {item['input']!r})"


def _keys_at(root: type, location: tuple[Any, ...]) -> list[str]:
    """Keys that the section at `location` knows."""
    kind: Any = root
    for part in location:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif get_origin(kind) in (list, tuple):
            kind = get_args(kind)[0]
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

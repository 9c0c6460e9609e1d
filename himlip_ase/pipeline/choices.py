"""Keys of the run file whose value is an entry of a registry, with keys of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, ValidationError

from himlip_ase.errors import InputError
from himlip_ase.registry import Registry, did_you_mean


def choice(registry: Registry[Any]) -> tuple[Any, Any]:
    """What makes a field of a section take an entry of a registry.

    The value is a name, or a mapping with ``name`` and keys of the entry, a frozen dataclass whose fields
    are those keys.

    Parameters
    ----------
    registry : Registry
        Of dataclasses.
    """
    return BeforeValidator(partial(build_choice, registry)), PlainSerializer(plain_choice)


def own_keys(kind: type) -> list[str]:
    """Keys of an entry: its fields but those that it takes from other sections of the run file."""
    elsewhere = set(getattr(kind, "sections", {}).values())
    return [field.name for field in dataclasses.fields(kind) if field.name not in elsewhere]


def build_choice(registry: Registry[Any], value: Any) -> Any:
    """An entry with its settings.

    Parameters
    ----------
    registry : Registry
    value : str, mapping or entry
        ``ase``, or ``{name: ase, calculator: ...}``.

    Returns
    -------
    entry of the registry

    Raises
    ------
    InputError
        No such entry or key (with the nearest one), or a value it does not take.
    """
    if isinstance(value, tuple(registry)):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise InputError(
            f"give the name of an {registry.kind}, or {{name: ..., ...}}; there are: {registry.described()}"
        )
    given = {key: item for key, item in value.items() if key != "name"}
    kind = registry[value["name"]]
    for key in given:
        if key not in own_keys(kind):
            raise InputError(
                f"unknown key '{key}' of the {registry.kind} {kind.name}; "
                f"{did_you_mean(str(key), own_keys(kind)) if own_keys(kind) else 'it has none'}"
            )
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
            if item["loc"]
            else item["msg"].removeprefix("Value error, ")
            for item in error.errors()
        ]
        raise InputError(f"{registry.kind} {kind.name}: {'; '.join(problems)}") from error


def plain_choice(entry: Any) -> dict[str, Any]:
    """An entry as `build_choice` takes it."""
    plain = TypeAdapter(type(entry)).dump_python(entry, mode="json")
    return {"name": entry.name, **{key: plain[key] for key in own_keys(type(entry))}}

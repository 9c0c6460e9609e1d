"""What all sections of a settings file have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from himlip_ase.overlay import laid_over


class Section(BaseModel):
    """Common to all sections: unknown keys are refused, numbers must be finite, defaults stay.

    Naming one key never drops another: what is given is laid over the default, at every depth. A list
    replaces the default; null takes an entry away.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        for name, field in cls.model_fields.items():
            if field.annotation is Any or field.default_factory is None:
                continue  # a choice has keys of its own
            if isinstance(data.get(name), Mapping):
                default = _plain(field.get_default(call_default_factory=True))
                if isinstance(default, Mapping):
                    data[name] = laid_over(default, data[name])
        return data


def _plain(value: Any) -> Any:
    """Sections, and dataclasses of settings, as mappings of plain values."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value

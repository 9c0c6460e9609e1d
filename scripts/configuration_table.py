"""Write every key of a run file into docs/configuration.md, and the stages into docs/own_hydride.md.

python scripts/configuration_table.py
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from himlip_ase.dft.engines import ENGINES
from himlip_ase.dft.executors import EXECUTORS
from himlip_ase.pipeline.choices import own_keys
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.registry import STAGES
from himlip_ase.registry import Registry

DOCS = Path(__file__).resolve().parents[1] / "docs"


def attributes(kind: type) -> dict[str, str]:
    """{name: what it says} of the numpydoc section Attributes or Parameters of a class and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        part = re.search(r"(?:Attributes|Parameters)\n-+\n(.*?)(?:\n\n\w+\n-+\n|\Z)", text, re.S)
        for names, body in re.findall(
            r"^(\S[^\n]*?) : [^\n]*\n((?:    [^\n]*\n?|\n)*)", (part[1] if part else "") + "\n", re.M
        ):
            for name in names.split(","):
                found[name.strip()] = " ".join(body.split())
    return found


def keys(kind: Any, default: Any, prefix: str = "", meaning: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, default, meaning) of everything below a section."""
    if isinstance(kind, UnionType):
        if default is None and _is_section(kind):  # a section that is left out unless it is given
            yield prefix, _shown(None), meaning
        members = [member for member in get_args(kind) if member is not type(None)]
        kind = members[0] if len(members) == 1 else kind
    if get_origin(kind) is dict and _is_section(get_args(kind)[1]):
        yield prefix, ", ".join(f"`{name}`" for name in default) or "none", meaning
        below = next(
            (m for m in (get_args(get_args(kind)[1]) or (get_args(kind)[1],)) if m is not type(None)), None
        )
        yield from keys(below, None, f"{prefix}.NAME")
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if field.annotation is Any:
                continue  # engine and executor have tables of their own
            value = (
                getattr(default, name)
                if default is not None
                else field.get_default(call_default_factory=True)
            )
            yield from keys(field.annotation, value, _below(prefix, name), field.description or "")
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints, words = get_type_hints(kind), attributes(kind)
        for field in dataclasses.fields(kind):
            plain = field.default if field.default is not dataclasses.MISSING else None
            value = plain if default is None else getattr(default, field.name)
            yield from keys(hints[field.name], value, _below(prefix, field.name), words.get(field.name, ""))
    else:
        yield prefix, _shown(default), meaning


def table(rows: list[tuple[str, str, str]]) -> str:
    """Rows as a Markdown table."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    lines += [f"| `{key}` | {default} | {_cell(meaning)} |" for key, default, meaning in rows]
    return "\n".join(lines) + "\n"


def choices(registry: Registry[Any], title: str) -> str:
    """The keys of each entry of a registry."""
    parts = [f"### `{title}`\n\nA name, or `{{name: ..., key: value}}`.\n"]
    for entry in registry:
        parts.append(f"**{entry.name}**: {entry.summary}.\n")
        words, hints = attributes(entry), {field.name: field for field in dataclasses.fields(entry)}
        rows = [(key, _default(hints[key]), words.get(key, "")) for key in own_keys(entry)]
        if rows:
            parts.append(table(rows))
    return "\n".join(parts)


def page() -> str:
    """Everything between the marks."""
    config = RunConfig(structure=Path("crystal.cif"))
    sections: dict[str, list[tuple[str, str, str]]] = {}
    for row in keys(RunConfig, config):
        sections.setdefault(row[0].partition(".")[0] if "." in row[0] else "", []).append(row)
    parts = ["### The run itself\n", table(sections.pop(""))]
    for name, found in sections.items():
        parts += [f"### `{name}`\n", table(found)]
    parts += [choices(ENGINES, "engine"), choices(EXECUTORS, "executor")]
    return "\n".join(parts)


def _is_section(kind: Any) -> bool:
    members = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return any(
        isinstance(m, type) and (issubclass(m, BaseModel) or dataclasses.is_dataclass(m)) for m in members
    )


def _below(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return _shown(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _shown(field.default_factory())
    return "must be given"


def _shown(value: Any) -> str:
    if isinstance(value, Path):
        return "must be given" if value == Path("crystal.cif") else f"`{value}`"
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, Mapping):
        value = dict(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def stages() -> str:
    """The table of stages."""
    return f"| stage | what it does |\n|---|---|\n{STAGES.table()}\n"


def filled(name: str, what: str, content: str) -> str:
    """A page with everything between its two marks replaced."""
    begin, end = f"<!-- {what}: made by scripts/configuration_table.py -->\n", f"<!-- end of {what} -->\n"
    text = (DOCS / name).read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"


def pages() -> dict[str, str]:
    """Text of each page that is made from the package."""
    return {
        "configuration.md": filled("configuration.md", "every key", page()),
        "own_hydride.md": filled("own_hydride.md", "stages", stages()),
    }


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

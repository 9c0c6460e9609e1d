"""What pages, messages and docstrings name exists: options, settings, modules, files, extras."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import typer
from pydantic import BaseModel

from himlip_ase.cli import app as cli

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "himlip_ase").rglob("*.py"))
SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "examples", "scripts", "workflows")
    for path in (ROOT / folder).rglob("*.py")
)
PAGES = sorted(
    [*ROOT.glob("*.md"), *(p for f in ("docs", "examples", "benchmarks") for p in (ROOT / f).rglob("*.md"))]
)
FOREIGN_OPTIONS = {
    "--index-url": "pip",
    "--nproc-per-node": "torchrun",
    "--qe": "phonopy",
    "--fc-calculator": "phono3py",
    "--br": "phono3py",
    "--pa": "phono3py",
    "--mesh": "phono3py",
    "--band": "phonopy",
    "--nthreads": "dask worker",
    "--exclusive": "sbatch",
    "--cpus-per-task": "sbatch",
    "--exact": "srun",
    "--exclude": "rsync",
    "--job-name": "sbatch",
    "--nodes": "sbatch",
    "--ntasks": "sbatch",
    "--time": "sbatch",
    "--signal": "sbatch",
    "--open-mode": "sbatch",
    "--parsable": "sbatch",
    "--chdir": "sbatch",
    "--dependency": "sbatch",
    "--kill-on-invalid-dep": "sbatch",
    "--wrap": "sbatch",
    "--pdeathsig": "setpriv",
}
EXAMPLES_OF_NO_KEY = {"section.key", "key"}


def words(path: Path) -> str:
    """Text of a page, or docstrings and strings of a Python file with ``{}`` where values go."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    strings: list[str] = []

    class Collect(ast.NodeVisitor):
        def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
            parts = [str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values]
            strings.append("".join(parts))

        def visit_Constant(self, node: ast.Constant) -> None:
            if isinstance(node.value, str):
                strings.append(node.value)

    Collect().visit(ast.parse(text))
    return "\n".join(strings)


TEXTS = {path: words(path) for path in [*PAGES, *SOURCES, *SCRIPTS]}


@functools.cache
def commands() -> dict[tuple[str, ...], set[str]]:
    """Options of every subcommand by its words: ("sscha", "run") -> {"--dyn", ...}."""
    found: dict[tuple[str, ...], set[str]] = {(): {"--help", "-h"}}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        options = {"--help", "-h"}
        for parameter in command.params:
            if parameter.param_type_name == "option":
                options |= {*parameter.opts, *parameter.secondary_opts}
        found[path] = options
        for name, below in getattr(command, "commands", {}).items():
            walk(below, (*path, name))

    walk(typer.main.get_command(cli.app), ())
    for name in cli.COMMANDS:
        group = typer.Typer()
        importlib.import_module(f"himlip_ase.cli.{name}").register(group)
        walk(typer.main.get_group(group).commands[name], (name,))
    found["sscha",] |= found["sscha", "run"]  # `himlip sscha --dyn` is `himlip sscha run --dyn`
    return found


def command_lines(text: str) -> Iterator[tuple[list[str], bool]]:
    """Words after ``himlip`` in code and messages, and whether they are code beyond doubt."""
    text = re.sub(r"\\\n\s*", " ", text)
    pattern = r"(?:(?<=[`\s(])|^)himlip (?=[a-z-])([^`\n|;#]*)"
    for found in re.finditer(pattern, text, re.MULTILINE):
        line = found[1].split("&&")[0]
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        yield words, text[max(found.start() - 1, 0)] in "`\n"


def wrong_commands(text: str) -> list[str]:
    """Subcommands and options that the command does not have."""
    known, wrong = commands(), []
    for tokens, code in command_lines(text):
        path: tuple[str, ...] = ()
        while tokens and (*path, tokens[0]) in known:
            path = (*path, tokens.pop(0))
        if "…" in tokens or "..." in tokens:  # any subcommand of a group
            options = set().union(*(o for words, o in known.items() if words[: len(path)] == path))
        else:
            options = known[path]
        group = bool(path) and any(words[:-1] == path for words in known)
        if code and group and tokens and re.fullmatch(r"[a-z][a-z-]+", tokens[0]):
            wrong.append(f"himlip {' '.join(path)} {tokens[0]}")
        for token in tokens:
            option = re.match(r"(--[a-z][a-z0-9-]*|-[a-zA-Z])(?=$|[=,.)\s])", token)
            if option and option[1] not in options:
                wrong.append(f"himlip {' '.join(path)} {option[1]}")
    return wrong


@functools.cache
def options_anywhere() -> set[str]:
    """Options of all subcommands, of the scripts, and of other programs that the pages call."""
    found = set().union(*commands().values()) | set(FOREIGN_OPTIONS)
    for path in SCRIPTS:
        found |= set(re.findall(r"\"(--[a-z][a-z0-9-]*)\"", path.read_text(encoding="utf-8")))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return found | set(re.findall(r"--[a-z][a-z0-9-]*", makefile))


def wrong_options(text: str) -> list[str]:
    return [o for o in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text) if o not in options_anywhere()]


def fields(kind: Any) -> dict[str, Any]:
    """Names and types of a section of a run's configuration."""
    for inner in (kind, *get_args(kind)):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return {name: field.annotation for name, field in inner.model_fields.items()}
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            return get_type_hints(inner)
    return {}


def is_run_key(dotted: str) -> bool:
    from himlip_ase.pipeline.config import RunConfig

    kind: Any = RunConfig
    for part in dotted.split("."):
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif part in fields(kind):
            kind = fields(kind)[part]
        else:
            return False
    return True


def wrong_keys(text: str) -> list[str]:
    """Keys after ``--set`` of ``himlip run`` that no configuration has."""
    keys = re.findall(r"--set ([a-z_][\w.]*)=", text)
    return [key for key in keys if key not in EXAMPLES_OF_NO_KEY and not is_run_key(key)]


@functools.cache
def is_name(dotted: str) -> bool:
    """Whether a dotted name is a module of the package or something in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        except ImportError:  # an extra that is not installed here
            return end == len(parts)
        for part in parts[end:]:
            declared = getattr(found, "__dataclass_fields__", {}) or getattr(found, "__annotations__", {})
            if part in declared:
                return True
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


ROOMS = sorted(path.name for path in (ROOT / "himlip_ase").iterdir() if (path / "__init__.py").exists())


def wrong_names(text: str) -> list[str]:
    """Dotted names that lead nowhere, ``himlip_ase.…`` or from a room on, ``sscha.…``."""
    full = re.findall(r"(?<![\w./-])himlip_ase(?:\.[A-Za-z_]\w*)+(?![\w/-])", text)
    wrong = [name for name in full if not is_name(name)]
    modules = re.findall(r"-m ((?:benchmarks|examples|workflows)\.[\w.]*\w)", text)
    wrong += [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()]
    short = re.findall(rf"`((?:{'|'.join(ROOMS)})(?:\.[A-Za-z_]\w*)+)`", text)
    files = (".py", ".md", ".yaml", ".json", ".h5", ".png", ".toml", ".extxyz", ".out")
    return wrong + [
        n for n in short if not n.endswith(files) and not is_name(f"himlip_ase.{n}") and not is_run_key(n)
    ]


def wrong_files(text: str) -> list[str]:
    """Files of the repository that are not there."""
    found = re.findall(
        r"(?<![\w./-])((?:benchmarks|docs|examples|himlip_ase|scripts|tests|workflows)/[\w./-]*\w\.(?:py|md|yaml|json|png|sh))\b(?!\{)",
        text,
    )
    return [name for name in found if not (ROOT / name).exists()]


@pytest.mark.parametrize("check", [wrong_commands, wrong_options, wrong_keys, wrong_names, wrong_files])
def test_what_is_named_exists(check: Any) -> None:
    wrong = {
        str(path.relative_to(ROOT)): found
        for path, text in TEXTS.items()
        if not (path.name == "CHANGELOG.md" and check is not wrong_commands) and (found := check(text))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("check", "text", "found"),
    [
        (wrong_commands, "type `himlip sscha run --fourth`", ["himlip sscha run --fourth"]),
        (wrong_commands, "```bash\nhimlip tc --dyn a \\\n  --fourht\n```", ["himlip tc --fourht"]),
        (wrong_commands, "`himlip sscha --dyn a --model b --out c`", []),
        (wrong_commands, "`himlip label k-check runs`", ["himlip label k-check"]),
        (wrong_options, "| `--fourth` | fourth order |", ["--fourth"]),
        (wrong_keys, "e.g. --set sscha.configurations=200", ["sscha.configurations"]),
        (wrong_keys, "e.g. --set sscha.n_configurations=200", []),
        (wrong_names, ":mod:`himlip_ase.hint.label_store`", ["himlip_ase.hint.label_store"]),
        (wrong_names, "`sscha.native` minimises", ["sscha.native"]),
        (wrong_names, "`himlip_ase.HiMLIPCalculator.evaluate`, `tc.mu_star`", []),
        (wrong_names, "`python -m benchmarks.gone --seeds 3`", ["benchmarks.gone"]),
        (wrong_files, "`python benchmarks/gone.py`", ["benchmarks/gone.py"]),
    ],
)
def test_what_does_not_exist_is_found(check: Any, text: str, found: list[str]) -> None:
    assert check(text) == found


IMPORT_NAMES = {
    "PyYAML": "yaml",
    "mace-torch": "mace",
    "python-sscha": "sscha",
    "torch-sim-atomistic": "torch_sim",
    "distributed": "distributed",
}
BY_HAND = {"torch_geometric": "msc-alphanet's pins fit no extra; docs/alphanet.md says what to type"}
NEEDED_BY = {"six": "python-sscha imports it and does not say so"}


def imported(paths: list[Path]) -> set[str]:
    """Top-level names of what files import."""
    found: set[str] = set()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
        found |= set(re.findall(r"(?:find_spec|import_module|importorskip)\(\"(\w+)", text))
    return found


def test_dependencies_are_used_and_what_is_used_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = {"dev", "docs"}

    def modules(requirements: list[str]) -> set[str]:
        names = [re.split(r"[\[<>=~! ]", line)[0] for line in requirements]
        return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names if name not in NEEDED_BY}

    wanted = modules(project["dependencies"])
    wanted |= set().union(*(modules(lines) for name, lines in extras.items() if name not in tools))
    used = imported(SOURCES)
    around = imported([*SCRIPTS, *sorted((ROOT / "tests").rglob("*.py"))])
    unused = wanted - used - around
    assert not unused, "declared in pyproject and imported nowhere"
    assert all(extras.values()), "an extra that installs nothing"
    foreign = used - set(sys.stdlib_module_names) - {"himlip_ase"}
    undeclared = foreign - wanted - set(BY_HAND)
    assert not undeclared, "imported and declared nowhere"


def test_subcommands_that_pages_name_exist() -> None:
    for path in PAGES:
        for name in re.findall(r"`himlip ([a-z]+)", TEXTS[path]):
            assert name in cli.COMMANDS, f"{path.name} names `himlip {name}`"

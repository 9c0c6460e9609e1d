"""The wheel outside the checkout, the container recipes, and the versions that are promised."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPES = [ROOT / "containers" / "Dockerfile", ROOT / "containers" / "himlip.def"]


def test_the_wheel_works_in_an_empty_environment() -> None:
    """The command, the calculator without arguments and all examples, with nothing of the checkout."""
    pytest.importorskip("setuptools", minversion="77")
    result = subprocess.run(
        ["bash", ROOT / "scripts" / "wheel_test.sh"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    for example in (ROOT / "examples").glob("*.py"):
        assert example.name in result.stdout


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_installs_what_the_project_says(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    torch = re.search(r"torch==[\d.]+", text)
    assert torch is not None and torch.group() == re.search(r"torch==[\d.]+", makefile).group()
    index = re.search(r"--index-url (\S+)", text)
    assert index is not None and index.group(1) in makefile
    packages = (ROOT / "scripts" / "system_packages.sh").read_text(encoding="utf-8")
    for name in ("quantum-espresso", "quantum-espresso-data"):
        assert f"need {name}" in packages and re.search(rf"\b{name}\b", text)
    for extra in re.search(r"/src\[([\w,]+)\]", text).group(1).split(","):
        assert extra in PROJECT["optional-dependencies"]
    for name in re.findall(r"^\s*(?:COPY )?(\S+\.(?:toml|md)|LICENSE|himlip_ase) ", text, re.M):
        assert (ROOT / name).exists()


def test_the_oldest_versions_are_those_that_were_tried() -> None:
    """`make test-oldest` installs exactly the lower bounds of pyproject.toml."""
    script = (ROOT / "scripts" / "test_oldest.sh").read_text(encoding="utf-8")
    bounds = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in PROJECT["dependencies"])
    tried = dict(re.findall(r"^  ([\w-]+)==([\d.]+)$", script, re.M))
    del bounds["torch"], tried["pytest"]
    assert {name: release(version) for name, version in tried.items()} == {
        name: release(version) for name, version in bounds.items()
    }


def release(version: str) -> tuple[int, ...]:
    """Numbers of a version, without zeros at its end: 1.26.0 is 1.26."""
    return tuple(int(part) for part in re.sub(r"(\.0)+$", "", version).split("."))

"""The rooms of the package: imports run downwards, without circles, and what guards this can fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "himlip_ase"
grimp = pytest.importorskip("grimp", reason="import-linter comes with the [dev] extra")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [*command, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copied_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("models", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_imports_between_rooms_run_downwards(copied_house: Path) -> None:
    found = lint_imports(copied_house)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ({"potential/planted.py": "from himlip_ase.labels import frames\n"}, "potential.planted"),
        ({"dft/planted.py": "def late():\n    import himlip_ase.sscha.run.loop\n"}, "dft.planted"),
        ({"symmetry/planted.py": "import himlip_ase.potential.graph\n"}, "symmetry.planted"),
        ({"sscha/ensembles/planted.py": "import himlip_ase.sscha.run.loop\n"}, "ensembles.planted"),
        (
            {
                "phonons/planted_a.py": "import himlip_ase.phonons.planted_b\n",
                "phonons/planted_b.py": "import himlip_ase.phonons.planted_a\n",
            },
            "phonons",
        ),
        ({"cellar/__init__.py": ""}, "cellar"),
    ],
    ids=[
        "upwards",
        "upwards inside a function",
        "beside",
        "upwards in a room",
        "circle",
        "room without a floor",
    ],
)
def test_a_planted_violation_is_found(copied_house: Path, planted: dict[str, str], says: str) -> None:
    files = [copied_house / PACKAGE.name / name for name in planted]
    try:
        for file, text in zip(files, planted.values(), strict=True):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        found = lint_imports(copied_house)
    finally:
        for file in files:
            file.unlink()
            if file.name == "__init__.py":
                file.parent.rmdir()
    assert found.returncode == 1
    assert says in found.stdout


def test_no_circle_of_files() -> None:
    """Also through a room's ``__init__``; imports inside functions count, those for type checkers do not."""
    graph = grimp.build_graph(PACKAGE.name, exclude_type_checking_imports=True, cache_dir=None)
    modules = sorted(graph.modules)
    place = {module: index for index, module in enumerate(modules)}
    arrows = [
        (place[module], place[imported])
        for module in modules
        for imported in graph.find_modules_directly_imported_by(module)
    ]
    rows, columns = np.array(arrows).T
    matrix = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(modules),) * 2)
    count, label = connected_components(matrix, connection="strong")
    circles = [
        [modules[i] for i in np.flatnonzero(label == k)] for k in range(count) if (label == k).sum() > 1
    ]
    assert not circles


def test_pre_commit_runs_what_make_lint_runs() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == commands


def test_importing_the_package_imports_nothing_heavy() -> None:
    """`import himlip_ase` stays below 0.1 s by what it does not import."""
    code = "import sys, himlip_ase; dir(himlip_ase); print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"torch", "numpy", "scipy", "ase", "phonopy", "h5py", "matplotlib", "pydantic", "typer"}
    assert not heavy & set(found.stdout.split())


def test_every_benchmark_stands_in_their_readme() -> None:
    folder = ROOT / "benchmarks"
    text = (folder / "README.md").read_text(encoding="utf-8")
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        module = "benchmarks." + ".".join(inside.with_suffix("").parts)
        assert f"`{inside}`" in text or f"`python -m {module}" in text, (
            f"{inside} has no line in {folder}/README.md"
        )
        source = path.read_text(encoding="utf-8")
        assert "sys.path" not in source, f"{inside}: run it with python -m {module}"
        if '__name__ == "__main__"' in source:
            assert f"python -m {module}" in source, f"{inside} does not say how it is run"
    for table in sorted((folder / "results").glob("*.md")):
        assert f"`{table.name}`" in text, f"results/{table.name} belongs to no question"

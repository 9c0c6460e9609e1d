"""The examples and the code in README and documentation run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets(page: Path, language: str) -> list[str]:
    """Code blocks of a page in a language, with their indentation in lists removed."""
    found = re.findall(
        rf"^( *)```{re.escape(language)}\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S
    )
    return ["\n".join(line.removeprefix(indent) for line in code.splitlines()) for indent, code in found]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if snippets(page, "python")], ids=lambda page: page.stem
)
def test_python_snippets(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in snippets(page, "python"):
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if snippets(page, "yaml")], ids=lambda page: page.stem
)
def test_yaml_snippets_are_valid_configurations(page: Path) -> None:
    from himlip_ase.pipeline.config import parse_config

    for text in snippets(page, "yaml"):
        assert parse_config(text).name


def test_measured_values_of_the_page_on_comparisons_are_read(tmp_path: Path) -> None:
    from himlip_ase.pipeline.comparison.measured import read_measured

    (text,) = snippets(ROOT / "docs" / "comparing_runs.md", "{code-block} yaml")
    path = tmp_path / "measured.yaml"
    path.write_text(text, encoding="utf-8")
    (value,) = read_measured(path)
    assert value.compound == "PdD" and value.tc_kelvin == 10.5


def test_yaml_of_a_training_of_all_weights_is_valid_and_that_of_the_workflow(tmp_path: Path) -> None:
    import yaml

    from himlip_ase.dft.ase_calculator.engine import AseCalculator
    from himlip_ase.hint.training.config import read_training_config

    text, teacher = snippets(ROOT / "docs" / "training.md", "{code-block} yaml")
    assert AseCalculator(**{k: v for k, v in yaml.safe_load(teacher).items() if k != "name"}).spec
    path = tmp_path / "all.yaml"
    path.write_text(text, encoding="utf-8")
    told, _ = read_training_config(path)
    used, _ = read_training_config(ROOT / "examples" / "hydrides" / "second.yaml")
    for name in ("optimizer", "learning_rate", "batch_size", "hessian_every", "replay_every", "ema"):
        assert getattr(told, name) == getattr(used, name)


def test_yaml_of_molecules_and_reactions_is_valid(tmp_path: Path) -> None:
    import yaml

    from himlip_ase.hint.training.config import read_training_config
    from himlip_ase.pipeline.ts_config import ReactionsConfig

    (text,) = snippets(ROOT / "docs" / "molecules.md", "{code-block} yaml")
    path = tmp_path / "molecules.yaml"
    path.write_text(text, encoding="utf-8")
    read_training_config(path)
    (text,) = snippets(ROOT / "docs" / "reactions.md", "{code-block} yaml")
    assert len(ReactionsConfig.model_validate(yaml.safe_load(text)).reactions) == 2


def test_h3s_configuration_is_valid() -> None:
    from himlip_ase.pipeline.config import load_config

    config = load_config(ROOT / "examples" / "h3s" / "h3s.yaml")
    assert config.labels.folder == ROOT / "examples" / "h3s" / "labels"
    assert config.sscha.n_configurations == 500

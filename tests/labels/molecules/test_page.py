"""The settings that the page on molecules prints are settings."""

from __future__ import annotations

import re
from pathlib import Path

from himlip_ase.hint.training.config import read_training_config

PAGE = Path(__file__).parents[3] / "docs" / "molecules.md"


def test_printed_settings_are_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```\{code-block\} yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    path = tmp_path / "molecules.yaml"
    path.write_text(text, encoding="utf-8")
    settings, network = read_training_config(path)
    assert settings.hessian_batch == 8 and network is not None and "N" in network.elements

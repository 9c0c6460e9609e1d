"""``himlip train``: the other name of ``himlip finetune``, for a start without ``--base``."""

from __future__ import annotations

import typer

from himlip_ase.cli.finetune import finetune


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("train")(finetune)

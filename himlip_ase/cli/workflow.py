"""The command line of a workflow: one crystal through stages that a script lists as its method."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from himlip_ase.cli.app import clean_errors, configure_logging
from himlip_ase.pipeline.combinations import check_trains
from himlip_ase.pipeline.config import RunConfig, load_config, parse_assignments
from himlip_ase.pipeline.headlines import closing_lines
from himlip_ase.pipeline.run import run_pipeline
from himlip_ase.pipeline.stages import Stage

FRESH_MODEL = {"finetune.model": None, "finetune.model_without_hessian": None}
"""What ``--retrain`` lays over the file."""


def workflow_parser(description: str | None, folder: str) -> argparse.ArgumentParser:
    """The flags that every workflow has.

    Parameters
    ----------
    description : str or None
        Docstring of the script; its first line is shown.
    folder : str
        Run folder where none is named.

    Returns
    -------
    argparse.ArgumentParser
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(folder), help="run folder (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument(
        "--retrain", action="store_true", help="train the model instead of taking the shipped one"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the YAML file"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def workflow_config(path: Path, arguments: argparse.Namespace) -> RunConfig:
    """The YAML file with what the flags lay over it.

    Parameters
    ----------
    path : Path
    arguments : argparse.Namespace
        Of :func:`workflow_parser`.

    Returns
    -------
    RunConfig
    """
    overrides = parse_assignments(arguments.set)
    config = load_config(path, overrides | FRESH_MODEL if arguments.retrain else overrides)
    check_trains(config, overrides)
    return config


def run_workflow(description: str | None, config: Path, stages: Sequence[Stage], folder: str) -> Path:
    """Parse the command line of a workflow of one crystal, run its stages, print what came out.

    Parameters
    ----------
    description : str or None
        Docstring of the script.
    config : Path
        YAML file of the run.
    stages : sequence of Stage
        In order.
    folder : str
        Run folder where none is named.

    Returns
    -------
    Path
        The report, or the run folder where ``--until`` ended before it.
    """
    names = [stage.name for stage in stages]
    parser = workflow_parser(description, folder)
    parser.add_argument(
        "--from", dest="start_from", choices=names, help="do this stage and all after it again"
    )
    parser.add_argument("--until", choices=names, help="stop after this stage")
    arguments = parser.parse_args()
    configure_logging()
    with clean_errors(arguments.debug):
        written = run_pipeline(
            workflow_config(config, arguments), arguments.folder, arguments.resume, arguments.start_from,
            arguments.until, stages=stages,
        )  # fmt: skip
        print("\n".join(closing_lines(written)))
    return written

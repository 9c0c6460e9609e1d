"""Every hydride with labels here, from labels to Tc, and one report of all beside measured values.

Each crystal is a run of its own in ``<folder>/<name>``; ``<folder>/report.html`` has Tc computed against
measured, Tc against μ*, Δ(T), phonons and what each run cost. ``python workflows/hydrides.py --help`` lists
the choices.
"""

from __future__ import annotations

from pathlib import Path

from himlip_ase.cli.app import clean_errors, configure_logging
from himlip_ase.cli.workflow import workflow_config, workflow_parser
from himlip_ase.pipeline.comparison.measured import read_measured
from himlip_ase.pipeline.comparison.report import compare_runs
from himlip_ase.pipeline.run import run_pipeline

EXAMPLES = Path(__file__).parents[1] / "examples"
CRYSTALS = ("h3s", "pdh", "cah6", "lah10")
"""Each has a folder of its name in examples, with a file NAME.yaml."""


def main() -> None:
    """Run the crystals one after the other, then compare them."""
    parser = workflow_parser(__doc__, folder="runs/hydrides")
    parser.add_argument(
        "--only", nargs="+", choices=CRYSTALS, default=CRYSTALS, help="these crystals (default: all)"
    )
    arguments = parser.parse_args()
    configure_logging()
    with clean_errors(arguments.debug):
        folders = []
        for name in arguments.only:
            folder = arguments.folder / name
            config = workflow_config(EXAMPLES / name / f"{name}.yaml", arguments)
            print(f"wrote {run_pipeline(config, folder, arguments.resume and folder.is_dir())}")
            folders.append(folder)
        measured = read_measured(EXAMPLES / "hydrides" / "measured.yaml")
        report = compare_runs(folders, arguments.folder, measured, overwrite=arguments.resume)
        print(f"wrote {report}")


if __name__ == "__main__":
    main()

"""Options of every command that runs a DFT engine, written once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from himlip_ase.cli.unused_options import refuse_unused

if TYPE_CHECKING:
    from himlip_ase.dft.engine import Engine
    from himlip_ase.dft.espresso.inputs import QESettings
    from himlip_ase.dft.espresso.runner import Launcher
    from himlip_ase.dft.executors import ExecutorChoice, JobExecutor
    from himlip_ase.dft.jobs import Task

Grid = tuple[int, int, int]
ACCURACY, RUNNING = "Accuracy", "Running"
SMEARINGS = ("mp", "mv", "gauss", "fd", "fixed")

ESPRESSO_ONLY = {
    "pseudo": "--pseudo",
    "chosen": "--pseudopotential",
    "ecutwfc": "--ecutwfc",
    "ecutrho": "--ecutrho",
    "k": "--k",
    "smearing": "--smearing",
    "degauss": "--degauss",
    "conv_thr": "--conv-thr",
    "prefix": "--prefix",
    "threads": "--threads",
    "pools": "--pools",
}
"""Options that another engine would leave unused, by field."""

PseudoOption = Annotated[
    Path | None,
    typer.Option(
        "--pseudo", help="Folder of UPF files; default: $ESPRESSO_PSEUDO.", rich_help_panel=ACCURACY
    ),
]
ChosenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--pseudopotential", help="ELEMENT=FILE, where the folder has several.", rich_help_panel=ACCURACY
    ),
]
EcutOption = Annotated[
    float, typer.Option("--ecutwfc", help="Plane-wave cutoff, Ry.", rich_help_panel=ACCURACY)
]
EcutrhoOption = Annotated[
    float | None, typer.Option("--ecutrho", help="Density cutoff, Ry; default 4×.", rich_help_panel=ACCURACY)
]
KOption = Annotated[
    Grid,
    typer.Option("--k", help="k-grid of the primitive cell, e.g. --k 12 12 12.", rich_help_panel=ACCURACY),
]
SmearingOption = Annotated[
    str, typer.Option("--smearing", help="mp, mv, gauss, fd or fixed.", rich_help_panel=ACCURACY)
]
DegaussOption = Annotated[
    float, typer.Option("--degauss", help="Width of the smearing, Ry.", rich_help_panel=ACCURACY)
]
ConvOption = Annotated[float, typer.Option("--conv-thr", help="scf threshold, Ry.", rich_help_panel=ACCURACY)]
PrefixOption = Annotated[
    str,
    typer.Option("--prefix", help="Command before pw.x, e.g. 'mpirun -n 2'.", rich_help_panel=RUNNING),
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", help="OMP_NUM_THREADS of each run.", rich_help_panel=RUNNING)
]
PoolsOption = Annotated[
    int,
    typer.Option(
        "--pools",
        help="Pools of k-points (-nk) for the processes of --prefix; as many as processes for a small cell.",
        rich_help_panel=RUNNING,
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", "-j", help="Jobs side by side.", rich_help_panel=RUNNING)
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what would run and show the script that would be submitted; run nothing.",
        rich_help_panel=RUNNING,
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Continue: keep finished runs, do the others.", rich_help_panel=RUNNING),
]


@dataclass(frozen=True)
class DFTOptions:
    """Engine, accuracy and running, as they were typed."""

    engine: str = "espresso"
    executor: str = "local"
    pseudo: PseudoOption = None
    chosen: ChosenOption = None
    ecutwfc: EcutOption = 60.0
    ecutrho: EcutrhoOption = None
    k: KOption = (12, 12, 12)
    smearing: SmearingOption = "mp"
    degauss: DegaussOption = 0.02
    conv_thr: ConvOption = 1e-10
    prefix: PrefixOption = ""
    threads: ThreadsOption = 1
    pools: PoolsOption = 1
    workers: WorkersOption = 1
    dry_run: DryRunOption = False
    resume: ResumeOption = False
    usual: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of the command where they are others, by field; no option itself."""

    def given(self) -> dict[str, Any]:
        """{"--k": value} of what was typed, as far as it is not the command's default."""
        typed = {option.name: getattr(self, option.name) for option in _options()}
        return {
            ESPRESSO_ONLY.get(option.name, f"--{option.name.replace('_', '-')}"): typed[option.name]
            for option in _options()
            if typed[option.name] != self.usual.get(option.name, option.default)
        }

    def settings(self) -> QESettings:
        """Settings of pw.x.

        Raises
        ------
        InputError
            An option that cannot be understood.
        """
        from himlip_ase.dft.espresso.inputs import QESettings
        from himlip_ase.errors import InputError

        files = dict(word.partition("=")[::2] for word in self.chosen or [])
        faults = []
        if any(not element or not name for element, name in files.items()):
            faults.append(
                f"--pseudopotential {' '.join(self.chosen or [])}: write ELEMENT=FILE, "
                "e.g. H=H_ONCV_PBE_sr.upf"
            )
        if self.smearing not in SMEARINGS:
            faults.append(f"--smearing is {self.smearing!r}; choose {', '.join(SMEARINGS)}")
        for name in ("ecutwfc", "ecutrho", "degauss", "conv_thr"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                faults.append(f"{ESPRESSO_ONLY[name]} is {value:g}; give a positive number")
        if min(self.k) < 1:
            faults.append(f"--k is {' '.join(map(str, self.k))}; give three positive integers")
        if faults:
            raise InputError("\n- ".join(faults))
        return QESettings(
            ecutwfc_ry=self.ecutwfc,
            ecutrho_ry=self.ecutrho,
            k_grid=self.k,
            smearing=None if self.smearing == "fixed" else self.smearing,
            degauss_ry=self.degauss,
            conv_thr=self.conv_thr,
            pseudo_dir=self.pseudo,
            pseudopotentials=files,
        )

    def launcher(self) -> Launcher:
        """How to start pw.x and ph.x."""
        from himlip_ase.dft.espresso.runner import Launcher

        return Launcher(prefix=self.prefix, threads=self.threads, pools=self.pools)

    def chosen_engine(self, calculator: str | None = None, inputs_only: bool = False, **own: Any) -> Engine:
        """The engine with its settings.

        Parameters
        ----------
        calculator : str, optional
            ``--calculator``: MODULE:FACTORY.
        inputs_only : bool
            ``--inputs-only``, which not every engine can.
        **own
            Further keys of the engine; those that it does not have are left out.

        Raises
        ------
        InputError
            No such engine, or a setting it cannot take.
        """
        from himlip_ase.dft.engines import ENGINES
        from himlip_ase.errors import InputError
        from himlip_ase.pipeline.choices import build_choice, own_keys

        given = named(self.engine, "--engine")
        if calculator is not None:
            given["calculator"] = calculator
        keys = own_keys(ENGINES[str(given["name"])])
        engine = build_choice(ENGINES, {**{k: v for k, v in own.items() if k in keys}, **given})
        if inputs_only and not engine.abilities.programs:
            raise InputError(
                f"--inputs-only writes inputs of Quantum ESPRESSO; with the engine {engine.name} let an "
                "executor reach the other machine (--executor slurm)"
            )
        if "qe" not in engine.sections:
            self._refuse_espresso_options(engine.name)
        sections = {"qe": self.settings, "launcher": self.launcher}
        parts = {argument: sections[name]() for name, argument in engine.sections.items() if name in sections}
        return dataclasses.replace(engine, **parts)

    def _refuse_espresso_options(self, engine: str) -> None:
        refuse_unused(
            {name: value for name, value in self.given().items() if name in ESPRESSO_ONLY.values()},
            f"is an option of the engine espresso; give {engine} its own keys: --engine '{{name: {engine}, "
            "key: value}'",
        )

    def chosen_executor(self) -> ExecutorChoice:
        """Where jobs run.

        Raises
        ------
        InputError
            No such executor, or a setting it cannot take.
        """
        from himlip_ase.dft.executors import EXECUTORS
        from himlip_ase.pipeline.choices import build_choice

        return build_choice(EXECUTORS, named(self.executor, "--executor"))

    @contextlib.contextmanager
    def running(self, engine: Engine) -> Iterator[JobExecutor]:
        """The executor, opened for the jobs of an engine."""
        with self.chosen_executor().opened(self.workers, engine.abilities.programs) as executor:
            yield executor

    def announce(self, what: str, tasks: Sequence[Task] = ()) -> None:
        """Say what would run, where, and what it is likely to cost, for ``--dry-run``."""
        from himlip_ase.pipeline.preflight import cost_table

        if tasks:
            typer.echo(cost_table(tasks, self.workers))
        executor = self.chosen_executor()
        typer.echo(f"would run {what}; executor: {executor.name}, workers: {self.workers}")
        script = executor.job_script(self.workers)
        if script is not None:
            typer.echo(f"{self.workers} such jobs would be submitted:\n\n{script}")


def _options() -> list[Field[Any]]:
    return [option for option in fields(DFTOptions) if option.name != "usual"]


def named(text: str, option: str) -> dict[str, Any]:
    """What ``--engine`` or ``--executor`` says: a name, a YAML mapping, or a YAML file that holds one.

    Raises
    ------
    InputError
        None of them.
    """
    import yaml

    from himlip_ase.errors import InputError

    path = Path(text)
    try:
        source = path.read_text(encoding="utf-8") if path.suffix in (".yaml", ".yml") else text
        value = yaml.safe_load(source)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{option} {text}: {error}") from error
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict):
        return value
    raise InputError(f"{option} is {text!r}; give a name, {{name: ..., ...}}, or a YAML file with that")


def choice_options() -> dict[str, Any]:
    """The options whose help is made from the registries."""
    from himlip_ase.dft.engines import ENGINES
    from himlip_ase.dft.executors import EXECUTORS

    form = "Also {name: ..., key: value} or a YAML file with that."
    return {
        "engine": Annotated[
            str,
            typer.Option("--engine", help=f"{ENGINES.described()}. {form}", rich_help_panel=ACCURACY),
        ],
        "executor": Annotated[
            str,
            typer.Option("--executor", help=f"{EXECUTORS.described()}. {form}", rich_help_panel=RUNNING),
        ],
    }


def with_dft_options(**defaults: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command that takes `dft`, a `DFTOptions`, show and read these options one by one.

    Parameters
    ----------
    **defaults
        Other defaults of some of them.
    """
    hints = {**get_type_hints(DFTOptions, include_extras=True), **choice_options()}
    options = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(f.name, f.default),
            annotation=hints[f.name],
        )
        for f in _options()
    ]  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = get_type_hints(command, include_extras=True)
        parameters = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own[p.name])
            for p in inspect.signature(command).parameters.values()
            if p.name != "dft"
        ]

        @functools.wraps(command)
        def wrapped(**given: Any) -> Any:
            dft = DFTOptions(**{option.name: given.pop(option.name) for option in options}, usual=defaults)
            return command(**given, dft=dft)

        every = [*parameters, *options]
        wrapped.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in every}
        return wrapped

    return decorate

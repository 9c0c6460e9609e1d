"""Options of every command that runs Quantum ESPRESSO, written once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from himlip_ase.dft.espresso.inputs import QESettings
    from himlip_ase.dft.espresso.runner import Launcher

Grid = tuple[int, int, int]
ACCURACY, RUNNING = "Accuracy", "Running"
SMEARINGS = ("mp", "mv", "gauss", "fd", "fixed")

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
WorkersOption = Annotated[
    int, typer.Option("--jobs", "-j", help="Runs side by side.", rich_help_panel=RUNNING)
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Continue: keep finished runs, do the others.", rich_help_panel=RUNNING),
]


@dataclass(frozen=True)
class DFTOptions:
    """Accuracy and running of pw.x and ph.x, as they were typed."""

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
    resume: ResumeOption = False

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
        if any(not element or not name for element, name in files.items()):
            raise InputError(
                f"--pseudopotential {' '.join(self.chosen or [])}: write ELEMENT=FILE, "
                "e.g. H=H_ONCV_PBE_sr.upf"
            )
        if self.smearing not in SMEARINGS:
            raise InputError(f"--smearing is {self.smearing!r}; choose {', '.join(SMEARINGS)}")
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

        return Launcher(prefix=self.prefix, threads=self.threads)


def with_dft_options(**defaults: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command that takes `dft`, a `DFTOptions`, show and read these options one by one.

    Parameters
    ----------
    **defaults
        Other defaults of some of them.
    """
    hints = get_type_hints(DFTOptions, include_extras=True)
    options = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(f.name, f.default),
            annotation=hints[f.name],
        )
        for f in fields(DFTOptions)
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
            dft = DFTOptions(**{option.name: given.pop(option.name) for option in options})
            return command(**given, dft=dft)

        every = [*parameters, *options]
        wrapped.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in every}
        return wrapped

    return decorate

"""Quantum ESPRESSO as an engine: pw.x and ph.x."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms

from himlip_ase.dft.engine import Abilities
from himlip_ase.dft.espresso.harmonic import SHIFTED_COUPLING, harmonic
from himlip_ase.dft.espresso.inputs import QESettings, relocated
from himlip_ase.dft.espresso.k_check import check_k
from himlip_ase.dft.espresso.k_check_record import TOLERANCE_CM, KCheck
from himlip_ase.dft.espresso.publish import collect_harmonic, record_pseudopotentials
from himlip_ase.dft.espresso.relax import relax
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.espresso.runs import finished_labels, read_run
from himlip_ase.dft.espresso.single_points import SinglePoint, single_points
from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.finished_runs import FinishedRun, RelaxResult
from himlip_ase.dft.jobs import Task
from himlip_ase.dft.setting_names import RUN_FILE, SettingNames
from himlip_ase.dft.standing import Listener
from himlip_ase.errors import InputError


@dataclass(frozen=True)
class Harmonic:
    """ph.x: dynamical and electron-phonon matrices.

    Attributes
    ----------
    dense_k_grid : three ints, optional
        k-grid on which the double delta is summed, a multiple of the q-grid; None: twice ``qe.k_grid``.
    el_ph_sigma_ry, el_ph_nsigma : float, int
        Broadenings are σ, 2σ, … nσ, Ry.
    """

    dense_k_grid: tuple[int, int, int] | None = (24, 24, 24)
    el_ph_sigma_ry: float = 0.005
    el_ph_nsigma: int = 10

    def __post_init__(self) -> None:
        if not self.el_ph_sigma_ry > 0 or self.el_ph_nsigma < 1:
            raise InputError(
                f"el_ph_sigma_ry and el_ph_nsigma must be positive, got {self.el_ph_sigma_ry} and "
                f"{self.el_ph_nsigma}"
            )
        if self.dense_k_grid is not None and min(self.dense_k_grid) < 1:
            raise InputError(f"dense_k_grid is {self.dense_k_grid}; give three positive integers")


@dataclass(frozen=True)
class Espresso:
    """pw.x for energies, forces and stresses, ph.x for dynamical and electron-phonon matrices.

    Attributes
    ----------
    qe : QESettings
        What decides the accuracy.
    launcher : Launcher
        How the programs are started.
    harmonic_run : Harmonic
        Settings of ph.x.
    electron_phonon : bool
        Whether ph.x computes G(q); False leaves out the dense run, for insulators.
    keep_scratch : bool
        Keep the scratch folder of ph.x after success.
    k_shift : bool
        Shift the k-grid of ph.x by half a step, away from Γ: for dynamical matrices alone. It shares no point
        with the grid that holds Γ, and so tests it at the same price.
    """

    qe: QESettings = field(default_factory=QESettings)
    launcher: Launcher = field(default_factory=Launcher)
    harmonic_run: Harmonic = field(default_factory=Harmonic)
    electron_phonon: bool = True
    keep_scratch: bool = False
    k_shift: bool = False
    name: ClassVar[str] = "espresso"
    summary: ClassVar[str] = "Quantum ESPRESSO, pw.x and ph.x"
    sections: ClassVar[dict[str, str]] = {"qe": "qe", "launcher": "launcher", "harmonic": "harmonic_run"}
    abilities: ClassVar[Abilities] = Abilities(electron_phonon=True, k_points=True, programs=True)

    def __post_init__(self) -> None:
        if self.k_shift and self.electron_phonon:
            raise InputError(SHIFTED_COUPLING)

    def single_points(
        self,
        frames: Sequence[Atoms],
        folder: Path,
        *,
        primitive: Atoms | None = None,
        k_spacing: float | None = None,
        k_shift: bool = False,
        nosym: bool = True,
        generator: Mapping[str, Any] | None = None,
    ) -> list[SinglePoint]:
        """See `himlip_ase.dft.engine.Engine.single_points`."""
        self.launcher.command(self.launcher.pw, "pw.in")
        return single_points(
            frames,
            Path(folder).absolute(),
            self.qe,
            reference=primitive,
            k_spacing=k_spacing,
            k_shift=k_shift,
            nosym=nosym,
            generator=generator,
            launcher=self.launcher,
        )

    def relax(
        self,
        atoms: Atoms,
        pressure_gpa: float,
        folder: Path,
        executor: JobExecutor,
        *,
        pressure_tolerance_gpa: float = 0.2,
        max_runs: int | None = None,
        resume: bool = False,
        overwrite: bool = False,
        listener: Listener | None = None,
    ) -> RelaxResult:
        """See `himlip_ase.dft.engine.Engine.relax`."""
        return relax(
            atoms,
            pressure_gpa,
            self.qe,
            folder,
            self.launcher,
            pressure_tolerance_gpa=pressure_tolerance_gpa,
            max_runs=12 if max_runs is None else max_runs,
            resume=resume,
            overwrite=overwrite,
            executor=executor,
            listener=listener,
        )

    def harmonic(
        self,
        atoms: Atoms,
        q_grid: Sequence[int],
        folder: Path,
        executor: JobExecutor,
        *,
        resume: bool = False,
        listener: Listener | None = None,
    ) -> str:
        """See `himlip_ase.dft.engine.Engine.harmonic`."""
        options = self.harmonic_run
        files = harmonic(
            atoms,
            q_grid,
            self.qe,
            folder,
            self.launcher,
            k_grid_dense=options.dense_k_grid,
            sigma_ry=options.el_ph_sigma_ry,
            n_sigma=options.el_ph_nsigma,
            k_shift=self.k_shift,
            electron_phonon=self.electron_phonon,
            resume=resume,
            keep_scratch=self.keep_scratch,
            executor=executor,
            listener=listener,
        )
        return f"{len(files.dyn)} dyn files and {len(files.elph)} a2Fq2r files"

    def faults(
        self,
        atoms: Atoms,
        q_grid: Sequence[int] | None,
        *,
        names: SettingNames = RUN_FILE,
        programs_here: bool = True,
        symmetry: bool = True,
    ) -> list[str]:
        """See `himlip_ase.dft.engine.Engine.faults`."""
        from himlip_ase.dft.espresso.preflight import faults

        harmonic_run = self.harmonic_run if self.electron_phonon else None
        return faults(
            atoms,
            q_grid,
            self.qe,
            self.launcher,
            harmonic_run,
            names=names,
            programs_here=programs_here,
            symmetry=symmetry,
        )

    def forecast(
        self,
        atoms: Atoms,
        q_grid: Sequence[int] | None,
        sets: Mapping[str, tuple[int, Atoms]],
        relax: bool = True,
    ) -> list[Task]:
        """See `himlip_ase.dft.engine.Engine.forecast`; pw.x is asked; times within a factor of 3."""
        from himlip_ase.dft.espresso.forecast import forecast

        grid = self.harmonic_run.dense_k_grid or tuple(2 * k for k in self.qe.k_grid)
        dense = grid if self.electron_phonon else None
        return forecast(atoms, q_grid, sets, self.qe, self.launcher, dense, relax, self.k_shift)

    def forecast_k_check(self, atoms: Atoms, q_grid: Sequence[int]) -> Task:
        """See `himlip_ase.dft.espresso.forecast.forecast_k_check`."""
        from himlip_ase.dft.espresso.forecast import forecast_k_check

        return forecast_k_check(atoms, q_grid, self.qe, self.launcher, self.k_shift)

    def check_k(
        self,
        atoms: Atoms,
        folder: Path,
        executor: JobExecutor,
        *,
        meshes: Sequence[Sequence[int]] = (),
        qpoint: Sequence[float] | None = None,
        tolerance_cm: float = TOLERANCE_CM,
    ) -> KCheck:
        """See `himlip_ase.dft.espresso.k_check.check_k`, of the harmonic run in `folder`."""
        return check_k(
            atoms,
            folder,
            self.qe,
            self.launcher,
            k_shift=self.k_shift,
            meshes=meshes,
            qpoint=qpoint,
            tolerance_cm=tolerance_cm,
            executor=executor,
        )

    @classmethod
    def holds(cls, folder: Path) -> bool:
        """Whether there is a pw.in."""
        return (Path(folder) / "pw.in").is_file()

    @classmethod
    def read(cls, folder: Path) -> list[FinishedRun]:
        """See `himlip_ase.dft.engine.Engine.read`; every ionic step of a relaxation or trajectory."""
        return finished_labels(read_run(folder))

    @classmethod
    def provenance(
        cls, runs: Sequence[FinishedRun], out: Path, pseudo_dir: Path | None = None
    ) -> dict[str, Any]:
        """See `himlip_ase.dft.engine.Engine.provenance`: pseudopotentials, each checked, and scf accuracy."""
        sources = [run.source for run in runs]
        return {
            "pseudopotentials": record_pseudopotentials(sources, out, pseudo_dir),
            "worst_accuracy_ry": max(run.info["pw_accuracy_ry"] for run in runs),
        }

    @classmethod
    def published_input(cls, run: FinishedRun) -> tuple[str, str]:
        """The pw.x input, its pseudo_dir made relative."""
        return ".in", relocated((run.folder / "pw.in").read_text())

    @classmethod
    def holds_harmonic(cls, folder: Path) -> bool:
        """Whether ph.x has begun there."""
        return (Path(folder) / "dyn0").is_file() and not (Path(folder) / "harmonic.json").is_file()

    @classmethod
    def publish_harmonic(
        cls, folder: Path, out: Path, name: str, *, pseudo_dir: Path | None = None, overwrite: bool = False
    ) -> Path:
        """See `himlip_ase.dft.engine.Engine.publish_harmonic`."""
        return collect_harmonic(folder, out, name, pseudo_dir=pseudo_dir, overwrite=overwrite)
